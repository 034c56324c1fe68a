// SPDX-License-Identifier: GPL-2.0

//! libFuzzer, for the target that the environment names. Arguments are libFuzzer's.

#![no_main]

use mlx5_rust_fuzz::{
    find,
    Target,
    VARIABLE, //
};
use std::{
    env,
    sync::OnceLock, //
};

static TARGET: OnceLock<&Target> = OnceLock::new();

/// Returns the target to run.
fn target() -> &'static Target {
    TARGET.get_or_init(|| {
        let name = env::var(VARIABLE).unwrap_or_default();
        find(&name).unwrap_or_else(|| panic!("{VARIABLE} names no target: {name:?}"))
    })
}

libfuzzer_sys::fuzz_target!(init: target(), |input: &[u8]| -> () { (target().run)(input) });
