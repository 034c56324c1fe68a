// SPDX-License-Identifier: GPL-2.0

//! What is wrong with a host, or with what was to be changed there, and what to do about it.

use super::{
    netlink::Failure,
    sriov::VARIANTS, //
};
use crate::{
    bdf::Bdf,
    reason::reason,
    text, //
};
use std::io;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It is no ConnectX, or not there.
    #[error(
        "{function}: {}; {}",
        if *.missing { "no such device" } else { "not a ConnectX adapter" },
        listed(.pfs)
    )]
    NoConnectX {
        /// What was given.
        function: Bdf,
        /// Whether there is no such device at all.
        missing: bool,
        /// What could be given.
        pfs: Vec<Bdf>,
    },
    /// A VF where a PF belongs.
    #[error("{vf}: a VF; give its PF, {pf}")]
    NotAPf {
        /// What was given.
        vf: Bdf,
        /// Its PF.
        pf: Bdf,
    },
    /// Something else where a VF belongs.
    #[error("{function}: not a VF; {}", vfs_listed(.vfs))]
    NotAVf {
        /// What was given.
        function: Bdf,
        /// The VFs that it has.
        vfs: Vec<Bdf>,
    },
    /// The firmware of a PF offers no VFs.
    #[error(
        "{0}: its firmware offers no VFs; `mstconfig -d {0} set SRIOV_EN=1 NUM_OF_VFS=8 \
         VF_MIGRATION_MODE=2` makes it do so, after the next reboot"
    )]
    NoVfs(Bdf),
    /// More than there can be.
    #[error(
        "{pf}: {wanted} VFs are more than its {most}; `mstconfig -d {pf} set NUM_OF_VFS={wanted}` \
         changes that, after the next reboot"
    )]
    TooManyVfs {
        /// The PF.
        pf: Bdf,
        /// How many were asked for.
        wanted: u16,
        /// How many there can be.
        most: u16,
    },
    /// Not as many as were made.
    #[error(
        "{pf}: it has {there} VFs now, and not {wanted}; the kernel's log (dmesg) may say why"
    )]
    OtherNumber {
        /// The PF.
        pf: Bdf,
        /// How many were made.
        wanted: u16,
        /// How many there are.
        there: usize,
    },
    /// The driver that makes VFs is not there.
    #[error(
        "{pf}: {}, and only mlx5_core makes VFs that can be migrated; \
         `echo {pf} > /sys/bus/pci/drivers/mlx5_core/bind` binds it",
        bound_to(.driver)
    )]
    NotMlx5Core {
        /// The PF.
        pf: Bdf,
        /// What has it.
        driver: Option<String>,
    },
    /// A driver that is not loaded.
    #[error(
        "no PCI driver {driver} is loaded; `modprobe {}` loads it, if it is installed; {}",
        text::quoted(.driver), loaded(.variants)
    )]
    NoDriver {
        /// Its name.
        driver: String,
        /// Those that could be given.
        variants: Vec<&'static str>,
    },
    /// A driver that is loaded, and would use the VF itself.
    #[error(
        "{driver} is not a VFIO driver: it would use the VF itself, and may write to it; {}",
        vfio_loaded(.vfio)
    )]
    NotOfVfio {
        /// Its name.
        driver: String,
        /// Those that could be given.
        vfio: Vec<String>,
    },
    /// None of the drivers that can migrate.
    #[error(
        "no driver that can migrate a ConnectX VF is loaded; `modprobe {}` or `modprobe {}` \
         loads one",
        VARIANTS[0], VARIANTS[1]
    )]
    NoVariant,
    /// Two drivers, and no word which.
    #[error("{} and {} are both loaded; say with --driver which of them is to have the VF",
        VARIANTS[0], VARIANTS[1])]
    BothVariants,
    /// A process has it open.
    #[error("{function}: in use by {by}; end that first")]
    InUse {
        /// What is in use.
        function: Bdf,
        /// Who has it open.
        by: String,
    },
    /// The host's network needs it.
    #[error("{function}: in use by this host: {what}; end that first, or say --force")]
    OfHost {
        /// What is in use.
        function: Bdf,
        /// How.
        what: String,
    },
    /// There is nothing that could be undone.
    #[error("{vf}: {}, and names no other; there is nothing to undo", bound_to(.driver))]
    NothingToUndo {
        /// The VF.
        vf: Bdf,
        /// What has it.
        driver: Option<String>,
    },
    /// A driver did not take a VF.
    #[error(
        "{vf}: {driver} did not take it, which is now {}; {}",
        bound_to(.now),
        if *.group {
            "the kernel's log (dmesg) may say why"
        } else {
            "it has no IOMMU group: is the IOMMU on (intel_iommu=on)?"
        }
    )]
    NotTaken {
        /// The VF.
        vf: Bdf,
        /// The driver.
        driver: String,
        /// What has it.
        now: Option<String>,
        /// Whether the VF has an IOMMU group.
        group: bool,
    },
    /// A driver took a VF, and is not one for VFIO.
    #[error("{vf}: {driver} has taken it, and is not a VFIO driver; {}", loaded(.variants))]
    NotVfio {
        /// The VF.
        vf: Bdf,
        /// The driver.
        driver: String,
        /// Those that could be given.
        variants: Vec<&'static str>,
    },
    /// devlink shows no port of a VF.
    #[error(
        "{pf}: devlink shows no port of VF {number}, in switchdev mode; see devlink port show"
    )]
    NoPort {
        /// The PF.
        pf: Bdf,
        /// Which VF.
        number: usize,
    },
    /// Firmware does not know of migration.
    #[error(
        "{pf}: its firmware does not offer to make VFs migratable; \
         `mstconfig -d {pf} set VF_MIGRATION_MODE=2` makes it do so, after the next reboot, if \
         the firmware is new enough"
    )]
    FirmwareCannot {
        /// The PF.
        pf: Bdf,
    },
    /// A step was not done.
    #[error("`{command}`: {source}; {hint}")]
    Step {
        /// What a shell would do.
        command: String,
        /// Why it has failed.
        source: Failure,
        /// What may help.
        hint: &'static str,
    },
    /// The user was asked, and did not say yes.
    #[error("nothing was done: the answer was not \"yes\"; --yes begins without asking")]
    NotWanted,
    /// A report of another host cannot be used.
    #[error(
        "{path}: {}; make one there with `vfio-mig doctor --json > FILE`",
        reason(.source)
    )]
    NoReport {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: io::Error,
    },
}

