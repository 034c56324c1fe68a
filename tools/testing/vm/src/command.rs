// SPDX-License-Identifier: GPL-2.0

//! The command line of a machine: QEMU's, and the kernel's in it.

use crate::{
    accel::Accel,
    kernel,
    machine::Machine, //
};
use std::{
    path::Path,
    process::Command, //
};
use vm_common::{
    kernel::Kernel,
    scenarios::{
        Extra,
        Scenario, //
    },
    slot::HCA, //
};

/// What the machine boots from, in its folder.
pub const INITRAMFS: &str = "initramfs.cpio";
/// The same, of a machine in the machine.
pub const INNER_INITRAMFS: &str = "inner.cpio";
/// The machine's console, in its folder.
pub const CONSOLE: &str = "console.log";
/// Its results.
pub const RESULTS: &str = "results.tap";
/// What counter.so has counted.
pub const COUNTS: &str = "counts.log";
/// What the emulated HCA holds against its drivers.
pub const VIOLATIONS: &str = "violations.log";
/// What the others do.
pub const PEER_VIOLATIONS: &[&str] = &[
    "violations-peer.log",
    "violations-other.log",
    "violations-last.log",
];

/// The host's files, to be mounted read-only: those of the sysroot, with checkout
/// and cache where they are on the host.
const HOST_FILES: &[&str] = &[
    "-fsdev",
    "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
    "-device",
    "virtio-9p-pci,fsdev=root,mount_tag=root",
];

/// A folder of the host's that the machine may write to, and what tells its kernel so.
fn kept(folder: Option<&Path>) -> (Vec<String>, &'static str) {
    let Some(folder) = folder else {
        return (Vec::new(), "");
    };
    let arguments = vec![
        "-fsdev".to_string(),
        format!(
            "local,id=kept,path={},security_model=none",
            // QEMU takes two commas for one of a name.
            folder.display().to_string().replace(',', ",,")
        ),
        "-device".to_string(),
        "virtio-9p-pci,fsdev=kept,mount_tag=kept".to_string(),
    ];
    (arguments, "vmtest.kept=1")
}

/// Two devices without a driver of their own. A port of its own is what such a
/// device can be reset by.
const SHARED_MEMORY: &[&str] = &[
    "-object",
    "memory-backend-ram,id=shm0,size=1M,share=on",
    "-device",
    "pcie-root-port,id=rp-shm0,bus=pcie.0,chassis=2",
    "-device",
    "ivshmem-plain,memdev=shm0,bus=rp-shm0",
    "-object",
    "memory-backend-ram,id=shm1,size=1M,share=on",
    "-device",
    "pcie-root-port,id=rp-shm1,bus=pcie.0,chassis=3",
    "-device",
    "ivshmem-plain,memdev=shm1,bus=rp-shm1",
];

/// Two ends of a network.
const NETWORK: &[&str] = &[
    "-netdev",
    "hubport,id=net0,hubid=0",
    "-netdev",
    "hubport,id=net1,hubid=0",
    "-device",
    "pcie-root-port,id=rp-peer,bus=pcie.0,chassis=4,pref64-reserve=128M",
];

/// The network of the user, with an echo service, and ports of two HCAs that are connected by
/// datagrams.
const WIRES: &[&str] = &[
    "-netdev",
    "user,id=net0,restrict=on,guestfwd=tcp:10.0.2.100:7-cmd:cat",
    "-netdev",
    "dgram,id=net1,local.type=unix,local.path=net1,remote.type=unix,remote.path=net2",
    "-netdev",
    "dgram,id=net2,local.type=unix,local.path=net2,remote.type=unix,remote.path=net1",
    "-device",
    "pcie-root-port,id=rp-peer,bus=pcie.0,chassis=4,pref64-reserve=128M",
    "-device",
    "pcie-root-port,id=rp-other,bus=pcie.0,chassis=5,pref64-reserve=128M",
];

/// Where three HCAs are.
const FOUR: &[&str] = &[
    "-device",
    "pcie-root-port,id=rp-peer,bus=pcie.0,chassis=4,pref64-reserve=128M",
    "-device",
    "pcie-root-port,id=rp-other,bus=pcie.0,chassis=5,pref64-reserve=128M",
    "-device",
    "pcie-root-port,id=rp-last,bus=pcie.0,chassis=6,pref64-reserve=128M",
];

