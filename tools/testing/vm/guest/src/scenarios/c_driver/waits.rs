// SPDX-License-Identifier: GPL-2.0

//! Waits that nobody can end, and an event that comes twice.

use crate::{
    fault::{
        event,
        Event,
        Faults, //
    },
    hca::Pf,
    records::HEADER,
    scenarios::{
        compare::Site,
        dirty, //
    },
    sys::{
        self,
        MissingMemory, //
    },
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    os::fd::AsFd,
    thread,
    time::{
        Duration,
        Instant, //
    },
};
use vfio_mig::{
    device::Device,
    state::State,
    uapi, //
};

/// What ends at all ends in this time.
const LONG: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// Waits until something has ended, and returns whether it has.
fn ends(mut has_ended: impl FnMut() -> Result<bool>) -> Result<bool> {
    let begin = Instant::now();
    while begin.elapsed() < LONG {
        if has_ended()? {
            return Ok(true);
        }
        thread::sleep(POLL);
    }
    Ok(false)
}

/// The PF can be reloaded while a call waits for memory.
fn reload_beside<T: Send>(memory: &MissingMemory, call: impl FnOnce() -> T + Send) -> Result<()> {
    thread::scope(|scope| {
        let call = scope.spawn(call);
        memory.wait_for_fault()?;
        let reload = scope.spawn(|| Pf::find()?.reload());
        let ended = ends(|| Ok(reload.is_finished()));
        // Else neither of them would end.
        memory.resolve_fault()?;
        let _ = call.join();
        reload.join().ok().context("a thread panicked")??;
        ensure!(ended?, "the reload of the PF has waited for the memory");
        Ok(())
    })
}

/// A process that reads into memory which is missing: the PF can be reloaded all the same.
pub(super) fn reader_without_memory(site: &Site) -> Result<()> {
    let memory = MissingMemory::new()?;
    let device = Device::open(site.vf)?;
    let file = device.begin(State::STOP_COPY)?;
    let ready = uapi::poll(file.as_fd(), libc::POLLIN, -1)?;
    ensure!(ready == libc::POLLIN, "there is nothing to read");
    reload_beside(&memory, || sys::read_raw(&file, memory.addr(), HEADER))
}

/// A process that writes from memory which is missing: the PF can be reloaded all the same.
pub(super) fn writer_without_memory(site: &Site) -> Result<()> {
    let memory = MissingMemory::new()?;
    let device = Device::open(site.vf)?;
    let file = device.begin(State::RESUMING)?;
    reload_beside(&memory, || sys::write_raw(&file, memory.addr(), HEADER))
}

/// A process that waits for a report which does not come: it can be killed. If it cannot, a
/// reload of the PF ends its wait.
pub(super) fn silent_tracker(site: &Site) -> Result<()> {
    let mut child = dirty::reporter(site)?;
    child.kill()?;
    let killed = ends(|| Ok(child.try_wait()?.is_some()))?;
    Pf::find()?.reload()?;
    let ended = ends(|| Ok(child.try_wait()?.is_some()))?;
    ensure!(
        killed,
        "SIGKILL did not end it; a reload of the PF did: {ended}"
    );
    Ok(())
}

/// The event that tells of a command's end does not come: the PF can be reloaded all the same.
pub(super) fn event_lost(site: &Site) -> Result<()> {
    let faults = Faults::open()?;
    let device = Device::open(site.vf)?;
    faults.arm_event(event::CMD, 1, Event::Lost)?;
    ensure!(device.set_state(State::STOP).is_err(), "no event was lost");
    drop(device);
    // Nobody waits for this thread, which may never end.
    let reload = thread::spawn(|| Pf::find()?.reload());
    ensure!(
        ends(|| Ok(reload.is_finished()))?,
        "the reload of the PF waits for the command that was given up"
    );
    Ok(())
}

/// The event that tells of a command's end comes twice.
pub(super) fn event_twice(site: &Site) -> Result<()> {
    let faults = Faults::open()?;
    let device = Device::open(site.vf)?;
    faults.arm_event(event::CMD, 1, Event::Twice)?;
    device.set_state(State::STOP)?;
    ensure!(faults.fired()? == 1, "no event came twice");
    Ok(())
}
