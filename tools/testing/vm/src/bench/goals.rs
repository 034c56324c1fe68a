// SPDX-License-Identifier: GPL-2.0

//! What the rows of paths.json are to be at most.

use super::rows::Row;
use crate::tap::Test;

/// Which figure of a row a goal is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Figure {
    /// Ours by that of the C driver.
    Ratio,
    /// Ours alone.
    Ours,
    /// Ours less that of the C driver.
    Difference,
    /// Ours by that of a file in memory.
    RatioToMemfd,
    /// Ours by the pages that a session pins.
    RatioToPinned,
}

impl Figure {
    /// The member of a row in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ratio => "ratio",
            Self::Ours => "rust",
            Self::Difference => "difference",
            Self::RatioToMemfd => "ratio_to_memfd",
            Self::RatioToPinned => "ratio_to_pinned",
        }
    }
}

/// Whether a goal is reached, and so must not be lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept {
    /// Not yet.
    No,
    /// `make check` measures it, too.
    Check,
    /// Only `make bench` measures it.
    Bench,
}

/// What a figure of a row is to be at most.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// The row.
    pub path: &'static str,
    /// At most.
    pub most: f64,
    /// Of it.
    pub of: Figure,
    /// Whether it is reached with the stock kernel.
    pub kept: Kept,
}

const fn goal(path: &'static str, most: f64, kept: Kept) -> Goal {
    let of = Figure::Ratio;
    Goal {
        path,
        most,
        of,
        kept,
    }
}

/// A goal that is reached, and measured by `make check`.
const fn kept(path: &'static str, most: f64) -> Goal {
    goal(path, most, Kept::Check)
}

/// A goal that is reached, and takes too long to measure for `make check`.
const fn slow(path: &'static str, most: f64) -> Goal {
    goal(path, most, Kept::Bench)
}

/// A goal that is not reached.
const fn open(path: &'static str, most: f64) -> Goal {
    goal(path, most, Kept::No)
}

impl Goal {
    /// Of another figure than the ratio.
    const fn of(self, of: Figure) -> Self {
        Self { of, ..self }
    }

    /// Whether a row reaches it.
    pub fn met(&self, row: &Row) -> bool {
        row.figure(self.of)
            .is_some_and(|figure| figure <= self.most)
    }

    /// In words.
    fn words(&self, unit: &str) -> String {
        let Self { path, most, .. } = self;
        match self.of {
            Figure::Ratio => format!("{path}: at most {most} of the C driver's {unit}"),
            Figure::Ours => format!("{path}: at most {most} {unit}"),
            Figure::Difference => format!("{path}: at most {most} {unit} more than the C driver"),
            Figure::RatioToMemfd => format!("{path}: at most {most} of a file's {unit}"),
            Figure::RatioToPinned => format!("{path}: at most {most} of the pages pinned"),
        }
    }

    /// A test that it is not lost.
    fn test(&self, rows: &[&Row]) -> Test {
        let row = rows.iter().find(|row| row.path == self.path);
        Test {
            name: self.words(row.map_or("", |row| row.unit)),
            ok: row.is_some_and(|row| self.met(row)),
            skipped: None,
            diagnostics: vec![row.map_or_else(
                || "it was not measured".to_string(),
                |row| {
                    let figure = row.figure(self.of).unwrap_or(f64::NAN);
                    format!("{figure:.3}: {} with ours, {} with C", row.rust, row.c)
                },
            )],
        }
    }
}

