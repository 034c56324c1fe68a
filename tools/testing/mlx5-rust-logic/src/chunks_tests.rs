// SPDX-License-Identifier: GPL-2.0

//! [`chunks`](crate::chunks): a state in chunks, through two buffers.

use crate::chunks::{
    Chunks,
    BUFFERS, //
};
use proptest::prelude::*;

proptest! {
    /// Whatever the order in which firmware and reader get on, every chunk is
    /// saved once, and no more than two are in memory.
    #[test]
    fn every_chunk_comes_once(count in 1usize..20, turns in prop::collection::vec(any::<bool>(), 0..200)) {
        let mut chunks = Chunks::default();
        let (mut saving, mut saved, mut read) = (true, 0, 0);
        for reader in turns.into_iter().chain([true, false].repeat(60)) {
            if reader && read < saved {
                read += 1;
                chunks.consumed();
            } else if !reader && saving {
                saving = false;
                saved += 1;
                let last = chunks.saved(count - saved);
                prop_assert_eq!(last, saved == count);
            }
            if let Some(need) = chunks.take_due() {
                prop_assert!(!saving);
                prop_assert_eq!(need, count - saved);
                saving = true;
            }
            prop_assert!(saved - read + usize::from(saving) <= BUFFERS);
        }
        prop_assert_eq!((saved, read), (count, count));
    }

    /// The driver processes the end of a SAVE when the reader calls. If a work item did so
    /// at once, at most one chunk more would be begun each time that the reader is away.
    #[test]
    fn a_reader_that_is_away_costs_one_chunk_at_most(
        turns in prop::collection::vec(any::<bool>(), 0..200),
    ) {
        let mut at_once = Pipeline::new();
        let mut when_called = Pipeline::new();
        let (mut times_away, mut is_away) = (0, false);
        for reader in turns {
            times_away += usize::from(!reader && !is_away);
            is_away = !reader;
            if reader {
                when_called.notice();
                at_once.read();
                when_called.read();
            } else {
                at_once.firmware_ends();
                at_once.notice();
                when_called.firmware_ends();
            }
            prop_assert!(at_once.begun - when_called.begun <= times_away);
        }
    }
}

/// A state of many chunks that is being saved and read.
struct Pipeline {
    chunks: Chunks,
    saving: bool,
    /// Firmware is done, and the driver has not processed that yet.
    ended: bool,
    unread: usize,
    begun: usize,
}

impl Pipeline {
    fn new() -> Self {
        Self {
            chunks: Chunks::default(),
            saving: true,
            ended: false,
            unread: 0,
            begun: 1,
        }
    }

    fn firmware_ends(&mut self) {
        self.ended |= self.saving;
    }

    fn notice(&mut self) {
        if std::mem::take(&mut self.ended) {
            self.saving = false;
            self.unread += 1;
            self.chunks.saved(1);
            self.begin();
        }
    }

    /// Reads a chunk to its end.
    fn read(&mut self) {
        if self.unread > 0 {
            self.unread -= 1;
            self.chunks.consumed();
            self.begin();
        }
    }

    fn begin(&mut self) {
        if !self.saving && self.chunks.take_due().is_some() {
            self.saving = true;
            self.begun += 1;
        }
    }
}
