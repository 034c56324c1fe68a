// SPDX-License-Identifier: GPL-2.0

//! What devlink knows of an adapter and its VFs, and what it changes.

use super::netlink::{
    attribute,
    attributes,
    text_attribute,
    text_of,
    u32_at,
    Failure,
    Generic,
    NESTED, //
};
use crate::bdf::Bdf;
use std::fmt;

// include/uapi/linux/devlink.h
const CMD_PORT_GET: u8 = 5;
const CMD_PORT_SET: u8 = 6;
const CMD_ESWITCH_GET: u8 = 29;
const CMD_ESWITCH_SET: u8 = 30;
const CMD_RELOAD: u8 = 37;
const CMD_INFO_GET: u8 = 51;
const ATTR_BUS_NAME: u16 = 1;
const ATTR_DEV_NAME: u16 = 2;
const ATTR_PORT_INDEX: u16 = 3;
const ATTR_PORT_NETDEV_NAME: u16 = 7;
const ATTR_ESWITCH_MODE: u16 = 25;
const ATTR_PORT_FLAVOUR: u16 = 77;
const ATTR_INFO_VERSION_FIXED: u16 = 100;
const ATTR_INFO_VERSION_RUNNING: u16 = 101;
const ATTR_INFO_VERSION_NAME: u16 = 103;
const ATTR_INFO_VERSION_VALUE: u16 = 104;
const ATTR_PORT_PCI_VF_NUMBER: u16 = 128;
const ATTR_PORT_FUNCTION: u16 = 145;
const ATTR_PORT_EXTERNAL: u16 = 149;
const FUNCTION_CAPS: u16 = 4;
const CAP_MIGRATABLE: u32 = 1 << 1;
const FLAVOUR_PCI_VF: u16 = 4;

/// What an e-switch does with the packets of VFs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EswitchMode {
    /// It sends them by address and VLAN.
    Legacy,
    /// Each VF has a port and a representor on the host.
    Switchdev,
    /// Another mode.
    Other(u16),
}

impl EswitchMode {
    fn number(self) -> u16 {
        match self {
            Self::Legacy => 0,
            Self::Switchdev => 1,
            Self::Other(number) => number,
        }
    }

    fn of_number(number: u16) -> Self {
        match number {
            0 => Self::Legacy,
            1 => Self::Switchdev,
            number => Self::Other(number),
        }
    }
}

impl fmt::Display for EswitchMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Legacy => f.write_str("legacy"),
            Self::Switchdev => f.write_str("switchdev"),
            Self::Other(number) => write!(f, "mode {number}"),
        }
    }
}

/// Firmware of an adapter.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Info {
    /// The version that runs.
    pub firmware: Option<String>,
    /// The parameter set, which stands for a model of card.
    pub psid: Option<String>,
}

/// The port of a VF.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VfPort {
    /// Number of the port.
    pub index: u32,
    /// Number of the VF.
    pub vf: u32,
    /// The VF's representor.
    pub representor: Option<String>,
    /// Whether the VF is migratable. `None` if firmware does not know of migration.
    pub migratable: Option<bool>,
}

/// What devlink says and does. Tests have one of their own.
pub trait Devlink {
    /// The mode of the e-switch.
    fn eswitch_mode(&self, pf: Bdf) -> Result<EswitchMode, Failure>;
    /// Changes that.
    fn set_eswitch_mode(&self, pf: Bdf, mode: EswitchMode) -> Result<(), Failure>;
    /// The firmware.
    fn info(&self, pf: Bdf) -> Result<Info, Failure>;
    /// The ports of the PF's VFs.
    fn vf_ports(&self, pf: Bdf) -> Result<Vec<VfPort>, Failure>;
    /// Makes the VF of a port migratable, or not.
    fn set_migratable(&self, pf: Bdf, index: u32, migratable: bool) -> Result<(), Failure>;
}

/// That of the running kernel.
pub struct Kernel;

fn handle(pf: Bdf) -> Vec<u8> {
    let name = text_attribute(ATTR_DEV_NAME, &pf.to_string());
    [text_attribute(ATTR_BUS_NAME, "pci"), name].concat()
}

fn find(attributes: &[(u16, &[u8])], wanted: u16) -> Option<Vec<u8>> {
    let found = attributes.iter().find(|(kind, _)| *kind == wanted);
    found.map(|(_, value)| value.to_vec())
}

