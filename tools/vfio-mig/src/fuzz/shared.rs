// SPDX-License-Identifier: GPL-2.0

//! What the threads of a process share during a batch.

use super::{
    site::Site,
    tally::Tally,
    Plan, //
};
use crate::uapi;
use fastrand::Rng;
use std::{
    fs::File,
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

/// The device, and the data files that there are of it.
pub(super) struct Shared<'a> {
    pub(super) site: &'a Site,
    pub(super) plan: &'a Plan,
    /// A stream of the device.
    pub(super) good: &'a [u8],
    /// What was done in the batches before.
    pub(super) before: &'a Tally,
    /// The last one first; the sessions of others may be over.
    files: Mutex<Vec<Arc<File>>>,
    /// Requests that are still to be made.
    left: AtomicU64,
}

impl<'a> Shared<'a> {
    pub(super) fn new(
        site: &'a Site,
        plan: &'a Plan,
        good: &'a [u8],
        before: &'a Tally,
        requests: u64,
    ) -> Self {
        Self {
            site,
            plan,
            good,
            before,
            files: Mutex::default(),
            left: AtomicU64::new(requests),
        }
    }

    /// Whether one more request is to be made.
    pub(super) fn goes_on(&self) -> bool {
        let one_less = |left: u64| left.checked_sub(1);
        self.left.fetch_update(Relaxed, Relaxed, one_less).is_ok()
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
