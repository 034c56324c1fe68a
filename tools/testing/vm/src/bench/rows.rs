// SPDX-License-Identifier: GPL-2.0

//! The rows of paths.json: a figure with our driver, and with the C driver.

use super::{
    counts::{
        self,
        Count,
        Counts,
        Section, //
    },
    goals::{
        self,
        Figure, //
    },
    median, //
};
use crate::machine::Outcome;
use anyhow::{
    Context,
    Result, //
};
use serde_json::{
    json,
    Map,
    Value, //
};
use std::ops::Range;
use vm_common::kernel::Kernel;

/// Bytes of a page.
const PAGE: f64 = 4096.0;
/// Instructions that clear a page, and those of a call beside them:
/// `__clear_pages_unrolled()` clears 64 bytes with 11.
const CLEARING: (u64, u64) = (64 * 11, 5);
/// What rows are called that count pages, and those that tell how many there are.
const CLEARED: &str = "pages cleared in a session";
const PINNED: &str = "memory pinned in a session";
/// What the rows are called that have all instructions.
const WITH_CLEARING: &str = ", with clear_page()";
/// Rows of paths with this name have a second row with all instructions.
const WHOLE: &str = "migrate";
/// What rows of several VFs are called.
const AT_ONCE: [&str; 2] = [" VF at once", " VFs at once"];

/// A row.
#[derive(Clone, Debug)]
pub struct Row {
    /// What is measured.
    pub path: String,
    /// With which kernel.
    pub kernel: Kernel,
    /// Of what.
    pub unit: &'static str,
    /// With our driver.
    pub rust: f64,
    /// With the C driver.
    pub c: f64,
    /// How often. The figures are medians.
    pub runs: usize,
    /// More figures.
    more: Map<String, Value>,
}

impl Row {
    /// Makes one.
    pub fn new(
        kernel: Kernel,
        path: &str,
        unit: &'static str,
        rust: f64,
        c: f64,
        runs: usize,
    ) -> Self {
        Self {
            path: path.to_string(),
            kernel,
            unit,
            rust,
            c,
            runs,
            more: Map::new(),
        }
    }

    /// Adds a figure.
    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.more.insert(name.to_string(), json!(value));
        self
    }

    /// One of its figures, if it has that. Nothing by nothing is 0.
    pub fn figure(&self, figure: Figure) -> Option<f64> {
        match figure {
            Figure::Ratio if self.rust == 0.0 => Some(0.0),
            Figure::Ratio => Some(self.rust / self.c),
            Figure::Ours => Some(self.rust),
            Figure::Difference => Some(self.rust - self.c),
            Figure::RatioToMemfd | Figure::RatioToPinned => self.more.get(figure.name())?.as_f64(),
        }
    }

    /// Returns its object in paths.json.
    pub fn json(&self) -> Value {
        let goal = goals::find(&self.path);
        let mut json = json!({
            "path": self.path,
            "kernel": self.kernel.name(),
            "unit": self.unit,
            "rust": self.rust,
            "c": self.c,
            "ratio": self.figure(Figure::Ratio),
            "goal": goal.map(|goal| goal.most),
            "goal_of": goal.map(|goal| goal.of.name()),
            "met": goal.map(|goal| goal.met(self)),
            "runs": self.runs,
        });
        if let Some(object) = json.as_object_mut() {
            object.extend(self.more.clone());
        }
        json
    }
}

/// Where the kernel clears pages, as the guest has told.
fn clearing(data: &[Value]) -> Result<Range<u64>> {
    let range = |value: &Value| {
        let bound = |i: usize| value["clearing"][i].as_u64();
        Some(bound(0)?..bound(1)?)
    };
    let found = data.iter().find_map(range);
    found.context("the machine has not told where pages are cleared")
}

/// Pages that were cleared.
fn pages(section: &Section, clearing: &Range<u64>) -> f64 {
    let (page, call) = CLEARING;
    let calls = section.calls(clearing.start) * call;
    let all = section.within(clearing).saturating_sub(calls);
    (all as f64 / page as f64).round()
}

/// Makes rows of one machine.
struct Maker<'a> {
    kernel: Kernel,
    clearing: Range<u64>,
    counts: &'a Counts,
    data: &'a [Value],
}