/// A network of the first HCA's own, and where two others are.
const UNLIKE: &[&str] = &[
    "-netdev",
    "hubport,id=net0,hubid=0",
    "-device",
    "pcie-root-port,id=rp-peer,bus=pcie.0,chassis=4,pref64-reserve=128M",
    "-device",
    "pcie-root-port,id=rp-other,bus=pcie.0,chassis=5,pref64-reserve=128M",
];

/// A firmware with variables, which are in the machine's folder under these names.
pub const FIRMWARE_FILES: [&str; 2] = ["firmware.fd", "variables.fd"];
const FIRMWARE: &[&str] = &[
    "-drive",
    "if=pflash,format=raw,readonly=on,file=firmware.fd",
    "-drive",
    "if=pflash,format=raw,file=variables.fd",
];

/// A root port whose slot is the kernel's, not the firmware's: it says that its link is active,
/// and the HCA in it can be taken out. The third serial port is connected with a monitor.
const SLOT: &[&str] = &[
    "-global",
    "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
    "-chardev",
    "socket,id=slot-monitor,path=monitor,server=on,wait=off",
    "-mon",
    "chardev=slot-monitor,mode=control",
    "-chardev",
    "socket,id=slot-port,path=monitor",
    "-serial",
    "chardev:slot-port",
];

/// QEMU's arguments for what a machine has beside the HCA.
fn extra_arguments(extra: Extra) -> &'static [&'static str] {
    match extra {
        Extra::Network => NETWORK,
        Extra::Unlike => UNLIKE,
        Extra::Four => FOUR,
        Extra::Wires => WIRES,
        Extra::HostFiles => HOST_FILES,
        Extra::SharedMemory => SHARED_MEMORY,
        Extra::Packages => FIRMWARE,
        Extra::Slot => SLOT,
        // The one is in the sysroot, and the other in the initramfs.
        Extra::Guest | Extra::Rdma => &[],
    }
}

/// QEMU's arguments for a machine whose instructions are counted: the same in each run,
/// without instructions that copy or fill more than a word at a time. Its time goes on by a
/// nanosecond with each of them, and to the next timer if there are none: however busy the
/// host is.
fn counting(machine: &Machine<'_>) -> Vec<String> {
    if !machine.scenario.machine.counted {
        return Vec::new();
    }
    let counter = machine.paths.build.join("counter.so");
    vec![
        "-icount".to_string(),
        "shift=0,sleep=off".to_string(),
        "-cpu".to_string(),
        "max,-erms,-fsrm".to_string(),
        "-plugin".to_string(),
        format!("{},log={COUNTS}", counter.display()),
    ]
}

/// The HCAs beside the first one, each behind a port of its name. That of one network with the
/// first is the same as that, and so are all of four: what one saves, another loads.
fn peers(scenario: &Scenario, properties: &str) -> Vec<String> {
    let has = |extra| scenario.has(extra);
    let peers: &[(&str, &str)] = if has(Extra::Network) {
        &[("peer", ",netdev=net1")]
    } else if has(Extra::Unlike) {
        &[("peer", ""), ("other", ",vf-vectors=8,init-pages=64")]
    } else if has(Extra::Four) {
        &[("peer", ""), ("other", ""), ("last", "")]
    } else if has(Extra::Wires) {
        &[("peer", ",netdev=net1"), ("other", ",netdev=net2")]
    } else {
        &[]
    };
    let same = match has(Extra::Network) || has(Extra::Four) {
        true => format!("{}{properties}", scenario.machine.properties),
        false => String::new(),
    };
    let device = |(name, properties): &(&str, &str)| {
        let device = format!(
            "mlx5-emu,bus=rp-{name}{properties},event-log=commands-{name}.log,\
             violations-log=violations-{name}.log{same}"
        );
        ["-device".to_string(), device]
    };
    peers.iter().flat_map(device).collect()
}

/// The network of the first HCA, if it has one.
fn network(scenario: &Scenario) -> &'static str {
    let networks = [Extra::Network, Extra::Unlike, Extra::Wires];
    match networks.iter().any(|extra| scenario.has(*extra)) {
        true => ",netdev=net0",
        false => "",
    }
}

/// The first HCA, as QEMU is told to make it.
fn hca(machine: &Machine<'_>) -> String {
    format!(
        "mlx5-emu,id={HCA},bus=rp,event-log=commands.log,violations-log={VIOLATIONS}{}{}{}",
        network(machine.scenario),
        machine.scenario.machine.properties,
        machine.properties
    )
}

