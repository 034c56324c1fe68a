// SPDX-License-Identifier: GPL-2.0

//! [`buffers`](crate::buffers): which image gets which buffer.

use crate::buffers::{
    Buffers,
    Urgency, //
};
use proptest::prelude::*;

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
        prop_assert_eq!(index.and_then(|index| buffers.get(index)).copied(), smallest);
    }
}
