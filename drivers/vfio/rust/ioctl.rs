// SPDX-License-Identifier: GPL-2.0

//! The ioctls of a device's file that VFIO leaves to its driver.

use crate::{
    bindings,
    kernel::device::DeviceExt,
    migration::VfioDevice,
    pci::{
        Device,
        Driver, //
    },
};
use core::marker::PhantomData;
use kernel::{
    error::Error,
    prelude::*, //
};

/// `VFIO_DEVICE_RESET`.
pub const RESET: u32 = bindings::vfio_rust_ioctl_reset;
/// `VFIO_DEVICE_IOEVENTFD`.
pub const IOEVENTFD: u32 = bindings::vfio_rust_ioctl_ioeventfd;

/// An ioctl() of user space.
pub struct Ioctl<'a> {
    vdev: &'a VfioDevice<'a>,
    command: c_uint,
    argument: c_ulong,
}

impl Ioctl<'_> {
    /// Returns the command: [`RESET`], [`IOEVENTFD`], or any other.
    pub fn command(&self) -> u32 {
        self.command
    }

    /// Returns the argument: a number, or the address of user memory.
    pub fn argument(&self) -> usize {
        self.argument
    }

    /// Has `vfio_pci_core` carry out the ioctl.
    pub fn forward(&self) -> Result<isize> {
        // SAFETY: The device is valid and open (invariant of `VfioDevice`). The function
        // checks command and argument.
        let done = unsafe {
            bindings::vfio_pci_core_ioctl(self.vdev.as_raw(), self.command, self.argument)
        };
        match done {
            // CAST: A negative value is an error code.
            err @ ..0 => Err(Error::from_errno(err as c_int)),
            done => Ok(done),
        }
    }
}

/// The part of `struct vfio_device_ops` that is about ioctls.
pub(super) struct Operations<T: Driver>(PhantomData<T>);

type IoctlFn = unsafe extern "C" fn(*mut bindings::vfio_device, c_uint, c_ulong) -> c_long;

impl<T: Driver> Operations<T> {
    pub(super) const IOCTL: Option<IoctlFn> = match T::HAS_IOCTL {
        true => Some(Self::ioctl),
        false => Some(bindings::vfio_pci_core_ioctl),
    };

    /// # Safety
    ///
    /// Must only be called by VFIO, for a device that stays open until this returns.
    unsafe extern "C" fn ioctl(
        raw: *mut bindings::vfio_device,
        command: c_uint,
        argument: c_ulong,
    ) -> c_long {
        // SAFETY: `raw` stays open until this returns, and begins a `Device<T>`
        // (requirements of this function).
        let (driver, vdev) = unsafe { (Device::<T>::data(raw), VfioDevice::from_raw(raw)) };
        let request = Ioctl {
            vdev: &vdev,
            command,
            argument,
        };
        match driver.ioctl(&vdev, &request) {
            // A negative value would be an error code, and ioctl() returns an int to user space.
            Ok(done) if i32::try_from(done).is_ok_and(|done| done >= 0) => done,
            Ok(_) => {
                let what =
                    c"driver bug: the result of an ioctl is negative, or does not fit an int";
                vdev.parent().warn_ratelimited(what);
                EIO.to_errno() as c_long
            }
            Err(err) => err.to_errno() as c_long,
        }
    }
}
