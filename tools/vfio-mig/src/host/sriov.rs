// SPDX-License-Identifier: GPL-2.0

//! ConnectX adapters and their VFs, as sysfs shows them.

use super::{
    pci_dir,
    problem::Problem,
    Host, //
};
use crate::bdf::Bdf;

/// NVIDIA, which was Mellanox.
const VENDOR: &str = "0x15b3";
/// Any Ethernet, InfiniBand or other network controller.
const NETWORK_CLASS: &str = "0x02";

/// The variant drivers that can migrate a ConnectX VF: this project's, and the kernel's in C.
pub const VARIANTS: [&str; 2] = ["mlx5_vfio_pci_rust", "mlx5_vfio_pci"];

/// What a PCI function is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A physical function.
    Pf,
    /// A virtual function of this PF.
    Vf(Bdf),
}

impl Host {
    fn number(&self, function: Bdf, file: &str) -> Option<u16> {
        self.read(pci_dir(function).join(file))?.parse().ok()
    }

    /// Whether a function is an adapter of this vendor.
    fn is_connectx(&self, function: Bdf) -> bool {
        let dir = pci_dir(function);
        let class = self.read(dir.join("class")).unwrap_or_default();
        self.read(dir.join("vendor")).as_deref() == Some(VENDOR) && class.starts_with(NETWORK_CLASS)
    }

    /// All ConnectX functions that are no VFs.
    pub fn connectx_pfs(&self) -> Vec<Bdf> {
        let names = self.names("/sys/bus/pci/devices");
        names
            .iter()
            .filter_map(|name| name.parse().ok())
            .filter(|function| self.is_connectx(*function) && self.pf_of(*function).is_none())
            .collect()
    }

    /// The VFs of all these, in order.
    pub fn connectx_vfs(&self) -> Vec<Bdf> {
        let pfs = self.connectx_pfs().into_iter();
        pfs.flat_map(|pf| self.vfs(pf)).collect()
    }

    /// The PF of a VF.
    pub fn pf_of(&self, vf: Bdf) -> Option<Bdf> {
        self.link_name(pci_dir(vf).join("physfn"))?.parse().ok()
    }

    /// What a ConnectX function is. Fails if there is no such function, or it is no ConnectX.
    pub fn connectx(&self, function: Bdf) -> Result<Kind, Problem> {
        if !self.exists(pci_dir(function)) || !self.is_connectx(function) {
            return Err(Problem::NoConnectX {
                function,
                missing: !self.exists(pci_dir(function)),
                pfs: self.connectx_pfs(),
            });
        }
        Ok(self.pf_of(function).map_or(Kind::Pf, Kind::Vf))
    }

    /// The driver that a function is bound to.
    pub fn driver_of(&self, function: Bdf) -> Option<String> {
        self.link_name(pci_dir(function).join("driver"))
    }

    /// The driver that a function names as the only one for it.
    pub fn override_of(&self, function: Bdf) -> Option<String> {
        let name = self.read(pci_dir(function).join("driver_override"))?;
        (!["", "(null)"].contains(&name.as_str())).then_some(name)
    }

    /// Most VFs that a PF can have. `None` if it can have none.
    pub fn total_vfs(&self, pf: Bdf) -> Option<u16> {
        self.number(pf, "sriov_totalvfs").filter(|most| *most > 0)
    }

    /// The VFs that a PF has, in order.
    pub fn vfs(&self, pf: Bdf) -> Vec<Bdf> {
        let dir = pci_dir(pf);
        let vfs = (0..).map(|number| self.link_name(dir.join(format!("virtfn{number}"))));
        vfs.map_while(|vf| vf?.parse().ok()).collect()
    }

    /// The number of a VF among those of its PF.
    pub fn vf_number(&self, vf: Bdf) -> Option<usize> {
        self.vfs(self.pf_of(vf)?).iter().position(|one| *one == vf)
    }

    /// Whether the kernel gives the PF's VFs to the driver that matches them.
    pub fn autoprobe(&self, pf: Bdf) -> bool {
        self.number(pf, "sriov_drivers_autoprobe") != Some(0)
    }

    /// The address that VF `number` of a PF will have, if the PF goes on with today's layout.
    pub fn future_vf(&self, pf: Bdf, number: u16) -> Option<Bdf> {
        let offset = self.number(pf, "sriov_offset")?;
        let stride = self.number(pf, "sriov_stride")?;
        pf.later_by(u32::from(offset) + u32::from(stride) * u32::from(number))
    }

    /// The IOMMU group of a function.
    pub fn iommu_group_of(&self, function: Bdf) -> Option<String> {
        self.link_name(pci_dir(function).join("iommu_group"))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::fake::Fake,
        *, //
    };

    #[test]
    fn functions_are_told_apart() {
        let fake = Fake::new("kinds");
        let host = fake.host();
        let [pf, vf] = ["01:00.0", "01:00.3"].map(|text| text.parse().unwrap());
        assert_eq!(host.connectx_pfs(), [pf]);
        let vfs = ["01:00.2", "01:00.3"].map(|text| text.parse().unwrap());
        assert_eq!(host.connectx_vfs(), vfs);
        assert_eq!(host.connectx(pf).unwrap(), Kind::Pf);
        assert_eq!(host.connectx(vf).unwrap(), Kind::Vf(pf));
        for (other, words) in [("00:1f.7", "no such device"), ("00:02.0", "not a ConnectX")] {
            let err = host.connectx(other.parse().unwrap()).unwrap_err();
            let text = err.to_string();
            assert!(text.contains(words), "{text}");
            assert!(text.contains("PFs of this host: 0000:01:00.0"), "{text}");
        }
    }

    #[test]
    fn vfs_have_a_number_and_an_address_before_they_exist() {
        let fake = Fake::new("numbers");
        let host = fake.host();
        let pf = "01:00.0".parse().unwrap();
        let vfs = host.vfs(pf);
        assert_eq!(vfs.len(), 2);
        for (number, vf) in vfs.iter().enumerate() {
            assert_eq!(host.future_vf(pf, number as u16), Some(*vf));
            assert_eq!(host.vf_number(*vf), Some(number));
        }
        // Seven functions, and then the next device.
        let eighth = host.future_vf(pf, 7).unwrap();
        assert_eq!(eighth.to_string(), "0000:01:01.1");
    }

    #[test]
    fn no_override_is_none() {
        let fake = Fake::new("override");
        let vf = "01:00.2".parse().unwrap();
        for (text, name) in [("(null)\n", None), ("\n", None), ("some\n", Some("some"))] {
            fake.write("sys/bus/pci/devices/0000:01:00.2/driver_override", text);
            assert_eq!(fake.host().override_of(vf).as_deref(), name);
        }
    }
}
