// SPDX-License-Identifier: GPL-2.0

//! A plot of how much comes over time, for a terminal.

use serde_json::Value;

/// Lines of the bars.
const HEIGHT: usize = 4;
/// Of a cell: from nothing to all of it.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// In the lowest line, for a time in which nothing comes.
const SILENCE: char = '·';
/// Blanks before each line.
const MARGIN: usize = 2;
/// Seconds that are shown before the first migration, and after the last.
const AROUND: f64 = 3.0;

/// A time of interest, in seconds.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Span {
    from: f64,
    to: f64,
}

impl Span {
    /// From one time of a migration to another.
    fn of(migration: &Value, from: &str, to: &str) -> Option<Self> {
        Some(Self {
            from: migration[from].as_f64()?,
            to: migration[to].as_f64()?,
        })
    }

    fn meets(self, other: Self) -> bool {
        self.from < other.to && other.from < self.to
    }
}

/// What is to be seen.
pub struct Plot {
    /// When it begins, in seconds.
    begin: f64,
    /// Time of a number, in seconds.
    step: f64,
    bytes: Vec<u64>,
    migrations: Vec<Span>,
    stops: Vec<Span>,
}

impl Plot {
    /// Of a driver's figures: the time around its migrations, or all of it if there are none.
    pub fn new(figures: &Value) -> Option<Self> {
        let timeline = &figures["timeline"];
        let begin = timeline["begin"].as_f64()?;
        let step = timeline["step_ms"].as_f64()? / 1e3;
        let numbers = timeline["bytes"].as_array()?.iter();
        let bytes: Vec<u64> = numbers.filter_map(Value::as_u64).collect();
        let migrations = figures["migrations"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let spans = |from, to| -> Vec<Span> {
            let spans = migrations.iter().map(|one| Span::of(one, from, to));
            spans.flatten().collect()
        };
        let (migrations, stops) = (spans("began_at", "runs_at"), spans("stopped_at", "runs_at"));
        let index = |time: f64| (((time - begin) / step).max(0.0) as usize).min(bytes.len());
        let first = migrations.first().map_or(0, |one| index(one.from - AROUND));
        let last = migrations
            .last()
            .map_or(bytes.len(), |one| index(one.to + AROUND));
        Some(Self {
            begin: begin + first as f64 * step,
            step,
            bytes: bytes.get(first..last)?.to_vec(),
            migrations,
            stops,
        })
    }

    /// Bytes of each column, of `per` numbers.
    fn columns(&self, per: usize) -> impl Iterator<Item = u64> + '_ {
        self.bytes.chunks(per).map(|chunk| chunk.iter().sum())
    }

    /// The lines.
    pub fn render(&self, scale: Scale) -> String {
        let per = scale.per;
        let columns: Vec<u64> = self.columns(per).collect();
        let steps = (HEIGHT * (BARS.len() - 1)) as u64;
        let levels: Vec<u64> = (columns.iter())
            .map(|bytes| (bytes * steps).div_ceil(scale.most.max(1)))
            .collect();
        let mut lines = Vec::new();
        for row in (0..HEIGHT as u64).rev() {
            let full = BARS.len() as u64 - 1;
            let cell = |level: &u64| match (row, *level) {
                (0, 0) => SILENCE,
                (row, level) => BARS[level.saturating_sub(row * full).min(full) as usize],
            };
            lines.push(levels.iter().map(cell).collect::<String>());
        }
        let column = self.step * per as f64;
        let at = |index: usize| Span {
            from: self.begin + index as f64 * column,
            to: self.begin + (index + 1) as f64 * column,
        };
        let met = |spans: &[Span], index| spans.iter().any(|span| span.meets(at(index)));
        let below = (0..columns.len()).map(|index| {
            match (met(&self.stops, index), met(&self.migrations, index)) {
                (true, _) => '━',
                (false, true) => '┄',
                (false, false) => ' ',
            }
        });
        lines.push(below.collect());
        let margin = " ".repeat(MARGIN);
        let line = |line: &String| format!("{margin}{line}").trim_end().to_string();
        let lines: Vec<String> = lines.iter().map(line).collect();
        lines.join("\n")
    }
}

