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

/// A float as it is written: six decimals, which of milliseconds are nanoseconds. A whole number,
/// such as the median of counts, needs none.
fn number(value: f64) -> Value {
    /// All integers up to here are floats, too.
    const WHOLE: f64 = (1_u64 << 53) as f64;
    let rounded = (value * 1e6).round() / 1e6;
    match rounded {
        _ if !rounded.is_finite() => value.into(),
        _ if rounded.fract() == 0.0 && rounded.abs() <= WHOLE => (rounded as i64).into(),
        _ => rounded.into(),
    }
}

/// A report with its numbers as they are written.
fn with_numbers(report: &Value) -> Value {
    match report {
        Value::Number(it) if it.is_f64() => it.as_f64().map_or(Value::Null, number),
        Value::Array(all) => all.iter().map(with_numbers).collect(),
        Value::Object(fields) => {
            let fields = fields.iter();
            fields
                .map(|(key, it)| (key.clone(), with_numbers(it)))
                .collect()
        }
        other => other.clone(),
    }
}

/// The text of a report's file.
pub fn text(report: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(&with_numbers(report))? + "\n")
}

/// Writes a report to a file, and says so.
pub fn write(report: &Value, file: &Path) -> Result<()> {
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(file, text(report)?).with_context(|| file.display().to_string())?;
    println!("The same as JSON: {}", path_word(file));
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

/// A path as a person can copy it to a shell's command line.
pub fn path_word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./+:@%,=-".contains(c);
    match text.chars().all(is_plain) {
        true => text,
        false => quoted(&text),
    }
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
    fn numbers_are_as_exact_as_they_mean() {
        for (value, written) in [
            (24_631_130.0, "24631130"),
            (24_631_130.5, "24631130.5"),
            (0.035_976_999_999_999_995, "0.035977"),
            (0.1 + 0.2, "0.3"),
            (-0.0, "0"),
            (2.999_999_999_9, "3"),
            (-1.25, "-1.25"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (1e300, "1e+300"),
            (f64::NAN, "null"),
        ] {
            assert_eq!(number(value).to_string(), written);
        }
        let report =
            json!({ "a": [{ "ms": 0.035_976_999_999_999_995 }], "n": u64::MAX, "s": "1.0" });
        let read: Value = serde_json::from_str(&text(&report).unwrap()).unwrap();
        let expected = json!({ "a": [{ "ms": 0.035_977 }], "n": u64::MAX, "s": "1.0" });
        assert_eq!(read, expected);
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

    #[test]
    fn a_path_is_quoted_only_if_a_shell_needs_that() {
        for (path, word) in [
            ("/a-b/c_d/e.1+f:g", "/a-b/c_d/e.1+f:g"),
            ("/new comer/out", "'/new comer/out'"),
            ("/it's", r"'/it'\''s'"),
            ("/J\u{f6}ran", "'/J\u{f6}ran'"),
        ] {
            assert_eq!(path_word(Path::new(path)), word);
        }
    }
}
