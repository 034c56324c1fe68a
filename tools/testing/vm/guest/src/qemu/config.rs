// SPDX-License-Identifier: GPL-2.0

//! What a QEMU is started with.

use super::process::file;
use crate::{
    hca::Driver,
    sys, //
};
use anyhow::{
    Context,
    Result, //
};
use std::fs;
use vfio_mig::{
    bdf::Bdf,
    precopy::InfoVersion, //
};

/// Of the first VF's root port, on the guest's bus. The others follow.
const FIRST_SLOT: usize = 4;
/// MiB of a guest's memory, in huge pages: VFIO maps those a hundred times faster.
const MEMORY: u32 = 192;
/// The same, if it runs a distribution's kernel with a network.
const NET_MEMORY: u32 = 256;

const MACHINE: &str = "q35,memory-backend=ram,i8042=off,sata=off,smbus=off,hpet=off";

/// What QEMU tells of what it does. The figures come from these.
const EVENTS: &[&str] = &[
    "migrate_set_state",
    "vmstate_downtime_*",
    "source_return_path_thread_switchover_acked",
    "vfio_migration_init",
    "vfio_migration_set_state",
    "vfio_migration_set_device_state",
    "vfio_save_block",
    "vfio_load_state_device_data",
    "vfio_load_state_device_buffer_end",
    "vfio_query_precopy_size_request_switchover_ack",
    "vfio_device_dirty_tracking_start",
    "vfio_container_query_dirty_bitmap",
];

/// How QEMU gets at a VF.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// A device node and iommufd.
    Iommufd,
    /// A group and a container.
    Container,
}

impl Access {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iommufd => "iommufd",
            Self::Container => "container",
        }
    }
}

/// A VF that a guest has.
#[derive(Clone, Copy)]
pub struct Assigned {
    /// Where it is.
    pub bdf: Bdf,
    /// Which HCA it is of, from 0 on.
    pub hca: usize,
    /// Its number in that HCA's firmware.
    pub vhca: u64,
}

/// What a guest does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Program {
    /// Its init works with its VFs: [`crate::inner`].
    Work,
    /// Its kernel drives a VF, through which it has traffic: [`crate::net::guest`].
    Traffic,
}

impl Program {
    /// What init knows it by.
    fn name(self) -> &'static str {
        match self {
            Self::Work => "work",
            Self::Traffic => "net",
        }
    }

    /// MiB of memory.
    fn memory(self) -> u32 {
        match self {
            Self::Work => MEMORY,
            Self::Traffic => NET_MEMORY,
        }
    }

    /// Huge pages of the guest's own.
    fn huge_pages(self, vfs: usize) -> usize {
        match self {
            Self::Work => vfs,
            Self::Traffic => 0,
        }
    }
}

/// What the QEMUs of a guest have in common.
#[derive(Clone, Copy)]
pub struct Config {
    /// What their VFs are bound to.
    pub driver: Driver,
    /// How they get at their VFs.
    pub access: Access,
    /// Whether the driver's tracepoints are turned on.
    pub traced: bool,
    /// Which PRECOPY_INFO they ask for: whether they are told of new initial bytes.
    pub info: InfoVersion,
    /// What the guest does.
    pub program: Program,
    /// Its processors.
    pub cpus: u32,
}

/// What all QEMUs have in common.
pub struct Common {
    /// Where QEMU was unpacked.
    pub consumer: String,
    /// What is preloaded for [`InfoVersion::V1`].
    precopy_info_v1: String,
    kernel: String,
    initramfs: String,
    /// What guests run on.
    pub accel: &'static str,
}

/// Loads KVM. What there is where the hardware has nothing for it is emulation.
fn accel() -> Result<&'static str> {
    // It may be loaded already.
    if !fs::exists("/sys/module/kvm")? {
        sys::load_module("kvm", "")?;
    }
    let loads = |name: &str| sys::load_module(name, "").is_ok();
    Ok(match loads("kvm_amd") || loads("kvm_intel") {
        true => "kvm",
        false => "tcg",
    })
}

