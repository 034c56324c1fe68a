// SPDX-License-Identifier: GPL-2.0

//! The make that has started this program. If that ends before this program, by whatever signal,
//! nobody waits for what comes of machines, and they would be in the way of the next run. Between
//! the two may be sudo, so the kernel's signal about the end of a parent would not do.

use anyhow::{
    bail,
    Result, //
};
use nix::{
    errno::Errno,
    libc,
    poll::{
        poll,
        PollFd,
        PollFlags,
        PollTimeout, //
    },
    sys::signal::{
        raise,
        Signal, //
    },
};
use std::{
    os::fd::{
        AsFd,
        FromRawFd,
        OwnedFd, //
    },
    thread,
};

/// A descriptor of a process, which becomes readable when that has ended.
fn open(pid: libc::pid_t) -> nix::Result<OwnedFd> {
    // SAFETY: The call takes two numbers, and no memory.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: The kernel has just made `fd`, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Waits until the process has ended.
fn wait(process: &OwnedFd) -> nix::Result<()> {
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => (),
            end => return end.map(|_| ()),
        }
    }
}

/// Ends this program when the process has ended, and with it what [`children`] has bound.
///
/// [`children`]: crate::children
pub fn follow(pid: libc::pid_t) -> Result<()> {
    let process = match open(pid) {
        Ok(process) => process,
        Err(Errno::ESRCH) => bail!("make, process {pid}, has ended"),
        // Only this is lost where there are no such descriptors.
        Err(_) => return Ok(()),
    };
    thread::spawn(move || {
        if wait(&process).is_ok() {
            let _ = raise(Signal::SIGTERM);
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_end_of_a_process_is_noticed_before_anyone_waits_for_it() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = open(child.id() as i32).unwrap();
        let waiting = thread::spawn(move || wait(&process));
        assert!(!waiting.is_finished());
        child.kill().unwrap();
        waiting.join().unwrap().unwrap();
        let pid = child.id() as i32;
        child.wait().unwrap();
        assert!(follow(pid).is_err());
    }
}
