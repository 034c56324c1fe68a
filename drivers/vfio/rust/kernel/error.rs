// SPDX-License-Identifier: GPL-2.0

//! Error codes that the kernel crate does not have in every kernel. They are functions, since
//! it makes no constant of a number for others.

use kernel::{
    bindings,
    prelude::*, //
};

/// Transport endpoint is not connected: the device's PF takes no commands.
#[inline]
pub fn enotconn() -> Error {
    Error::from_errno(-(bindings::ENOTCONN as c_int))
}

/// No message of desired type: the temporary end of a stream.
///
/// # Examples
///
/// ```
/// use vfio_rust::kernel::error::enomsg;
///
/// // User space may read on later: VFIO's answer to a reader who is faster than the device.
/// assert_eq!(enomsg().to_errno(), -42);
/// ```
#[inline]
pub fn enomsg() -> Error {
    Error::from_errno(-(bindings::ENOMSG as c_int))
}

/// Operation not supported on transport endpoint.
#[inline]
pub fn eopnotsupp() -> Error {
    Error::from_errno(-(bindings::EOPNOTSUPP as c_int))
}

/// Operation canceled: the device was reset in the middle of it.
#[inline]
pub fn ecanceled() -> Error {
    Error::from_errno(-(bindings::ECANCELED as c_int))
}