impl Common {
    /// From the kernel's command line, and what the processor can.
    pub fn new() -> Result<Self> {
        let parameter = |name| sys::kernel_parameter(name)?.with_context(|| format!("no {name}="));
        Ok(Self {
            consumer: parameter("vmtest.consumer")?,
            precopy_info_v1: parameter("vmtest.precopy_info_v1")?,
            kernel: parameter("vmtest.kernel")?,
            initramfs: parameter("vmtest.initramfs")?,
            accel: accel()?,
        })
    }
}

/// What QEMU calls the state of a VF in a guest, the first of which is 0.
pub fn state_name(index: usize) -> String {
    format!("0000:00:{:02x}.0:00.0/vfio", FIRST_SLOT + index)
}

/// The environment of a QEMU.
pub fn environment(common: &Common, config: Config) -> Vec<(&'static str, String)> {
    let modules = format!("{}/usr/lib/x86_64-linux-gnu/qemu", common.consumer);
    let mut environment = vec![("QEMU_MODULE_DIR", modules)];
    if config.info == InfoVersion::V1 {
        environment.push(("LD_PRELOAD", common.precopy_info_v1.clone()));
    }
    environment
}

/// The arguments of a QEMU with these VFs, and a number of root ports: each has a VF behind
/// it, or could have one.
pub fn arguments(
    common: &Common,
    config: Config,
    name: &str,
    vfs: &[Assigned],
    ports: usize,
) -> Vec<String> {
    let share = format!("{}/usr/share", common.consumer);
    let memory = config.program.memory();
    let mut arguments: Vec<String> = [
        "-nodefaults -no-user-config -no-reboot -display none -cpu qemu64".to_string(),
        // Devices that nobody needs cost a kernel that looks for them half of its boot.
        format!("-accel {} -M {MACHINE}", common.accel),
        format!("-object memory-backend-memfd,id=ram,size={memory}M,hugetlb=on"),
        format!("-smp {}", config.cpus),
        format!("-m {memory} -L {share}/qemu -L {share}/seabios"),
        // What it says itself, what it tells, and how it takes orders.
        format!("-msg timestamp=on -D {}", file(name, "trace")),
        format!("-qmp unix:{},server=on,wait=off", file(name, "qmp")),
        // The guest's console, its reports, and orders for it.
        format!("-serial file:{}", file(name, "console")),
        format!("-serial file:{}", file(name, "report")),
        format!("-serial unix:{},server=on,wait=off", file(name, "orders")),
        format!("-kernel {} -initrd {}", common.kernel, common.initramfs),
    ]
    .iter()
    .flat_map(|line| line.split(' '))
    .map(str::to_string)
    .collect();
    arguments.push("-append".to_string());
    arguments.push(format!(
        "console=ttyS0 quiet panic=-1 hugepages={} kmemleak=off no_timer_check \
         lockdep.prove_locking=0 kunit.enable=0 vmtest.inner={}",
        config.program.huge_pages(vfs.len()),
        config.program.name()
    ));
    for event in EVENTS {
        arguments.extend(["-trace".to_string(), (*event).to_string()]);
    }
    let mut more = "";
    if config.access == Access::Iommufd {
        arguments.extend(["-object".to_string(), "iommufd,id=iommufd0".to_string()]);
        more = ",iommufd=iommufd0";
    }
    // A VF that can be unplugged is behind a port.
    for port in 0..ports {
        let slot = FIRST_SLOT + port;
        arguments.push("-device".to_string());
        arguments.push(format!(
            "pcie-root-port,id=port{port},chassis={slot},slot={slot},addr={slot:#x}"
        ));
    }
    for (port, vf) in vfs.iter().enumerate() {
        arguments.push("-device".to_string());
        arguments.push(format!(
            "vfio-pci,host={},enable-migration=on,bus=port{port}{more}",
            vf.bdf
        ));
    }
    arguments
}
