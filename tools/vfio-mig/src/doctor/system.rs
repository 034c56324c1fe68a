// SPDX-License-Identifier: GPL-2.0

//! The kernel, its IOMMU, and the memory that a VM may lock.

use super::{
    config::Config,
    report::Check,
    versions, //
};
use crate::host::Host;

/// Its version.
pub fn kernel(host: &Host) -> Check {
    const NAME: &str = "kernel";
    let [ours, c] = [versions::kernels(), versions::or_later(versions::KERNEL_C)];
    let unknown = |why: String| {
        Check::warning(NAME, format!("unknown: {why}"))
            .say(format!("it must be {ours} for mlx5_vfio_pci_rust:"))
            .run("uname -r")
    };
    let Some(release) = host.read("/proc/sys/kernel/osrelease") else {
        return unknown("/proc/sys/kernel/osrelease cannot be read: is /proc mounted?".to_string());
    };
    match versions::find(&release) {
        None => unknown(format!("\"{release}\" is no version")),
        Some(version) if version.is_at_least(versions::KERNEL) => Check::ok(NAME, release),
        Some(version) if version.is_at_least(versions::KERNEL_C) => {
            let found = format!("{release}: too old for mlx5_vfio_pci_rust");
            let advice = format!("boot Linux {ours}, or use the C driver, mlx5_vfio_pci");
            Check::warning(NAME, found).say(advice)
        }
        Some(_) => {
            let found = format!("{release}: too old to migrate ConnectX VFs");
            let advice = format!("boot Linux {ours}, or {c} for the C driver, mlx5_vfio_pci");
            Check::missing(NAME, found).say(advice)
        }
    }
}

/// What a kernel must be configured with, and for what.
const OPTIONS: &[&[&str]] = &[
    &["CONFIG_PCI_IOV"],
    &["CONFIG_MLX5_CORE"],
    &["CONFIG_MLX5_ESWITCH"],
    &["CONFIG_VFIO_PCI_CORE"],
    &["CONFIG_VFIO_IOMMU_TYPE1", "CONFIG_IOMMUFD"],
    &["CONFIG_IOMMUFD_DRIVER"],
];

/// Its options.
pub fn configuration(config: &Config) -> Check {
    const NAME: &str = "configuration";
    let Some(path) = &config.path else {
        let found = "unknown: neither /proc/config.gz nor a file in /boot or /lib/modules has it";
        return Check::warning(NAME, found)
            .say("install the file that came with the kernel, to have it looked at");
    };
    let missing: Vec<String> = OPTIONS
        .iter()
        .filter(|any| !any.iter().any(|option| config.has(option)))
        .map(|any| any.join(" or "))
        .collect();
    match missing.is_empty() {
        true => Check::ok(NAME, format!("{} has what it takes", path.display())),
        false => {
            let found = format!("{} lacks {}", path.display(), missing.join(", "));
            Check::missing(NAME, found).say("boot a kernel that was built with these options")
        }
    }
}

/// Whether devices have IOMMU groups.
pub fn iommu(host: &Host) -> Check {
    const NAME: &str = "IOMMU";
    let groups = host.names("/sys/kernel/iommu_groups").len();
    if groups > 0 {
        return Check::ok(NAME, format!("on: {groups} groups"));
    }
    let check = Check::missing(NAME, "off: there are no IOMMU groups");
    let cpu = host.read("/proc/cpuinfo").unwrap_or_default();
    if cpu.contains("GenuineIntel") {
        check.say(
            "turn VT-d on in the settings of the host's firmware, add intel_iommu=on to the \
             kernel's command line, and reboot",
        )
    } else {
        check.say("turn the IOMMU on in the settings of the host's firmware, and reboot")
    }
}

/// Bit 45 of an Intel IOMMU's extended capabilities: it notes accesses and writes. Only in
/// scalable mode, which is bit 43.
const INTEL_TRACKS: u64 = (1 << 45) | (1 << 43);
/// Bits of an AMD IOMMU's extended features: it notes accesses, and writes.
const AMD_TRACKS: u64 = (1 << 49) | (1 << 52);

/// Whether all IOMMUs of the host could note what devices write to.
fn iommus_track(host: &Host) -> bool {
    let tracks = |iommu: &String| {
        let dir = format!("/sys/class/iommu/{iommu}");
        let hex = |file: &str| {
            let text = host.read(format!("{dir}/{file}"))?;
            u64::from_str_radix(text.split(':').next()?, 16).ok()
        };
        let has = |value: Option<u64>, bits| value.is_some_and(|value| value & bits == bits);
        has(hex("intel-iommu/ecap"), INTEL_TRACKS) || has(hex("amd-iommu/features"), AMD_TRACKS)
    };
    let iommus = host.names("/sys/class/iommu");
    !iommus.is_empty() && iommus.iter().all(tracks)
}

/// Whether VFIO can report what devices have written to.
pub fn dirty_tracking(host: &Host, config: &Config) -> Check {
    const NAME: &str = "dirty pages";
    let by = match iommus_track(host) {
        true => "by the VFs, and by the IOMMU with iommufd",
        false => "by the VFs alone; this IOMMU cannot",
    };
    if host.exists("/dev/iommu") || config.has("CONFIG_IOMMUFD_DRIVER") {
        return Check::ok(NAME, format!("reported, {by}"));
    }
    if config.is_known() {
        let found = "not reported: the kernel has no bitmaps for them, without which QEMU \
                     cannot migrate a VF";
        return Check::missing(NAME, found)
            .say("boot a kernel with CONFIG_IOMMUFD_DRIVER, which CONFIG_IOMMUFD selects");
    }
    Check::warning(
        NAME,
        "unknown: there is no /dev/iommu, and CONFIG_IOMMUFD_DRIVER is unknown",
    )
    .run("modprobe iommufd")
}

/// CAP_IPC_LOCK, as a bit.
const CAN_LOCK: u64 = 1 << 14;

/// How much memory a program that is started here may lock: VFIO locks that of a VM.
pub fn locked_memory(host: &Host) -> Check {
    const NAME: &str = "locked memory";
    let limits = host.read("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"));
    let limit = line.and_then(|line| line.split_whitespace().next());
    let status = host.read("/proc/self/status").unwrap_or_default();
    let caps = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let caps = caps.and_then(|caps| u64::from_str_radix(caps.trim(), 16).ok());
    if caps.is_some_and(|caps| caps & CAN_LOCK != 0) {
        return Check::ok(NAME, "without a limit for this user (CAP_IPC_LOCK)");
    }
    match limit {
        Some("unlimited") => Check::ok(NAME, "without a limit"),
        Some(limit) => {
            let mib = limit.parse::<u64>().map_or(0, |bytes| bytes >> 20);
            let found = format!("{mib} MiB at most, and a VM with a VF locks all its memory");
            Check::warning(NAME, found)
                .say("libvirt raises the limit by itself; for QEMU alone, raise it before")
                .run("ulimit -l unlimited")
        }
        None => Check::warning(NAME, "unknown: /proc/self/limits does not say"),
    }
}
