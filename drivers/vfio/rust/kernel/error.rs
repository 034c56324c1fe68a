// SPDX-License-Identifier: GPL-2.0

//! Error codes that the kernel crate lacks in some kernels. They are functions, since another crate
//! cannot make a constant [`Error`] from a number.

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
/// // VFIO's answer to a read() for which the device has no data yet: user space may try again.
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
