// SPDX-License-Identifier: GPL-2.0

//! The file behind a migration data fd.
//!
//! An anonymous inode with a stream file: no position, no seeking. The file
//! shares its context with the migration session; either may end first.

use crate::{
    bindings,
    kernel::{
        module::Owner,
        sync::poll::Changes, //
    },
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    fs::{
        File,
        LocalFile, //
    },
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
    types::ForeignOwnable, //
};

/// `VFIO_MIG_GET_PRECOPY_INFO`, a macro that bindgen does not evaluate.
const PRECOPY_INFO_COMMAND: u32 = bindings::vfio_rust_precopy_info_command;

/// User memory that a read() fills.
///
/// # Invariants
///
/// `ptr` is `left` bytes before the end of a piece of memory that user space
/// named. Nothing is known about whether that memory can be written.
pub struct UserWriter {
    ptr: *mut u8,
    left: usize,
}

/// User memory that a write() takes data from.
///
/// # Invariants
///
/// `ptr` is `taken` bytes behind the beginning of a piece of memory that user
/// space named, and `left` bytes before its end. Nothing is known about whether
/// that memory can be read.
pub struct UserReader {
    ptr: *const u8,
    left: usize,
    taken: usize,
}

impl UserWriter {
    /// Returns the number of bytes that still fit.
    #[inline]
    pub fn left(&self) -> usize {
        self.left
    }

    /// Moves past `n` bytes and returns where they begin.
    #[inline]
    pub(super) fn take(&mut self, n: usize) -> Result<*mut u8> {
        // INVARIANT: `ptr` moves by `n`, which is at most `left`.
        self.left = self.left.checked_sub(n).ok_or(EINVAL)?;
        let at = self.ptr;
        self.ptr = at.wrapping_add(n);
        Ok(at)
    }

    /// Copies `bytes` out. `EFAULT` if user space cannot take them all.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> Result {
        let to = self.take(bytes.len())?;
        // SAFETY: `bytes` is valid for reads of its length, and borrowed for this
        // call. `to` may be any address: the function checks that it and the
        // bytes behind it are user memory that can be written.
        let left = unsafe {
            kernel::bindings::copy_to_user(to.cast(), bytes.as_ptr().cast(), bytes.len())
        };
        if left == 0 {
            Ok(())
        } else {
            Err(EFAULT)
        }
    }
}

impl UserReader {
    /// Returns the number of bytes that have not been taken yet.
    #[inline]
    pub fn left(&self) -> usize {
        self.left
    }

    /// Moves past `n` bytes and returns where they begin.
    #[inline]
    pub(super) fn take(&mut self, n: usize) -> Result<*const u8> {
        // INVARIANT: `ptr` moves by `n`, which is at most `left`; `taken` cannot
        // overflow, since the sum of `left` and `taken` does not change.
        self.left = self.left.checked_sub(n).ok_or(EINVAL)?;
        self.taken += n;
        let at = self.ptr;
        self.ptr = at.wrapping_add(n);
        Ok(at)
    }

    /// Moves past `n` bytes unread.
    #[inline]
    pub fn skip(&mut self, n: usize) -> Result {
        self.take(n).map(|_| ())
    }

    /// Moves back by `n` bytes, which are then read again. `EINVAL` if fewer
    /// have been taken.
    ///
    /// User space may have changed them in between.
    #[inline]
    pub fn rewind(&mut self, n: usize) -> Result {
        // INVARIANT: `ptr` moves back by `n`, which is at most `taken`.
        self.taken = self.taken.checked_sub(n).ok_or(EINVAL)?;
        self.left += n;
        self.ptr = self.ptr.wrapping_sub(n);
        Ok(())
    }

    /// Reads the next byte, and stays before it. `EINVAL` if none is left,
    /// `EFAULT` if user space cannot give it.
    #[inline]
    pub fn peek_byte(&self) -> Result<u8> {
        if self.left == 0 {
            return Err(EINVAL);
        }
        let mut byte = 0;
        copy_from_user(core::slice::from_mut(&mut byte), self.ptr)?;
        Ok(byte)
    }

    /// Fills `bytes`. `EFAULT` if user space cannot give them all.
    #[inline]
    pub fn read(&mut self, bytes: &mut [u8]) -> Result {
        let from = self.take(bytes.len())?;
        copy_from_user(bytes, from)
    }
}

/// Fills `bytes` from user memory at `from`. `EFAULT` if user space cannot give
/// them all.
#[inline]
fn copy_from_user(bytes: &mut [u8], from: *const u8) -> Result {
    // SAFETY: `bytes` is valid for writes of its length, and borrowed for this
    // call. `from` may be any address: the function checks that it and the
    // bytes behind it are user memory that can be read.
    let left = unsafe {
        kernel::bindings::copy_from_user(bytes.as_mut_ptr().cast(), from.cast(), bytes.len())
    };
    if left == 0 {
        Ok(())
    } else {
        Err(EFAULT)
    }
}