fn listed(pfs: &[Bdf]) -> String {
    match pfs {
        [] => "this host has no PF of a ConnectX".to_string(),
        pfs => format!("PFs of this host: {}", names(pfs)),
    }
}

fn vfs_listed(vfs: &[Bdf]) -> String {
    match vfs {
        [] => "it has none; `vfio-mig setup` makes them".to_string(),
        vfs => format!("its VFs: {}", names(vfs)),
    }
}

/// Most functions that a message names.
const MAX_NAMED: usize = 16;

fn names(functions: &[Bdf]) -> String {
    let shown = functions.iter().take(MAX_NAMED).map(Bdf::to_string);
    let names = shown.collect::<Vec<_>>().join(", ");
    match functions.len().saturating_sub(MAX_NAMED) {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

fn bound_to(driver: &Option<String>) -> String {
    match driver {
        Some(driver) => format!("bound to {driver}"),
        None => "bound to no driver".to_string(),
    }
}

fn vfio_loaded(drivers: &[String]) -> String {
    match drivers {
        [] => Problem::NoVariant.to_string(),
        drivers => format!("VFIO drivers that are loaded: {}", drivers.join(", ")),
    }
}

fn loaded(variants: &[&str]) -> String {
    match variants {
        [] => Problem::NoVariant.to_string(),
        variants => format!("loaded, and able to migrate: {}", variants.join(", ")),
    }
}

impl Problem {
    /// The errno behind it.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Step { source, .. } => source.source.raw_os_error(),
            Self::NoReport { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// A step that a system call has failed.
    pub(super) fn step(command: String, source: impl Into<Failure>) -> Self {
        let source = source.into();
        let hint = match source.source.raw_os_error() {
            Some(libc::EACCES | libc::EPERM | libc::EROFS) => "this needs root",
            Some(libc::ENOENT | libc::ENODEV) => {
                "it is not there: the kernel does not have it, or a device or a driver has gone"
            }
            Some(libc::EOPNOTSUPP) => {
                "the driver or the firmware of the adapter does not have this"
            }
            Some(libc::EBUSY) => "somebody uses what this changes",
            Some(libc::ENOMEM | libc::ENOSPC) => {
                "resources are missing: the kernel's log (dmesg) says which; for VFs it may be \
                 address space, which firmware settings of the host (SR-IOV, above 4G) give"
            }
            _ => "the kernel's log (dmesg) may say why",
        };
        Self::Step {
            command,
            source,
            hint,
        }
    }
}

/// An errno alone.
impl From<i32> for Failure {
    fn from(errno: i32) -> Self {
        io::Error::from_raw_os_error(errno).into()
    }
}