fn u16_of(value: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(value.get(..2)?.try_into().ok()?))
}

/// The mode of an e-switch that an answer has.
fn mode_in(answers: &[Vec<u8>]) -> Option<EswitchMode> {
    let mode = |answer: &Vec<u8>| u16_of(&find(&attributes(answer), ATTR_ESWITCH_MODE)?);
    answers.iter().find_map(mode).map(EswitchMode::of_number)
}

/// The version of this name among the attributes of a kind.
fn version(all: &[(u16, &[u8])], kind: u16, name: &str) -> Option<String> {
    let versions = all.iter().filter(|(of, _)| *of == kind);
    versions
        .map(|(_, version)| attributes(version))
        .find(|version| {
            let found = find(version, ATTR_INFO_VERSION_NAME);
            found.is_some_and(|found| text_of(&found) == name)
        })
        .and_then(|version| Some(text_of(&find(&version, ATTR_INFO_VERSION_VALUE)?)))
}

/// The port that a message is about, if it is that of a VF of the PF's own host.
fn vf_port(message: &[u8], pf: &str) -> Option<VfPort> {
    let all = attributes(message);
    let is = |kind, text| find(&all, kind).is_some_and(|value| text_of(&value) == text);
    let external = find(&all, ATTR_PORT_EXTERNAL).is_some_and(|value| value.first() == Some(&1));
    let flavour = u16_of(&find(&all, ATTR_PORT_FLAVOUR)?)?;
    if !is(ATTR_BUS_NAME, "pci") || !is(ATTR_DEV_NAME, pf) || external || flavour != FLAVOUR_PCI_VF
    {
        return None;
    }
    let caps = find(&all, ATTR_PORT_FUNCTION)
        .and_then(|function| find(&attributes(&function), FUNCTION_CAPS));
    // A struct nla_bitfield32: values, and which of them there are.
    let migratable = caps.and_then(|caps| {
        let known = u32_at(&caps, 4)? & CAP_MIGRATABLE != 0;
        known.then_some(u32_at(&caps, 0)? & CAP_MIGRATABLE != 0)
    });
    Some(VfPort {
        index: u32_at(&find(&all, ATTR_PORT_INDEX)?, 0)?,
        vf: u32::from(u16_of(&find(&all, ATTR_PORT_PCI_VF_NUMBER)?)?),
        representor: find(&all, ATTR_PORT_NETDEV_NAME).map(|name| text_of(&name)),
        migratable,
    })
}

impl Devlink for Kernel {
    fn eswitch_mode(&self, pf: Bdf) -> Result<EswitchMode, Failure> {
        let answers = Generic::open("devlink")?.command(CMD_ESWITCH_GET, &handle(pf))?;
        mode_in(&answers).ok_or_else(Failure::malformed)
    }

    fn set_eswitch_mode(&self, pf: Bdf, mode: EswitchMode) -> Result<(), Failure> {
        let mode = attribute(ATTR_ESWITCH_MODE, &mode.number().to_ne_bytes());
        let request = [handle(pf), mode].concat();
        Generic::open("devlink")?.command(CMD_ESWITCH_SET, &request)?;
        Ok(())
    }

    fn info(&self, pf: Bdf) -> Result<Info, Failure> {
        let answers = Generic::open("devlink")?.command(CMD_INFO_GET, &handle(pf))?;
        let all: Vec<_> = answers
            .iter()
            .flat_map(|answer| attributes(answer))
            .collect();
        Ok(Info {
            firmware: version(&all, ATTR_INFO_VERSION_RUNNING, "fw.version"),
            psid: version(&all, ATTR_INFO_VERSION_FIXED, "fw.psid"),
        })
    }

    fn vf_ports(&self, pf: Bdf) -> Result<Vec<VfPort>, Failure> {
        let ports = Generic::open("devlink")?.list(CMD_PORT_GET, &handle(pf))?;
        let pf = pf.to_string();
        let mut found: Vec<VfPort> = ports.iter().filter_map(|port| vf_port(port, &pf)).collect();
        found.sort_by_key(|port| port.vf);
        Ok(found)
    }