/// Whether a call may wait for the device or for data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The call may wait.
    Allowed,
    /// The file is `O_NONBLOCK`.
    Never,
}

/// State of a data file, for poll().
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// A read or write would wait, or a read would find the temporary end of the
    /// stream.
    Pending,
    /// A read returns at once, with data or at the end of the stream. A write need
    /// not wait.
    Ready,
    /// A read or write fails at once.
    Failed,
}

impl Readiness {
    #[inline]
    fn mask(self, access: Access) -> u32 {
        use kernel::bindings::{POLLERR, POLLIN, POLLOUT, POLLRDHUP, POLLRDNORM, POLLWRNORM};
        let (ready, failed) = match access {
            Access::Saving => (POLLIN | POLLRDNORM, POLLRDHUP),
            Access::Resuming => (POLLOUT | POLLWRNORM, POLLERR),
        };
        match self {
            Self::Pending => 0,
            Self::Ready => ready,
            Self::Failed => ready | failed,
        }
    }
}

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

/// Direction of a data file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Device state is read from it.
    Saving,
    /// Device state is written to it.
    Resuming,
}

/// Operations of a migration data fd.
pub trait DataFile: Send + Sync + 'static {
    /// The driver's module, [`this_module!()`](crate::this_module): an open file keeps it
    /// loaded.
    const OWNER: Owner;
    /// Name of the inode, as /proc shows it.
    const NAME: &'static CStr;
    /// Which of [`read`](Self::read) and [`write`](Self::write) the file has.
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

/// A reference to an open data file, to be handed to VFIO.
///
/// # Invariants
///
/// The file is valid, and this object owns one reference to it.
pub struct OpenFile(NonNull<kernel::bindings::file>);

// SAFETY: fput() may be called on any thread, and nothing else is done with the
// file until VFIO installs it.
unsafe impl Send for OpenFile {}

impl OpenFile {
    /// Opens a file around `context`.
    pub fn new<T: DataFile>(context: Arc<T>) -> Result<Self> {
        let flags = match T::ACCESS {
            Access::Saving => kernel::bindings::O_RDONLY,
            Access::Resuming => kernel::bindings::O_WRONLY,
        };
        let private = context.into_foreign();
        // SAFETY: The name ends with a NUL, the operations are static, and
        // `private` is the `Arc<T>` that the operations of `T` expect. They own it
        // if this succeeds.
        let file = from_err_ptr(unsafe {
            bindings::anon_inode_getfile(
                T::NAME.as_char_ptr(),
                &Operations::<T>::TABLE,
                private.cast(),
                flags as i32,
            )
        })
        .inspect_err(|_| {
            // SAFETY: `private` is from `into_foreign` of this `Arc<T>`, and no file
            // has taken it over.
            drop(unsafe { Arc::<T>::from_foreign(private) });
        })?;
        // SAFETY: `file` was opened just now, with a valid inode, and nobody else
        // has it yet. Makes it a stream: no seeking, no pread or pwrite.
        unsafe { bindings::stream_open((*file).f_inode, file) };
        // INVARIANT: anon_inode_getfile() returned the only reference.
        Ok(Self(NonNull::new(file).ok_or(ENOMEM)?))
    }

    /// Gives the reference to the caller.
    #[inline]
    pub(super) fn into_raw(self) -> *mut kernel::bindings::file {
        let file = self.0.as_ptr();
        core::mem::forget(self);
        file
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // SAFETY: This object owns a reference to the file (type invariant), and
        // does not use it after this.
        unsafe { bindings::fput(self.0.as_ptr()) }
    }
}

struct Operations<T: DataFile>(PhantomData<T>);

