// SPDX-License-Identifier: GPL-2.0

//! Files on an anonymous inode that are streams: no position, no seeking.
//!
//! The kernel crate cannot open such a file: its `MiscDevice` is for device nodes.
//!
//! C headers: `include/linux/anon_inodes.h`, `include/linux/fs.h`.

use crate::{
    bindings,
    kernel::{
        sync::changes::Changes,
        uaccess::cursor::{
            UserReader,
            UserWriter, //
        }, //
    }, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    error::from_err_ptr,
    fs::{
        File,
        LocalFile, //
    },
    prelude::*,
    types::ForeignOwnable,
    ThisModule, //
};

/// Whether a call may wait for the device or for data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The call may wait.
    Allowed,
    /// The file is `O_NONBLOCK`.
    Never,
}

/// State of a file, for poll().
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

/// Direction of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The file is read.
    Read,
    /// The file is written.
    Write,
}

/// Operations of a file.
///
/// The trait is no `#[vtable]`: in some kernels, that needs a module in the crate of each
/// implementation, and this crate has none.
pub trait StreamFile: Send + Sync + 'static {
    /// The driver's module, [`this_module!()`](crate::this_module): an open file keeps it
    /// loaded.
    ///
    /// It must be the module that opens the file: generic code is compiled into that module,
    /// whatever crate it is from. [`OpenFile::new`] fails if it is not.
    const OWNER: &'static ThisModule;
    /// Name of the inode, as /proc shows it.
    const NAME: &'static CStr;
    /// Which of [`read`](Self::read) and [`write`](Self::write) the file has.
    const ACCESS: Access;

    /// Reads from the stream. Returns the number of bytes read, or 0 at its end.
    fn read(&self, wait: Wait, out: &mut UserWriter) -> Result<usize>;

    /// Writes to the stream. Returns the number of bytes that were taken.
    fn write(&self, wait: Wait, from: &mut UserReader) -> Result<usize>;

    /// ioctl(), whose argument is a pointer of user space.
    fn ioctl(&self, command: u32, argument: usize) -> Result;

    /// Returns what poll() waits for, and whether the file is ready now, or `None` for a file that
    /// is always ready.
    fn poll(&self) -> Option<(&Changes, Readiness)>;
}

/// A reference to an open file.
///
/// # Invariants
///
/// The file is valid, and this object owns one reference to it.
pub struct OpenFile(NonNull<kernel::bindings::file>);

// SAFETY: fput() may be called on any thread, and nothing else is done with the file until it is
// installed.
unsafe impl Send for OpenFile {}

impl OpenFile {
    /// Opens a file with the operations of `context`. Returns `EINVAL` if the file's operations are
    /// not in the module that it would keep loaded.
    pub fn new<T: StreamFile>(context: T) -> Result<Self> {
        let operations: &'static _ = &Operations::<T>::TABLE;
        // SAFETY: The function compares an address with those of a module, which is null or
        // valid.
        let keeps_them = unsafe {
            bindings::vfio_rust_within_module((&raw const *operations).cast(), T::OWNER.as_ptr())
        };
        if !keeps_them {
            return Err(EINVAL);
        }
        let flags = match T::ACCESS {
            Access::Read => kernel::bindings::O_RDONLY,
            Access::Write => kernel::bindings::O_WRONLY,
        };
        let private = KBox::new(context, GFP_KERNEL_ACCOUNT)?.into_foreign();
        // SAFETY: The name ends with a NUL. The operations, and the functions in them, are in
        // the module that the file keeps loaded, or in one that it depends on. `private` is
        // the `KBox<T>` that the operations of `T` expect. They own it if this succeeds.
        let file = from_err_ptr(unsafe {
            bindings::anon_inode_getfile(
                T::NAME.as_char_ptr(),
                operations,
                private.cast(),
                flags as i32,
            )
        })
        .inspect_err(|_| {
            // SAFETY: `private` is from `into_foreign` of this `KBox<T>`, and no file
            // has taken it over.
            drop(unsafe { KBox::<T>::from_foreign(private) });
        })?;
        // SAFETY: `file` was opened just now, with a valid inode, and nobody else has it yet. The
        // call makes the file a stream: no seeking, no pread or pwrite.
        unsafe { bindings::stream_open((*file).f_inode, file) };
        // INVARIANT: anon_inode_getfile() returned the only reference.
        Ok(Self(NonNull::new(file).ok_or(ENOMEM)?))
    }