    fn set_migratable(&self, pf: Bdf, index: u32, migratable: bool) -> Result<(), Failure> {
        let value = if migratable { CAP_MIGRATABLE } else { 0 };
        let caps = [value.to_ne_bytes(), CAP_MIGRATABLE.to_ne_bytes()].concat();
        let caps = attribute(FUNCTION_CAPS, &caps);
        let request = [
            handle(pf),
            attribute(ATTR_PORT_INDEX, &index.to_ne_bytes()),
            attribute(ATTR_PORT_FUNCTION | NESTED, &caps),
        ];
        Generic::open("devlink")?.command(CMD_PORT_SET, &request.concat())?;
        Ok(())
    }
}

/// Has the PF's driver tear the PF down and set it up again. Its VFs stay.
pub fn reload(pf: Bdf) -> Result<(), Failure> {
    Generic::open("devlink")?.command(CMD_RELOAD, &handle(pf))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PF: &str = "0000:01:00.0";

    /// The message about a port.
    fn port(pf: &str, flavour: u16, caps: Option<[u32; 2]>) -> Vec<u8> {
        let mut message = handle(pf.parse().unwrap());
        message.extend(attribute(ATTR_PORT_INDEX, &3u32.to_ne_bytes()));
        message.extend(attribute(ATTR_PORT_FLAVOUR, &flavour.to_ne_bytes()));
        message.extend(attribute(ATTR_PORT_PCI_VF_NUMBER, &1u16.to_ne_bytes()));
        message.extend(text_attribute(ATTR_PORT_NETDEV_NAME, "eth0_1"));
        if let Some([value, known]) = caps {
            let caps = [value.to_ne_bytes(), known.to_ne_bytes()].concat();
            let function = attribute(FUNCTION_CAPS, &caps);
            message.extend(attribute(ATTR_PORT_FUNCTION | NESTED, &function));
        }
        message
    }

    #[test]
    fn the_ports_of_vfs_are_told_from_others() {
        for (caps, migratable) in [
            (Some([2, 3]), Some(true)),
            (Some([1, 3]), Some(false)),
            (Some([0, 1]), None),
            (None, None),
        ] {
            let expected = VfPort {
                index: 3,
                vf: 1,
                representor: Some("eth0_1".to_string()),
                migratable,
            };
            assert_eq!(vf_port(&port(PF, 4, caps), PF), Some(expected));
        }
        // The PF's own, that of another PF, and that of another host.
        assert_eq!(vf_port(&port(PF, 0, None), PF), None);
        assert_eq!(vf_port(&port("0000:01:00.1", 4, None), PF), None);
        let external = [port(PF, 4, None), attribute(ATTR_PORT_EXTERNAL, &[1])].concat();
        assert_eq!(vf_port(&external, PF), None);
    }

    #[test]
    fn a_mode_that_is_not_told_is_none() {
        let answer = |value: &[u8]| vec![Vec::new(), attribute(ATTR_ESWITCH_MODE, value)];
        for (value, mode) in [
            (&[0, 0][..], Some(EswitchMode::Legacy)),
            (&1u16.to_ne_bytes(), Some(EswitchMode::Switchdev)),
            // It was cut.
            (&[1], None),
            (&[], None),
        ] {
            assert_eq!(mode_in(&answer(value)), mode, "{value:?}");
        }
        assert_eq!(mode_in(&[]), None);
    }

    #[test]
    fn versions_are_found_by_their_names() {
        let one = |kind, name, value| {
            let name = text_attribute(ATTR_INFO_VERSION_NAME, name);
            let value = text_attribute(ATTR_INFO_VERSION_VALUE, value);
            attribute(kind, &[name, value].concat())
        };
        let message = [
            one(ATTR_INFO_VERSION_FIXED, "fw.psid", "MT_0000000834"),
            one(ATTR_INFO_VERSION_RUNNING, "fw.version", "28.41.1000"),
            one(ATTR_INFO_VERSION_RUNNING, "fw", "28.41.1000"),
        ]
        .concat();
        let all = attributes(&message);
        let psid = version(&all, ATTR_INFO_VERSION_FIXED, "fw.psid");
        assert_eq!(psid.as_deref(), Some("MT_0000000834"));
        assert_eq!(version(&all, ATTR_INFO_VERSION_FIXED, "fw.version"), None);
        let firmware = version(&all, ATTR_INFO_VERSION_RUNNING, "fw.version");
        assert_eq!(firmware.as_deref(), Some("28.41.1000"));
    }
}
