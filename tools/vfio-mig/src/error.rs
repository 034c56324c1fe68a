// SPDX-License-Identifier: GPL-2.0

//! Errors, with what to do about them.

use crate::{
    address::Address,
    host::problem::Problem,
    reason::{
        reason,
        state_remedy,
        with_remedy,
        with_remedy_of_stream, //
    },
    state::State,
    text, //
};
use nix::sys::signal::Signal;
use std::{
    io,
    path::PathBuf, //
};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such device.
    #[error("{device}: no such device; {}", bound(.vfio))]
    NoDevice {
        /// The device that was asked for.
        device: Address,
        /// The devices that have a VFIO driver.
        vfio: Vec<Address>,
    },
    /// No driver is bound.
    #[error("{device}: no driver is bound; {how}")]
    NoDriver {
        /// The device.
        device: Address,
        /// What binds one.
        how: String,
    },
    /// A driver that is not one of VFIO's is bound.
    #[error("{device}: bound to {driver}, which is not a VFIO driver; {}",
        how.clone().unwrap_or_else(|| bound(.vfio)))]
    NotVfio {
        /// The device.
        device: Address,
        /// The driver that it is bound to.
        driver: String,
        /// The command that binds one of VFIO's, if there is one.
        how: Option<String>,
        /// Devices that have a VFIO driver.
        vfio: Vec<Address>,
    },
    /// No IOMMU group.
    #[error("{0}: no IOMMU group; is the IOMMU on (intel_iommu=on or amd_iommu=on)?")]
    NoIommuGroup(Address),
    /// Another device of the group is in use elsewhere.
    #[error("{0}: its IOMMU group is not viable: bind every device of the group to a VFIO driver")]
    GroupNotViable(Address),
    /// A device that nobody else may have open.
    #[error("{device}: in use by {by}; end that, since only one may have the device open")]
    InUse {
        /// The device.
        device: Address,
        /// The processes that have it open.
        by: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// The same device for two different jobs.
    #[error("{0}: given twice; a second device must be another one")]
    GivenTwice(Address),
    /// The device offers no migration.
    #[error("{device}: the driver does not support migration of this device: {why}")]
    NotMigratable {
        /// The device.
        device: Address,
        /// Which condition is not met, as far as that is known.
        why: String,
    },
    /// A device did not reach a state.
    #[error(
        "{device}: cannot go from {from} to {to}: {}; the device is now in {}; {}",
        reason(.source),
        state_name(*.now),
        state_remedy(.source)
    )]
    State {
        /// The device.
        device: Address,
        /// Where it was.
        from: State,
        /// Where it was to go.
        to: State,
        /// Where it is, if that is known.
        now: Option<State>,
        /// Why.
        source: io::Error,
    },
    /// The stream stopped.
    #[error("{what} after {bytes} bytes: {}", with_remedy_of_stream(.source))]
    Stream {
        /// Reading or writing.
        what: &'static str,
        /// How far it got.
        bytes: u64,
        /// Why.
        source: io::Error,
    },
    /// The driver took a part of a state, and then failed.
    #[error(
        "{device}: the driver refused the state after {bytes} bytes: {}; \
         the kernel's log (dmesg) may say why",
        reason(.source)
    )]
    Refused {
        /// The device.
        device: Address,
        /// How far it got.
        bytes: u64,
        /// Why.
        source: io::Error,
    },
    /// A signal has asked the tool to end.
    #[error("interrupted by {}", signal_name(*.signal))]
    Interrupted {
        /// Its number.
        signal: i32,
    },
    /// There was no state to load.
    #[error("nothing to load: the state has no bytes; give one that `vfio-mig save` has written")]
    NothingToLoad,
    /// The destination has the state, and may use it.
    #[error(
        "{source}; {device} stays stopped, since the destination may run: {why}; look there: if \
         it does not run, `vfio-mig state {device}` resets this device, which then runs without \
         its state"
    )]
    NotAbandoned {
        /// The source.
        device: Address,
        /// What has failed.
        source: Box<Error>,
        /// Why it is not known.
        why: Box<Error>,
    },
    /// The destination was told to start, and has not answered.
    #[error("{0} was told to start")]
    MayRun(String),
    /// A device is not as it must be when the tool ends.
    #[error(
        "{device} is left in {}, since it could not be {wanted}: {source}; the next one who \
         opens it resets it: `vfio-mig state {device}` must say RUNNING, or else bind the device \
         to its driver again",
        state_name(*.left)
    )]
    NotPutBack {
        /// The device.
        device: Address,
        /// What was tried.
        wanted: &'static str,
        /// The state that it is in, if that is known.
        left: Option<State>,
        /// Why it has failed.
        source: Box<Error>,
    },
    /// Something has failed, and then what undoes it.
    #[error("{source}; {then}")]
    NotUndone {
        /// What has failed first.
        source: Box<Error>,
        /// What could not be undone.
        then: Box<Error>,
    },
    /// The sender has asked the receiver to forget the state.
    #[error("the sender has given up: {why}")]
    GivenUp {
        /// What has happened to it.
        why: String,
    },
    /// The destination has the state, and runs.
    #[error(
        "{device}: the destination runs, and this device could not forget its state: {source}"
    )]
    NotFreed {
        /// The source.
        device: Address,
        /// Why not.
        source: Box<Error>,
    },
    /// A state is complete, but its device is not as it must be.
    #[error("the whole state is in {to}; {source}")]
    Saved {
        /// Where it is.
        to: String,
        /// What is wrong with the device.
        source: Box<Error>,
    },
    /// All was done, but nobody could be told so.
    #[error("{done}; its report could not be printed: {source}")]
    NotPrinted {
        /// What was done.
        done: &'static str,
        /// Why it could not be printed.
        source: Box<Error>,
    },
    /// The device is not as it must be after what was done to it.
    #[error("{0}")]
    Unexpected(String),
    /// A round of something that has many.
    #[error("{round}: {source}")]
    Round {
        /// Which one.
        round: String,
        /// What went wrong.
        source: Box<Error>,
    },
    /// Expectations of a test that does not exist.
    #[error("{}: there is no test {name}; {right}", text::shown_path(.path))]
    UnknownTest {
        /// The file.
        path: PathBuf,
        /// What it names.
        name: String,
        /// What it could name.
        right: String,
    },
    /// It has none of the registers that make an emulated VF work.
    #[error("{0}: not an emulated ConnectX VF: there is no workload for it")]
    NoWorkload(Address),
    /// The workload did not do what it was told.
    #[error("{device}: workload command failed with status {status}")]
    Workload {
        /// The device.
        device: Address,
        /// What its registers say.
        status: u32,
    },
    /// The host, or what was to be changed there.
    #[error(transparent)]
    Host(#[from] Problem),
    /// A system call failed.
    #[error("{what}: {}", with_remedy(.source))]
    Io {
        /// Which one, on what.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A system call failed, and more is known of that than its errno says.
    #[error("{what}: {}; {hint}", reason(.source))]
    Hinted {
        /// Which one, on what.
        what: String,
        /// Why.
        source: io::Error,
        /// What this errno means here.
        hint: String,
    },
}

/// Some errors have a text of their own instead of an errno.
fn errno_of(err: &io::Error) -> Option<i32> {
    let inner = || err.get_ref()?.downcast_ref::<Error>()?.errno();
    let named = match err.kind() {
        io::ErrorKind::TimedOut => Some(libc::ETIMEDOUT),
        io::ErrorKind::ConnectionReset => Some(libc::ECONNRESET),
        _ => None,
    };
    err.raw_os_error().or_else(inner).or(named)
}

/// Most devices that a message names.
const MAX_NAMED: usize = 16;

/// Which devices can be given.
fn bound(devices: &[Address]) -> String {
    let names: Vec<String> = devices
        .iter()
        .take(MAX_NAMED)
        .map(Address::to_string)
        .collect();
    match devices.len() - names.len() {
        _ if names.is_empty() => "no device of this host is bound to a VFIO driver".to_string(),
        0 => format!("bound to a VFIO driver: {}", names.join(", ")),
        more => format!(
            "bound to a VFIO driver: {} and {more} more",
            names.join(", ")
        ),
    }
}

fn state_name(state: Option<State>) -> String {
    state.map_or("an unknown state".to_string(), |state| state.to_string())
}

/// The name of a signal.
pub fn signal_name(signal: i32) -> String {
    match Signal::try_from(signal) {
        Ok(signal) => signal.to_string(),
        Err(_) => format!("signal {signal}"),
    }
}

impl Error {
    /// This one, if what it has left behind was undone, or else both.
    pub fn unless_undone(self, undone: Result<(), Self>) -> Self {
        match undone {
            Ok(()) => self,
            Err(then) => Self::NotUndone {
                source: Box::new(self),
                then: Box::new(then),
            },
        }
    }

    /// The errno behind it.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::State { source, .. }
            | Self::Stream { source, .. }
            | Self::Refused { source, .. }
            | Self::InUse { source, .. }
            | Self::Io { source, .. }
            | Self::Hinted { source, .. } => errno_of(source),
            Self::Interrupted { .. } => Some(libc::EINTR),
            Self::Host(problem) => problem.errno(),
            Self::NotAbandoned { source, .. }
            | Self::NotFreed { source, .. }
            | Self::NotPutBack { source, .. }
            | Self::NotUndone { source, .. }
            | Self::NotPrinted { source, .. }
            | Self::Saved { source, .. }
            | Self::Round { source, .. } => source.errno(),
            _ => None,
        }
    }
}