    /// Gives the reference to the caller.
    #[inline]
    pub fn into_raw(self) -> *mut kernel::bindings::file {
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

/// Returns the result of read() or write() for a buffer of `len` bytes. The count is limited to
/// `len`: with more, user space would look for data beyond its buffer, or skip data.
#[inline]
fn count(done: Result<usize>, len: usize) -> isize {
    match done {
        Ok(n) => n.min(len) as isize,
        Err(err) => err.to_errno() as isize,
    }
}

struct Operations<T: StreamFile>(PhantomData<T>);

impl<T: StreamFile> Operations<T> {
    const TABLE: kernel::bindings::file_operations = kernel::bindings::file_operations {
        // An open file keeps the module loaded, and with it these functions: `OpenFile::new`
        // checks that they are in it.
        owner: T::OWNER.as_ptr(),
        read: match T::ACCESS {
            Access::Read => Some(Self::read),
            Access::Write => None,
        },
        write: match T::ACCESS {
            Access::Read => None,
            Access::Write => Some(Self::write),
        },
        poll: Some(Self::poll),
        unlocked_ioctl: Some(Self::ioctl),
        // Only the pointer in the argument has to be converted.
        compat_ioctl: bindings::compat_ptr_ioctl,
        release: Some(Self::release),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `file` must have been opened by [`OpenFile::new::<T>`], and must not be
    /// released during `'a`.
    unsafe fn context<'a>(file: *mut kernel::bindings::file) -> &'a T {
        // SAFETY: `OpenFile::new` set `private_data` to a `KBox<T>` made foreign,
        // which only `release` takes back: not during `'a` (requirements of this
        // function).
        unsafe { <KBox<T> as ForeignOwnable>::borrow((*file).private_data.cast()) }
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
    /// Must only be called by VFS, through [`Self::TABLE`], with a `file` that stays open until
    /// this returns.
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
        let mut out = UserWriter::new(buf, len);
        count(context.read(wait, &mut out), len)
    }

    /// # Safety
    ///
    /// Must only be called by VFS, through [`Self::TABLE`], with a `file` that stays open until
    /// this returns.
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
        let mut from = UserReader::new(buf, len);
        count(context.write(wait, &mut from), len)
    }

    /// # Safety
    ///
    /// Must only be called by VFS, through [`Self::TABLE`], with a `file` that stays open until
    /// this returns.
    unsafe extern "C" fn ioctl(
        file: *mut kernel::bindings::file,
        command: c_uint,
        argument: c_ulong,
    ) -> c_long {
        // SAFETY: `file` has the operations of `T`, and stays open until this
        // function returns (requirements of this function).
        let context = unsafe { Self::context(file) };
        match context.ioctl(command, argument) {
            Ok(()) => 0,
            Err(err) => err.to_errno() as c_long,
        }
    }

    /// # Safety
    ///
    /// Must only be called by VFS, through [`Self::TABLE`], with a `file` that stays open until
    /// this returns.
    unsafe extern "C" fn poll(
        file: *mut kernel::bindings::file,
        table: *mut kernel::bindings::poll_table_struct,
    ) -> kernel::bindings::__poll_t {
        // SAFETY: `file` has the operations of `T`, and stays open until this
        // function returns (requirements of this function).
        let context = unsafe { Self::context(file) };
        // Register before looking, so that no change in between is missed.
        let Some((changed, _)) = context.poll() else {
            return Self::mask(Readiness::Ready);
        };
        // SAFETY: VFS passes a `table` that is null or valid until this function returns. `file`
        // stays open that long, and a stream has no position that this thread could have locked.
        // `changed` is borrowed from the file's context, which keeps it until the file is released:
        // nobody can borrow the context mutably, since the file has a reference to it.
        unsafe { changed.register(File::from_raw_file(file), table) };
        context
            .poll()
            .map_or(0, |(_, readiness)| Self::mask(readiness))
    }

    /// Returns what poll() answers.
    #[inline]
    fn mask(readiness: Readiness) -> kernel::bindings::__poll_t {
        use kernel::bindings::{
            POLLERR,
            POLLIN,
            POLLOUT,
            POLLRDHUP,
            POLLRDNORM,
            POLLWRNORM, //
        };
        let (ready, failed) = match T::ACCESS {
            Access::Read => (POLLIN | POLLRDNORM, POLLRDHUP),
            Access::Write => (POLLOUT | POLLWRNORM, POLLERR),
        };
        match readiness {
            Readiness::Pending => 0,
            Readiness::Ready => ready,
            Readiness::Failed => ready | failed,
        }
    }

    /// # Safety
    ///
    /// Must only be called by VFS, through [`Self::TABLE`], once for each `file`, when nobody else
    /// uses it any more.
    unsafe extern "C" fn release(
        _inode: *mut kernel::bindings::inode,
        file: *mut kernel::bindings::file,
    ) -> c_int {
        // SAFETY: `private_data` is a `KBox<T>` that `OpenFile::new` made foreign.
        // It is taken back once, here, and nobody borrows it any more
        // (requirements of this function).
        drop(unsafe { KBox::<T>::from_foreign((*file).private_data.cast()) });
        0
    }
}

#[cfg(CONFIG_VFIO_RUST_KUNIT_TEST)]
mod tests;
