// SPDX-License-Identifier: GPL-2.0

//! Error codes that the kernel crate does not name in every kernel.

use kernel::{bindings, prelude::*};

/// Transport endpoint is not connected: the device's PF takes no commands.
pub(crate) fn enotconn() -> Error {
    Error::from_errno(-(bindings::ENOTCONN as c_int))
}

/// No message of desired type: the temporary end of a stream.
pub(crate) fn enomsg() -> Error {
    Error::from_errno(-(bindings::ENOMSG as c_int))
}

/// Operation not supported on transport endpoint.
pub(crate) fn eopnotsupp() -> Error {
    Error::from_errno(-(bindings::EOPNOTSUPP as c_int))
}

/// Operation canceled: the device was reset in the middle of it.
pub(crate) fn ecanceled() -> Error {
    Error::from_errno(-(bindings::ECANCELED as c_int))
}
