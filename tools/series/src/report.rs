// SPDX-License-Identifier: GPL-2.0

//! What was found of each patch: a report as JSON, and a table.

use crate::manifest::Series;
use anyhow::{
    ensure,
    Context,
    Result, //
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs,
    path::Path, //
};

/// A test that fails before a patch and passes after it. None: it was not run.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct TestFound {
    name: String,
    fails_before: Option<bool>,
    passes_after: Option<bool>,
}

impl TestFound {
    fn new(name: &str, lines: &[Vec<String>]) -> Self {
        let line = lines.iter().find(|line| line[0] == name && line.len() == 3);
        let is = |field: usize, word: &str| match line?[field].as_str() {
            "unknown" => None,
            found => Some(found == word),
        };
        Self {
            name: name.to_string(),
            fails_before: is(1, "fails"),
            passes_after: is(2, "passes"),
        }
    }

    fn is_good(&self) -> bool {
        self.fails_before != Some(false) && self.passes_after != Some(false)
    }
}

/// A patch.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Found {
    number: usize,
    name: String,
    subject: String,
    /// Whether its mail applies, with git am, after those before it.
    applies: bool,
    /// For each architecture, whether the kernel builds after it, without warnings.
    builds: BTreeMap<String, bool>,
    /// What checkpatch.pl --strict says. Checks count as warnings.
    checkpatch_errors: Option<u32>,
    checkpatch_warnings: Option<u32>,
    /// How many people and lists get_maintainer.pl names beside linux-kernel, which it names for
    /// each file.
    maintainers: Option<u32>,
    /// Tests that fail before it and pass after it.
    tests: Vec<TestFound>,
}

#[derive(Debug, Serialize)]
struct SeriesFound {
    name: String,
    title: String,
    /// Whether all is well after the last patch, for each kind of check of that.
    tip: BTreeMap<String, bool>,
    patches: Vec<Found>,
}

/// The fields of a file whose lines begin with SERIES:NUMBER. Empty if it is not there.
fn fields(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| line.split('\t').map(str::to_string).collect();
    text.lines().map(line).collect()
}

/// What lines say whose second field is the name of a check, and the third one its result.
fn passed<'a>(lines: impl Iterator<Item = &'a Vec<String>>) -> BTreeMap<String, bool> {
    lines
        .map(|line| (line[1].clone(), line[2] == "ok"))
        .collect()
}

