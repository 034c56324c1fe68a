// SPDX-License-Identifier: GPL-2.0

//! What guides the choice of requests and streams: the code that the kernel has run for them,
//! and those that got to new code.

use super::{
    corpus::{
        Bounds,
        Corpus,
        Found, //
    },
    coverage::{
        Coverage,
        Pcs,
        KCOV, //
    },
    input::{
        Sequence,
        Stream, //
    },
};
use crate::error::{
    Context,
    Error, //
};
use serde::Serialize;
use std::{
    io,
    path::Path,
    sync::{
        Mutex,
        MutexGuard,
        OnceLock,
        PoisonError, //
    },
};

/// How many inputs of each sort are kept, and how large they may be.
const BOUNDS: Bounds = Bounds {
    inputs: 256,
    bytes: 16 << 20,
    each: 1 << 20,
};

/// Inputs of a round that got to new code.
#[derive(Default)]
pub(super) struct Finds {
    pub(super) sequences: Vec<Found<Sequence>>,
    pub(super) streams: Vec<Found<Stream>>,
}

/// Code that was covered, and inputs that are kept. Devices of one driver can share it.
pub struct Guide {
    /// Why not, if the kernel does not record them.
    pcs: Result<Pcs, String>,
    /// How many there were before the first input that was made up.
    plain: OnceLock<u64>,
    sequences: Mutex<Corpus<Sequence>>,
    streams: Mutex<Corpus<Stream>>,
    skipped: Vec<String>,
}

/// What a guide has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Guided {
    /// Program counters that were covered, if the kernel records them.
    pub pcs: Option<u64>,
    /// Those of them that saving and loading covers.
    pub pcs_plain: Option<u64>,
    /// Sequences of requests that are kept.
    pub requests_kept: usize,
    /// Streams that are kept.
    pub streams_kept: usize,
}

fn lock<T>(corpus: &Mutex<Corpus<T>>) -> MutexGuard<'_, Corpus<T>> {
    corpus.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An empty set of program counters, if the kernel records them, or why not.
fn pcs() -> Result<Pcs, String> {
    let probe = || {
        let pcs = Pcs::new()?;
        Coverage::follow(Some(&pcs)).map(drop)?;
        Ok(pcs)
    };
    probe().map_err(|err: io::Error| {
        let hint = match err.kind() {
            io::ErrorKind::NotFound => "; it needs CONFIG_KCOV, and debugfs mounted there",
            _ => "",
        };
        format!("no coverage: {KCOV}: {err}{hint}")
    })
}

impl Guide {
    /// Begins with the inputs that a folder has, to which others are added. Without a folder,
    /// they are kept in memory.
    pub fn open(folder: Option<&Path>) -> Result<Self, Error> {
        let mut skipped = Vec::new();
        Ok(Self {
            pcs: pcs(),
            plain: OnceLock::new(),
            sequences: Mutex::new(Corpus::open(folder, BOUNDS, &mut skipped)?),
            streams: Mutex::new(Corpus::open(folder, BOUNDS, &mut skipped)?),
            skipped,
        })
    }

    /// The files that were skipped, and why.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// Why there is no coverage, if there is none.
    pub fn uncovered(&self) -> Option<&str> {
        self.pcs.as_ref().err().map(String::as_str)
    }

    /// What it has come to.
    pub fn report(&self) -> Guided {
        Guided {
            pcs: self.pcs.as_ref().ok().map(Pcs::count),
            pcs_plain: self.plain.get().copied().filter(|_| self.pcs.is_ok()),
            requests_kept: self.sequences().len(),
            streams_kept: self.streams().len(),
        }
    }

    pub(super) fn sequences(&self) -> MutexGuard<'_, Corpus<Sequence>> {
        lock(&self.sequences)
    }

    pub(super) fn streams(&self) -> MutexGuard<'_, Corpus<Stream>> {
        lock(&self.streams)
    }

    /// Follows the calling thread.
    pub(super) fn follow(&self) -> Result<Coverage<'_>, Error> {
        Coverage::follow(self.pcs.as_ref().ok()).context(KCOV)
    }

    /// Does what is plain, of all devices before any input is made up for the first of them.
    pub(super) fn plain<T>(&self, plain: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let coverage = self.follow()?;
        let done = plain()?;
        coverage.gained();
        self.plain
            .get_or_init(|| self.pcs.as_ref().map_or(0, Pcs::count));
        Ok(done)
    }

    /// Keeps what a round has found.
    pub(super) fn keep(&self, finds: Finds) -> Result<(), Error> {
        for found in finds.sequences {
            self.sequences().add(found)?;
        }
        for found in finds.streams {
            self.streams().add(found)?;
        }
        Ok(())
    }
}