impl<T: DataFile> Operations<T> {
    const TABLE: kernel::bindings::file_operations = kernel::bindings::file_operations {
        // An open file keeps the module loaded.
        owner: T::OWNER.as_raw(),
        read: match T::ACCESS {
            Access::Saving => Some(Self::read),
            Access::Resuming => None,
        },
        write: match T::ACCESS {
            Access::Saving => None,
            Access::Resuming => Some(Self::write),
        },
        poll: Some(Self::poll),
        unlocked_ioctl: match T::ACCESS {
            Access::Saving => Some(Self::ioctl),
            Access::Resuming => None,
        },
        // Only the pointer in the argument has to be converted.
        compat_ioctl: match T::ACCESS {
            Access::Saving => Some(bindings::vfio_rust_compat_ptr_ioctl),
            Access::Resuming => None,
        },
        release: Some(Self::release),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `file` must have been opened by [`OpenFile::new::<T>`], and must not be
    /// released during `'a`.
    unsafe fn context<'a>(file: *mut kernel::bindings::file) -> ArcBorrow<'a, T> {
        // SAFETY: `OpenFile::new` set `private_data` to an `Arc<T>` made foreign,
        // which only `release` takes back: not during `'a` (requirements of this
        // function).
        unsafe { <Arc<T> as ForeignOwnable>::borrow((*file).private_data.cast()) }
    }

    /// Returns whether a call on `file` may wait. User space may change that at
    /// any time.
    ///
    /// # Safety
    ///
    /// `file` must be open until this function returns.
    unsafe fn wait(file: *mut kernel::bindings::file) -> Wait {
        // SAFETY: `file` is open until this function returns (requirements of this
        // function), and the reference is not used on another thread.
        let flags = unsafe { LocalFile::from_raw_file(file) }.flags();
        if flags & kernel::fs::file::flags::O_NONBLOCK != 0 {
            Wait::Never
        } else {
            Wait::Allowed
        }
    }

    /// # Safety
    ///
    /// Only called by VFS, through [`Self::TABLE`], with a `file` that stays open
    /// until this returns.
    unsafe extern "C" fn read(
        file: *mut kernel::bindings::file,
        buf: *mut c_char,
        len: usize,
        pos: *mut kernel::bindings::loff_t,
    ) -> isize {
        if !pos.is_null() {
            return ESPIPE.to_errno() as isize;
        }
        // SAFETY: `file` has the operations of `T`, and stays open until this
        // function returns (requirements of this function).
        let (context, wait) = unsafe { (Self::context(file), Self::wait(file)) };
        // INVARIANT: `buf` and `len` are the arguments of read().
        let mut out = UserWriter {
            ptr: buf.cast(),
            left: len,
        };
        match T::read(context, wait, &mut out) {
            Ok(n) => n as isize,
            Err(err) => err.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// Only called by VFS, through [`Self::TABLE`], with a `file` that stays open
    /// until this returns.
    unsafe extern "C" fn write(
        file: *mut kernel::bindings::file,
        buf: *const c_char,
        len: usize,
        pos: *mut kernel::bindings::loff_t,
    ) -> isize {
        if !pos.is_null() {
            return ESPIPE.to_errno() as isize;
        }
        // SAFETY: `file` has the operations of `T`, and stays open until this
        // function returns (requirements of this function).
        let (context, wait) = unsafe { (Self::context(file), Self::wait(file)) };
        // INVARIANT: `buf` and `len` are the arguments of write().
        let mut from = UserReader {
            ptr: buf.cast(),
            left: len,
            taken: 0,
        };
        match T::write(context, wait, &mut from) {
            Ok(n) => n as isize,
            Err(err) => err.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// Only called by VFS, through [`Self::TABLE`], with a `file` that stays open
    /// until this returns.
    unsafe extern "C" fn ioctl(
        file: *mut kernel::bindings::file,
        command: c_uint,
        argument: c_ulong,
    ) -> c_long {
        let result = (|| {
            if command != PRECOPY_INFO_COMMAND {
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
            // SAFETY: `file` has the operations of `T`, and stays open until this
            // function returns (requirements of this function).
            let answer = unsafe { Self::context(file) }.precopy_info()?.answer(asked);
            // SAFETY: `answer` is a local variable: two integers of 4 bytes and two of 8,
            // without padding, so that all of it is initialised. `argument` may be any
            // address: the function checks that it is that of user memory.
            to_result(unsafe { bindings::vfio_rust_put_precopy_info(argument, &answer) })
        })();
        match result {
            Ok(()) => 0,
            Err(err) => err.to_errno() as c_long,
        }
    }

    /// # Safety
    ///
    /// Only called by VFS, through [`Self::TABLE`], with a `file` that stays open
    /// until this returns.
    unsafe extern "C" fn poll(
        file: *mut kernel::bindings::file,
        table: *mut kernel::bindings::poll_table_struct,
    ) -> kernel::bindings::__poll_t {
        // SAFETY: `file` has the operations of `T`, and stays open until this
        // function returns (requirements of this function).
        let context = unsafe { Self::context(file) };
        // Register before looking, so that no change in between is missed.
        let Some((changed, _)) = context.poll() else {
            return Readiness::Ready.mask(T::ACCESS);
        };
        // SAFETY: `table` is null or valid until this function returns, as VFS has
        // it. `file` stays open that long, and a stream has no position that this
        // thread could have locked. `changed` is borrowed from the file's context for as
        // long as that is: nobody can have it mutably, since the file has a reference.
        unsafe { changed.register(File::from_raw_file(file), table) };
        context.poll().map_or(0, |(_, ready)| ready.mask(T::ACCESS))
    }

    /// # Safety
    ///
    /// Only called by VFS, through [`Self::TABLE`], once for each `file`, when
    /// nobody else uses it any more.
    unsafe extern "C" fn release(
        _inode: *mut kernel::bindings::inode,
        file: *mut kernel::bindings::file,
    ) -> c_int {
        // SAFETY: `private_data` is an `Arc<T>` that `OpenFile::new` made foreign.
        // It is taken back once, here, and nobody borrows it any more
        // (requirements of this function).
        drop(unsafe { Arc::<T>::from_foreign((*file).private_data.cast()) });
        0
    }
}