/// The same for people.
fn listed(checks: &BTreeMap<String, bool>) -> String {
    let one =
        |(name, ok): (&String, &bool)| format!("{name} {}", if *ok { "ok" } else { "FAILED" });
    checks.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The columns of the table: that of what was built is left out if nothing was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Columns {
    All,
    WithoutBuilds,
}

impl Columns {
    fn of(all: &[SeriesFound]) -> Self {
        let mut patches = all.iter().flat_map(|series| &series.patches);
        match patches.any(|patch| !patch.builds.is_empty()) {
            true => Self::All,
            false => Self::WithoutBuilds,
        }
    }

    fn line(self, fields: [&str; 7]) -> String {
        let [series, number, applies, errors, warnings, builds, subject] = fields;
        let builds = match self {
            Self::All => format!("{builds:24} "),
            Self::WithoutBuilds => String::new(),
        };
        format!("{series:10} {number:>3}  {applies:7} {errors:>6} {warnings:>8}  {builds}{subject}")
    }
}

impl Found {
    fn is_good(&self) -> bool {
        let clean = self.checkpatch_errors == Some(0) && self.checkpatch_warnings == Some(0);
        let known = self.maintainers.is_some_and(|count| count > 0);
        let tested = self.tests.iter().all(TestFound::is_good);
        self.applies && clean && known && tested && self.builds.values().all(|ok| *ok)
    }

    /// Its line of the table of a series.
    fn line(&self, series: &str, columns: Columns) -> String {
        let number = |number: Option<u32>| number.map_or("?".to_string(), |n| n.to_string());
        columns.line([
            series,
            &self.number.to_string(),
            if self.applies { "yes" } else { "NO" },
            &number(self.checkpatch_errors),
            &number(self.checkpatch_warnings),
            &listed(&self.builds),
            &self.subject,
        ])
    }
}

/// Writes the report on `series` of what is in `folder` to a file, which has its name only when it
/// is complete, and prints a table. Fails if something is wrong.
pub fn write(series: &[&Series], folder: &Path, report: &Path) -> Result<()> {
    let read = |name: &str| fields(&folder.join(name));
    let (checks, builds, tips) = (read("checks"), read("builds"), read("tips"));
    let tests = read("tests");
    let mut all = Vec::new();
    for series in series {
        let mut patches = Vec::new();
        for (i, patch) in series.patches.iter().enumerate() {
            let id = format!("{}:{}", series.name, i + 1);
            let check = checks.iter().find(|line| line[0] == id);
            let number = |field: usize| check?.get(field)?.parse::<u32>().ok();
            let sum = |a: Option<u32>, b: Option<u32>| Some(a? + b?);
            let builds = builds
                .iter()
                .filter(|line| line[0] == id && line.len() == 3);
            patches.push(Found {
                number: i + 1,
                name: patch.name.clone(),
                subject: patch.message.subject.clone(),
                // Mails are checked once all of them apply.
                applies: check.is_some(),
                builds: passed(builds),
                checkpatch_errors: number(1),
                checkpatch_warnings: sum(number(2), number(3)),
                maintainers: number(4),
                tests: patch
                    .tests
                    .iter()
                    .map(|name| TestFound::new(name, &tests))
                    .collect(),
            });
        }
        let tips = tips
            .iter()
            .filter(|line| line[0] == series.name && line.len() == 3);
        all.push(SeriesFound {
            name: series.name.clone(),
            title: series.title.clone(),
            tip: passed(tips),
            patches,
        });
    }
    let unfinished = folder.join("report.json");
    let json = serde_json::to_string_pretty(&all)? + "\n";
    fs::write(&unfinished, json).with_context(|| unfinished.display().to_string())?;
    fs::rename(&unfinished, report).with_context(|| report.display().to_string())?;

    let columns = Columns::of(&all);
    let titles = [
        "series", "no", "applies", "errors", "warnings", "builds", "subject",
    ];
    println!("{}", columns.line(titles));
    let (mut bad, mut bad_tips) = (0, 0);
    for series in &all {
        for patch in &series.patches {
            println!("{}", patch.line(&series.name, columns));
            bad += usize::from(!patch.is_good());
        }
        if !series.tip.is_empty() {
            println!("{:10} end  {}", series.name, listed(&series.tip));
        }
        bad_tips += series.tip.values().filter(|ok| !**ok).count();
    }
    ensure!(
        bad == 0,
        "not all patches are as they should be: {bad} are not"
    );
    ensure!(
        bad_tips == 0,
        "{bad_tips} checks of what a series leaves have failed"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_fails_before_and_passes_after() {
        let line = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<_>>();
        let is_good = |text| TestFound::new("x", &[line(text)]).is_good();
        assert!(is_good("x fails passes"));
        assert!(is_good("x unknown passes"));
        assert!(!is_good("x passes passes"));
        assert!(!is_good("x fails fails"));
        // It was not run.
        assert!(is_good("y passes fails"));
    }

    fn found(errors: Option<u32>, builds: &[(&str, bool)]) -> Found {
        let builds = builds.iter().map(|(name, ok)| ((*name).to_string(), *ok));
        Found {
            number: 1,
            name: "x".to_string(),
            subject: "vfio: Do it".to_string(),
            applies: true,
            builds: builds.collect(),
            checkpatch_errors: errors,
            checkpatch_warnings: Some(0),
            maintainers: Some(3),
            tests: Vec::new(),
        }
    }

    #[test]
    fn a_patch_is_good_if_nothing_is_wrong() {
        let found = |errors, ok| found(errors, &[("arm64", ok)]);
        assert!(found(Some(0), true).is_good());
        assert!(!found(Some(1), true).is_good());
        assert!(!found(None, true).is_good());
        assert!(!found(Some(0), false).is_good());
        let line = found(Some(0), false).line("vfio", Columns::All);
        assert!(line.contains("arm64 FAILED"));
    }

    #[test]
    fn the_table_has_builds_only_if_something_was_built() {
        let columns = |patches| {
            let series = SeriesFound {
                name: "vfio".to_string(),
                title: "VFIO".to_string(),
                tip: BTreeMap::new(),
                patches,
            };
            Columns::of(&[series])
        };
        let none = found(Some(0), &[]);
        let line = none.line("vfio", Columns::WithoutBuilds);
        assert_eq!(line, "vfio         1  yes          0        0  vfio: Do it");
        assert_eq!(columns(vec![none]), Columns::WithoutBuilds);
        let patches = vec![found(Some(0), &[]), found(Some(0), &[("arm64", true)])];
        assert_eq!(columns(patches), Columns::All);
    }
}