/// What tells a machine how to put its HCA back into its slot.
fn hca_parameter(machine: &Machine<'_>) -> String {
    match machine.scenario.has(Extra::Slot) {
        true => format!("vmtest.hca={}", hca(machine)),
        false => String::new(),
    }
}

/// What turns on the checkers of a kernel that are off by themselves.
const fn checkers(kernel: Kernel) -> &'static str {
    match kernel {
        Kernel::Debug => "page_owner=on debug_pagealloc=on iommu.debug_pagealloc=1",
        _ => "",
    }
}

/// QEMU with a machine whose files are in `dir`.
pub fn command(machine: &Machine<'_>, dir: &Path) -> Command {
    let own = &machine.scenario.machine;
    // Elsewhere instructions cannot be counted.
    let accel = match own.counted {
        true => Accel::Tcg,
        false => machine.accel,
    };
    let (kept, has_kept) = kept(machine.kept);
    let mut qemu = Command::new("qemu-system-x86_64");
    // Its sockets and logs are there: their whole paths may be too long for the kernel, or have
    // a comma, which would end an option.
    qemu.current_dir(dir)
        .env("LD_PRELOAD", machine.paths.build.join("mlx5-emu.so"))
        .args(accel.args())
        .args(["-M", "q35,kernel-irqchip=split"])
        .args(["-smp", &own.cpus.to_string()])
        .args(["-m", &own.memory.to_string()])
        .args(["-nodefaults", "-no-reboot", "-display", "none"])
        .args(["-device", "intel-iommu,intremap=on,aw-bits=48"])
        .args([
            "-device",
            // The PF's BAR of 32 MiB, and one of 1 MiB for each of 64 VFs.
            "pcie-root-port,id=rp,bus=pcie.0,chassis=1,pref64-reserve=128M",
        ])
        .args(["-device", &hca(machine)])
        .arg("-serial")
        .arg(format!("file:{CONSOLE}"))
        .arg("-serial")
        .arg(format!("file:{RESULTS}"))
        .arg("-kernel")
        .arg(kernel::image(machine.kernel, machine.paths))
        .arg("-initrd")
        .arg(dir.join(INITRAMFS))
        // No mark of init in the log is left out, and an emulated timer that has to
        // wait for a busy host must not end the boot.
        .arg("-append")
        .arg(format!(
            "console=ttyS0 printk.devkmsg=on intel_iommu=on quiet loglevel=7 panic=-1 kmemleak={} \
             no_timer_check \
             vmtest.scenario={} vmtest.selftests={} vmtest.consumer={} \
             vmtest.precopy_info_v1={} vmtest.kernel={} vmtest.initramfs={} \
             vmtest.kernel_name={} vmtest.tip={} {} {} {} {} {has_kept} {}",
            if own.leaks.are_looked_for(machine.all) {
                "on"
            } else {
                "off"
            },
            machine.scenario.name,
            machine.paths.selftests.display(),
            machine.paths.consumer.display(),
            machine.paths.build.join("precopy-info-v1.so").display(),
            kernel::image(machine.kernel, machine.paths).display(),
            machine.paths.plain(&dir.join(INNER_INITRAMFS)).display(),
            machine.kernel.name(),
            machine.paths.tip.as_deref().unwrap_or_default(),
            if machine.all { "vmtest.all=1" } else { "" },
            own.parameters,
            hca_parameter(machine),
            checkers(machine.kernel),
            machine.parameters
        ))
        .args(counting(machine))
        .args(kept)
        .args(own.extras.iter().copied().flat_map(extra_arguments))
        .args(peers(machine.scenario, machine.properties));
    qemu
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_common::scenarios;

    #[test]
    fn only_a_machine_that_keeps_something_has_a_folder_for_that() {
        assert_eq!(kept(None), (Vec::new(), ""));
        let (arguments, parameter) = kept(Some(Path::new("/dir")));
        assert!(arguments[1].contains("path=/dir,"), "{arguments:?}");
        assert_eq!(parameter, "vmtest.kept=1");
    }

    #[test]
    fn hcas_that_load_what_another_saves_are_the_same() {
        for scenario in scenarios::ALL {
            let peers = peers(scenario, ",cmd-us=7");
            let same = |arg: &&String| {
                arg.contains(scenario.machine.properties) && arg.contains(",cmd-us=7")
            };
            let expected = match (scenario.has(Extra::Network), scenario.has(Extra::Four)) {
                (true, _) => 1,
                (_, true) => 3,
                _ => 0,
            };
            assert_eq!(peers.iter().filter(same).count(), expected, "{peers:?}");
        }
    }
}
