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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plots_have_eight_heights() {
        assert_eq!(spark(&[0, 50, 100], 100), "▁▄█");
        assert_eq!(spark(&[0, 0], 0), "▁▁");
        assert_eq!(spark(&[u64::MAX, 1], u64::MAX), "█▁");
    }
}