impl Maker<'_> {
    /// The medians of a figure of all counts, with either driver.
    fn row(
        &self,
        path: &str,
        name: &str,
        unit: &'static str,
        figure: impl Fn(&Count) -> f64,
    ) -> Row {
        let of = |driver| median(self.counts.of(path, driver).iter().map(&figure).collect());
        let runs = self.counts.of(path, "rust").len();
        Row::new(self.kernel, name, unit, of("rust"), of("c"), runs)
    }

    /// Instructions, without those that clear pages.
    fn without(&self, count: &Count) -> f64 {
        let section = &count.section;
        (section.total - section.within(&self.clearing)) as f64
    }

    /// The rows of what was counted on a path.
    fn counted(&self, path: &str) -> Vec<Row> {
        let counts = self.counts.of(path, "rust");
        let Some(Count { said, .. }) = counts.first() else {
            return Vec::new();
        };
        if said["counts"] == "pages" {
            let pages = |count: &Count| pages(&count.section, &self.clearing);
            return vec![self.row(path, path, "pages", pages)];
        }
        if said["vfs"].is_u64() {
            let by_vf = |count: &Count| {
                self.without(count) / count.said["vfs"].as_f64().unwrap_or(f64::NAN)
            };
            return vec![self.row(path, path, "instructions per VF", by_vf)];
        }
        let all = self.row(path, path, "", |count| count.section.total as f64);
        let mut rows = vec![self
            .row(path, path, "instructions", |count| self.without(count))
            .with("rust_with_clearing", all.rust)
            .with("c_with_clearing", all.c)
            .with("ratio_with_clearing", all.rust / all.c)];
        if path.starts_with(WHOLE) {
            let name = format!("{path}{WITH_CLEARING}");
            let total = |count: &Count| count.section.total as f64;
            rows.push(self.row(path, &name, "instructions", total));
        }
        if said["bytes"].is_u64() {
            rows.push(self.by_byte(path));
        }
        rows
    }

    /// Instructions for each byte that is read, beside those of a file in memory.
    fn by_byte(&self, path: &str) -> Row {
        let name = format!("{path}, by byte");
        let by_byte =
            |count: &Count| self.without(count) / count.said["bytes"].as_f64().unwrap_or(f64::NAN);
        let row = self.row(path, &name, "instructions per byte", by_byte);
        let memfd = median(self.counts.of(path, "memfd").iter().map(by_byte).collect());
        let ratio = row.rust / memfd;
        row.with("memfd", memfd)
            .with(Figure::RatioToMemfd.name(), ratio)
    }

    /// The rows of what the guest has measured itself.
    fn told(&self) -> Vec<Row> {
        let told = |said: &&Value| said["value"].is_f64() || said["value"].is_u64();
        let told: Vec<&Value> = (self.data.iter().filter(told))
            .filter(|said| !counts::is_first(said))
            .collect();
        let mut rows: Vec<Row> = Vec::new();
        for said in &told {
            let path = said["path"].as_str().unwrap_or_default();
            if rows.iter().any(|row| row.path == path) {
                continue;
            }
            let of = |driver: &str| -> Vec<f64> {
                let runs = told
                    .iter()
                    .filter(|one| one["path"] == path && one["driver"] == driver);
                runs.filter_map(|one| one["value"].as_f64()).collect()
            };
            let unit = match said["unit"].as_str() {
                Some("commands") => "commands",
                Some("bytes") => "bytes",
                _ => "",
            };
            let runs = of("rust").len();
            let [rust, c] = ["rust", "c"].map(|driver| median(of(driver)));
            rows.push(Row::new(self.kernel, path, unit, rust, c, runs));
        }
        rows
    }
}

/// By how much most VFs at once differ from few.
fn spread(rows: &[Row]) -> Option<Row> {
    let at_once = |row: &&Row| AT_ONCE.iter().any(|name| row.path.ends_with(name));
    let several: Vec<&Row> = rows.iter().filter(at_once).collect();
    let first = several.first()?;
    let spread = |of: fn(&Row) -> f64| {
        let all = || several.iter().map(|row| of(row));
        all().fold(f64::MIN, f64::max) / all().fold(f64::MAX, f64::min)
    };
    Some(Row::new(
        first.kernel,
        "VFs at once, most by least",
        "times",
        spread(|row| row.rust),
        spread(|row| row.c),
        first.runs,
    ))
}

/// Puts the pages that a session pins to those that it clears.
fn pinned(rows: &mut [Row]) {
    let pinned = rows.iter().find(|row| row.path.starts_with(PINNED));
    let pages = pinned.map(|row| row.rust / PAGE);
    let cleared = rows.iter_mut().find(|row| row.path.starts_with(CLEARED));
    if let (Some(pages), Some(row)) = (pages, cleared) {
        let ratio = row.rust / pages;
        *row = (row.clone())
            .with("pinned_pages", pages)
            .with(Figure::RatioToPinned.name(), ratio);
    }
}

/// The rows of a machine.
fn rows(kernel: Kernel, data: &[Value], counts: &Counts) -> Result<Vec<Row>> {
    let maker = Maker {
        kernel,
        clearing: clearing(data)?,
        counts,
        data,
    };
    let mut rows: Vec<Row> = counts
        .paths()
        .flat_map(|path| maker.counted(path))
        .collect();
    rows.extend(maker.told());
    rows.extend(spread(&rows));
    pinned(&mut rows);
    Ok(rows)
}

/// The rows of a machine that has counted.
pub fn of(kernel: Kernel, outcome: &Outcome) -> Result<Vec<Row>> {
    rows(kernel, &outcome.data, &counts::of(outcome)?)
}

#[cfg(test)]
mod tests {
    use super::{
        super::counts::tests::section,
        *, //
    };
    use std::{
        collections::BTreeSet,
        fs, //
    };
    use vm_common::documented::{
        self,
        keys, //
    };

