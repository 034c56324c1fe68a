// SPDX-License-Identifier: GPL-2.0

//! What happens to a VF that a process uses.

use super::{
    express,
    host,
    place::Place, //
};
use crate::{
    fault::{
        opcode,
        Fault, //
    },
    hca::{
        self,
        Driver,
        Pf, //
    },
    kmsg,
    reset,
    scenarios::{
        compare::errno_name,
        Vfs, //
    },
    slot,
    sys, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    fs,
    io,
    os::fd::{
        AsFd,
        OwnedFd, //
    },
    time::Duration, //
};
use vfio_mig::{
    bdf::Bdf,
    uapi, //
};
use vm_common::drivers;

/// How it happens.
#[derive(Clone, Copy)]
pub(super) enum How {
    /// Through a descriptor of the device.
    Device(fn(&OwnedFd) -> Result<()>),
    /// By the host, to a VF or all of them.
    Host(fn(Bdf) -> Result<()>),
}

/// An event.
pub(super) struct Event {
    pub(super) name: &'static str,
    pub(super) how: How,
    /// Whether it goes on until the device is closed.
    pub(super) waits_for_users: bool,
    /// Whether processes stand still, so that none can have firmware release a command.
    pub(super) stops_processes: bool,
    /// Why it is not tried with a call that closes the device, if it is not.
    pub(super) closed: Option<&'static str>,
    /// Whether the PF is gone before anything hears of it: firmware does not end what it has begun.
    pub(super) takes_firmware: bool,
    /// What the kernel says before the device may be closed, one of it, if it must say something.
    pub(super) notices: &'static [&'static str],
    /// Whether the user of the VF is told of an error.
    pub(super) is_error: bool,
    /// Whether it is an error or a reset of the PF, or takes it out of its slot: only in long runs.
    pub(super) is_long: bool,
    /// What calls may fail with.
    pub(super) errors: &'static [i32],
    /// What the kernel may say.
    pub(super) says: &'static [&'static str],
    /// What it may also say with the C driver.
    pub(super) says_of_c: &'static [&'static str],
    /// Why this kernel cannot have it, if it cannot.
    pub(super) missing: fn() -> Option<&'static str>,
    /// Puts back what was taken away. All VFs are made anew if it returns true.
    pub(super) mend: fn() -> Result<bool>,
    /// Why the C driver is not tried with it at a place, if it is not.
    pub(super) c: fn(Place) -> Option<&'static str>,
}

impl Event {
    /// Lets it happen to a VF, whose device is open.
    pub(super) fn happen(&self, vf: Bdf, device: Option<&OwnedFd>) -> Result<()> {
        match self.how {
            How::Device(happen) => happen(device.context("no device")?),
            How::Host(happen) => happen(vf),
        }
    }

    /// A command that is under way while it happens.
    pub(super) fn late_command(&self) -> Fault {
        match self.stops_processes {
            true => Fault::late(opcode::ANY, LATE),
            false => Fault::held(opcode::ANY),
        }
    }

    /// Whether a call may end so, in words.
    pub(super) fn allows(&self, result: &str) -> bool {
        result == "ok" || self.errors.iter().any(|errno| errno_name(*errno) == result)
    }
}

/// How late a command is that nobody can release.
const LATE: Duration = Duration::from_millis(700);
/// Errors of calls whose PF goes away or comes back.
const OF_PF: &[i32] = &[
    libc::ECANCELED,
    libc::EINVAL,
    libc::EIO,
    libc::ENODEV,
    libc::ENOTCONN,
];
/// Errors of calls that a reset ends.
const OF_RESET: &[i32] = &[libc::ECANCELED, libc::EINVAL, libc::ENODEV, libc::ENOTCONN];
/// Errors of calls whose PF has failed, or was pulled out: mlx5_core refuses commands to it, until it
/// has detached it.
const OF_FAILED_PF: &[i32] = &[
    libc::ECANCELED,
    libc::EINVAL,
    libc::EIO,
    libc::ENODEV,
    libc::ENOLINK,
    libc::ENOTCONN,
];
/// How long anything may take: more than an unbinding waits before it says so.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Why the C driver is not tried with a session that ends, if it is not.
pub(super) fn loses_file(place: Place) -> Option<&'static str> {
    place.saves().then_some(
        "it loses a reference to its file if a session ends before it has dealt with a SAVE",
    )
}

fn nothing() -> Option<&'static str> {
    None
}

const EVENT: Event = Event {
    name: "",
    how: How::Host(|_| Ok(())),
    waits_for_users: false,
    stops_processes: false,
    closed: None,
    takes_firmware: false,
    notices: &[],
    is_error: false,
    is_long: false,
    errors: &[],
    says: &[],
    says_of_c: &[],
    missing: nothing,
    mend: || Ok(false),
    c: loses_file,
};

/// A reset of the VF. The C driver learns of it when it is over, and may send a command to a VF that
/// was just reset.
const RESET: Event = Event {
    errors: OF_RESET,
    says_of_c: &["VHCA"],
    ..EVENT
};

/// A PF that goes and comes back: its VFs run then, so that firmware refuses commands that the
/// state before asks for.
const RETURN: Event = Event {
    errors: OF_PF,
    says: &["VHCA"],
    ..EVENT
};

