// SPDX-License-Identifier: GPL-2.0

//! The table of scenarios, as text: what `vm-test --list` shows and the
//! documentation has.

use crate::{
    kernel::Kernel,
    scenarios::{self, Scenario},
};

/// Widths of the columns, with which a line has 80 characters.
const WIDTHS: [usize; 5] = [16, 6, 17, 6, 31];

/// Breaks a text into lines.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

fn row(cells: [&str; 5]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.into_iter().zip(WIDTHS) {
        line.push_str(&format!("{cell:width$} "));
    }
    line.trim_end().to_string() + "\n"
}

/// The names of its kernels, or "both" if it runs with those of tests.
fn kernels(scenario: &Scenario) -> Vec<&'static str> {
    match scenario.kernels {
        kernels if *kernels == Kernel::BOTH => vec!["both"],
        kernels => kernels.iter().map(|kernel| kernel.name()).collect(),
    }
}

fn time(scenario: &Scenario) -> String {
    match scenario.seconds {
        seconds @ 0..=99 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

/// A table in reStructuredText.
pub fn table() -> String {
    let border = WIDTHS.map(|width| "=".repeat(width));
    let border = row(border.each_ref().map(String::as_str));
    let mut text = border.clone();
    text += &row(["Scenario", "Kernel", "make", "Time", "What it is about"]);
    text += &border;
    for scenario in scenarios::ALL {
        let time = time(scenario);
        let kernels = kernels(scenario);
        let about = wrap(scenario.about, WIDTHS[4]);
        for line in 0..kernels.len().max(about.len()) {
            // An empty first column continues a row.
            let [name, suite, time] = match line {
                0 => [scenario.name, scenario.suite.name(), &time],
                _ => [""; 3],
            };
            let kernel = kernels.get(line).copied().unwrap_or_default();
            let about = about.get(line).map_or("", String::as_str);
            text += &row([name, kernel, suite, time, about]);
        }
    }
    text + &border
}

/// Names, in lines that fit into a terminal.
pub fn lines<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for line in wrap(&names.collect::<Vec<_>>().join(" "), 76) {
        text += "    ";
        text += &line;
        text += "\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_the_table() {
        let document = include_str!("../../../../../Documentation/dev-tools/vfio-rust/testing.rst");
        assert!(
            document.contains(&table()),
            "testing.rst must have the output of vm-test --list:\n{}",
            table()
        );
    }

    #[test]
    fn cells_fit_into_their_columns() {
        for scenario in scenarios::ALL {
            assert!(scenario.name.len() <= WIDTHS[0], "{}", scenario.name);
            assert!(time(scenario).len() <= WIDTHS[3], "{}", scenario.name);
        }
        assert!(table().lines().all(|line| line.len() <= 80));
    }
}
