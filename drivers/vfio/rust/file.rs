// SPDX-License-Identifier: GPL-2.0

//! The file behind a migration data fd.
//!
//! The file shares its context with the migration session. Either may end first.

use crate::{
    bindings,
    kernel::{
        device::DeviceExt,
        fs::anon_inode::{
            Access,
            OpenFile,
            Readiness,
            StreamFile,
            Wait, //
        },
        sync::changes::Changes,
        uaccess::cursor::{
            UserReader,
            UserWriter, //
        }, //
    },
    migration::{
        DeviceRef,
        VfioDevice, //
    }, //
};
use kernel::{
    error::to_result,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
    ThisModule, //
};

/// Whether a file may report `VFIO_PRECOPY_INFO_REINIT`: "can be reported only after
/// userspace opts in".
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reinit {
    /// User space knows of it.
    Allowed,
    /// User space would not understand it.
    Never,
}

/// Answer to VFIO_MIG_GET_PRECOPY_INFO.
///
/// # Examples
///
/// ```
/// use vfio_rust::file::PrecopyInfo;
///
/// /// The answer for a first image of `len` bytes, of which `read` bytes were read.
/// fn answer(read: u64, len: u64, changed: u64) -> PrecopyInfo {
///     let initial_bytes = len.saturating_sub(read);
///     PrecopyInfo {
///         initial_bytes,
///         // 0 until all initial bytes were read.
///         dirty_bytes: if initial_bytes > 0 { 0 } else { changed },
///         reinit: false,
///     }
/// }
///
/// let info = answer(96, 128, 4096);
/// assert_eq!((info.initial_bytes, info.dirty_bytes), (32, 0));
/// let info = answer(128, 128, 4096);
/// assert_eq!((info.initial_bytes, info.dirty_bytes), (0, 4096));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PrecopyInfo {
    /// `initial_bytes` of `struct vfio_precopy_info`.
    pub initial_bytes: u64,
    /// `dirty_bytes` of `struct vfio_precopy_info`.
    pub dirty_bytes: u64,
    /// `VFIO_PRECOPY_INFO_REINIT`. Ignored unless it is [`Reinit::Allowed`].
    pub reinit: bool,
}

/// Operations of a migration data fd.
///
/// # Examples
///
/// ```
/// use kernel::{
///     prelude::*,
///     sync::{
///         Arc,
///         ArcBorrow, //
///     },
///     ThisModule, //
/// };
/// use vfio_rust::{
///     file::DataFile,
///     kernel::{
///         fs::anon_inode::{
///             Access,
///             Readiness,
///             Wait, //
///         },
///         sync::{
///             changes::Changes,
///             turns::Turns, //
///         },
///         uaccess::cursor::UserWriter, //
///     },
///     this_module, //
/// };
///
/// /// A state that was saved as a whole before its file was opened.
/// struct Saved {
///     state: KVec<u8>,
///     /// Offset of the next read. A reader takes it while it accesses user memory, which may take
///     /// long, so that others need not wait for a lock.
///     at: Turns<usize>,
///     changes: Arc<Changes>,
/// }
///
/// impl DataFile for Saved {
///     const OWNER: &'static ThisModule = this_module!();
///     const NAME: &'static CStr = c"saved_mig";
///     const ACCESS: Access = Access::Read;
///
///     fn read(this: ArcBorrow<'_, Self>, wait: Wait, out: &mut UserWriter) -> Result<usize> {
///         let mut at = loop {
///             let seen = this.changes.seen();
///             match this.at.take() {
///                 Some(at) => break at,
///                 None if wait == Wait::Never => return Err(EAGAIN),
///                 None => this.changes.wait(seen)?,
///             }
///         };
///         let rest = &this.state[*at..];
///         let n = rest.len().min(out.left());
///         out.write(&rest[..n])?;
///         *at += n;
///         // 0 at the end of the stream.
///         Ok(n)
///     }
///
///     fn poll(&self) -> Option<(&Changes, Readiness)> {
///         let ready = match self.at.is_taken() {
///             true => Readiness::Pending,
///             false => Readiness::Ready,
///         };
///         Some((&self.changes, ready))
///     }
/// }
/// #
/// # let changes = Arc::pin_init(Changes::new(), GFP_KERNEL)?;
/// # let saved = Saved {
/// #     state: KVec::new(),
/// #     at: Turns::new(0, changes.clone()),
/// #     changes,
/// # };
/// # let is_ready = || saved.poll().is_some_and(|(_, ready)| ready == Readiness::Ready);
/// # assert!(is_ready());
/// # let turn = saved.at.take();
/// # assert!(!is_ready());
/// # drop(turn);
/// # assert!(is_ready());
/// # Ok::<(), Error>(())
/// ```
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

    /// VFIO_MIG_GET_PRECOPY_INFO. VFIO's own function has checked the request.
    fn precopy_info(&self, _reinit: Reinit) -> Result<PrecopyInfo> {
        Err(ENOTTY)
    }

    /// Returns what poll() waits for, and whether the file is ready now, or `None` for a file that
    /// is always ready.
    fn poll(&self) -> Option<(&Changes, Readiness)> {
        None
    }
}

/// Opens a data file of `vdev`, with the operations of `context`.
pub fn open<T: DataFile>(vdev: &VfioDevice<'_>, context: Arc<T>) -> Result<OpenFile> {
    let file = OpenFile::new(Opened {
        vdev: vdev.to_ref(),
        context,
    });
    file.inspect_err(|err| {
        if *err == EINVAL {
            vdev.parent()
                .warn_ratelimited(c"driver bug: a data file names a module that it is not in");
        }
    })
}

/// The private data of an open data file.
struct Opened<T: DataFile> {
    /// Tells whether user space has opted in to `VFIO_PRECOPY_INFO_REINIT`. Keeps VFIO's part of
    /// the device alive, not the driver's.
    vdev: DeviceRef,
    context: Arc<T>,
}

impl<T: DataFile> StreamFile for Opened<T> {
    const OWNER: &'static ThisModule = T::OWNER;
    const NAME: &'static CStr = T::NAME;
    const ACCESS: Access = T::ACCESS;

    #[inline]
    fn read(&self, wait: Wait, out: &mut UserWriter) -> Result<usize> {
        T::read(self.context.as_arc_borrow(), wait, out)
    }

    #[inline]
    fn write(&self, wait: Wait, from: &mut UserReader) -> Result<usize> {
        T::write(self.context.as_arc_borrow(), wait, from)
    }

    #[inline]
    fn ioctl(&self, command: u32, argument: usize) -> Result {
        if T::ACCESS == Access::Write {
            return Err(ENOTTY);
        }
        let (mut info, reinit) = self.vdev.check_precopy(command, argument)?;
        let answer = self.context.precopy_info(reinit)?;
        info.initial_bytes = answer.initial_bytes;
        info.dirty_bytes = answer.dirty_bytes;
        if answer.reinit && reinit == Reinit::Allowed {
            info.flags |= bindings::VFIO_PRECOPY_INFO_REINIT;
        }
        // SAFETY: `info` is a local variable: two integers of 4 bytes and two of 8,
        // without padding, so that all of it is initialised. `argument` may be any
        // address: the function checks that it is that of user memory.
        to_result(unsafe { bindings::vfio_rust_put_precopy_info(argument, &info) })
    }

    #[inline]
    fn poll(&self) -> Option<(&Changes, Readiness)> {
        self.context.poll()
    }
}
