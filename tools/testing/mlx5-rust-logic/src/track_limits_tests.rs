// SPDX-License-Identifier: GPL-2.0

//! [`track_limits`](crate::track_limits): whatever firmware says it can do, the result is a
//! tracker's layout or an error.

use crate::track_limits::{
    tests::ring,
    LOG_ENTRY, //
};
use proptest::prelude::*;

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
