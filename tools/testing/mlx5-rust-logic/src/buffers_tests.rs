// SPDX-License-Identifier: GPL-2.0

//! [`buffers`](crate::buffers): which image gets which buffer.

use crate::buffers::{Buffers, Capacity, Index, Urgency};
use proptest::prelude::*;

impl Capacity for usize {
    fn capacity(&self) -> usize {
        *self
    }
}

/// A buffer for the whole state, and one for what changes.
fn two() -> Buffers<usize> {
    let mut buffers = Buffers::new();
    buffers.add(1100, Urgency::Urgent).unwrap();
    buffers.add(100, Urgency::Deferrable).unwrap();
    buffers
}

fn capacity(buffers: &Buffers<usize>, index: Option<Index>) -> Option<usize> {
    buffers.get(index?).copied()
}

#[test]
fn the_first_image_and_the_last_one_have_the_same_buffer() {
    let mut buffers = two();
    let first = buffers.take(1000, Urgency::Urgent);
    assert_eq!(capacity(&buffers, first), Some(1100));
    // Nobody has read it yet.
    buffers.saved(first.unwrap());
    assert_eq!(buffers.take(1000, Urgency::Urgent), None);
    buffers.release(first.unwrap());
    assert_eq!(buffers.take(1000, Urgency::Urgent), first);
}

#[test]
fn a_buffer_has_one_image_at_a_time() {
    let mut buffers = two();
    let change = buffers.take(60, Urgency::Deferrable).unwrap();
    assert_eq!(buffers.take(1, Urgency::Deferrable), None);
    buffers.saved(change);
    assert_eq!(buffers.take(1, Urgency::Deferrable), None);
    buffers.release(change);
    assert_eq!(buffers.take(1, Urgency::Deferrable), Some(change));
}

#[test]
fn changes_leave_the_buffer_for_the_stopped_device_alone() {
    let mut buffers = two();
    let change = buffers.take(60, Urgency::Deferrable);
    assert_eq!(capacity(&buffers, change), Some(100));
    assert_eq!(buffers.take(60, Urgency::Deferrable), None);
    assert_eq!(buffers.remove_small(200, Urgency::Deferrable), None);
    let last = buffers.take(60, Urgency::Urgent);
    assert_eq!(capacity(&buffers, last), Some(1100));
}

#[test]
fn a_buffer_that_is_too_small_makes_room_for_another() {
    let mut buffers = two();
    assert_eq!(buffers.take(200, Urgency::Deferrable), None);
    assert_eq!(buffers.remove_small(200, Urgency::Deferrable), Some(100));
    assert_eq!(buffers.remove_small(200, Urgency::Deferrable), None);
    buffers.add(200, Urgency::Deferrable).unwrap();
    let change = buffers.take(200, Urgency::Deferrable);
    assert_eq!(capacity(&buffers, change), Some(200));
    assert_eq!(buffers.take(200, Urgency::Deferrable), None);
}

#[test]
fn there_is_an_end_to_images_that_nobody_reads() {
    let mut buffers = two();
    let first = buffers.take(1000, Urgency::Urgent).unwrap();
    buffers.saved(first);
    let mut images = 0;
    while buffers.can_grow(Urgency::Deferrable) {
        let index = buffers.take(100, Urgency::Deferrable).unwrap_or_else(|| {
            buffers.add(100, Urgency::Deferrable).unwrap();
            buffers.take(100, Urgency::Deferrable).unwrap()
        });
        buffers.saved(index);
        images += 1;
    }
    assert_eq!(images, 6);
    assert_eq!(buffers.add(100, Urgency::Deferrable), Err(100));
    // The stopped device is not affected.
    assert!(buffers.can_grow(Urgency::Urgent));
    buffers.add(1100, Urgency::Urgent).unwrap();
    let last = buffers.take(1100, Urgency::Urgent).unwrap();
    assert!(!buffers.can_grow(Urgency::Urgent));
    // The images are of no use any more, but for the one that is being saved.
    buffers.release_unread();
    let images = std::iter::from_fn(|| buffers.take(1, Urgency::Urgent)).collect::<Vec<_>>();
    assert_eq!(images.len(), 7);
    assert!(!images.contains(&last));
}

proptest! {
    #[test]
    fn an_image_gets_the_smallest_buffer_that_it_fits_in(
        capacities in prop::collection::vec(1usize..1000, 0..8),
        need in 1usize..1000,
    ) {
        let mut buffers = Buffers::new();
        for capacity in &capacities {
            buffers.add(*capacity, Urgency::Deferrable).unwrap();
        }
        let smallest = capacities.into_iter().filter(|capacity| *capacity >= need).min();
        let index = buffers.take(need, Urgency::Deferrable);
        prop_assert_eq!(capacity(&buffers, index), smallest);
    }
}