/// All goals. Instructions are those without clearing pages, unless a row says so.
pub const GOALS: &[Goal] = &[
    kept("migrate", 0.35),
    kept("migrate, with clear_page()", 0.6),
    slow("migrate, init_on_alloc=0", 0.35),
    slow("migrate, init_on_alloc=0, with clear_page()", 0.6),
    kept("STOP -> STOP_COPY", 0.05),
    slow("STOP -> STOP_COPY, 1 GiB", 0.02),
    kept("RUNNING -> PRE_COPY", 0.05),
    slow("RUNNING -> PRE_COPY, 1 GiB", 0.02),
    // One for each page. A few are the kernel's own, for page tables.
    slow("pages cleared in a session, init_on_alloc=0", 1.01).of(Figure::RatioToPinned),
    kept("pages cleared after PRE_COPY", 0.0).of(Figure::Ours),
    kept("read, 1 MiB", 0.70),
    kept("read, 64 KiB", 0.75),
    kept("read, 4 KiB", 1.0),
    kept("read, 1 MiB, by byte", 1.05).of(Figure::RatioToMemfd),
    kept("read, 64 KiB, by byte", 1.05).of(Figure::RatioToMemfd),
    kept("write, leave RESUMING", 0.25),
    slow("RESUMING, 274 records, commands", 2.0).of(Figure::Difference),
    kept("PRECOPY_INFO", 1.0),
    open("pre-copy cycle, 0 pages", 1.0),
    open("pre-copy cycle, 1 page", 1.0),
    kept("pre-copy cycle, 16 pages", 1.0),
    open("RUNNING -> RUNNING_P2P", 1.0),
    kept("LOGGING_START", 1.0),
    open("report, 0 %", 0.8),
    open("report, 1 %", 0.95),
    open("report, 10 %", 0.95),
    kept("report, 50 %", 0.9),
    kept("report, 100 %", 0.3),
    kept("memory pinned in a session", 0.55),
    slow("1 VF at once", 0.8),
    slow("2 VFs at once", 0.8),
    slow("4 VFs at once", 0.8),
    slow("8 VFs at once", 0.8),
    slow("16 VFs at once", 0.8),
    slow("VFs at once, most by least", 1.1).of(Figure::Ours),
    open(".text of the modules", 45e3).of(Figure::Ours),
];

/// The goal of a row.
pub fn find(path: &str) -> Option<&'static Goal> {
    GOALS.iter().find(|goal| goal.path == path)
}

/// A test for each goal that `kept` chooses, and that must not be lost.
pub fn judge<'a>(
    rows: impl IntoIterator<Item = &'a Row>,
    kept: impl Fn(Kept) -> bool,
) -> Vec<Test> {
    let rows: Vec<&Row> = rows.into_iter().collect();
    let goals = GOALS.iter().filter(|goal| kept(goal.kept));
    goals.map(|goal| goal.test(&rows)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_common::kernel::Kernel;

    fn row(path: &str, rust: f64, c: f64) -> Row {
        Row::new(Kernel::Stock, path, "instructions", rust, c, 1)
    }

    #[test]
    fn each_row_has_one_goal_at_most() {
        for (i, goal) in GOALS.iter().enumerate() {
            assert!(GOALS[..i].iter().all(|other| other.path != goal.path));
        }
    }

    #[test]
    fn a_goal_is_about_one_figure() {
        let row = row("a", 12.0, 10.0).with("ratio_to_memfd", 1.1);
        assert!(open("a", 1.2).met(&row));
        assert!(!open("a", 1.1).met(&row));
        assert!(open("a", 12.0).of(Figure::Ours).met(&row));
        assert!(open("a", 2.0).of(Figure::Difference).met(&row));
        assert!(!open("a", 1.05).of(Figure::RatioToMemfd).met(&row));
        // What was not measured is not reached.
        assert!(!open("a", 9.0).of(Figure::RatioToPinned).met(&row));
    }

    #[test]
    fn a_goal_that_is_lost_or_not_measured_fails() {
        let rows = [row("migrate", 35.0, 100.0), row("read, 1 MiB", 71.0, 100.0)];
        let tests = judge(&rows, |kept| kept == Kept::Check);
        let of = |path: &str| {
            tests
                .iter()
                .find(|test| test.name.starts_with(path))
                .unwrap()
        };
        assert!(of("migrate: at most 0.35 of the C driver's instructions").ok);
        assert!(!of("read, 1 MiB").ok);
        assert!(!of("RUNNING -> PRE_COPY").ok);
        assert_eq!(
            of("RUNNING -> PRE_COPY").diagnostics,
            ["it was not measured"]
        );
    }
}
