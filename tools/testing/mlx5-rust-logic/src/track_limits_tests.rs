// SPDX-License-Identifier: GPL-2.0

//! [`track_limits`](crate::track_limits): whatever firmware says it can do, there
//! is a tracker, or a reason why there is none.

use crate::track_limits::{Ring, TrackLimits, LOG_ENTRY};
use proptest::prelude::*;

/// What a ConnectX says.
const USUAL: TrackLimits = TrackLimits {
    log_message: (9, 12),
    log_page: (12, 21),
    log_space: (12, 44),
};

const PAGE: u64 = 4096;

fn ring(min: u32, max: u32) -> Option<Ring> {
    TrackLimits {
        log_message: (min, max),
        ..USUAL
    }
    .ring()
}

fn log_space(lens: &[u64]) -> Option<u32> {
    USUAL.log_space(lens.iter().copied())
}

#[test]
fn there_are_512_messages_of_4_kib() {
    let ring = ring(9, 12).unwrap();
    assert_eq!(
        (ring.message_len(), ring.slots(), ring.len()),
        (4096, 512, 2 << 20)
    );
    assert_eq!(ring.entries(), (2 << 20) / 8);
}

#[test]
fn a_larger_message_than_there_is_memory_for_becomes_a_smaller_one() {
    for max in 19..=31 {
        let ring = ring(9, max).unwrap();
        assert_eq!((ring.message_len(), ring.slots()), (512 << 10, 4), "{max}");
    }
}

#[test]
fn a_large_message_is_made_if_firmware_insists() {
    assert_eq!(
        ring(22, 22).map(|ring| (ring.log_message, ring.log_slots)),
        Some((22, 2))
    );
    assert_eq!(ring(23, 31), None);
}

#[test]
fn a_message_has_an_entry() {
    for max in 0..3 {
        assert_eq!(ring(0, max), None, "{max}");
    }
    assert!(ring(0, 3).is_some());
}

#[test]
fn a_page_is_the_nearest_that_firmware_tells_apart() {
    for (wanted, log) in [
        (0, 12),
        (1, 12),
        (PAGE, 12),
        (PAGE + 1, 12),
        (64 << 10, 16),
        (2 << 20, 21),
        (4 << 20, 21),
        (u64::MAX, 21),
    ] {
        assert_eq!(USUAL.log_page(wanted), log, "{wanted}");
    }
}

#[test]
fn a_space_holds_all_ranges() {
    assert_eq!(log_space(&[PAGE]), Some(12));
    assert_eq!(log_space(&[PAGE + 1]), Some(13));
    assert_eq!(log_space(&[PAGE, PAGE, PAGE]), Some(14));
    assert_eq!(log_space(&[1 << 44]), Some(44));
}

#[test]
fn a_space_that_is_too_small_or_too_large_is_none() {
    for lens in [
        &[][..],
        &[PAGE / 2],
        &[(1 << 44) + 1],
        &[u64::MAX - PAGE + 1],
        &[u64::MAX],
        &[1 << 63, 1 << 63],
        &[u64::MAX, u64::MAX, PAGE],
    ] {
        assert_eq!(log_space(lens), None, "{lens:?}");
    }
}

proptest! {
    #[test]
    fn memory_for_messages_is_bounded(min in 0u32..32, max in 0u32..32) {
        match ring(min, max) {
            None => prop_assert!(max < LOG_ENTRY || min.min(max) > 22),
            Some(ring) => {
                prop_assert!(ring.log_message <= max);
                prop_assert!(ring.log_message >= min.min(max));
                prop_assert!((4..=4096).contains(&ring.slots()));
                prop_assert!(ring.len() <= 16 << 20);
                prop_assert!(ring.len() <= 2 << 20 || ring.slots() == 4);
                prop_assert_eq!(ring.len(), ring.message_len() * ring.slots() as usize);
                prop_assert_eq!(ring.entries() * 8, ring.len() as u64);
            }
        }
    }
}
