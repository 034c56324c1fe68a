// SPDX-License-Identifier: GPL-2.0

//! Reports, for a person and as JSON.

pub mod faults;
pub mod qemu;
pub mod run;

use anyhow::{Context, Result};
use serde_json::Value;
use std::{fs, path::Path};

/// Writes a report to a file in `dir`, and says so.
pub fn write(report: &Value, dir: &Path, name: &str) -> Result<()> {
    fs::create_dir_all(dir)?;
    let path = dir.join(name);
    fs::write(&path, serde_json::to_string_pretty(report)? + "\n")
        .with_context(|| path.display().to_string())?;
    println!("The same as JSON: {}", path.display());
    Ok(())
}

/// A string without its quotes, and anything else as JSON has it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A word of a shell's command line.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A number of bytes, for a person.
fn mib(bytes: &Value) -> String {
    format!(
        "{:.2} MiB",
        bytes.as_f64().unwrap_or(0.0) / f64::from(1 << 20)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_a_quoted_word_as_it_is() {
        assert_eq!(quoted("SAVE of the last image"), "'SAVE of the last image'");
        assert_eq!(
            quoted("page tracker's QP fails"),
            r"'page tracker'\''s QP fails'"
        );
    }
}
