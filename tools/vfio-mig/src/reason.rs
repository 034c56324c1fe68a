// SPDX-License-Identifier: GPL-2.0

//! What an errno means to the user of the tool, and what can be done about it.

use nix::errno::Errno;
use std::io;

/// What an error of the system says, with the name of its errno, which documentation and the
/// kernel's source have. Other errors have a text of their own.
pub fn reason(err: &io::Error) -> String {
    let text = err.to_string();
    match err.raw_os_error() {
        Some(number) => {
            let text = text.split(" (os error ").next().unwrap_or_default();
            match Errno::from_raw(number) {
                Errno::UnknownErrno => format!("{text} (errno {number})"),
                errno => format!("{text} ({errno:?})"),
            }
        }
        None => text,
    }
}

/// What to do about an error of a file, a socket, or a call of the uAPI.
fn remedy(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::EACCES | Errno::EPERM => "run as root, or as a user who has the permission",
        Errno::ENOSPC | Errno::EDQUOT => "free some space, or choose another place",
        Errno::ENOMEM => "free some memory, or raise the limit (ulimit -l)",
        Errno::EMFILE => "raise the limit of open files (ulimit -n)",
        Errno::EADDRINUSE => "another process listens there: choose another port",
        Errno::EADDRNOTAVAIL => "this host has no such address: `ip address` lists those it has",
        Errno::ECONNREFUSED => "nobody listens there: start `vfio-mig receive` first",
        Errno::ENETUNREACH | Errno::EHOSTUNREACH => "check the address, and the network",
        Errno::ETIMEDOUT => {
            "it does not answer: check the address, and firewalls; if it is a device, the kernel's \
             log (dmesg) may say why"
        }
        Errno::ENODEV | Errno::ENXIO => {
            "the device or its driver is gone: `vfio-mig list` shows those that are there"
        }
        Errno::ENOTTY | Errno::EOPNOTSUPP => "the kernel or the driver does not have this",
        Errno::EINVAL | Errno::EIO | Errno::EFAULT => "the kernel's log (dmesg) may say why",
        _ => return None,
    })
}

/// What to do about a device that does not go to a state.
fn remedy_of_state(errno: Errno) -> &'static str {
    match errno {
        Errno::EINVAL => {
            "`vfio-mig info` shows the states that the device has; if it has this one, the \
             kernel's log (dmesg) may say why"
        }
        Errno::EBUSY => "something still uses the device's data: try again when that has ended",
        Errno::ENOMEM | Errno::ENOSPC => "free some memory: the state is kept in it",
        Errno::ENODEV => "the device or its driver is gone, or it must be reset: open it again",
        Errno::ENOTTY | Errno::EOPNOTSUPP => "the driver does not have this state",
        _ => "the kernel's log (dmesg) may say why",
    }
}

fn errno_of(err: &io::Error) -> Option<Errno> {
    err.raw_os_error().map(Errno::from_raw)
}

/// The reason, and what to do if that is known.
pub fn with_remedy(err: &io::Error) -> String {
    match errno_of(err).and_then(remedy) {
        Some(remedy) => format!("{}; {remedy}", reason(err)),
        None => reason(err),
    }
}

/// As [`with_remedy`], of an error that ends the data file of a device.
pub fn with_remedy_of_stream(err: &io::Error) -> String {
    match errno_of(err) {
        Some(Errno::ENODEV) => format!(
            "{}; the driver has ended the session, as it does if firmware does not save: the \
             kernel's log (dmesg) may say why",
            reason(err)
        ),
        _ => with_remedy(err),
    }
}

/// What to do about `err`, with which a device did not go to a state.
pub fn state_remedy(err: &io::Error) -> &'static str {
    remedy_of_state(errno_of(err).unwrap_or(Errno::UnknownErrno))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn err(errno: i32) -> io::Error {
        io::Error::from_raw_os_error(errno)
    }

    #[test]
    fn an_errno_has_a_text_and_a_name() {
        assert_eq!(reason(&err(libc::EBUSY)), "Device or resource busy (EBUSY)");
        assert!(reason(&err(524)).ends_with("(errno 524)"));
        assert_eq!(reason(&io::Error::other("too late")), "too late");
    }

    #[test]
    fn what_can_be_done_is_said() {
        let text = with_remedy(&err(libc::ECONNREFUSED));
        assert!(text.starts_with("Connection refused (ECONNREFUSED); nobody listens there"));
        assert_eq!(with_remedy(&err(libc::EISDIR)), "Is a directory (EISDIR)");
        assert_eq!(with_remedy(&io::Error::other("too late")), "too late");
        // The device is there.
        let text = with_remedy_of_stream(&err(libc::ENODEV));
        assert!(text.contains("has ended the session"), "{text}");
        assert_eq!(
            with_remedy_of_stream(&err(libc::EISDIR)),
            with_remedy(&err(libc::EISDIR))
        );
    }

    /// The errnos that our driver, the C driver and vfio's core give for a state.
    #[test]
    fn each_errno_of_a_state_has_a_remedy() {
        for errno in [
            libc::EINVAL,
            libc::EBUSY,
            libc::ENOMEM,
            libc::EIO,
            libc::ENODEV,
            libc::ENOTTY,
            libc::EOPNOTSUPP,
            libc::ETIMEDOUT,
            libc::ENOTCONN,
            libc::EINTR,
        ] {
            assert!(!state_remedy(&err(errno)).is_empty(), "{errno}");
        }
    }
}
