// SPDX-License-Identifier: GPL-2.0

//! `ip link set PF vf N`, and what `ip -s link show PF` tells of VFs.

use crate::link::{
    interface_header,
    request,
    INTERFACE_HEADER,
    RTM_SETLINK, //
};
use anyhow::{
    bail,
    Context,
    Result, //
};
use vfio_mig::host::netlink::{
    attribute,
    attributes,
    NESTED, //
};

// include/uapi/linux/rtnetlink.h
const RTM_GETLINK: u16 = 18;
const RTEXT_FILTER_VF: u32 = 1;
// include/uapi/linux/if_link.h
const IFLA_VFINFO_LIST: u16 = 22;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_VF_INFO: u16 = 1;
const IFLA_VF_MAC: u16 = 1;
const IFLA_VF_VLAN: u16 = 2;
const IFLA_VF_SPOOFCHK: u16 = 4;
const IFLA_VF_LINK_STATE: u16 = 5;
const IFLA_VF_STATS: u16 = 8;
const IFLA_VF_TRUST: u16 = 9;
const IFLA_VF_STATS_RX_PACKETS: u16 = 0;
const IFLA_VF_STATS_TX_PACKETS: u16 = 1;
const IFLA_VF_STATS_RX_DROPPED: u16 = 7;
const IFLA_VF_STATS_TX_DROPPED: u16 = 8;
/// MAX_ADDR_LEN
const ADDRESS_LEN: usize = 32;

/// The address of an interface.
pub type Mac = [u8; 6];

/// IFLA_VF_LINK_STATE_*
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum LinkState {
    /// As the wire is.
    Auto = 0,
    /// Up.
    Enable = 1,
    /// Down.
    Disable = 2,
}

/// What a PF can set for a VF.
#[derive(Clone, Copy, Debug)]
pub enum Setting {
    /// Its permanent address.
    Mac(Mac),
    /// The VLAN that it is in, and the priority of what it sends; 0 is for none.
    Vlan(u32, u32),
    /// Whether it can only send from its own address.
    SpoofCheck(bool),
    /// What its link is.
    Link(LinkState),
    /// Whether it can be promiscuous.
    Trust(bool),
}

/// What a PF has set for a VF, and the VF's counters.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct VfLink {
    /// Its permanent address.
    pub mac: Mac,
    /// The VLAN that it is in, and the priority of what it sends.
    pub vlan: (u32, u32),
    /// Whether it can only send from its own address.
    pub spoof_check: bool,
    /// What its link is, as [`LinkState`] has it.
    pub link: u32,
    /// Whether it can be promiscuous.
    pub trust: bool,
    /// Packets that it has received, and those that were not delivered to it.
    pub received: (u64, u64),
    /// Packets that it has sent, and those that were not let through.
    pub sent: (u64, u64),
}

fn words(values: &[u32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_ne_bytes())
        .collect()
}

/// Word `index` of an attribute's value.
fn word(value: &[u8], index: usize) -> Result<u32> {
    let bytes = value.get(index * 4..index * 4 + 4);
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    Ok(u32::from_ne_bytes(bytes.context("a short attribute")?))
}

/// Sets something of a PF's VF.
pub fn set(pf: &str, vf: u32, setting: Setting) -> Result<()> {
    let setting = match setting {
        Setting::Mac(mac) => {
            let mut address = mac.to_vec();
            address.resize(ADDRESS_LEN, 0);
            attribute(IFLA_VF_MAC, &[words(&[vf]), address].concat())
        }
        Setting::Vlan(vlan, priority) => attribute(IFLA_VF_VLAN, &words(&[vf, vlan, priority])),
        Setting::SpoofCheck(on) => attribute(IFLA_VF_SPOOFCHK, &words(&[vf, on.into()])),
        Setting::Link(state) => attribute(IFLA_VF_LINK_STATE, &words(&[vf, state as u32])),
        Setting::Trust(on) => attribute(IFLA_VF_TRUST, &words(&[vf, on.into()])),
    };
    let info = attribute(IFLA_VF_INFO | NESTED, &setting);
    let list = attribute(IFLA_VFINFO_LIST | NESTED, &info);
    let message = [interface_header(pf)?, list].concat();
    request(RTM_SETLINK, &message)?;
    Ok(())
}

impl VfLink {
    fn parse(info: &[u8]) -> Result<Self> {
        let mut link = Self::default();
        for (kind, value) in attributes(info) {
            let setting = word(value, 1).unwrap_or(0);
            match kind {
                IFLA_VF_MAC => {
                    let mac = value.get(4..10).and_then(|mac| mac.try_into().ok());
                    link.mac = mac.context("a short address")?;
                }
                IFLA_VF_VLAN => link.vlan = (setting, word(value, 2)?),
                IFLA_VF_SPOOFCHK => link.spoof_check = setting != 0,
                IFLA_VF_LINK_STATE => link.link = setting,
                IFLA_VF_TRUST => link.trust = setting != 0,
                IFLA_VF_STATS => link.count(value)?,
                _ => (),
            }
        }
        Ok(link)
    }

    fn count(&mut self, stats: &[u8]) -> Result<()> {
        for (kind, value) in attributes(stats) {
            let counter = match kind {
                IFLA_VF_STATS_RX_PACKETS => &mut self.received.0,
                IFLA_VF_STATS_TX_PACKETS => &mut self.sent.0,
                IFLA_VF_STATS_RX_DROPPED => &mut self.received.1,
                IFLA_VF_STATS_TX_DROPPED => &mut self.sent.1,
                _ => continue,
            };
            let value = value.try_into().context("a short counter")?;
            *counter = u64::from_ne_bytes(value);
        }
        Ok(())
    }
}

/// What there is of a PF's VFs, in order.
pub fn show(pf: &str) -> Result<Vec<VfLink>> {
    let mask = attribute(IFLA_EXT_MASK, &words(&[RTEXT_FILTER_VF]));
    let message = [interface_header(pf)?, mask].concat();
    let answer = request(RTM_GETLINK, &message)?;
    let all = answer.get(INTERFACE_HEADER..).unwrap_or_default();
    for (kind, list) in attributes(all) {
        if kind == IFLA_VFINFO_LIST {
            let infos = attributes(list).into_iter();
            return infos.map(|(_, info)| VfLink::parse(info)).collect();
        }
    }
    bail!("nothing about VFs")
}
