// SPDX-License-Identifier: GPL-2.0

//! What commands show: JSON, progress, plots.

use super::{
    json::{
        self,
        Failure,
        Outcome, //
    },
    out::{
        errln,
        outln, //
    },
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

/// Where an object goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum To {
    /// To standard output.
    Output,
    /// To standard error, since standard output has a state.
    BesideState,
}

fn print_json(text: serde_json::Result<String>, to: To) -> Result<(), Error> {
    let text = text.map_err(io::Error::from).context("JSON")?;
    match to {
        To::Output => outln!("{text}"),
        To::BesideState => errln!("{text}"),
    }
}

/// Prints the result of a command, or a part of it, as an object in one line.
pub fn json(value: &impl Serialize) -> Result<(), Error> {
    json_to(value, To::Output)
}

/// As [`json`].
pub fn json_to(value: &impl Serialize, to: To) -> Result<(), Error> {
    print_json(json::object(Outcome::Result(value)), to)
}

/// Prints an error as an object.
pub fn error(failure: Failure<'_>, to: To) -> Result<(), Error> {
    print_json(json::error(failure), to)
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
        _ => "{msg:24} {elapsed_precise} {bar:20} {bytes} {bytes_per_sec}",
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

/// Columns of the name in [`field`].
const NAME: usize = 17;

/// A name and a value, which may take several lines.
pub fn field(name: &str, value: &str) -> String {
    let text = wrapped(&" ".repeat(NAME), value);
    format!("{name:NAME$}{}", text.get(NAME..).unwrap_or_default())
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
    fn a_value_stays_in_its_column() {
        assert_eq!(field("state", "RUNNING"), "state            RUNNING");
        let text = field("states", &"PRE_COPY_P2P, ".repeat(6));
        let (first, second) = text.split_once('\n').unwrap();
        assert!(first.starts_with("states           PRE_COPY_P2P, "));
        assert!(second.starts_with("                 PRE_COPY_P2P, "));
    }

    #[test]
    fn plots_have_eight_heights() {
        assert_eq!(spark(&[0, 50, 100], 100), "▁▄█");
        assert_eq!(spark(&[0, 0], 0), "▁▁");
        assert_eq!(spark(&[u64::MAX, 1], u64::MAX), "█▁");
    }
}
