// SPDX-License-Identifier: GPL-2.0

//! `make bench`: our driver and the C driver side by side, in the same machine.

pub mod dirty;
pub mod reinit;

use anyhow::{Context, Result};
use serde_json::Value;
use std::{fs, path::Path};

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Writes a result to `out/bench`, and says so.
fn write(result: &Value, out: &Path, name: &str) -> Result<()> {
    let dir = out.join("bench");
    fs::create_dir_all(&dir)?;
    let path = dir.join(name);
    fs::write(&path, serde_json::to_string_pretty(result)? + "\n")
        .with_context(|| path.display().to_string())?;
    println!("The same as JSON: {}", path.display());
    Ok(())
}
