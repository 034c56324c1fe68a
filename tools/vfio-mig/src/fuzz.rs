// SPDX-License-Identifier: GPL-2.0

//! Requests to a device's driver that no correct program makes.
//!
//! After each round a reset has to lead to RUNNING, and every now and then a good
//! migration must still work. Whether the kernel survives is for its own log to
//! say. A round is made from the seed and its number alone.

use crate::{
    address::Address,
    device::Device,
    error::Error,
    file,
    state::State,
    uapi::{
        self,
        LoggingRange,
        PrecopyInfo, //
    },
};
use fastrand::Rng;
use serde::Serialize;
use std::{
    fs::File,
    io::{
        self,
        Read,
        Write, //
    },
    os::fd::AsFd, //
};

/// Rounds between two good migrations.
const GOOD_EVERY: u64 = 16;
/// Longest a piece of a stream is.
const MAX_PIECE: usize = 1 << 16;

/// Which rounds to do.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// What they are made from.
    pub seed: u64,
    /// Number of the first one.
    pub first: u64,
    /// How many.
    pub count: u64,
}

/// What was done.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Done {
    /// Rounds.
    pub rounds: u64,
    /// Streams that were changed and loaded.
    pub streams: u64,
    /// Of those, what drivers took for a state.
    pub streams_taken: u64,
    /// Requests for states.
    pub states: u64,
    /// Other ioctls.
    pub ioctls: u64,
    /// Good migrations in between.
    pub good: u64,
}

