// SPDX-License-Identifier: GPL-2.0

//! Processes and signals. What the tool starts does not outlive the tool, however that ends.

use nix::{
    sys::{
        prctl,
        signal::{
            sigaction,
            SaFlags,
            SigAction,
            SigHandler,
            SigSet,
            Signal, //
        },
    },
    unistd::{
        getpid,
        getppid,
        ForkResult,
        Pid, //
    },
};
use std::{
    io,
    os::unix::process::CommandExt,
    process::Command, //
};

/// A copy of this process, which must have just this thread. The copy gets SIGKILL when this
/// process ends. Otherwise it would keep a device, and nobody would end it if it hangs.
pub fn fork() -> io::Result<ForkResult> {
    let parent = getpid();
    // SAFETY: With a single thread, the copy can do whatever this process can.
    let forked = unsafe { nix::unistd::fork() }?;
    if forked.is_child() && end_with(parent, Signal::SIGKILL).is_err() {
        exit_now(1);
    }
    Ok(forked)
}

/// Has the kernel send this process `signal` when its `parent` ends, or rather the thread of it
/// that has made this process. Children of this process do not inherit that.
fn end_with(parent: Pid, signal: Signal) -> io::Result<()> {
    prctl::set_pdeathsig(signal)?;
    match getppid() == parent {
        true => Ok(()),
        // It has ended before.
        false => Err(io::Error::from_raw_os_error(libc::ESRCH)),
    }
}

/// Has a program that this thread will start get `signal` when this thread ends. What the program
/// starts does not inherit that, nor does a program that is run as another user.
pub fn tie(command: &mut Command, signal: Signal) {
    let parent = getpid();
    // SAFETY: Two system calls, which allocate nothing.
    unsafe { command.pre_exec(move || end_with(parent, signal)) };
}

/// Calls `handler` whenever `signal` comes. System calls are interrupted.
pub fn on_signal(signal: Signal, handler: extern "C" fn(libc::c_int)) -> io::Result<()> {
    set_handler(signal, handler, SaFlags::empty()).map(|_| ())
}

/// Calls `handler` when `signal` comes for the first time. A second one does what
/// the signal does by default. System calls are interrupted. A signal that is ignored
/// stays ignored.
pub fn on_first_signal(signal: Signal, handler: extern "C" fn(libc::c_int)) -> io::Result<()> {
    let older = set_handler(signal, handler, SaFlags::SA_RESETHAND)?;
    if older.handler() == SigHandler::SigIgn {
        // SAFETY: No handler is called.
        unsafe { sigaction(signal, &older) }?;
    }
    Ok(())
}

/// Does something while `signals` are ignored: a process that is started then ignores them,
/// too.
pub fn while_ignoring<T>(signals: &[Signal], action: impl FnOnce() -> T) -> io::Result<T> {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    let mut older = Vec::new();
    for signal in signals {
        // SAFETY: No handler is called.
        older.push((*signal, unsafe { sigaction(*signal, &ignore) }?));
    }
    let done = action();
    for (signal, action) in older {
        // SAFETY: This handler was there before.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(done)
}

fn set_handler(
    signal: Signal,
    handler: extern "C" fn(libc::c_int),
    flags: SaFlags,
) -> io::Result<SigAction> {
    let action = SigAction::new(SigHandler::Handler(handler), flags, SigSet::empty());
    // SAFETY: The handlers of this crate only access atomic integers and call alarm(),
    // both of which are safe in a signal handler.
    Ok(unsafe { sigaction(signal, &action) }?)
}

/// Ends this process, without calling exit handlers or flushing buffers.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: Just a system call.
    unsafe { libc::_exit(status) }
}
