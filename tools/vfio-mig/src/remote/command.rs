// SPDX-License-Identifier: GPL-2.0

//! The command at the other end of a connection, and how it ends.
//!
//! It is in the process group of the tool: ssh could not ask for a password in another one. So
//! whatever it has started is found by its parents.

use super::connection::MAX_LINGER;
use crate::wait::Deadline;
use nix::{
    sys::signal::{
        kill,
        Signal, //
    },
    unistd::Pid, //
};
use std::{
    fs,
    io,
    process::{
        Child,
        ExitStatus, //
    },
    thread,
    time::Duration, //
};

/// Interval at which [`Started::wait`] checks whether a command has ended.
const POLL: Duration = Duration::from_millis(10);

/// Is told what happens to a command.
pub type Tell = fn(&str);

/// A process. Another one that gets its number later has begun at another time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Process {
    id: i32,
    parent: i32,
    begun: u64,
}

impl Process {
    /// The one with this number that has not ended, if only its parent does not know yet.
    fn of(id: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // Its name can have spaces and parentheses.
        let (_, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let has_ended = matches!(fields.first(), Some(&("Z" | "X")));
        (!has_ended).then_some(Self {
            id,
            parent: fields.get(1)?.parse().ok()?,
            begun: fields.get(19)?.parse().ok()?,
        })
    }

    /// All processes.
    fn all() -> Vec<Self> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        ids.filter_map(Self::of).collect()
    }

    fn is_running(&self) -> bool {
        Self::of(self.id).is_some_and(|now| now.begun == self.begun)
    }

    /// Signals it, unless it has ended.
    fn signal(&self, signal: Signal) {
        if self.is_running() {
            let _ = kill(Pid::from_raw(self.id), signal);
        }
    }
}

/// A process, and all that it has started.
fn family(of: i32) -> Vec<Process> {
    let all = Process::all();
    let mut family: Vec<Process> = all.iter().filter(|one| one.id == of).copied().collect();
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(all.iter().filter(|one| one.parent == parent.id));
        next += 1;
    }
    family
}

/// Signals processes. Returns whether all of them end, and soon.
fn end(family: &[Process], signal: Signal) -> bool {
    family.iter().for_each(|one| one.signal(signal));
    let deadline = Deadline::after(MAX_LINGER);
    while family.iter().any(Process::is_running) {
        if deadline.has_passed() {
            return false;
        }
        thread::sleep(POLL);
    }
    true
}

/// A command that was started.
pub(super) struct Started {
    child: Child,
    /// The command, for messages.
    shown: String,
    tell: Tell,
}

impl Started {
    pub(super) fn new(child: Child, shown: &str, tell: Tell) -> Self {
        Self {
            child,
            shown: shown.to_string(),
            tell,
        }
    }

    /// Waits until it has ended, but not for long.
    fn wait(&mut self) -> Option<ExitStatus> {
        let deadline = Deadline::after(MAX_LINGER);
        loop {
            match self.child.try_wait() {
                Ok(None) if !deadline.has_passed() => thread::sleep(POLL),
                ended => return ended.ok().flatten(),
            }
        }
    }

    /// Says how it has ended, after an error that closed the connection.
    pub(super) fn explain(&mut self, err: io::Error) -> io::Error {
        match self.wait() {
            Some(status) => {
                let shown = &self.shown;
                io::Error::new(err.kind(), format!("{err}; {shown} ended with {status}"))
            }
            None => err,
        }
    }
}

impl Drop for Started {
    /// Its end of the connection is closed. It may still have to print what the other host says;
    /// if it does not end then, it is ended.
    fn drop(&mut self) {
        self.wait();
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let (shown, seconds) = (&self.shown, MAX_LINGER.as_secs());
        (self.tell)(&format!(
            "{shown}: it has not ended {seconds} s after its input, and gets SIGTERM"
        ));
        let family = family(self.child.id() as i32);
        if !end(&family, Signal::SIGTERM) {
            (self.tell)(&format!(
                "{shown}: SIGTERM does not end it; it gets SIGKILL"
            ));
            end(&family, Signal::SIGKILL);
        }
        let _ = self.child.try_wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{
            BufRead,
            BufReader, //
        },
        process::{
            Command,
            Stdio, //
        },
    };

    fn start(script: &str) -> (Started, Vec<Process>) {
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut said).unwrap();
        let ids = said.split_whitespace().map(|id| id.parse().unwrap());
        let all = ids.map(|id| Process::of(id).unwrap()).collect();
        (Started::new(child, "it", |_| ()), all)
    }

    #[test]
    fn whatever_ignores_the_end_of_its_input_is_ended() {
        for script in [
            "sleep 1000 & echo $$ $!; wait",
            // They ignore SIGTERM, too.
            "trap '' TERM; sleep 1000 & echo $$ $!; wait",
            // The shell ends at SIGTERM, and the other one does not.
            "(trap '' TERM; exec sleep 1000) & sleep 0.1; echo $$ $!; wait",
        ] {
            let (started, all) = start(script);
            assert!(
                all.len() == 2 && all.iter().all(Process::is_running),
                "{script}"
            );
            drop(started);
            assert!(!all.iter().any(Process::is_running), "{script}");
        }
    }

    #[test]
    fn processes_of_others_are_left_alone() {
        let (other, others) = start("sleep 1000 & echo $$ $!; wait");
        drop(start("sleep 1000 & echo $$; wait").0);
        assert!(others.iter().all(Process::is_running));
        drop(other);
    }
}
