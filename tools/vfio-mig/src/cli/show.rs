// SPDX-License-Identifier: GPL-2.0

//! What commands show: JSON, progress, plots.

use super::out::{
    errln,
    outln, //
};
use indicatif::{
    ProgressBar,
    ProgressStyle, //
};
use serde::Serialize;
use std::io;
use vfio_mig::error::{
    Context,
    Error, //
};

fn print_json(text: serde_json::Result<String>) -> Result<(), Error> {
    outln!("{}", text.map_err(io::Error::from).context("JSON")?)
}

/// Prints a value, over several lines.
pub fn json(value: &impl Serialize) -> Result<(), Error> {
    print_json(serde_json::to_string_pretty(value))
}

/// Prints a value in one line, for commands that print several values.
pub fn json_line(value: &impl Serialize) -> Result<(), Error> {
    print_json(serde_json::to_string(value))
}

/// Prints a value, over several lines, to standard error: standard output has a state.
pub fn json_beside_state(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from);
    errln!("{}", text.context("JSON")?)
}

/// An error as an object.
pub fn error_object(message: &str, errno: Option<i32>) -> impl Serialize {
    serde_json::json!({ "error": message, "errno": errno })
}

/// Prints an error as an object.
pub fn error(message: &str, errno: Option<i32>) -> Result<(), Error> {
    json(&error_object(message, errno))
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Progress through `total` bytes, or 0 if that is not known.
pub fn bytes(total: u64) -> ProgressBar {
    let bar = match total {
        0 => ProgressBar::new_spinner(),
        _ => ProgressBar::new(total),
    };
    bar.with_style(style(match total {
        0 => "{elapsed_precise} {bytes} {bytes_per_sec} {msg}",
        _ => "{msg:24} {elapsed_precise} {bar:30} {bytes} {bytes_per_sec}",
    }))
}

/// Progress of something that takes a while.
pub fn spinner() -> ProgressBar {
    ProgressBar::new_spinner().with_style(style("{msg:24} {elapsed_precise}"))
}

/// Progress through `total` steps.
pub fn steps(total: u64, json: bool) -> ProgressBar {
    if json {
        return ProgressBar::hidden();
    }
    ProgressBar::new(total).with_style(style("{elapsed_precise} {bar:30} {pos}/{len} {msg}"))
}

/// A plot of values between 0 and `most`, with eight heights.
pub fn spark(values: &[u64], most: u64) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let height = |value: &u64| {
        let scaled = u128::from(*value) * 7 / u128::from(most.max(1));
        HEIGHTS[(scaled as usize).min(7)]
    };
    values.iter().map(height).collect()
}

/// Columns that a report has at most.
pub const COLUMNS: usize = 80;

/// Breaks `text` between words into lines that have [`COLUMNS`] at most, each after `indent`.
pub fn wrapped(indent: &str, text: &str) -> String {
    let mut lines = vec![indent.to_string()];
    for word in text.split_whitespace() {
        let begun = lines.last().map_or(0, |line| line.chars().count());
        if begun > indent.len() && begun + 1 + word.chars().count() > COLUMNS {
            lines.push(indent.to_string());
        }
        if let Some(line) = lines.last_mut() {
            if line.len() > indent.len() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(wrapped("  ", "a few words"), "  a few words");
        let long = "word ".repeat(40);
        let wrapped = wrapped("    ", &long);
        for line in wrapped.lines() {
            assert!(line.starts_with("    word") && line.len() <= COLUMNS && !line.ends_with(' '));
        }
        assert_eq!(wrapped.split_whitespace().count(), 40);
        let path = "x".repeat(2 * COLUMNS);
        assert_eq!(super::wrapped("", &path), path);
    }

    #[test]
    fn plots_have_eight_heights() {
        assert_eq!(spark(&[0, 50, 100], 100), "▁▄█");
        assert_eq!(spark(&[0, 0], 0), "▁▁");
        assert_eq!(spark(&[u64::MAX, 1], u64::MAX), "█▁");
    }
}
