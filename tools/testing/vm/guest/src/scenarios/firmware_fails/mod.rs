// SPDX-License-Identifier: GPL-2.0

//! Firmware that fails: every command of every request fails once, with every status that the
//! interface has, or is given up; events do not come, or come twice or late.

mod commands;
mod events;
mod late;
mod log;
pub(super) mod paths;
pub(super) mod session;
mod statuses;

use super::{
    compare::errno_name,
    NamedRun, //
};
use crate::sys;
use std::io;

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[
    ("firmware-fails", commands::run),
    ("firmware-late", late::run),
];

/// A result in words.
pub(super) fn words(result: &io::Result<()>) -> String {
    match result {
        Ok(()) => "ok".to_string(),
        Err(err) => match err.raw_os_error() {
            Some(errno) => errno_name(errno),
            None => err.to_string(),
        },
    }
}

/// How to run a test of a scenario alone.
pub(super) fn again(scenario: &str, title: &str) -> String {
    let kernel = sys::kernel_parameter("vmtest.kernel_name").ok().flatten();
    let kernel = kernel.unwrap_or_else(|| "KERNEL".to_string());
    format!(
        "just this again: tools/testing/vm/vm-test.sh scenario --kernel={kernel} \
         --only='{title}' {scenario}"
    )
}
