// SPDX-License-Identifier: GPL-2.0

//! What is random in a run comes from its seed: another one each time, unless one is
//! given.

use std::time::{
    SystemTime,
    UNIX_EPOCH, //
};

/// A seed that no other run is likely to have, and that can be typed.
fn fresh() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(1, |now| now.as_secs() % 1_000_000_000)
}

/// The seed that was given, or a new one.
pub fn or_new(seed: Option<u64>) -> u64 {
    seed.unwrap_or_else(fresh)
}

/// The kernel parameter with which init gets it.
pub fn parameter(seed: u64) -> String {
    format!("vmtest.seed={seed}")
}
