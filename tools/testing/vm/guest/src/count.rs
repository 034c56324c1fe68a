// SPDX-License-Identifier: GPL-2.0

//! Marks for the plugin counter.c on the host, which counts the instructions of the machine.

use std::arch::asm;

/// Does `work`, and has the instructions of the whole machine counted while it runs.
pub fn counted<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: A no-op: nopl 0x564d0001(%rax).
    unsafe { asm!(".byte 0x0f, 0x1f, 0x80, 0x01, 0x00, 0x4d, 0x56") };
    let result = work();
    // SAFETY: A no-op: nopl 0x564d0002(%rax).
    unsafe { asm!(".byte 0x0f, 0x1f, 0x80, 0x02, 0x00, 0x4d, 0x56") };
    result
}
