// SPDX-License-Identifier: GPL-2.0

//! Signals of the current task.
//!
//! The kernel crate's `Task::signal_pending()` also returns true for signals that do not kill.

use crate::bindings;
use kernel::prelude::*;

/// Returns `EINTR` if the current task is being killed.
///
/// A loop that may take long and never waits must call this, or the task cannot be killed until the
/// loop ends.
pub fn check_killed() -> Result {
    // SAFETY: Reads the flags of the current task, which exists.
    if unsafe { bindings::vfio_rust_fatal_signal_pending() } {
        return Err(EINTR);
    }
    Ok(())
}
