// SPDX-License-Identifier: GPL-2.0

//! Waiting until a file is ready or a deadline has passed. A signal ends it.

use crate::{
    error::{
        Context,
        Error, //
    },
    interrupt, //
};
use nix::{
    errno::Errno,
    poll::{
        poll,
        PollFd,
        PollTimeout, //
    },
};
use std::{
    io,
    time::{
        Duration,
        Instant, //
    },
};

/// The time at which to give up.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// No deadline.
    pub const NEVER: Self = Self(None);

    /// In `timeout` from now, or never if that is beyond what the clock can tell.
    pub fn after(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }

    /// The earlier one of two.
    pub fn or(self, other: Self) -> Self {
        Self(match (self.0, other.0) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        })
    }

    /// Time that is left, or `None` if there is no deadline.
    pub fn left(self) -> Option<Duration> {
        self.0
            .map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Whether it has passed.
    pub fn has_passed(self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    /// Time that is left for poll(), in milliseconds. Rounded up: rounded down, poll() would
    /// be called again and again in the last millisecond.
    fn timeout(self) -> PollTimeout {
        let Some(left) = self.left() else {
            return PollTimeout::NONE;
        };
        let ms = left.as_nanos().div_ceil(1_000_000);
        PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
    }
}

/// What a signal that [`interrupt::catch`] has caught does to a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signals {
    /// Ends it.
    Heed,
    /// Nothing: what was begun is being undone.
    Ignore,
}

/// Waits until something is ready. Returns false if the deadline has passed.
pub fn ready(fds: &mut [PollFd<'_>], deadline: Deadline, signals: Signals) -> io::Result<bool> {
    loop {
        if signals == Signals::Heed {
            interrupt::check().map_err(io::Error::other)?;
        }
        // Checked even if something is ready: a peer could make sure that something always
        // is.
        if deadline.has_passed() {
            return Ok(false);
        }
        match poll(fds, deadline.timeout()) {
            Ok(0) | Err(Errno::EINTR) => (),
            Ok(_) => return Ok(true),
            Err(err) => return Err(err.into()),
        }
    }
}

/// Sleeps. Unlike [`std::thread::sleep`], fails if a signal was caught.
pub fn sleep(time: Duration) -> Result<(), Error> {
    let slept = ready(&mut [], Deadline::after(time), Signals::Heed);
    interrupt::check()?;
    slept.map(drop).context("sleeping")
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::PollFlags;
    use std::os::{
        fd::AsFd,
        unix::net::UnixStream, //
    };

    #[test]
    fn a_deadline_ends_a_wait() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let wait = |ms, flags| {
            let deadline = Deadline::after(Duration::from_millis(ms));
            let mut fds = [PollFd::new(ours.as_fd(), flags)];
            ready(&mut fds, deadline, Signals::Ignore).unwrap()
        };
        let begin = Instant::now();
        assert!(!wait(50, PollFlags::POLLIN));
        assert!(begin.elapsed() >= Duration::from_millis(50));
        assert!(wait(60_000, PollFlags::POLLOUT));
        // It has passed: what is ready came too late.
        assert!(!wait(0, PollFlags::POLLOUT));
    }

    #[test]
    fn the_latest_deadline_is_none() {
        let never = Deadline::after(Duration::from_secs(u64::MAX));
        assert!(never.left().is_none() && !never.has_passed());
        let soon = Deadline::after(Duration::from_secs(5));
        for deadline in [never.or(soon), soon.or(never), soon.or(soon)] {
            assert!(deadline.left().unwrap() <= Duration::from_secs(5));
        }
        assert!(never.or(Deadline::NEVER).left().is_none());
    }
}
