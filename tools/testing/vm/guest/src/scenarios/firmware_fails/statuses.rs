// SPDX-License-Identifier: GPL-2.0

//! The statuses with which firmware refuses a command (`MLX5_CMD_STAT_*`), and what mlx5_core
//! makes of them.

/// A status.
#[derive(Clone, Copy)]
pub(super) struct Status {
    pub(super) number: u8,
    /// mlx5_core's error for it.
    pub(super) errno: i32,
}

const fn status(number: u8, errno: i32) -> Status {
    Status { number, errno }
}

/// All that `include/linux/mlx5/device.h` has, and one that it does not have.
pub(super) const ALL: &[Status] = &[
    status(0x1, libc::EIO),
    status(0x2, libc::EINVAL),
    status(0x3, libc::EINVAL),
    status(0x4, libc::EIO),
    status(0x5, libc::EINVAL),
    status(0x6, libc::EBUSY),
    status(0x7, libc::EAGAIN),
    status(0x8, libc::ENOMEM),
    status(0x9, libc::EINVAL),
    status(0xa, libc::EINVAL),
    status(0xf, libc::EAGAIN),
    status(0x10, libc::EINVAL),
    status(0x30, libc::EINVAL),
    status(0x40, libc::EINVAL),
    status(0x50, libc::EIO),
    status(0x51, libc::EIO),
    status(0x7f, libc::EIO),
];
