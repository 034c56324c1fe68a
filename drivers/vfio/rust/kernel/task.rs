// SPDX-License-Identifier: GPL-2.0

//! Signals of the current task.
//!
//! The kernel crate's `Task::signal_pending()` is also about signals that do not kill.

use crate::bindings;
use kernel::prelude::*;

/// `EINTR` if the current task is killed.
///
/// A loop that may take long, and never waits, must call this: else the task cannot be
/// killed until the loop ends.
pub fn check_killed() -> Result {
    // SAFETY: Reads the flags of the current task, which exists.
    if unsafe { bindings::vfio_rust_fatal_signal_pending() } {
        return Err(EINTR);
    }
    Ok(())
}
