// SPDX-License-Identifier: GPL-2.0

//! Who uses a function, so that nobody loses it.

use super::{
    pci_dir,
    problem::Problem,
    Host, //
};
use crate::{
    bdf::Bdf,
    holders,
    reason::reason, //
};
use std::{
    io,
    net::IpAddr,
    path::{
        Path,
        PathBuf, //
    },
};

/// Whether the network configuration of a host may be lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Force {
    /// It must stay.
    No,
    /// The caller has said so.
    Yes,
}

/// Whether somebody has chosen the address. Others come by themselves as soon as an interface is up.
fn is_chosen(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => true,
        // fe80::/10
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 != 0xfe80,
    }
}

impl Host {
    /// Whether a VFIO driver has a function.
    pub fn is_vfio(&self, function: Bdf) -> bool {
        self.exists(pci_dir(function).join("vfio-dev"))
    }

    /// The device nodes that stand for a function: of VFIO, and of RDMA.
    pub(super) fn nodes(&self, function: Bdf) -> Vec<PathBuf> {
        let dir = pci_dir(function);
        let below = |folder: &str, node: &str| {
            let names = self.names(dir.join(folder)).into_iter();
            names
                .map(|name| Path::new(node).join(name))
                .collect::<Vec<_>>()
        };
        let mut nodes = below("vfio-dev", "/dev/vfio/devices");
        if !nodes.is_empty() {
            nodes.extend(self.group_node(function));
        }
        nodes.extend(below("infiniband_verbs", "/dev/infiniband"));
        nodes
    }

    /// The node of a function's IOMMU group.
    fn group_node(&self, function: Bdf) -> Option<PathBuf> {
        let group = self.iommu_group_of(function)?;
        Some(Path::new("/dev/vfio").join(group))
    }

    /// The process that has a function open.
    pub fn user_of(&self, function: Bdf) -> Option<String> {
        self.user_of_nodes(function, &self.nodes(function))
    }

    /// As [`Self::user_of`], of a function that had these nodes.
    pub(super) fn user_of_nodes(&self, function: Bdf, nodes: &[PathBuf]) -> Option<String> {
        holders::find_in(&self.at("/"), &function.to_string(), nodes)
    }

    /// Tries to open the group of a function, if a VFIO driver has that. It resets nothing, and
    /// fails with EBUSY if anybody has the group or one of its devices open, whether `/proc`
    /// shows the process or not.
    fn try_group(&self, function: Bdf) -> Option<io::Result<()>> {
        let open = || {
            let node = self.group_node(function).ok_or(io::ErrorKind::NotFound)?;
            (self.open_group)(&self.at(node))
        };
        self.is_vfio(function).then(open)
    }

    /// What cannot be known of a function that [`Self::check_free`] has found free.
    pub fn unseen_users_of(&self, function: Bdf) -> Option<String> {
        let err = self.try_group(function)?.err()?;
        let node = self.group_node(function).unwrap_or("/dev/vfio".into());
        Some(format!(
            "{function}: only the processes in /proc were looked at, and others, such as those of \
             another PID namespace, may have it open: {} cannot be asked: {}",
            node.display(),
            reason(&err)
        ))
    }

    /// The network interfaces of a function that are in the caller's network namespace.
    pub fn interfaces_of(&self, function: Bdf) -> Vec<String> {
        self.names(pci_dir(function).join("net"))
    }

    /// What the host's network would lose without a function.
    pub fn network_use_of(&self, function: Bdf) -> Option<String> {
        let net = pci_dir(function).join("net");
        let interfaces = self.interfaces_of(function);
        if interfaces.is_empty() && self.exists(&net) {
            return Some("its interface is in another network namespace".to_string());
        }
        interfaces.iter().find_map(|interface| {
            let what = self.use_of(interface, &net.join(interface))?;
            Some(format!("{interface} {what}"))
        })
    }

    /// What an interface, whose folder is `dir`, is used for.
    fn use_of(&self, interface: &str, dir: &Path) -> Option<String> {
        if let Some(master) = self.link_name(dir.join("master")) {
            return Some(format!("is a port of {master}"));
        }
        // Such as a VLAN, which has the addresses then.
        let entries = self.names(dir);
        if let Some(upper) = entries.iter().find_map(|name| name.strip_prefix("upper_")) {
            return Some(format!("carries {upper}"));
        }
        let all = self.addresses(interface);
        let chosen = all.iter().find(|address| is_chosen(address))?;
        Some(format!("has the address {chosen}"))
    }