/// What a column and a bar stand for. Plots of one scale can be compared.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Numbers of a column.
    per: usize,
    /// Time of a column, in seconds.
    column: f64,
    /// Bytes of the highest column.
    most: u64,
}

impl Scale {
    /// One for all of these, with at most `width` columns for each.
    pub fn of(plots: &[Plot], width: usize) -> Self {
        let room = width.saturating_sub(MARGIN).max(1);
        let longest = plots.iter().map(|plot| plot.bytes.len()).max();
        let per = longest.unwrap_or(0).div_ceil(room).max(1);
        let highest = plots.iter().flat_map(|plot| plot.columns(per)).max();
        Self {
            per,
            column: plots.first().map_or(0.0, |plot| plot.step) * per as f64,
            most: highest.unwrap_or(0),
        }
    }

    /// What that is, in a sentence.
    pub fn legend(self) -> String {
        format!(
            "each column is {:.1} s, a full one {:.2} MiB; {SILENCE} nothing comes, ┄ QEMU \
             migrates the guest, ━ the guest stands still",
            self.column,
            self.most as f64 / f64::from(1 << 20)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::slice;

    fn figures(bytes: &[u64], migrations: &Value) -> Value {
        json!({
            "timeline": { "begin": 100.0, "step_ms": 1000.0, "bytes": bytes },
            "migrations": migrations,
        })
    }

    fn alone(plot: &Plot, width: usize) -> String {
        plot.render(Scale::of(slice::from_ref(plot), width))
    }

    #[test]
    fn plots_of_one_scale_can_be_compared() {
        let plots = [&[32; 8][..], &[8; 4]].map(|bytes| {
            let figures = figures(bytes, &json!([]));
            Plot::new(&figures).unwrap()
        });
        let scale = Scale::of(&plots, 80);
        let [high, low] = plots.each_ref().map(|plot| plot.render(scale));
        assert_eq!(high.lines().next(), Some("  ████████"));
        // A quarter of that comes.
        assert_eq!(low.lines().collect::<Vec<_>>(), ["", "", "", "  ████"]);
        // Half of the width: all columns are twice as long, and those of the shorter plot, too.
        let scale = Scale::of(&plots, 6);
        let [high, low] = plots.each_ref().map(|plot| plot.render(scale));
        assert_eq!(high.lines().next(), Some("  ████"));
        assert_eq!(low.lines().last(), Some("  ██"));
    }

    #[test]
    fn bars_are_as_high_as_what_comes() {
        let plot = Plot::new(&figures(&[0, 1, 8, 16, 32], &json!([]))).unwrap();
        let text = alone(&plot, 80);
        let lines: Vec<&str> = text.lines().collect();
        // The line below them is empty: QEMU migrates nothing.
        assert_eq!(lines, ["      █", "      █", "     ██", "  ·▁███"]);
    }

    #[test]
    fn a_narrow_terminal_has_longer_columns() {
        let plot = Plot::new(&figures(&[1; 100], &json!([]))).unwrap();
        for width in [1, 3, 10, 40, 80, 200] {
            let text = alone(&plot, width);
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest.unwrap() <= width.max(MARGIN + 1), "{width}");
        }
        let legend = Scale::of(&[plot], 52).legend();
        assert!(legend.starts_with("each column is 2.0 s"), "{legend}");
    }

    #[test]
    fn the_time_around_a_migration_is_shown() {
        let migrations = json!([{ "began_at": 105.5, "stopped_at": 107.2, "runs_at": 107.9 }]);
        let plot = Plot::new(&figures(&[1; 20], &migrations)).unwrap();
        let text = alone(&plot, 80);
        assert_eq!(text.lines().next(), Some("  ████████"));
        assert_eq!(text.lines().last(), Some("     ┄┄━"));
    }

    #[test]
    fn without_a_timeline_there_is_no_plot() {
        assert!(Plot::new(&json!({})).is_none());
        let nothing = Plot::new(&figures(&[], &json!([]))).unwrap();
        assert_eq!(alone(&nothing, 80).trim(), "");
    }
}
