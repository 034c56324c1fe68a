// SPDX-License-Identifier: GPL-2.0

//! The file behind a migration data fd.
//!
//! It shares its context with the migration session; either may end first.

use crate::{
    bindings,
    kernel::{
        fs::anon_inode::{
            Access,
            Readiness,
            StreamFile,
            Wait, //
        },
        sync::poll::Changes,
        uaccess::{
            UserReader,
            UserWriter, //
        },
    },
};
use kernel::{
    error::to_result,
    prelude::*,
    sync::ArcBorrow,
    ThisModule, //
};

/// `VFIO_MIG_GET_PRECOPY_INFO`, a macro that bindgen does not evaluate.
const PRECOPY_INFO_COMMAND: u32 = bindings::vfio_rust_precopy_info_command;

/// Answer to VFIO_MIG_GET_PRECOPY_INFO.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PrecopyInfo {
    /// User space has opted in to `VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2`.
    pub v2: bool,
    /// `initial_bytes`.
    pub initial_bytes: u64,
    /// `dirty_bytes`.
    pub dirty_bytes: u64,
    /// `VFIO_PRECOPY_INFO_REINIT`. Only for version 2.
    pub reinit: bool,
}

impl PrecopyInfo {
    /// Returns the answer to a request.
    ///
    /// All but `argsz` is output. Only before version 2, `flags` keeps the value
    /// that user space has put there: "the flags field of struct vfio_precopy_info
    /// is reserved for bug-compatibility reasons".
    #[inline]
    fn answer(&self, asked: bindings::vfio_precopy_info) -> bindings::vfio_precopy_info {
        let flags = match (self.v2, self.reinit) {
            (false, _) => asked.flags,
            (true, false) => 0,
            (true, true) => bindings::VFIO_PRECOPY_INFO_REINIT,
        };
        bindings::vfio_precopy_info {
            argsz: asked.argsz,
            flags,
            initial_bytes: self.initial_bytes,
            dirty_bytes: self.dirty_bytes,
        }
    }
}

/// Operations of a migration data fd.
pub trait DataFile: Send + Sync + 'static {
    /// The driver's module, [`this_module!()`](crate::this_module): an open file keeps it
    /// loaded.
    const OWNER: &'static ThisModule;
    /// Name of the inode, as /proc shows it.
    const NAME: &'static CStr;
    /// Which of [`read`](Self::read) and [`write`](Self::write) the file has: whether a state
    /// is saved or resumed.
    const ACCESS: Access;

    /// Reads from the stream. Returns the number of bytes read, or 0 at its end.
    fn read(this: ArcBorrow<'_, Self>, _wait: Wait, _out: &mut UserWriter) -> Result<usize> {
        let _ = this;
        Err(EBADF)
    }

    /// Writes to the stream. Returns the number of bytes that were taken.
    fn write(this: ArcBorrow<'_, Self>, _wait: Wait, _from: &mut UserReader) -> Result<usize> {
        let _ = this;
        Err(EBADF)
    }

    /// VFIO_MIG_GET_PRECOPY_INFO.
    fn precopy_info(&self) -> Result<PrecopyInfo> {
        Err(ENOTTY)
    }

    /// Returns what poll() waits for, and whether the file is ready now. `None` for a
    /// file that is always ready.
    fn poll(&self) -> Option<(&Changes, Readiness)> {
        None
    }
}

impl<T: DataFile> StreamFile for T {
    const OWNER: &'static ThisModule = T::OWNER;
    const NAME: &'static CStr = T::NAME;
    const ACCESS: Access = T::ACCESS;

    #[inline]
    fn read(this: ArcBorrow<'_, Self>, wait: Wait, out: &mut UserWriter) -> Result<usize> {
        <T as DataFile>::read(this, wait, out)
    }

    #[inline]
    fn write(this: ArcBorrow<'_, Self>, wait: Wait, from: &mut UserReader) -> Result<usize> {
        <T as DataFile>::write(this, wait, from)
    }

    #[inline]
    fn ioctl(&self, command: u32, argument: usize) -> Result {
        if command != PRECOPY_INFO_COMMAND || T::ACCESS != Access::Read {
            return Err(ENOTTY);
        }
        let mut asked: bindings::vfio_precopy_info = pin_init::zeroed();
        // SAFETY: `asked` is a local variable, made of integers, which may have any
        // value. `argument` may be any address: the function checks that it is that
        // of user memory.
        to_result(unsafe { bindings::vfio_rust_get_precopy_info(&mut asked, argument) })?;
        if (asked.argsz as usize) < size_of::<bindings::vfio_precopy_info>() {
            return Err(EINVAL);
        }
        let answer = self.precopy_info()?.answer(asked);
        // SAFETY: `answer` is a local variable: two integers of 4 bytes and two of 8,
        // without padding, so that all of it is initialised. `argument` may be any
        // address: the function checks that it is that of user memory.
        to_result(unsafe { bindings::vfio_rust_put_precopy_info(argument, &answer) })
    }

    #[inline]
    fn poll(&self) -> Option<(&Changes, Readiness)> {
        <T as DataFile>::poll(self)
    }
}
