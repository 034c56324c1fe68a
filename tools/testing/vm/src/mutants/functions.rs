// SPDX-License-Identifier: GPL-2.0

//! Draws functions of the kernel side for which mutants are to be written.

use super::{
    mutant::Mutant,
    shuffle, //
};
use anyhow::{
    Context,
    Result, //
};
use std::{
    fs,
    path::Path, //
};

/// Where they are drawn from, in the checkout: the driver, and its abstractions.
const FOLDERS: [&str; 2] = ["drivers/vfio/pci/mlx5_rust", "drivers/vfio/rust"];

/// A function.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Function {
    /// The file, in the checkout.
    pub file: String,
    /// The line that it begins in, from 1.
    pub line: usize,
    /// Its name.
    pub name: String,
}

/// The name of the function that a line begins.
fn name(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let (before, rest) = line.split_once("fn ")?;
    let is_qualifier = |word: &str| {
        matches!(word, "pub" | "const" | "unsafe" | "extern" | "\"C\"") || word.starts_with("pub(")
    };
    let is_declared = !line.ends_with(';') && before.split_whitespace().all(is_qualifier);
    is_declared.then(|| rest.split(['(', '<']).next().unwrap_or_default())
}

/// The functions of a file, without those of its tests, which are at its end.
fn of_text(file: &str, text: &str) -> Vec<Function> {
    let is_test = |line: &&str| line.contains("mod tests {");
    let lines = text.lines().take_while(|line| !is_test(line)).enumerate();
    let function = |(at, line)| {
        Some(Function {
            file: file.to_string(),
            line: at + 1,
            name: name(line)?.to_string(),
        })
    };
    lines.filter_map(function).collect()
}

fn below(top: &Path, folder: &str, found: &mut Vec<Function>) -> Result<()> {
    let path = top.join(folder);
    for entry in fs::read_dir(&path).with_context(|| path.display().to_string())? {
        let entry = entry?;
        let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            below(top, &name, found)?;
        } else if name.ends_with(".rs") {
            found.extend(of_text(&name, &fs::read_to_string(entry.path())?));
        }
    }
    Ok(())
}

/// All functions of the kernel side.
fn all(top: &Path) -> Result<Vec<Function>> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        below(top, folder, &mut found)?;
    }
    found.sort();
    Ok(found)
}

/// Whether a mutant changes a function.
fn is_of(mutant: &Mutant, function: &Function) -> bool {
    let names = [
        format!("fn {}(", function.name),
        format!("fn {}<", function.name),
    ];
    let within = mutant.within.as_deref().unwrap_or_default();
    mutant.file == function.file && names.iter().any(|name| within.contains(name))
}

/// Draws `count` functions, and shows them, with the mutants that there are of each.
pub fn show(top: &Path, mutants: &[Mutant], count: usize, seed: u64) -> Result<()> {
    let all = shuffle(all(top)?, seed, |one| format!("{}:{}", one.file, one.name));
    for one in all.into_iter().take(count) {
        let of = mutants.iter().filter(|mutant| is_of(mutant, &one));
        let of: Vec<&str> = of.map(|mutant| mutant.name.as_str()).collect();
        println!("{}:{}: {}: {}", one.file, one.line, one.name, of.join(" "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_and_tests_are_not() {
        let text = "\
/// Not a fn at all.
    pub(super) fn one(&self) -> Result {
    unsafe extern \"C\" fn two<T>(
    fn declared(&self);
    Some(fn_three);
mod tests {
    fn four() {
";
        let names: Vec<String> = of_text("a", text).into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["one", "two"]);
    }

    #[test]
    fn there_are_functions_to_draw_from() {
        let top = concat!(env!("CARGO_MANIFEST_DIR"), "/../../..");
        assert!(all(Path::new(top)).unwrap().len() > 300);
    }
}
