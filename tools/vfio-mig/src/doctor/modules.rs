// SPDX-License-Identifier: GPL-2.0

//! Kernel modules.

use super::report::Check;
use crate::host::{
    sriov::VARIANTS,
    Host, //
};

/// Whether a line of depmod's is about a module: it begins with the module's path.
fn is_about(line: &str, module: &str) -> bool {
    let path = line.split(':').next().unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or_default();
    let name = file.split('.').next().unwrap_or_default();
    name.replace('-', "_") == module
}

fn lists(host: &Host, file: &str, module: &str) -> bool {
    let release = host.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let list = host.read(format!("/lib/modules/{release}/{file}"));
    let list = list.unwrap_or_default();
    list.lines().any(|line| is_about(line, module))
}

fn is_loaded(host: &Host, module: &str) -> bool {
    let dir = format!("/sys/module/{module}");
    host.exists(dir) || lists(host, "modules.builtin", module)
}

/// Looks for one of `modules`. If none is loaded, `otherwise` says where one comes from.
fn any(host: &Host, what: &str, modules: &[&str], otherwise: &str) -> Check {
    let name = format!("module: {what}");
    let loaded: Vec<&str> = modules
        .iter()
        .copied()
        .filter(|module| is_loaded(host, module))
        .collect();
    if !loaded.is_empty() {
        return Check::ok(name, format!("loaded: {}", loaded.join(", ")));
    }
    let found = format!("{} is not loaded", modules.join(" or "));
    let check = Check::missing(name, found);
    let installed = modules
        .iter()
        .find(|module| lists(host, "modules.dep", module));
    match installed {
        Some(module) => check.run(format!("modprobe {module}")),
        None => check.say(otherwise),
    }
}

/// All that a migration takes.
pub fn all(host: &Host) -> Vec<Check> {
    let option = |option: &str| format!("not installed for this kernel either: {option} builds it");
    vec![
        any(host, "adapter", &["mlx5_core"], &option("CONFIG_MLX5_CORE")),
        any(
            host,
            "VFIO",
            &["vfio_pci_core"],
            &option("CONFIG_VFIO_PCI_CORE"),
        ),
        any(
            host,
            "memory of VMs",
            &["vfio_iommu_type1", "iommufd"],
            &option("CONFIG_VFIO_IOMMU_TYPE1 or CONFIG_IOMMUFD"),
        ),
        any(
            host,
            "VFs",
            &VARIANTS,
            "neither is installed for this kernel: Documentation/userspace-api/vfio-rust/\
             installing.rst says how to build mlx5_vfio_pci_rust, and CONFIG_MLX5_VFIO_PCI builds \
             the other",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    #[test]
    fn modules_are_loaded_built_in_or_installed() {
        let fake = Fake::new("modules");
        let lib = "lib/modules/7.2.12-test";
        fake.write("proc/sys/kernel/osrelease", "7.2.12-test\n");
        fake.folder("sys/module/mlx5_core");
        fake.write(
            &format!("{lib}/modules.builtin"),
            "kernel/drivers/vfio/pci/vfio-pci-core.ko\n",
        );
        fake.write(
            &format!("{lib}/modules.dep"),
            "kernel/a/mlx5_vfio_pci.ko.xz: kernel/drivers/vfio_iommu_type1.ko\n",
        );
        let [adapter, vfio, memory, vfs] = &all(&fake.host())[..] else {
            panic!("another number of checks");
        };
        assert_eq!(adapter.found, "loaded: mlx5_core");
        assert_eq!(vfio.found, "loaded: vfio_pci_core");
        // What another module needs is not what is installed.
        assert!(
            memory.advice[0].contains("CONFIG_VFIO_IOMMU_TYPE1"),
            "{memory:?}"
        );
        assert!(memory.commands.is_empty(), "{memory:?}");
        assert_eq!(vfs.commands, ["modprobe mlx5_vfio_pci"]);
    }
}
