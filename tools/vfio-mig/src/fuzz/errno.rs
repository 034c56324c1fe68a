// SPDX-License-Identifier: GPL-2.0

//! How a request has failed.

use crate::error::Error;
use std::io;

/// The largest errno that user space knows: `EHWPOISON`.
const MAX_ERRNO: i32 = 133;

/// Why there is no success.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// There was nothing to make a request about.
    NothingToAsk,
    /// The kernel's error.
    Errno(i32),
    /// The kernel has written beyond the memory that it was given.
    Overrun,
    /// No error of the kernel's.
    Other,
}

/// What came of a request.
pub(super) type Answer = Result<(), Refused>;

impl Refused {
    fn of(errno: Option<i32>) -> Self {
        errno.map_or(Self::Other, Self::Errno)
    }

    /// Fails if no kernel should say this: ERESTARTSYS and the like are its own.
    pub(super) fn check(self, what: &str) -> Result<(), Error> {
        match self {
            Self::Errno(errno) if !(1..=MAX_ERRNO).contains(&errno) => Err(Error::Unexpected(
                format!("{what} failed with {errno}, which is no error for user space"),
            )),
            Self::Overrun => Err(Error::Unexpected(format!(
                "{what} has written beyond the end of its memory"
            ))),
            _ => Ok(()),
        }
    }
}

impl From<io::Error> for Refused {
    fn from(err: io::Error) -> Self {
        match err.kind() {
            io::ErrorKind::InvalidData => Self::Overrun,
            _ => Self::of(err.raw_os_error()),
        }
    }
}

impl From<Error> for Refused {
    fn from(err: Error) -> Self {
        Self::of(err.errno())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_kernel_alone_are_found() {
        // ERESTARTSYS, ENOTSUPP.
        for errno in [512, 524, 0, -1] {
            assert!(Refused::Errno(errno).check("a read").is_err());
        }
        assert!(Refused::Errno(libc::ECANCELED).check("a read").is_ok());
        assert!(Refused::Other.check("a read").is_ok());
        let overrun = io::Error::new(io::ErrorKind::InvalidData, "beyond");
        assert!(Refused::from(overrun).check("a report").is_err());
    }
}
