// SPDX-License-Identifier: GPL-2.0

//! Reports, for a person and as JSON.

pub mod faults;
pub mod net;
mod plot;
pub mod qemu;
pub mod run;
pub mod times;

use anyhow::{
    Context,
    Result, //
};
use serde_json::Value;
use std::{
    fs,
    io::ErrorKind,
    path::Path, //
};

/// Removes the report of an earlier run, before one that may end without a report.
pub fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(err) if err.kind() != ErrorKind::NotFound => {
            Err(err).with_context(|| file.display().to_string())
        }
        _ => Ok(()),
    }
}

/// Writes a report to a file, and says so.
pub fn write(report: &Value, file: &Path) -> Result<()> {
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(file, serde_json::to_string_pretty(report)? + "\n")
        .with_context(|| file.display().to_string())?;
    println!("The same as JSON: {}", file.display());
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

/// Breaks a text into lines.
fn wrapped(text: &str) -> String {
    let mut lines = String::from(" ");
    let mut width = 1;
    for word in text.split_whitespace() {
        if width + 1 + word.len() > 80 {
            lines += "\n ";
            width = 1;
        }
        lines.push(' ');
        lines += word;
        width += 1 + word.len();
    }
    lines
}

/// "1 migration", "2 migrations".
fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_can_be_removed_if_it_is_there() {
        let dir = std::env::temp_dir().join(format!("vm-test-{}", std::process::id()));
        let file = dir.join("run/report.json");
        remove(&file).unwrap();
        write(&json!({}), &file).unwrap();
        assert!(file.exists());
        remove(&file).unwrap();
        assert!(!file.exists());
        // A folder is no report.
        assert!(remove(&dir).is_err());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(counted(1, "migration"), "1 migration");
        assert_eq!(counted(2, "VF"), "2 VFs");
    }

    #[test]
    fn a_shell_reads_a_quoted_word_as_it_is() {
        assert_eq!(quoted("SAVE of the last image"), "'SAVE of the last image'");
        assert_eq!(
            quoted("page tracker's QP fails"),
            r"'page tracker'\''s QP fails'"
        );
    }
}
