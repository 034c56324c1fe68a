// SPDX-License-Identifier: GPL-2.0

//! Children do not outlive this program: a machine without it would write to the folders
//! of the next run.

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::Signal, //
    },
    unistd::{
        getpid,
        getppid, //
    },
};
use std::{
    os::unix::process::CommandExt,
    process::Command, //
};

/// Has the kernel kill what is started by `command` when the thread that starts it ends,
/// whatever ends that. The thread must wait for it.
pub fn bind(command: &mut Command) -> &mut Command {
    let parent = getpid();
    // SAFETY: Between fork and exec there are just two system calls, and nothing is
    // allocated.
    unsafe {
        command.pre_exec(move || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The kernel says nothing of a parent that had ended before.
            if getppid() == parent {
                Ok(())
            } else {
                Err(Errno::ESRCH.into())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        os::unix::process::ExitStatusExt,
        thread, //
    };

    #[test]
    fn a_child_ends_with_the_thread_that_starts_it() {
        let start = || bind(Command::new("sleep").arg("60")).spawn().unwrap();
        let mut child = thread::spawn(start).join().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
    }
}