    /// Fails if the host's network uses representors of a PF's VFs, which go with the VFs, unless
    /// that is given up. A bridge has them as its ports, and so has Open vSwitch.
    pub fn check_representors(&self, pf: Bdf, force: Force) -> Result<(), Problem> {
        if force == Force::Yes {
            return Ok(());
        }
        let ports = match self.devlink().vf_ports(pf) {
            Ok(ports) => ports,
            // Without devlink, there is no switchdev mode.
            Err(err) if err.source.raw_os_error() == Some(libc::ENOENT) => Vec::new(),
            Err(err) => {
                let command = format!("devlink port show # of {pf}");
                return Err(Problem::step(command, err));
            }
        };
        let uses = ports.iter().filter_map(|port| {
            let name = port.representor.as_ref()?;
            let dir = Path::new("/sys/class/net").join(name);
            let what = match self.exists(&dir) {
                true => self.use_of(name, &dir)?,
                false => "is in another network namespace".to_string(),
            };
            Some(format!("{name}, the representor of VF {}, {what}", port.vf))
        });
        let uses: Vec<String> = uses.collect();
        match uses.is_empty() {
            true => Ok(()),
            false => Err(Problem::OfHost {
                function: pf,
                what: uses.join("; "),
            }),
        }
    }

    /// Fails if a function is used: by a process, or by the host's network, unless that is given up.
    pub fn check_free(&self, function: Bdf, force: Force) -> Result<(), Problem> {
        if let Some(by) = self.user_of(function) {
            return Err(Problem::InUse { function, by });
        }
        if let Some(Err(err)) = self.try_group(function) {
            if err.raw_os_error() == Some(libc::EBUSY) {
                let by = "a process that cannot be seen from here, such as one of another PID \
                          namespace";
                return Err(Problem::InUse {
                    function,
                    by: by.to_string(),
                });
            }
        }
        match self.network_use_of(function) {
            Some(what) if force == Force::No => Err(Problem::OfHost { function, what }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            devlink::EswitchMode,
            fake::{
                of,
                pf,
                refusal,
                vf,
                Fake,
                VFS, //
            },
        },
        *, //
    };

    const VF: &str = VFS[0];

    #[test]
    fn a_process_that_has_a_vf_open_keeps_it() {
        let fake = Fake::new("open");
        fake.bind(VF, "mlx5_vfio_pci_rust");
        assert!(fake.host().check_free(vf(), Force::No).is_ok());
        for node in ["/dev/vfio/devices/vfio0", "/dev/vfio/7"] {
            fake.opens("qemu", 41, node);
            let text = refusal(fake.host().check_free(vf(), Force::Yes));
            assert!(text.contains("in use by qemu (process 41)"), "{text}");
            // Another VF is free.
            let other = "01:00.3".parse().unwrap();
            assert!(fake.host().check_free(other, Force::No).is_ok());
            fake.closes(41);
        }
    }

    #[test]
    fn vfio_says_which_device_a_file_is_of() {
        let fake = Fake::new("fdinfo");
        fake.bind(VF, "mlx5_vfio_pci_rust");
        // Its group was closed again.
        fake.opens("qemu", 41, "anon_inode:[vfio-device]");
        let of = |function: &str| {
            let path = format!("/sys/devices/pci0000:00/0000:00:01.0/{function}");
            let info = format!("pos:\t0\nflags:\t02000002\nvfio-device-syspath: {path}\n");
            fake.write("proc/41/fdinfo/5", &info);
            fake.host().check_free(vf(), Force::Yes)
        };
        assert!(of(VFS[1]).is_ok());
        let text = refusal(of(VF));
        assert!(text.contains("in use by qemu (process 41)"), "{text}");
    }

    #[test]
    fn the_group_knows_of_users_that_cannot_be_seen() {
        let fake = Fake::new("unseen");
        let check = || fake.host().check_free(vf(), Force::Yes);
        fake.set_group(Some(libc::EBUSY));
        assert!(check().is_ok(), "it has no VFIO driver");
        fake.bind(VF, "mlx5_vfio_pci_rust");
        let text = refusal(check());
        assert!(text.contains("cannot be seen from here"), "{text}");
        fake.set_group(None);
        assert!(check().is_ok());
        assert_eq!(fake.host().unseen_users_of(vf()), None);
        // A kernel without groups.
        fake.set_group(Some(libc::ENOENT));
        assert!(check().is_ok());
        let note = fake.host().unseen_users_of(vf()).unwrap();
        assert!(note.contains("/dev/vfio/7 cannot be asked"), "{note}");
    }

    #[test]
    fn a_container_has_nodes_of_its_own() {
        let fake = Fake::new("container");
        fake.bind(VF, "mlx5_vfio_pci_rust");
        // The nodes of this test are links to nodes of the machine.
        fake.link("dev/vfio/7", "/dev/null");
        let open = |path: &str, to: &str| {
            fake.link(path, to);
            let path = fake.host().at(path);
            fake.opens("qemu", 41, path.to_str().unwrap());
            fake.host().check_free(vf(), Force::No)
        };
        // Another device, and another name.
        assert!(open("jail/a/7", "/dev/zero").is_ok());
        assert!(open("jail/a/8", "/dev/null").is_ok());
        let text = refusal(open("jail/b/7", "/dev/null"));
        assert!(text.contains("qemu (process 41)"), "{text}");
    }

    #[test]
    fn a_vf_of_the_host_network_needs_force() {
        let fake = Fake::new("network");
        fake.bind(VF, "mlx5_core");
        let net = of(VF, "net");
        let is_free = |force| fake.host().check_free(vf(), force).is_ok();
        let refused = |words: &str| {
            let text = refusal(fake.host().check_free(vf(), Force::No));
            assert!(text.contains(words), "{text}");
            assert!(text.contains("--force") && is_free(Force::Yes), "{text}");
        };
        fake.folder(&format!("{net}/eth7"));
        assert!(is_free(Force::No));
        // An address that the kernel has made is no configuration.
        fake.set_addresses("eth7", &["fe80::1"]);
        assert!(is_free(Force::No));
        fake.set_addresses("eth7", &["fe80::1", "2001:db8::1"]);
        refused("eth7 has the address 2001:db8::1");
        fake.set_addresses("eth7", &[]);
        fake.link(&format!("{net}/eth7/master"), "../../br0");
        refused("eth7 is a port of br0");
        fake.remove(&format!("{net}/eth7/master"));
        assert!(is_free(Force::No));
        fake.link(&format!("{net}/eth7/upper_eth7.10"), "../../eth7.10");
        refused("eth7 carries eth7.10");
        fake.remove(&format!("{net}/eth7"));
        refused("another network namespace");
    }

    #[test]
    fn representors_of_the_host_network_need_force() {
        let fake = Fake::new("representors");
        let check = |force| fake.host().check_representors(pf(), force);
        // There are none in legacy mode.
        assert!(check(Force::No).is_ok());
        fake.devlink(|state| state.mode = Ok(EswitchMode::Switchdev));
        assert!(check(Force::No).is_ok());
        fake.link("/sys/class/net/eth0_0/master", "../br0");
        fake.link("/sys/class/net/eth0_1/master", "../ovs-system");
        let text = refusal(check(Force::No));
        for words in [
            "0000:01:00.0: in use by this host: ",
            "eth0_0, the representor of VF 0, is a port of br0; ",
            "eth0_1, the representor of VF 1, is a port of ovs-system; ",
            "say --force",
        ] {
            assert!(text.contains(words), "{text}");
        }
        assert!(check(Force::Yes).is_ok());
        fake.remove("/sys/class/net/eth0_0/master");
        fake.remove("/sys/class/net/eth0_1/master");
        fake.folder("/sys/class/net/eth0_0/upper_eth0_0.7");
        let text = refusal(check(Force::No));
        assert!(text.contains("carries eth0_0.7"), "{text}");
        fake.remove("/sys/class/net/eth0_0");
        let text = refusal(check(Force::No));
        assert!(text.contains("in another network namespace"), "{text}");
        fake.devlink(|state| state.ports_fail = Some(libc::ENOENT));
        assert!(check(Force::No).is_ok());
        fake.devlink(|state| state.ports_fail = Some(libc::EIO));
        let text = refusal(check(Force::No));
        assert!(text.starts_with("`devlink port show"), "{text}");
        assert!(check(Force::Yes).is_ok());
    }
}
