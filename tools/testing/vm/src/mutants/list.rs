// SPDX-License-Identifier: GPL-2.0

//! The kept lists of mutants.

use super::mutant::{
    self,
    Mutant, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    collections::BTreeSet,
    fs,
    path::{
        Path,
        PathBuf, //
    },
};
use vm_common::names;

/// Where the lists are, in the checkout.
const FOLDER: &str = "tools/testing/mutants";

/// All mutants of the lists of a checkout, and those of cargo-mutants that nothing can notice.
fn read(top: &Path) -> Result<Vec<Mutant>> {
    let folder = top.join(FOLDER);
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let files: Result<BTreeSet<PathBuf>, _> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect();
    let mut all = Vec::new();
    for file in files? {
        let read = fs::read_to_string(&file).map_err(Into::into);
        let mutants = read.and_then(|text| mutant::parse(&text));
        all.extend(mutants.with_context(|| file.display().to_string())?);
    }
    Ok(all)
}

/// All mutants of the lists of a checkout.
pub fn all(top: &Path) -> Result<Vec<Mutant>> {
    let mut all = read(top)?;
    all.retain(|mutant| mutant.host.is_none());
    Ok(all)
}

/// Mutants of cargo-mutants that nothing can notice: "FILE: CHANGE".
pub fn of_host(top: &Path) -> Result<Vec<String>> {
    let place = |one: Mutant| Some(format!("{}: {}", one.file, one.host?));
    Ok(read(top)?.into_iter().filter_map(place).collect())
}

/// Those that `only` chooses, which may be several names with commas between them.
pub fn wanted(top: &Path, only: Option<&str>) -> Result<Vec<Mutant>> {
    let all = all(top)?;
    let names = || all.iter().map(|one| one.name.as_str());
    let mut chosen = BTreeSet::new();
    for only in only.unwrap_or_default().split(',') {
        let some = names::chosen(names(), Some(only));
        ensure!(
            !some.is_empty(),
            "no mutant has {only:?} in its name; there are\n{}",
            names::lines(names())
        );
        chosen.extend(some);
    }
    let is_chosen = |one: &&Mutant| chosen.contains(one.name.as_str());
    Ok(all.iter().filter(is_chosen).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../..");

    /// How many there must be, beside those that nothing can notice.
    const LEAST: usize = 60;

    #[test]
    fn several_can_be_chosen() {
        let count = |only| wanted(Path::new(TOP), only).map(|chosen| chosen.len()).ok();
        assert_eq!(count(Some("pages-not-freed,read-waits-on")), Some(2));
        assert_eq!(count(Some("pages-not-freed,nosuch")), None);
        assert_eq!(count(None), Some(all(Path::new(TOP)).unwrap().len()));
    }

    #[test]
    fn each_mutant_can_be_applied() {
        let all = all(Path::new(TOP)).unwrap();
        let mut names = BTreeSet::new();
        for one in &all {
            assert!(names.insert(&one.name), "{} is there twice", one.name);
            assert!(!one.name.contains(' '), "{}", one.name);
            let text = fs::read_to_string(Path::new(TOP).join(&one.file));
            let applied = text.map_err(Into::into).and_then(|text| one.apply(&text));
            if let Err(err) = applied {
                panic!("{}: {err:#}", one.name);
            }
        }
        for place in of_host(Path::new(TOP)).unwrap() {
            let file = place.split(':').next().unwrap_or_default();
            assert!(Path::new(TOP).join(file).exists(), "{place}");
        }
        let count = all.iter().filter(|one| one.equivalent.is_none()).count();
        assert!(count >= LEAST, "there are {count}");
    }
}
