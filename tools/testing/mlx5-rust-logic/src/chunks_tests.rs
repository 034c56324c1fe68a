// SPDX-License-Identifier: GPL-2.0

//! [`chunks`](crate::chunks) and [`buffers`](crate::buffers): a state in pieces,
//! through two buffers.

use crate::{
    buffers::{Buffers, Device, Room},
    chunks::{Chunks, BUFFERS},
};
use proptest::prelude::*;

impl Room for Vec<u8> {
    fn room(&self) -> usize {
        self.len()
    }
}

#[test]
fn a_state_in_one_piece_is_over_at_once() {
    let mut chunks = Chunks::default();
    assert!(chunks.saved(0));
    chunks.consumed();
    assert_eq!(chunks.take_due(), None);
}

#[test]
fn a_buffer_has_one_use_at_a_time() {
    let mut buffers = Buffers::new();
    buffers.add(vec![0; 100], Device::Stopped).unwrap();
    buffers.add(vec![0; 50], Device::Running).unwrap();
    assert_eq!(buffers.take(60, Device::Running), None);
    let small = buffers.take(50, Device::Running).unwrap();
    assert_eq!(buffers.take(1, Device::Running), None);
    buffers.saved(small);
    assert_eq!(buffers.take(1, Device::Running), None);
    let large = buffers.take(1, Device::Stopped).unwrap();
    assert_ne!(small, large);
    buffers.release(small);
    assert_eq!(buffers.take(50, Device::Stopped), Some(small));
    assert_eq!(buffers.remove(small), Some(vec![0; 50]));
    assert_eq!(buffers.get(small), None);
}

#[test]
fn the_smallest_buffer_that_fits_is_taken() {
    let mut buffers = Buffers::new();
    for len in [300, 100, 200] {
        buffers.add(vec![0; len], Device::Running).unwrap();
    }
    let index = buffers.take(150, Device::Running).unwrap();
    assert_eq!(buffers.get(index).unwrap().len(), 200);
}

#[test]
fn only_what_is_free_and_too_small_is_removed() {
    let mut buffers = Buffers::new();
    for len in [10, 20, 30] {
        buffers.add(vec![0; len], Device::Running).unwrap();
    }
    buffers.add(vec![0; 5], Device::Stopped).unwrap();
    buffers.take(10, Device::Running).unwrap();
    assert_eq!(buffers.remove_small(25, Device::Running), Some(vec![0; 20]));
    assert_eq!(buffers.remove_small(25, Device::Running), None);
    assert_eq!(buffers.remove_small(25, Device::Stopped), Some(vec![0; 5]));
}

#[test]
fn the_number_of_buffers_is_bounded() {
    let mut buffers = Buffers::new();
    let mut count = 0;
    while buffers.can_grow(Device::Running) {
        buffers.add(vec![0; 1], Device::Running).unwrap();
        buffers.take(1, Device::Running).unwrap();
        count += 1;
        assert!(count < 100);
    }
    assert_eq!(buffers.add(vec![7], Device::Running), Err(vec![7]));
}

proptest! {
    /// Whatever the order in which firmware and reader get on, every piece is
    /// saved once, and no more than two are in memory.
    #[test]
    fn every_piece_comes_once(pieces in 1usize..20, turns in prop::collection::vec(any::<bool>(), 0..200)) {
        let mut chunks = Chunks::default();
        let (mut saving, mut saved, mut read) = (true, 0, 0);
        for reader in turns.into_iter().chain([true, false].repeat(60)) {
            if reader && read < saved {
                read += 1;
                chunks.consumed();
            } else if !reader && saving {
                saving = false;
                saved += 1;
                let last = chunks.saved(pieces - saved);
                prop_assert_eq!(last, saved == pieces);
            }
            if let Some(need) = chunks.take_due() {
                prop_assert!(!saving);
                prop_assert_eq!(need, pieces - saved);
                saving = true;
            }
            prop_assert!(saved - read + usize::from(saving) <= BUFFERS);
        }
        prop_assert_eq!((saved, read), (pieces, pieces));
    }
}