/// Returns the result of something that was done and then undone, even if it had failed: both
/// errors, if both have failed.
pub fn with_undo<T>(done: Result<T, Error>, undone: Result<(), Error>) -> Result<T, Error> {
    match done {
        Ok(value) => undone.map(|()| value),
        Err(err) => Err(err.unless_undone(undone)),
    }
}

/// Names the file or the host at one end of a stream.
pub trait StreamContext {
    /// If the stream has failed in `end`, reading or writing, says that this was of
    /// `name`.
    fn stream_context(self, end: &'static str, name: &str) -> Self;
}

impl StreamContext for Error {
    fn stream_context(self, end: &'static str, name: &str) -> Self {
        match self {
            Self::Stream {
                what,
                bytes,
                source,
            } if what == end => Self::Io {
                what: format!("{name}: {what} after {bytes} bytes"),
                source,
            },
            err => err,
        }
    }
}

impl<T> StreamContext for Result<T, Error> {
    fn stream_context(self, end: &'static str, name: &str) -> Self {
        self.map_err(|err| err.stream_context(end, name))
    }
}

/// Names what was being done.
pub trait Context<T> {
    /// Adds `what` to an error.
    fn context(self, what: impl Into<String>) -> Result<T, Error>;

    /// As [`Self::context`], and adds `hint` if the error is `errno`.
    fn context_with_hint(self, what: impl Into<String>, errno: i32, hint: &str)
        -> Result<T, Error>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl Into<String>) -> Result<T, Error> {
        self.map_err(|source| Error::Io {
            what: what.into(),
            source,
        })
    }