/// Changes a stream a bit.
fn mutate(rng: &mut Rng, stream: &mut Vec<u8>) {
    for _ in 0..rng.u32(1..5) {
        if stream.is_empty() {
            return;
        }
        // Most of what a driver looks at is at the beginning of a record.
        let near = stream.len().min(64);
        let at = match rng.bool() {
            true => rng.usize(..near),
            false => rng.usize(..stream.len()),
        };
        match rng.u32(..6) {
            0 => stream[at] ^= 1 << rng.u32(..8),
            1 => stream.truncate(at),
            2 => {
                let value = match rng.u32(..4) {
                    0 => u64::MAX,
                    1 => 0,
                    2 => rng.u64(..1 << 20),
                    _ => rng.u64(..),
                };
                let end = stream.len().min(at + 8);
                stream[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
            }
            3 => {
                let end = stream.len().min(at + rng.usize(1..4096));
                stream.drain(at..end);
            }
            4 => {
                let end = stream.len().min(at + rng.usize(1..4096));
                let again = stream[at..end].to_vec();
                stream.splice(at..at, again);
            }
            _ => {
                let junk: Vec<u8> = (0..rng.usize(1..256)).map(|_| rng.u8(..)).collect();
                stream.splice(at..at, junk);
            }
        }
    }
}

/// Loads bytes that are unlikely to be a state. Returns whether the driver took them for
/// one.
fn load(rng: &mut Rng, device: &Device, stream: &[u8]) -> Result<bool, Error> {
    let mut to = device.begin(State::RESUMING)?;
    let mut rest = stream;
    let mut good = true;
    while !rest.is_empty() && good {
        let (piece, after) = rest.split_at(rng.usize(1..=rest.len().min(MAX_PIECE)));
        good = to.write_all(piece).is_ok();
        rest = after;
    }
    Ok(match rng.u32(..4) {
        // The file is closed, and then RESUMING is left; or the session is given up.
        0 => {
            drop(to);
            device.set_state(State::STOP).is_ok()
        }
        1 => false,
        _ => device.set_state(State::RUNNING).is_ok(),
    })
}

fn any_state(rng: &mut Rng) -> State {
    match rng.u32(..16) {
        0 => State(rng.u32(..)),
        _ => State(rng.u32(..9)),
    }
}

/// Makes calls on a data file, of whatever session.
fn use_file(rng: &mut Rng, file: &mut File) {
    let mut buf = vec![0x5a; rng.usize(1..MAX_PIECE)];
    // What they answer is up to the driver.
    match rng.u32(..4) {
        0 => drop(file.write(&buf)),
        1 => drop(ask(rng, file)),
        _ => {
            // The calls must not wait for data that never come.
            if uapi::set_nonblocking(file.as_fd(), true).is_ok() {
                drop(file.read(&mut buf));
            }
        }
    }
}

fn ask(rng: &mut Rng, file: &File) -> io::Result<PrecopyInfo> {
    let asked = PrecopyInfo {
        argsz: rng.u32(..48),
        flags: rng.u32(..),
        initial_bytes: rng.u64(..),
        dirty_bytes: rng.u64(..),
    };
    uapi::precopy_info(file.as_fd(), asked)
}

/// A migration feature or an unknown one, with random data.
fn feature(rng: &mut Rng, device: &Device) {
    let features = [
        uapi::FEATURE_MIGRATION,
        uapi::FEATURE_MIG_DEVICE_STATE,
        uapi::FEATURE_DMA_LOGGING_START,
        uapi::FEATURE_DMA_LOGGING_STOP,
        uapi::FEATURE_DMA_LOGGING_REPORT,
        uapi::FEATURE_MIG_DATA_SIZE,
        uapi::FEATURE_MIG_PRECOPY_INFO_V2,
        0x1000,
    ];
    let feature = features[rng.usize(..features.len())];
    let flags = (rng.u32(..16) << 16) | feature;
    // The second word is where a data fd comes back.
    let mut data = [rng.u32(..10), u32::MAX, rng.u32(..), rng.u32(..)];
    let done = uapi::feature_with_argsz(device.fd(), rng.u32(..64), flags, &mut data);
    if done.is_ok() && feature == uapi::FEATURE_MIG_DEVICE_STATE && data[1] != u32::MAX {
        // It is a file of this process. If closing it fails, nothing is lost.
        let _ = nix::unistd::close(data[1] as i32);
    }
}

fn any_range(rng: &mut Rng) -> LoggingRange {
    match rng.u32(..3) {
        0 => LoggingRange {
            iova: rng.u64(..),
            length: rng.u64(..),
        },
        _ => LoggingRange {
            iova: rng.u64(..1 << 36) & !4095,
            length: rng.u64(..1 << 24) & !4095,
        },
    }
}

fn logging(rng: &mut Rng, device: &Device) {
    let ranges: Vec<_> = (0..rng.usize(..40)).map(|_| any_range(rng)).collect();
    let page_size = match rng.bool() {
        true => 4096,
        false => rng.u64(..),
    };
    drop(device.start_logging(page_size, &ranges));
    let range = LoggingRange {
        // The bitmap is ours: it must not be too large.
        length: rng.u64(1..1 << 24),
        ..any_range(rng)
    };
    let page_size = 1 << rng.u32(9..22);
    drop(device.dirty_pages(range, page_size));
    if rng.bool() {
        drop(device.stop_logging());
    }
}

/// Random requests, in random order.
fn ioctls(rng: &mut Rng, device: &Device, done: &mut Done) {
    let mut file: Option<File> = None;
    for _ in 0..rng.u32(1..20) {
        match rng.u32(..8) {
            0 | 1 => {
                feature(rng, device);
                done.ioctls += 1;
            }
            2 => {
                logging(rng, device);
                done.ioctls += 1;
            }
            3 | 4 => {
                if let Some(file) = &mut file {
                    use_file(rng, file);
                    done.ioctls += 1;
                }
            }
            5 if rng.u32(..4) == 0 => drop(device.reset()),
            _ => {
                done.states += 1;
                if let Ok(Some(new)) = device.set_state(any_state(rng)) {
                    // Sometimes the old one stays open for a while.
                    file = Some(File::from(new));
                }
            }
        }
    }
}

fn round(rng: &mut Rng, device: Address, good: &[u8], done: &mut Done) -> Result<(), Error> {
    let device = Device::open(device)?;
    if rng.bool() {
        let mut stream = good.to_vec();
        mutate(rng, &mut stream);
        done.streams += 1;
        done.streams_taken += u64::from(load(rng, &device, &stream)?);
    } else {
        ioctls(rng, &device, done);
    }
    device.reset()?;
    match device.state()? {
        State::RUNNING => Ok(()),
        state => Err(Error::Unexpected(format!(
            "after a reset the device is in {state}"
        ))),
    }
}

/// Does rounds. `progress` gets the number of each.
pub fn run(address: Address, rounds: Rounds, mut progress: impl FnMut(u64)) -> Result<Done, Error> {
    let mut done = Done::default();
    let mut good = Vec::new();
    file::save(&Device::open(address)?, &mut good, |_| ())?;
    for number in rounds.first..rounds.first.saturating_add(rounds.count) {
        progress(number);
        let again = || format!("round {number} of seed {}", rounds.seed);
        let mut rng = Rng::with_seed(rounds.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        round(&mut rng, address, &good, &mut done).map_err(|err| Error::Round {
            round: again(),
            source: Box::new(err),
        })?;
        done.rounds += 1;
        if done.rounds % GOOD_EVERY == 0 || done.rounds == rounds.count {
            file::load(&Device::open(address)?, &mut &good[..], |_| ()).map_err(|err| {
                Error::Round {
                    round: format!("a good migration after {}", again()),
                    source: Box::new(err),
                }
            })?;
            done.good += 1;
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_round_does_is_in_its_seed() {
        let mutated = |seed| {
            let mut stream = vec![7; 5000];
            mutate(&mut Rng::with_seed(seed), &mut stream);
            stream
        };
        for seed in 0..200 {
            assert_eq!(mutated(seed), mutated(seed));
        }
        assert!((0..20).any(|seed| mutated(seed) != mutated(seed + 1)));
        let mut nothing = Vec::new();
        mutate(&mut Rng::with_seed(1), &mut nothing);
        assert!(nothing.is_empty());
    }
}
