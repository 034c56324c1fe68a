// SPDX-License-Identifier: GPL-2.0

//! A program that is run for what it prints, for a bounded time and with a bounded output. A signal
//! that is caught ends it, too, and the end of the tool does.

use crate::{
    interrupt, process,
    reason::reason,
    uapi,
    wait::{
        self,
        Deadline,
        Signals, //
    },
};
use nix::{
    poll::{
        PollFd,
        PollFlags, //
    },
    sys::{
        signal::{
            killpg,
            Signal, //
        },
        wait::{
            waitid,
            Id,
            WaitPidFlag,
            WaitStatus, //
        },
    },
    unistd::Pid,
};
use std::{
    io::{
        self,
        Read, //
    },
    os::{
        fd::AsFd,
        unix::process::CommandExt, //
    },
    path::Path,
    process::{
        ChildStdout,
        Command,
        Stdio, //
    },
    thread,
    time::Duration, //
};

/// Bounds of a program.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most time.
    pub time: Duration,
    /// Most bytes that it may print.
    pub bytes: usize,
}

/// Interval at which a program is looked at that has closed its output.
const POLL: Duration = Duration::from_millis(5);

/// Reads what a program prints. Returns what is wrong, if that is not all of it.
fn read(output: &mut ChildStdout, deadline: Deadline, bounds: Bounds) -> Result<Vec<u8>, String> {
    let failed = |err: io::Error| reason(&err);
    uapi::set_nonblocking(output.as_fd(), true).map_err(failed)?;
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let mut fds = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
        if !wait::ready(&mut fds, deadline, Signals::Heed).map_err(failed)? {
            return Err(late(bounds));
        }
        match output.read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(n) => bytes.extend(&piece[..n]),
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => (),
            Err(err) => return Err(failed(err)),
        }
        if bytes.len() > bounds.bytes {
            let most = bounds.bytes;
            return Err(format!("it printed more than {most} bytes, and was killed"));
        }
    }
}

fn late(bounds: Bounds) -> String {
    let seconds = bounds.time.as_secs_f64();
    format!("it did not end within {seconds} s, and was killed")
}

/// Waits for the end of a program, whose id then still is its own.
fn wait_for_end(id: Pid, deadline: Deadline, bounds: Bounds) -> Result<(), String> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    loop {
        interrupt::check().map_err(|err| err.to_string())?;
        match waitid(Id::Pid(id), flags) {
            Ok(WaitStatus::StillAlive) if deadline.has_passed() => return Err(late(bounds)),
            Ok(WaitStatus::StillAlive) => thread::sleep(POLL),
            Ok(_) => return Ok(()),
            Err(err) => return Err(reason(&err.into())),
        }
    }
}

/// Runs a program, with nothing of the caller's environment. Returns what it has printed, or what
/// went wrong. Whatever it has started is killed, unless that has left its process group, or this
/// process was killed before.
pub fn output(program: &Path, args: &[&str], bounds: Bounds) -> Result<String, String> {
    let deadline = Deadline::after(bounds.time);
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0);
    process::tie(&mut command, Signal::SIGKILL);
    let mut child = command
        .spawn()
        .map_err(|err| format!("it cannot be run: {}", reason(&err)))?;
    let id = Pid::from_raw(child.id() as i32);
    let printed = match child.stdout.take() {
        Some(mut output) => read(&mut output, deadline, bounds),
        None => Ok(Vec::new()),
    };
    let printed = printed.and_then(|bytes| wait_for_end(id, deadline, bounds).map(|()| bytes));
    // Before the program is waited for: nobody else can have its number yet.
    let _ = killpg(id, Signal::SIGKILL);
    let status = child.wait().map_err(|err| reason(&err))?;
    match (printed, status.success()) {
        (Ok(bytes), true) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        (Ok(_), false) => Err(format!("it ended with {status}")),
        (Err(why), _) => Err(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        time: Duration::from_secs(60),
        bytes: 100,
    };

    fn shell(script: &str, bounds: Bounds) -> Result<String, String> {
        output(Path::new("/bin/sh"), &["-c", script], bounds)
    }

    #[test]
    fn what_a_program_prints_is_returned() {
        let printed = shell("echo one; echo two >&2; echo \"$LC_ALL$HOME\"", BOUNDS);
        assert_eq!(printed.as_deref(), Ok("one\nC\n"));
        let err = shell("echo one; exit 3", BOUNDS).unwrap_err();
        assert_eq!(err, "it ended with exit status: 3");
        let err = output(Path::new("/no/such/program"), &[], BOUNDS).unwrap_err();
        assert!(err.contains("cannot be run: No such file"), "{err}");
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let soon = Bounds {
            time: Duration::from_millis(200),
            ..BOUNDS
        };
        // The second one has closed its output; the third has a child that has not.
        for script in [
            "echo one; exec sleep 1000",
            "exec sleep 1000 >&-",
            "sleep 1000 & exit",
        ] {
            let err = shell(script, soon).unwrap_err();
            assert_eq!(
                err, "it did not end within 0.2 s, and was killed",
                "{script}"
            );
        }
    }

    #[test]
    fn a_program_that_prints_without_end_is_killed() {
        let err = shell("exec yes", BOUNDS).unwrap_err();
        assert_eq!(err, "it printed more than 100 bytes, and was killed");
    }
}