    fn context_with_hint(
        self,
        what: impl Into<String>,
        errno: i32,
        hint: &str,
    ) -> Result<T, Error> {
        match self {
            Err(source) if source.raw_os_error() == Some(errno) => Err(Error::Hinted {
                what: what.into(),
                source,
                hint: hint.to_string(),
            }),
            other => other.context(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_device_lists_the_right_ones() {
        let device: Address = "01:00.2".parse().unwrap();
        let mut vfio = vec![device; MAX_NAMED];
        let text = |vfio: &[Address]| {
            let vfio = vfio.to_vec();
            Error::NoDevice { device, vfio }.to_string()
        };
        assert!(text(&[]).ends_with("; no device of this host is bound to a VFIO driver"));
        assert!(text(&vfio[..1]).ends_with("; bound to a VFIO driver: 0000:01:00.2"));
        assert!(text(&vfio).ends_with(".2"));
        vfio.push(device);
        assert!(text(&vfio).ends_with(" and 1 more"));
    }

    #[test]
    fn an_error_within_one_of_io_has_its_errno() {
        let interrupted = Error::Interrupted {
            signal: libc::SIGTERM,
        };
        let err = Err::<(), _>(io::Error::other(interrupted))
            .context("a peer")
            .unwrap_err();
        assert_eq!(err.errno(), Some(libc::EINTR));
        assert_eq!(err.to_string(), "a peer: interrupted by SIGTERM");
    }
}
