// SPDX-License-Identifier: GPL-2.0

//! The ioctls of `include/uapi/linux/kcov.h`.

use crate::uapi::with_value;
use std::{
    io,
    os::fd::BorrowedFd, //
};

/// `KCOV_INIT_TRACE`.
const KCOV_INIT_TRACE: libc::c_ulong = libc::_IOR::<libc::c_ulong>(b'c' as u32, 1);
/// `KCOV_ENABLE`.
const KCOV_ENABLE: libc::c_ulong = libc::_IO(b'c' as u32, 100);
/// `KCOV_DISABLE`.
const KCOV_DISABLE: libc::c_ulong = libc::_IO(b'c' as u32, 101);
/// `KCOV_TRACE_PC`.
const KCOV_TRACE_PC: i32 = 0;

/// Gives a file of KCOV a buffer of this many words.
pub(super) fn init(kcov: BorrowedFd<'_>, words: i32) -> io::Result<()> {
    with_value(kcov, KCOV_INIT_TRACE, words).map(drop)
}

/// Has KCOV record which code the kernel runs for the calling thread.
pub(super) fn enable(kcov: BorrowedFd<'_>) -> io::Result<()> {
    with_value(kcov, KCOV_ENABLE, KCOV_TRACE_PC).map(drop)
}

/// Ends that. Fails in any other thread.
pub(super) fn disable(kcov: BorrowedFd<'_>) -> io::Result<()> {
    with_value(kcov, KCOV_DISABLE, 0).map(drop)
}
