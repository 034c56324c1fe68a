// SPDX-License-Identifier: GPL-2.0

//! PCI drivers, and which of them are VFIO's.

use super::{
    driver_dir,
    Host, //
};

/// What an alias of the module of a VFIO PCI driver begins with, and that of no other driver.
const ALIAS: &str = "alias vfio_pci:";
/// Where the kernel's source has VFIO drivers, and no others.
const SOURCE: &str = "/drivers/vfio/";

/// Whether `line` of modules.builtin is about `module`, of VFIO.
fn is_built_in(line: &str, module: &str) -> bool {
    let file = line.rsplit('/').next().unwrap_or_default();
    let name = file.split('.').next().unwrap_or_default();
    line.contains(SOURCE) && name.replace('-', "_") == module
}

impl Host {
    /// Whether a PCI driver is loaded.
    pub fn has_driver(&self, driver: &str) -> bool {
        self.exists(driver_dir(driver))
    }

    /// Whether a driver that is loaded is one of VFIO's, which leave a function alone until
    /// somebody opens it. Its module uses vfio-pci-core, or has the alias of such drivers.
    pub fn is_vfio_driver(&self, driver: &str) -> bool {
        // "vfio-pci" is a driver of the module vfio_pci.
        let module = self.link_name(driver_dir(driver).join("module"));
        let module = module.unwrap_or_else(|| driver.replace('-', "_"));
        self.exists(format!("/sys/module/vfio_pci_core/holders/{module}"))
            || self.lists_vfio_module(&module)
    }

    /// Whether the lists of modules have it as one of VFIO's. The kernel does not tell who uses
    /// vfio-pci-core if that is built in.
    fn lists_vfio_module(&self, module: &str) -> bool {
        let release = self.read("/proc/sys/kernel/osrelease").unwrap_or_default();
        let list = |file: &str| self.read(format!("/lib/modules/{release}/{file}"));
        let aliases = list("modules.alias").unwrap_or_default();
        let is_alias = |line: &str| {
            line.starts_with(ALIAS) && line.split_whitespace().next_back() == Some(module)
        };
        let built_in = list("modules.builtin").unwrap_or_default();
        aliases.lines().any(is_alias) || built_in.lines().any(|line| is_built_in(line, module))
    }

    /// The PCI drivers of VFIO that are loaded.
    pub fn vfio_drivers(&self) -> Vec<String> {
        let mut drivers = self.names("/sys/bus/pci/drivers");
        drivers.retain(|driver| self.is_vfio_driver(driver));
        drivers
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;

    #[test]
    fn drivers_of_vfio_are_told_from_others() {
        let fake = Fake::new("vfio-drivers");
        let host = fake.host();
        fake.load("nvme");
        assert_eq!(host.vfio_drivers(), ["mlx5_vfio_pci_rust", "vfio-pci"]);
        // The name of a driver is no proof.
        fake.write("sys/bus/pci/drivers/my-vfio-pci/bind", "");
        assert!(!host.is_vfio_driver("my-vfio-pci"));
    }

    #[test]
    fn lists_of_modules_tell_if_vfio_is_built_in() {
        let fake = Fake::new("vfio-lists");
        let host = fake.host();
        let lib = "lib/modules/7.2.12-test";
        fake.remove("sys/module/vfio_pci_core");
        assert!(host.vfio_drivers().is_empty());
        fake.write("proc/sys/kernel/osrelease", "7.2.12-test\n");
        fake.write(
            &format!("{lib}/modules.alias"),
            "alias pci:v000015B3d0000101Esv*sd*bc*sc*i* mlx5_core\n\
             alias vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i* mlx5_vfio_pci_rust\n",
        );
        assert_eq!(host.vfio_drivers(), ["mlx5_vfio_pci_rust"]);
        fake.write(
            &format!("{lib}/modules.builtin"),
            "kernel/drivers/net/ethernet/mellanox/mlx5/core/mlx5_core.ko\n\
             kernel/drivers/vfio/pci/vfio-pci.ko\n",
        );
        assert_eq!(host.vfio_drivers(), ["mlx5_vfio_pci_rust", "vfio-pci"]);
    }
}
