// SPDX-License-Identifier: GPL-2.0

//! Kernel modules.

use super::{
    config::Config,
    report::{
        Check,
        Verdict, //
    },
    versions, //
};
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
    let found = match modules {
        [first, second] => format!("neither {first} nor {second} is loaded"),
        _ => format!("{} is not loaded", modules.join(", ")),
    };
    let check = Check::missing(name, found);
    let installed = modules
        .iter()
        .find(|module| lists(host, "modules.dep", module));
    match installed {
        Some(module) => check.run(format!("modprobe {module}")),
        None => check.say(otherwise),
    }
}

/// The program of the package with DKMS that says whether the driver can be built for a kernel.
const CHECKER: &str = "/usr/sbin/mlx5-vfio-pci-rust-kernel";

/// The page that says how to install the driver, where the package with the documentation has it.
const PAGE: &str = "/usr/share/doc/mlx5-vfio-pci-rust-doc/userspace-api/vfio-rust/installing.rst";

/// Where to read how the driver is installed: what is here without its source.
fn page(host: &Host) -> String {
    match host.exists(PAGE) {
        true => PAGE.to_string(),
        false => "the page \"Installing\" of its documentation (package mlx5-vfio-pci-rust-doc)"
            .to_string(),
    }
}

/// Looks for a driver of VFs. If none is installed, says why mlx5_vfio_pci_rust cannot be, if that
/// is known.
fn variant(host: &Host, config: &Config) -> Check {
    let otherwise = format!(
        "neither is installed for this kernel: {} says how to build mlx5_vfio_pci_rust, and \
         CONFIG_MLX5_VFIO_PCI builds the other",
        page(host)
    );
    let check = any(host, "VFs", &VARIANTS, &otherwise);
    let is_installed = !check.commands.is_empty();
    if check.verdict == Verdict::Ok || is_installed {
        return check;
    }
    let release = host.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let is_newer =
        versions::find(&release).is_some_and(|found| found.is_at_least(versions::KERNEL_TOO_NEW));
    let lacks_rust = config.is_known() && !config.has("CONFIG_RUST");
    let check = match (is_newer, lacks_rust) {
        (true, _) => check.say(format!(
            "{release} is newer than the kernels that mlx5_vfio_pci_rust is for: boot Linux {}",
            versions::kernels()
        )),
        (_, true) => check.say(
            "this kernel has no CONFIG_RUST, without which mlx5_vfio_pci_rust cannot be built",
        ),
        _ => check,
    };
    match host.exists(CHECKER) {
        // It was installed with DKMS, and for another kernel.
        true => check
            .run("mlx5-vfio-pci-rust-kernel check")
            .run("dkms status"),
        false => check,
    }
}

/// All that a migration takes.
pub fn all(host: &Host, config: &Config) -> Vec<Check> {
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
        variant(host, config),
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
        let host = fake.host();
        let [adapter, vfio, memory, vfs] = &all(&host, &Config::of(&host))[..] else {
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

    #[test]
    fn the_page_that_is_named_is_in_the_package() {
        let docs = include_str!("../../../packaging/debian/mlx5-vfio-pci-rust-doc.docs");
        assert!(docs.lines().any(|line| line == "Documentation/*"));
        let (_, page) = PAGE.split_once("mlx5-vfio-pci-rust-doc/").unwrap();
        let tree = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Documentation");
        let text = std::fs::read_to_string(format!("{tree}/{page}")).unwrap();
        assert!(text.contains("==\nInstalling\n=="));
    }

    #[test]
    fn a_kernel_that_our_driver_is_not_for_is_named() {
        let fake = Fake::new("variants");
        let host = fake.host();
        let vfs = |release: &str, config: &str| {
            fake.write("proc/sys/kernel/osrelease", &format!("{release}\n"));
            fake.write(&format!("boot/config-{release}"), config);
            variant(&host, &Config::of(&host))
        };
        let rust = "CONFIG_RUST=y\n";
        for (release, config, words) in [
            ("7.2.12-test", rust, None),
            ("7.3.999-test", rust, None),
            ("7.4.0-test", rust, Some("boot Linux 7.2 or 7.3")),
            ("7.2.12-c", "CONFIG_VFIO=m\n", Some("no CONFIG_RUST")),
        ] {
            let check = vfs(release, config);
            assert!(
                check.advice[0].contains("neither is installed"),
                "{check:?}"
            );
            let why = check.advice.get(1);
            assert_eq!(why.is_some(), words.is_some(), "{check:?}");
            let said = |words| why.is_some_and(|why| why.contains(words));
            assert!(words.is_none_or(said), "{check:?}");
            assert!(check.commands.is_empty(), "{check:?}");
        }
        // The page that is named is one that can be read on this host.
        let advice = vfs("7.2.12-test", rust).advice;
        assert!(
            advice[0].contains("the page \"Installing\" of"),
            "{advice:?}"
        );
        fake.write(PAGE, "");
        let advice = vfs("7.2.12-test", rust).advice;
        assert!(advice[0].contains(PAGE), "{advice:?}");
        // The package is installed, and has not been built for this kernel.
        fake.write(CHECKER, "");
        let check = vfs("7.2.12-test", rust);
        assert_eq!(check.commands[0], "mlx5-vfio-pci-rust-kernel check");
        // It does not matter what a kernel is whose driver is there.
        fake.write(
            "lib/modules/7.4.0-test/modules.dep",
            "updates/mlx5_vfio_pci_rust.ko: updates/vfio_rust.ko\n",
        );
        let check = vfs("7.4.0-test", rust);
        assert_eq!(check.commands, ["modprobe mlx5_vfio_pci_rust"]);
        assert!(check.advice.is_empty(), "{check:?}");
    }
}
