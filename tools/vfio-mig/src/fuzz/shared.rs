// SPDX-License-Identifier: GPL-2.0

//! What the threads of a process share during a batch.

use super::{
    corpus::Found,
    guide::Guide,
    input::Sequence,
    site::Site,
    tally::Tally,
    Bench,
    Plan, //
};
use crate::uapi;
use fastrand::Rng;
use std::{
    fs::File,
    mem,
    os::fd::{
        AsFd,
        OwnedFd, //
    },
    sync::{
        atomic::{
            AtomicU64,
            Ordering::Relaxed, //
        },
        Arc,
        Mutex,
        MutexGuard,
        PoisonError, //
    },
};

/// Data files that are kept open.
const FILES: usize = 4;

/// The device, the data files that there are of it, and what its requests have found.
pub(super) struct Shared<'a> {
    pub(super) site: &'a Site,
    pub(super) plan: &'a Plan,
    /// A stream of the device.
    pub(super) good: &'a [u8],
    /// What was done in the batches before.
    pub(super) before: &'a Tally,
    pub(super) guide: &'a Guide,
    /// Sequences that were kept before the batch: what its threads do follows from them.
    pub(super) kept: Vec<Arc<Sequence>>,
    /// Sequences that got to new code.
    found: Mutex<Vec<Found<Sequence>>>,
    /// The last one first; the sessions of others may be over.
    files: Mutex<Vec<Arc<File>>>,
    /// Requests that are still to be made.
    left: AtomicU64,
}

impl<'a> Shared<'a> {
    pub(super) fn new(bench: &'a Bench<'a>, before: &'a Tally, requests: u64) -> Self {
        Self {
            site: &bench.site,
            plan: bench.plan,
            good: bench.samples.first(),
            before,
            guide: bench.guide,
            kept: bench.guide.sequences().inputs(),
            found: Mutex::default(),
            files: Mutex::default(),
            left: AtomicU64::new(requests),
        }
    }

    /// Whether one more request is to be made.
    pub(super) fn goes_on(&self) -> bool {
        let one_less = |left: u64| left.checked_sub(1);
        self.left.fetch_update(Relaxed, Relaxed, one_less).is_ok()
    }

    /// Whether there are more requests to be made.
    pub(super) fn has_more(&self) -> bool {
        self.left.load(Relaxed) > 0
    }

    /// Notes a sequence that got to new code.
    pub(super) fn found(&self, sequence: Found<Sequence>) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.push(sequence);
    }

    /// Takes the sequences that got to new code.
    pub(super) fn take_found(&self) -> Vec<Found<Sequence>> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut found)
    }

    fn files(&self) -> MutexGuard<'_, Vec<Arc<File>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a new data file, and closes the oldest. Calls on most of them do not wait.
    pub(super) fn keep(&self, rng: &mut Rng, file: OwnedFd) -> Arc<File> {
        let file = Arc::new(File::from(file));
        if rng.u32(..4) > 0 {
            // If this fails, calls wait.
            let _ = uapi::set_nonblocking(file.as_fd(), true);
        }
        let oldest = {
            let mut files = self.files();
            files.insert(0, file.clone());
            match files.len() > FILES {
                true => files.pop(),
                false => None,
            }
        };
        drop(oldest);
        file
    }

    /// Any data file, more often the last one.
    pub(super) fn file(&self, rng: &mut Rng) -> Option<Arc<File>> {
        let files = self.files();
        match rng.u32(..4) {
            0 => rng.choice(&*files).cloned(),
            _ => files.first().cloned(),
        }
    }

    /// Takes a data file away, to be closed.
    pub(super) fn take_file(&self, rng: &mut Rng) -> Option<Arc<File>> {
        let mut files = self.files();
        match files.len() {
            0 => None,
            len => Some(files.remove(rng.usize(..len))),
        }
    }
}
