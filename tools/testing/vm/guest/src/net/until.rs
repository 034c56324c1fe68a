// SPDX-License-Identifier: GPL-2.0

//! When the ends of traffic are to end, and how long an end waits for the other one then.

use super::connection::PATIENCE;
use std::{
    io,
    sync::{
        atomic::{
            AtomicBool,
            Ordering::Relaxed, //
        },
        Arc, //
    },
    time::{
        Duration,
        Instant, //
    },
};

/// When an end is to end.
#[derive(Clone)]
pub struct Until {
    /// To send.
    pub sending: Arc<AtomicBool>,
    /// To receive: the other end was told to end, too.
    pub receiving: Arc<AtomicBool>,
}

impl Until {
    /// Both at once.
    pub fn both(ending: &Arc<AtomicBool>) -> Self {
        Self {
            sending: ending.clone(),
            receiving: ending.clone(),
        }
    }

    /// Whether nothing is to be sent any more.
    pub fn is_silent(&self) -> bool {
        self.sending.load(Relaxed)
    }

    /// Whether nothing is to be received any more, but for what is on its way.
    pub fn is_over(&self) -> bool {
        self.receiving.load(Relaxed)
    }

    /// The wait for the end of what the other end sends.
    pub fn wait(&self) -> Wait {
        Wait {
            until: self.clone(),
            since: None,
            most: PATIENCE,
        }
    }
}

/// A wait for the other end, which may go on for ever.
pub struct Wait {
    until: Until,
    /// When the other end was to end.
    since: Option<Instant>,
    most: Duration,
}

impl Wait {
    /// Fails if the other end was to end long ago.
    pub fn go_on(&mut self) -> io::Result<()> {
        if !self.until.is_over() {
            return Ok(());
        }
        if self.since.get_or_insert_with(Instant::now).elapsed() < self.most {
            return Ok(());
        }
        let seconds = self.most.as_secs();
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the other end still sends, {seconds} s after it was to end"),
        ))
    }

    /// With another limit, for tests.
    #[cfg(test)]
    pub fn at_most(mut self, most: Duration) -> Self {
        self.most = most;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_wait_is_bounded_from_when_the_end_is_due() {
        let until = Until::both(&Arc::default());
        let most = Duration::from_millis(30);
        let mut wait = until.wait().at_most(most);
        thread::sleep(most);
        wait.go_on().unwrap();
        until.receiving.store(true, Relaxed);
        wait.go_on().unwrap();
        thread::sleep(most);
        let err = wait.go_on().unwrap_err().to_string();
        assert!(err.contains("still sends"), "{err}");
    }
}
