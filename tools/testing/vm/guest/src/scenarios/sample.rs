// SPDX-License-Identifier: GPL-2.0

//! Our sample of a driver, judged by `vfio-mig test`; and what only it has: data files of
//! the abstractions' own `Session`.

use super::{
    compare::words,
    conformance::{
        bind_samples,
        file_keeps_module,
        suite,
        SAMPLE, //
    },
    streams,
    waits::{
        aside,
        drain,
        require_waiting,
        within,
        LONG,
        SOON, //
    },
    NamedRun, //
};
use crate::{
    events,
    sys::{
        self,
        MissingMemory, //
    },
    tap::Results, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    fs::{
        self,
        File, //
    },
    io,
    os::fd::AsFd,
    thread,
    time::{
        Duration,
        Instant, //
    },
};
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    state::State,
    uapi, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("sample", run)];

/// Bytes that a call is for.
const LEN: usize = 8;
/// Time in which a process that is killed must end.
const DEATH: Duration = Duration::from_secs(5);

/// A direction of the data.
struct Transfer {
    name: &'static str,
    state: State,
    events: i16,
    call: fn(&File, usize, usize) -> io::Result<usize>,
}

const TRANSFERS: [Transfer; 2] = [
    Transfer {
        name: "a reader",
        state: State::STOP_COPY,
        events: libc::POLLIN,
        call: sys::read_raw,
    },
    Transfer {
        name: "a writer",
        state: State::RESUMING,
        events: libc::POLLOUT,
        call: sys::write_raw,
    },
];

/// Returns whether a child is dead, and not only killed, soon enough.
fn dies(pid: u32) -> io::Result<bool> {
    let begin = Instant::now();
    while begin.elapsed() < DEATH {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name before it may have spaces.
        if stat
            .rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('Z'))
        {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(false)
}

/// While one caller waits for its memory, a second one that waits can be killed, calls with
/// O_NONBLOCK fail with EAGAIN, and neither a reset nor closing the device waits.
fn caller_without_memory(bdf: Bdf, transfer: &Transfer, memory: &MissingMemory) -> Result<()> {
    let device = Device::open(bdf)?;
    let file = device.begin(transfer.state)?;
    let call = transfer.call;
    let first = {
        let (file, addr) = (file.try_clone()?, memory.addr());
        aside(move || words(call(&file, addr, LEN)))
    };
    memory.wait_for_fault()?;
    let (there, _) = memory.around();
    let now = uapi::poll(file.as_fd(), transfer.events, 0)?;
    uapi::set_nonblocking(file.as_fd(), true)?;
    // A driver that has it wait would have the test wait for ever.
    let beside = {
        let file = file.try_clone()?;
        aside(move || words(call(&file, there, LEN)))
    };
    let beside = within(&beside, LONG, "a call that must not wait");
    uapi::set_nonblocking(file.as_fd(), false)?;
    let mut killed = false;
    let second = || words(call(&file, there, LEN));
    let said = sys::in_child(second, |pid| {
        thread::sleep(2 * SOON);
        sys::kill(pid, libc::SIGKILL)?;
        killed = dies(pid)?;
        if !killed {
            // Else nobody would ever end it.
            memory.resolve_fault()?;
        }
        Ok(())
    })?;
    let kept = file.try_clone()?;
    let state = transfer.state;
    let others = aside(move || -> Result<()> {
        ensure!(device.state()? == state, "another state");
        if state == State::RESUMING {
            let early = device
                .set_state(State::STOP)
                .err()
                .and_then(|err| err.errno());
            ensure!(early == Some(libc::EBUSY), "leaving RESUMING: {early:?}");
            ensure!(device.state()? == state, "the device is lost");
        }
        device.reset()?;
        ensure!(device.state()? == State::RUNNING, "not reset");
        device.begin(state)?;
        drop(device);
        Ok(())
    });
    let others = within(&others, LONG, "a reset, or closing the device");
    if killed {
        memory.resolve_fault()?;
    }
    let first = within(&first, LONG, "the first caller")?;
    ensure!(killed, "a call that waits for it could not be killed");
    ensure!(now == 0, "poll beside it: {now:#x}");
    let beside = beside?;
    ensure!(beside == "EAGAIN", "a call beside it: {beside}");
    ensure!(said.is_empty(), "a call beside it did not wait: {said}");
    others??;
    ensure!(first == "ENODEV", "the first call ended with {first}");
    let after = words(call(&kept, there, LEN));
    ensure!(after == "ENODEV", "a call after the reset: {after}");
    Ok(())
}

/// A reader that had to wait for another one gets the data that the other one has left.
fn reader_goes_on(bdf: Bdf, memory: &MissingMemory) -> Result<()> {
    let device = Device::open(bdf)?;
    let whole = drain(&mut device.begin(State::STOP_COPY)?)?;
    device.set_state(State::RUNNING)?;
    let mut file = device.begin(State::STOP_COPY)?;
    let first = {
        let (file, addr) = (file.try_clone()?, memory.addr());
        aside(move || words(sys::read_raw(&file, addr, LEN)))
    };
    memory.wait_for_fault()?;
    let second = aside(move || drain(&mut file));
    require_waiting(&second, "a second read")?;
    memory.resolve_fault()?;
    let first = within(&first, LONG, "the first reader")?;
    ensure!(first == LEN.to_string(), "the first reader got {first}");
    let rest = within(&second, LONG, "the second reader")??;
    streams::same(&whole[LEN..], &rest)
}

/// Runs a test with memory that is missing.
fn without_memory(
    results: &mut Results,
    name: &str,
    test: impl FnOnce(&MissingMemory) -> Result<()>,
) {
    let name = format!("{SAMPLE}: {name}");
    match MissingMemory::new() {
        Err(err) if err.raw_os_error() == Some(libc::ENOSYS) => {
            results.skip(&name, "the kernel has no userfaultfd");
        }
        memory => results.test(&name, |_| test(&memory.context("missing memory")?)),
    }
}

pub fn run(results: &mut Results) -> Result<()> {
    let devices = bind_samples()?;
    suite(results, SAMPLE, &devices.map(|device| device.to_string()));
    results.test(&format!("{SAMPLE}: its arcs are traced"), |_| {
        events::turn(true)?;
        events::taken()?;
        Device::open(devices[0])?.set_state(State::STOP)?;
        let events = events::taken()?;
        let arcs = events::of(&events, "arc", devices[0]);
        ensure!(arcs.len() == 1, "{events:?}");
        Ok(())
    });
    for transfer in &TRANSFERS {
        let name = format!(
            "{} that waits for its memory holds nobody up",
            transfer.name
        );
        without_memory(results, &name, |memory| {
            caller_without_memory(devices[0], transfer, memory)
        });
    }
    without_memory(results, "a reader goes on after another one", |memory| {
        reader_goes_on(devices[0], memory)
    });
    results.test(&format!("{SAMPLE}: a data file keeps it loaded"), |_| {
        file_keeps_module(devices[0], SAMPLE)
    });
    Ok(())
}
