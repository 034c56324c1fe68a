// SPDX-License-Identifier: GPL-2.0

//! What our pages say of reports: tests compare it with what is written to them.

use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs, //
};

/// A page. It is read when a test runs: what is said there is no reason to build anything again.
fn page(name: &str) -> String {
    let pages = "/../../../../Documentation/dev-tools/vfio-rust";
    let path = format!("{}{pages}/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|err| panic!("{path}: {err}"))
}

/// The page about tests, with the reports that they write.
pub fn testing() -> String {
    page("testing.rst")
}

/// The page with bug reports on the C driver.
pub fn c_driver_bugs() -> String {
    page("c-driver-bugs.rst")
}

/// The table of fixes for the C driver, which is no page.
pub fn fixes() -> String {
    page("../../../tools/series/fixes/series.toml")
}

/// A table with names in its first column.
#[derive(Debug)]
pub struct Table {
    /// The names, and what is said of each: names of one row have it in common.
    rows: Vec<(Vec<String>, String)>,
}

/// What is between two pairs of backquotes.
fn literals(text: &str) -> Vec<String> {
    text.split("``")
        .skip(1)
        .step_by(2)
        .map(str::to_string)
        .collect()
}

/// The width of the first column, if the line is a border of a table.
fn border(line: &str) -> Option<usize> {
    let is_border = line.contains(' ') && line.split_whitespace().all(|run| run.starts_with("=="));
    is_border.then(|| line.find(' ').unwrap_or(line.len()))
}

impl Table {
    /// One whose first column has a width, without borders.
    fn parse<'a>(lines: impl Iterator<Item = &'a str>, width: usize) -> Self {
        let mut rows: Vec<(Vec<String>, String)> = Vec::new();
        let mut goes_on = false;
        for line in lines {
            // Names are ASCII, and so is what is in front of the second column.
            let (first, text) = line.split_at_checked(width).unwrap_or((line, ""));
            let names = literals(first);
            match rows.last_mut() {
                // "``a``," is in one row with the next name.
                Some(last) if names.is_empty() || goes_on => {
                    last.0.extend(names);
                    last.1 = format!("{} {text}", last.1);
                }
                // Of a head.
                None if names.is_empty() => (),
                _ => rows.push((names, text.to_string())),
            }
            goes_on = first.trim_end().ends_with(',');
        }
        Self { rows }
    }

    /// The names.
    pub fn names(&self) -> BTreeSet<String> {
        let names = self.rows.iter().flat_map(|(names, _)| names.clone());
        names.collect()
    }

    /// The names in what is said of a name.
    pub fn said_of(&self, name: &str) -> BTreeSet<String> {
        let mut rows = self.rows.iter();
        let row = rows.find(|(names, _)| names.iter().any(|one| one == name));
        row.map_or(Vec::new(), |(_, text)| literals(text))
            .into_iter()
            .collect()
    }
}

/// The lines of a section of a page, without those below it.
fn section<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let lines: Vec<&str> = page.lines().collect();
    let is_heading = |at: usize| {
        let rule = lines.get(at + 1).copied().unwrap_or_default();
        let same = |mark| !rule.is_empty() && rule.bytes().all(|byte| byte == mark);
        (same(b'=') || same(b'-')) && rule.len() == lines[at].len()
    };
    let begin = (0..lines.len()).find(|at| lines[*at] == heading && is_heading(*at));
    let begin = begin.map_or(lines.len(), |at| at + 2);
    let end = (begin..lines.len()).find(|at| is_heading(*at));
    lines[begin..end.unwrap_or(lines.len())].to_vec()
}

/// The tables of a section that have names in their first column.
pub fn tables(page: &str, heading: &str) -> Vec<Table> {
    let mut lines = section(page, heading).into_iter();
    let mut tables = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(width) = border(line) {
            let lines = lines.by_ref().take_while(|line| !line.is_empty());
            let rows = lines.filter(|line| border(line).is_none());
            tables.push(Table::parse(rows, width));
        }
    }
    tables.retain(|table| !table.rows.is_empty());
    tables
}

/// Names that a section says, in a table or not.
pub fn said_in(page: &str, heading: &str) -> BTreeSet<String> {
    let text = section(page, heading).join("\n");
    literals(&text).into_iter().collect()
}

/// The names that an object has.
pub fn keys(object: &Value) -> BTreeSet<String> {
    let keys = object.as_object().into_iter().flatten();
    keys.map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
One
===

======  ======
Name    What
======  ======
``a``   has ``x``
        and ``y``
``b``,  has ``z``
``c``
``d``   not that
======  ======

Text with ``g``.

=====  =====
1      not a name
=====  =====

Below
-----

=====  =====
``e``  one
=====  =====

Two
===
``f``
";

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_table_is_taken_apart() {
        let [table] = &tables(PAGE, "One")[..] else {
            panic!("one table");
        };
        assert_eq!(table.names(), set(&["a", "b", "c", "d"]));
        assert_eq!(table.said_of("a"), set(&["x", "y"]));
        assert_eq!(table.said_of("c"), set(&["z"]));
        assert_eq!(table.said_of("d"), set(&[]));
        assert!(table.said_of("nosuch").is_empty());
    }

    #[test]
    fn a_section_ends_with_the_next_heading() {
        assert_eq!(tables(PAGE, "Below")[0].names(), set(&["e"]));
        assert!(tables(PAGE, "Two").is_empty() && tables(PAGE, "Nosuch").is_empty());
        assert_eq!(said_in(PAGE, "Two"), set(&["f"]));
        assert!(said_in(PAGE, "One").contains("g"));
        assert!(!said_in(PAGE, "One").contains("e"));
    }
}