/// An error of PCI Express that a driver must deal with: mlx5_core asks for a reset of the PF, and
/// begins anew. The VFs are there as before.
const ERROR: Event = Event {
    is_error: true,
    is_long: true,
    errors: OF_FAILED_PF,
    missing: express::no_errors,
    ..RETURN
};

/// An event that goes on until the device is closed, after which there are no VFs.
const REMOVAL: Event = Event {
    waits_for_users: true,
    errors: OF_PF,
    mend: || Ok(true),
    ..EVENT
};

/// Tries to unload the VF's driver, and each module below it: none can be unloaded while the VF is
/// open.
fn unload(vf: Bdf) -> Result<()> {
    let driver = fs::canonicalize(format!("/sys/bus/pci/devices/{vf}/driver"))?;
    let name = driver.file_name().and_then(|name| name.to_str());
    let below = [drivers::ABSTRACTIONS, "mlx5_core", "vfio_pci_core", "vfio"];
    for module in name.into_iter().chain(below) {
        if !sys::is_module(module)? {
            continue;
        }
        let unloaded = sys::unload_module(module);
        let errno = unloaded.as_ref().err().and_then(io::Error::raw_os_error);
        ensure!(
            errno == Some(libc::EWOULDBLOCK),
            "unloading {module}, which is in use: {unloaded:?}"
        );
    }
    Ok(())
}

/// All.
pub(super) const ALL: &[Event] = &[
    Event {
        name: "a reset",
        how: How::Device(|device| {
            uapi::with_value(device.as_fd(), uapi::VFIO_DEVICE_RESET, 0)?;
            Ok(())
        }),
        ..RESET
    },
    Event {
        name: "a reset by sysfs",
        how: How::Host(|vf| Ok(reset::by_sysfs(vf)?)),
        ..RESET
    },
    Event {
        name: "devlink reload",
        how: How::Host(|_| Pf::find()?.reload()),
        ..RETURN
    },
    Event {
        name: "unbinding the VF",
        how: How::Host(hca::unbind),
        ..REMOVAL
    },
    Event {
        name: "turning SR-IOV off",
        how: How::Host(|_| Pf::find()?.set_vfs(0)),
        says: &[kmsg::PF_UNBIND],
        ..REMOVAL
    },
    Event {
        name: "unbinding the PF",
        how: How::Host(|_| Pf::find()?.set_bound(false)),
        says: &[kmsg::PF_UNBIND],
        mend: || {
            Pf::find()?.set_bound(true)?;
            Ok(true)
        },
        ..REMOVAL
    },
    Event {
        name: "removing the PF from the bus",
        how: How::Host(|_| host::remove_pf()),
        says: &[kmsg::PF_UNBIND],
        mend: || {
            host::rescan()?;
            Ok(true)
        },
        ..REMOVAL
    },
    Event {
        name: "unplugging the PF",
        how: How::Host(|_| slot::unplug()),
        is_long: true,
        missing: slot::missing,
        mend: || {
            slot::plug()?;
            Ok(true)
        },
        ..REMOVAL
    },
    Event {
        name: "pulling the PF out of its slot",
        how: How::Host(|_| slot::pull()),
        is_long: true,
        missing: slot::missing,
        takes_firmware: true,
        notices: &["health recovery flow aborted"],
        closed: Some(
            "mlx5_core waits two minutes for pages of VFs if it is to leave a PF that is gone \
             before it has noticed",
        ),
        errors: OF_FAILED_PF,
        mend: || {
            slot::plug()?;
            Ok(true)
        },
        ..REMOVAL
    },
    Event {
        name: "a reset of the PF",
        how: How::Host(|_| host::reset_pf()),
        is_long: true,
        errors: OF_FAILED_PF,
        mend: || {
            let pf = Pf::find()?;
            pf.set_vfs(0)?;
            // mlx5_core recovers by itself once in 20 minutes.
            pf.set_bound(false)?;
            pf.set_bound(true)?;
            Ok(true)
        },
        ..RETURN
    },
    Event {
        name: "unloading modules",
        how: How::Host(unload),
        closed: Some("the call closes the device, which does not use the driver then"),
        ..EVENT
    },
    Event {
        name: "suspending the host",
        how: How::Host(|_| host::suspend()),
        stops_processes: true,
        missing: host::no_suspend,
        ..RETURN
    },
    Event {
        name: "a corrected error of the PF",
        how: How::Host(|_| express::corrected_error()),
        is_long: true,
        missing: express::no_errors,
        ..EVENT
    },
    Event {
        name: "an error of the PF",
        how: How::Host(|_| express::error_of_pf()),
        ..ERROR
    },
    Event {
        name: "a fatal error of the PF",
        how: How::Host(|_| express::fatal_error_of_pf()),
        ..ERROR
    },
    Event {
        name: "an error of the root port",
        how: How::Host(|_| express::error_of_port()),
        ..ERROR
    },
    Event {
        name: "a fatal error of the root port",
        how: How::Host(|_| express::fatal_error_of_port()),
        ..ERROR
    },
];

/// Makes VFs, whatever there is, and binds them. Returns the two of a driver.
pub(super) fn vfs_anew(driver: Driver) -> Result<(Bdf, Bdf)> {
    Ok(Vfs::new()?.of(driver))
}
