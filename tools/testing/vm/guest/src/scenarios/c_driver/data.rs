// SPDX-License-Identifier: GPL-2.0

//! Data that is read and written: records that are none, and memory that is not there.

use crate::{
    fault::{
        self,
        opcode,
        Fault,
        Faults, //
    },
    records::{
        self,
        header, //
    },
    scenarios::{
        compare::{
            outcome,
            words,
            Site, //
        },
        streams, //
    },
    sys::{
        self,
        MissingMemory, //
    }, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    io::Write,
    thread,
    time::Duration, //
};
use vfio_mig::{
    device::Device,
    state::State,
    stream, //
};

/// The tag of the record with the size that a stopped device has at most, and the flag of
/// records that may be skipped.
const STOP_COPY_SIZE: u32 = 1;
const OPTIONAL: u32 = 1;
/// A tag that nobody knows.
const UNKNOWN: u32 = 99;
/// `MLX5_CMD_STAT_RES_BUSY`, which mlx5_core makes EBUSY.
const BUSY: u8 = 0x6;
/// Long enough for a write to wait for the lock.
const SHORT: Duration = Duration::from_millis(300);

/// A stream ends in its image: RESUMING cannot be left for STOP.
pub(super) fn half_an_image(site: &Site) -> Result<()> {
    let (stream, _) = streams::save(site.other, 2)?;
    let device = Device::open(site.vf)?;
    let mut file = device.begin(State::RESUMING)?;
    file.write_all(&stream[..stream.len() - 1])?;
    let left = outcome(device.set_state(State::STOP));
    ensure!(left != "ok", "RESUMING was left with success");
    let state = device.state()?;
    ensure!(state == State::ERROR, "the state is {state}");
    // Only a reset leads out of it. The kernel must not complain of a user who asks.
    for to in [State::RUNNING, State::ERROR] {
        let left = outcome(device.set_state(to));
        ensure!(left == "EINVAL", "ERROR -> {to}: {left}");
    }
    Ok(())
}

/// A record of a size has a size.
pub(super) fn short_size(site: &Site) -> Result<()> {
    let device = Device::open(site.vf)?;
    let mut file = device.begin(State::RESUMING)?;
    let written = words(file.write(&header(4, OPTIONAL, STOP_COPY_SIZE)));
    ensure!(written == "EINVAL", "write(): {written}");
    Ok(())
}

/// A LOAD that firmware refuses cannot be repeated, so write() does not say that it can.
pub(super) fn load_refused(site: &Site) -> Result<()> {
    let (stream, _) = streams::save(site.other, 2)?;
    let faults = Faults::open()?;
    let device = Device::open(site.vf)?;
    let refusal = Fault::fail(opcode::LOAD_VHCA_STATE).status(BUSY, 0);
    faults.arm(refusal.about(fault::vhca(site.vf)?))?;
    let written = words(device.begin(State::RESUMING)?.write(&stream));
    ensure!(faults.fired()? == 1, "no LOAD was refused");
    ensure!(written == "EIO", "write(): {written}");
    Ok(())
}

/// Two threads write to a file: one has firmware load an image, and then begins a record that
/// needs more memory; the other one, which has waited for it, goes on with that.
pub(super) fn two_writers(site: &Site) -> Result<()> {
    const SIZE: usize = 300_000;
    const PART: usize = 1000;
    let (mut first, _) = streams::save(site.other, 2)?;
    first.extend(header(SIZE as u64, OPTIONAL, UNKNOWN));
    first.extend([7; PART]);
    let faults = Faults::open()?;
    let device = Device::open(site.vf)?;
    let file = device.begin(State::RESUMING)?;
    faults.arm(Fault::held(opcode::LOAD_VHCA_STATE).about(fault::vhca(site.vf)?))?;
    thread::scope(|scope| {
        let one = scope.spawn(|| (&file).write(&first));
        faults.wait_for_held(1)?;
        let other = scope.spawn(|| (&file).write(&[7; SIZE - PART]));
        thread::sleep(SHORT);
        faults.release()?;
        let one = words(one.join().ok().context("a thread panicked")?);
        let other = words(other.join().ok().context("a thread panicked")?);
        ensure!(
            one == first.len().to_string() && other == (SIZE - PART).to_string(),
            "the first write: {one}; the second one: {other}"
        );
        Ok(())
    })?;
    device.set_state(State::STOP)?;
    Ok(())
}

/// Reads into memory that ends in the middle: what was read before is not lost.
pub(super) fn read_to_unmapped(site: &Site) -> Result<()> {
    let device = Device::open(site.vf)?;
    device.set_state(State::STOP)?;
    let whole = streams::saved(&device)?;
    device.set_state(State::STOP)?;
    let mut file = device.begin(State::STOP_COPY)?;
    records::read_to_image(&mut file)?;
    let memory = MissingMemory::new()?;
    memory.forbid()?;
    // The page before it is there.
    let (there, _) = memory.around();
    let page = memory.addr() - there;
    let mut read = records::head(&whole)? + records::HEADER;
    read += sys::read_raw(&file, there, page + 1).context("a read into both pages")?;
    let mut rest = Vec::new();
    stream::copy(&mut file, &mut rest, |_| ())?;
    ensure!(
        read + rest.len() == whole.len(),
        "of {} bytes, {read} and {} were read",
        whole.len(),
        rest.len()
    );
    Ok(())
}
