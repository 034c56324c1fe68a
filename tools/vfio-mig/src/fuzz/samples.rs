// SPDX-License-Identifier: GPL-2.0

//! Real streams of a device, which others are made from.

use super::site::Site;
use crate::{
    error::{
        Context,
        Error, //
    },
    file,
    state::State,
    stream,
    uapi::{
        self,
        PrecopyInfo, //
    },
    workload::Workload, //
};
use std::os::fd::AsFd;

/// Bytes that a device changes before it is saved.
const CHANGED: u64 = 3 << 12;
/// Rounds of pre-copy.
const ROUNDS: u32 = 4;

/// A stream, and what it is a state of.
pub(super) struct Sample {
    pub(super) stream: Vec<u8>,
    /// That of the device, if it can compute one.
    pub(super) digest: Option<u64>,
}

/// Streams of a device: as it was opened, after some work and, if it has that, with pre-copy.
pub(super) struct Samples(pub(super) Vec<Sample>);

fn work(site: &Site, create_bytes: u64, round: u32) -> Result<(), Error> {
    let work = Workload {
        create_bytes,
        change_bytes: CHANGED,
    };
    match site.works {
        true => work.step(&site.device, round),
        false => Ok(()),
    }
}

fn stop_copy(site: &Site) -> Result<Sample, Error> {
    let digest = site.digest()?;
    let mut stream = Vec::new();
    file::save(&site.device, &mut stream, |_| ())?;
    Ok(Sample { stream, digest })
}

/// Reads what is saved while the device runs and works, and then the rest.
fn precopy(site: &Site) -> Result<Sample, Error> {
    let device = &site.device;
    let mut bytes = Vec::new();
    let mut from = device.begin(State::PRE_COPY)?;
    for round in 0..ROUNDS {
        stream::copy_available(&mut from, &mut bytes, |_| ())?;
        work(site, u64::from(round % 2) * CHANGED, round)?;
        uapi::precopy_info(from.as_fd(), PrecopyInfo::default()).context("PRECOPY_INFO")?;
    }
    let digest = site.digest()?;
    device.set_state(State::STOP_COPY)?;
    stream::copy(&mut from, &mut bytes, |_| ())?;
    drop(from);
    device.set_state(State::RUNNING)?;
    Ok(Sample {
        stream: bytes,
        digest,
    })
}

impl Samples {
    /// Saves a device in all ways that it has.
    pub(super) fn of(site: &Site) -> Result<Self, Error> {
        let mut samples = vec![stop_copy(site)?];
        if site.works {
            work(site, 0, 100)?;
            samples.push(stop_copy(site)?);
        }
        if site.features.supports(State::PRE_COPY) {
            samples.push(precopy(site)?);
        }
        Ok(Self(samples))
    }

    /// Loads the first stream, as it is.
    pub(super) fn load_first(self, site: &Site) -> Result<Self, Error> {
        file::load(&site.device, &mut self.first(), |_| ())?;
        Ok(self)
    }

    /// The first stream.
    pub(super) fn first(&self) -> &[u8] {
        &self.0[0].stream
    }

    /// Loads a state, and saves and loads that again. Returns whether states were compared.
    pub(super) fn good_migration(&self, site: &Site) -> Result<bool, Error> {
        let Sample { stream, digest } = &self.0[self.0.len() - 1];
        file::load(&site.device, &mut &stream[..], |_| ())?;
        require_digest(site, *digest)?;
        let again = stop_copy(site)?;
        file::load(&site.device, &mut &again.stream[..], |_| ())?;
        require_digest(site, *digest)
    }
}

/// Fails if a device that runs has not the state with this digest. Returns whether there was
/// one to compare.
pub(super) fn require_digest(site: &Site, digest: Option<u64>) -> Result<bool, Error> {
    match (digest, site.digest()?) {
        (Some(saved), Some(loaded)) if saved != loaded => Err(Error::Unexpected(format!(
            "a state with the digest {saved:016x} has become one with {loaded:016x}"
        ))),
        (saved, _) => Ok(saved.is_some()),
    }
}
