// SPDX-License-Identifier: GPL-2.0

//! Memory with known contents is given back to the kernel, so that what the kernel gives to user
//! space without having written to it can be told.

use std::hint::black_box;

/// A word that nobody else has.
const WORD: u64 = 0x5ec2_e7da_7a0f_0412;
/// How much memory there is of it: more than the buffers of a state, which take what was freed
/// last.
const BYTES: usize = 32 << 20;

/// Leaves it in free memory.
pub(super) fn spread() {
    drop(black_box(vec![WORD; BYTES / size_of::<u64>()]));
}

/// Whether it is in what was read.
pub(super) fn is_in(bytes: &[u8]) -> bool {
    let word = WORD.to_ne_bytes();
    bytes.windows(word.len()).any(|window| window == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_anywhere() {
        let mut bytes = vec![0; 3];
        assert!(!is_in(&bytes));
        bytes.extend(WORD.to_ne_bytes());
        assert!(is_in(&bytes));
        bytes.pop();
        assert!(!is_in(&bytes));
    }
}