    /// A machine with a run in which so much was executed, half of it in one call that
    /// clears pages.
    fn made(counted: &[(Value, u64)], told: &[Value]) -> Vec<Row> {
        let data = [&[json!({ "clearing": [0x20, 0x21] })], told].concat();
        let count = |(said, total): &(Value, u64)| Count {
            said: said.clone(),
            section: section(&[(0x10, total / 2), (0x20, total / 2)]),
        };
        rows(Kernel::Bare, &data, &counted.iter().map(count).collect()).unwrap()
    }

    fn said(path: &str, driver: &str, more: Value) -> Value {
        let mut said = json!({ "path": path, "driver": driver, "run": 1 });
        let object = said.as_object_mut().unwrap();
        object.extend(more.as_object().cloned().unwrap_or_default());
        said
    }

    fn find<'a>(rows: &'a [Row], path: &str) -> &'a Row {
        rows.iter().find(|row| row.path == path).unwrap()
    }

    #[test]
    fn pages_are_cleared_beside_the_ratio() {
        let call = |driver| said("migrate", driver, json!({}));
        let rows = made(&[(call("rust"), 8), (call("c"), 32)], &[]);
        assert_eq!(rows.len(), 2);
        let json = rows[0].json();
        assert_eq!((&json["rust"], &json["c"]), (&json!(4.0), &json!(16.0)));
        assert_eq!(
            (&json["ratio"], &json["kernel"]),
            (&json!(0.25), &json!("bare"))
        );
        assert_eq!((&json["goal"], &json["met"]), (&json!(0.35), &json!(true)));
        assert_eq!(
            (&json["goal_of"], &json["runs"]),
            (&json!("ratio"), &json!(1))
        );
        assert_eq!(json["rust_with_clearing"], 8.0);
        assert_eq!(find(&rows, "migrate, with clear_page()").c, 32.0);
    }

    #[test]
    fn bytes_are_put_to_those_of_a_file() {
        let read = |driver| said("read", driver, json!({ "bytes": 4 }));
        let rows = made(
            &[(read("rust"), 16), (read("c"), 32), (read("memfd"), 8)],
            &[],
        );
        let row = find(&rows, "read, by byte");
        assert_eq!((row.rust, row.c), (2.0, 4.0));
        assert_eq!(row.json()["memfd"], 1.0);
        assert_eq!(row.figure(Figure::RatioToMemfd), Some(2.0));
    }

    #[test]
    fn vfs_share_what_was_counted() {
        let call = |name: &str, driver, vfs: u64| said(name, driver, json!({ "vfs": vfs }));
        let rows = made(
            &[
                (call("1 VF at once", "rust", 1), 20),
                (call("1 VF at once", "c", 1), 20),
                (call("4 VFs at once", "rust", 4), 100),
                (call("4 VFs at once", "c", 4), 160),
            ],
            &[],
        );
        assert_eq!(find(&rows, "4 VFs at once").rust, 12.5);
        let spread = find(&rows, "VFs at once, most by least");
        assert_eq!((spread.rust, spread.c), (1.25, 2.0));
    }

    #[test]
    fn pages_are_counted_and_put_to_those_that_are_pinned() {
        let call = |driver| said(CLEARED, driver, json!({ "counts": "pages" }));
        let value =
            |driver, value: u64| said(PINNED, driver, json!({ "unit": "bytes", "value": value }));
        let two = (2 * 704 + 5) * 2;
        let rows = made(
            &[(call("rust"), two), (call("c"), two)],
            &[value("rust", 4 * 4096), value("c", 8 * 4096)],
        );
        let row = find(&rows, CLEARED);
        assert_eq!((row.rust, row.unit), (2.0, "pages"));
        assert_eq!(row.figure(Figure::RatioToPinned), Some(0.5));
        assert_eq!(find(&rows, PINNED).figure(Figure::Ratio), Some(0.5));
        assert_eq!(find(&rows, PINNED).unit, "bytes");
    }

    #[test]
    fn a_first_run_does_not_count() {
        let mut first = said("a", "rust", json!({ "unit": "commands", "value": 9 }));
        first["run"] = json!(0);
        let value = |driver| said("a", driver, json!({ "unit": "commands", "value": 3 }));
        let rows = made(&[], &[first, value("rust"), value("c")]);
        assert_eq!((rows[0].rust, rows[0].runs), (3.0, 1));
    }

    /// Of all rows that were measured last.
    #[test]
    fn the_page_has_what_is_written() {
        let file = "/../../../Documentation/dev-tools/vfio-rust/paths.json";
        let text = fs::read_to_string(format!("{}{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let results: Value = serde_json::from_str(&text).unwrap();
        let rows = results["rows"].as_array().unwrap();
        let general = |name: String| match name.ends_with("_with_clearing") {
            true => "..._with_clearing".to_string(),
            false => name,
        };
        let written: BTreeSet<String> = rows.iter().flat_map(keys).map(general).collect();
        let tables = documented::tables(&documented::testing(), "What each call takes");
        let rows = tables.iter().find(|table| table.names().contains("path"));
        assert_eq!(rows.unwrap().names(), written);
    }
}
