// SPDX-License-Identifier: GPL-2.0

//! A mutant: a small fault, as a list in `tools/testing/mutants` has it.
//!
//! Lines are compared without their indentation, and need not be given with it.

use super::suite::Suite;
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use std::{
    hash::{
        DefaultHasher,
        Hash,
        Hasher, //
    },
    mem, //
};

/// A line of the change.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Line {
    /// It is there, and stays.
    Kept(String),
    /// It is there, and goes.
    Old(String),
    /// It comes.
    New(String),
}

impl Line {
    /// The line before the change, if it is there.
    fn before(&self) -> Option<&str> {
        match self {
            Self::Kept(text) | Self::Old(text) => Some(text),
            Self::New(_) => None,
        }
    }

    /// The line after the change, if it is there.
    fn after(&self) -> Option<&str> {
        match self {
            Self::Kept(text) | Self::New(text) => Some(text),
            Self::Old(_) => None,
        }
    }
}

/// A small fault.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct Mutant {
    /// Its name.
    pub name: String,
    /// What is wrong then.
    pub about: String,
    /// The file that is changed, in the checkout.
    pub file: String,
    /// A part of the first line of the item that is changed. Without one, the change is looked
    /// for in the whole file.
    pub within: Option<String>,
    /// The change.
    pub lines: Vec<Line>,
    /// What should notice, the fastest first.
    pub suites: Vec<Suite>,
    /// The change in the words of cargo-mutants, which makes this one.
    pub host: Option<String>,
    /// Why nothing can notice.
    pub equivalent: Option<String>,
}

/// The lines of the item whose first line has `text` in it: until a brace with the indentation
/// of that line.
fn item<'a>(lines: &'a [&'a str], text: &str) -> Result<&'a [&'a str]> {
    let begins: Vec<usize> = (0..lines.len())
        .filter(|at| lines[*at].contains(text))
        .collect();
    let [begin] = begins[..] else {
        bail!("{} lines have {text:?} in them", begins.len());
    };
    let first = lines[begin];
    let indent = &first[..first.len() - first.trim_start().len()];
    let end = lines[begin..]
        .iter()
        .position(|line| line.strip_prefix(indent) == Some("}"))
        .with_context(|| format!("{text:?} has no end"))?;
    Ok(&lines[begin..=begin + end])
}

impl Mutant {
    /// Tells its text apart from another one.
    pub fn digest(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    /// The file's text with the fault. What is changed must be there once.
    pub fn apply(&self, text: &str) -> Result<String> {
        let lines: Vec<&str> = text.lines().collect();
        let scope = match &self.within {
            Some(within) => item(&lines, within)?,
            None => &lines,
        };
        let old: Vec<&str> = self.lines.iter().filter_map(Line::before).collect();
        ensure!(!old.is_empty(), "nothing is changed");
        let is_old = |part: &[&str]| part.iter().map(|line| line.trim()).eq(old.iter().copied());
        let mut found = scope.windows(old.len()).filter(|part| is_old(part));
        let (Some(part), None) = (found.next(), found.next()) else {
            bail!("the old lines are not there, or more than once");
        };
        // Both are slices of `lines`.
        let size = mem::size_of::<&str>();
        let begin = (part.as_ptr() as usize - lines.as_ptr() as usize) / size;
        let end = begin + part.len();
        let new: Vec<&str> = self.lines.iter().filter_map(Line::after).collect();
        ensure!(new != old, "nothing is changed");
        let all = lines[..begin].iter().chain(&new).chain(&lines[end..]);
        Ok(all.flat_map(|line| [line, "\n"]).collect())
    }

    /// Takes a line of a list.
    fn take(&mut self, line: &str) -> Result<()> {
        let text = |rest: &str| rest.trim().to_string();
        let (key, rest) = line.split_at_checked(1).unwrap_or_default();
        match key {
            "=" => self.lines.push(Line::Kept(text(rest))),
            "-" => self.lines.push(Line::Old(text(rest))),
            "+" => self.lines.push(Line::New(text(rest))),
            _ => {
                let (key, value) = line.split_once(' ').context("a word without a text")?;
                match key {
                    "about" => self.about = text(value),
                    "file" => self.file = text(value),
                    "in" => self.within = Some(text(value)),
                    "host" => self.host = Some(text(value)),
                    "equivalent" => self.equivalent = Some(text(value)),
                    "by" => {
                        let suites: Result<Vec<Suite>> =
                            value.split_whitespace().map(str::parse).collect();
                        self.suites = suites?;
                    }
                    _ => bail!("{key:?} is nothing that a mutant has"),
                }
            }
        }
        Ok(())
    }

    /// What is missing.
    fn check(&self) -> Result<()> {
        ensure!(!self.about.is_empty(), "it does not say what is wrong");
        ensure!(
            self.suites.is_empty() == self.equivalent.is_some(),
            "it has to say what should notice, or why nothing can"
        );
        ensure!(
            self.host.is_none() || self.equivalent.is_some() && self.lines.is_empty(),
            "what cargo-mutants makes is only here if nothing can notice it"
        );
        Ok(())
    }
}

/// The mutants of a list. A text goes on in the next line after a tab.
pub fn parse(text: &str) -> Result<Vec<Mutant>> {
    let text = text.replace("\n\t", " ");
    let mut mutants: Vec<Mutant> = Vec::new();
    for line in text.lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("mutant ") {
            mutants.push(Mutant {
                name: name.to_string(),
                ..Mutant::default()
            });
            continue;
        }
        let mutant = mutants.last_mut().context("a line before any mutant")?;
        let taken = mutant.take(line);
        taken.with_context(|| format!("{}: {line:?}", mutant.name))?;
    }
    for mutant in &mutants {
        mutant.check().with_context(|| mutant.name.clone())?;
    }
    Ok(mutants)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
# A comment.

mutant one
about A sentence
\tof two lines.
file a.rs
in fn b(
=let x = 1;
-x
+   x + 1
by cargo:mlx5-rust-logic stock-streams

mutant two
about Another one.
file a.rs
- fn a() {
+ fn c() {
equivalent nobody calls it
";

    const FILE: &str = "\
fn a() {
    let x = 1;
    x
}

fn b() {
    let x = 1;
    x
}
";

    #[test]
    fn a_list_is_read() {
        let mutants = parse(LIST).unwrap();
        assert_eq!(mutants.len(), 2);
        assert_eq!(mutants[0].about, "A sentence of two lines.");
        assert_eq!(mutants[0].suites.len(), 2);
        assert_eq!(mutants[1].equivalent.as_deref(), Some("nobody calls it"));
        assert!(mutants[0].digest() != mutants[1].digest());
        for wrong in [
            "about x",
            "mutant a\nabout x",
            "mutant a\nabout x\nby nosuch",
            "mutant a\nnosuch x",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_its_lines_are_changed() {
        let mut mutants = parse(LIST).unwrap();
        let [one, two] = &mut mutants[..] else {
            panic!()
        };
        let (a, b) = FILE.split_at(FILE.find("fn b").unwrap());
        let expected = format!(
            "{a}{}",
            b.replace("    let x = 1;\n    x\n", "let x = 1;\nx + 1\n")
        );
        assert_eq!(one.apply(FILE).unwrap(), expected);
        assert_eq!(two.apply(FILE).unwrap(), FILE.replace("fn a", "fn c"));
        // What is not unique, or not there, is refused.
        one.within = None;
        assert!(one.apply(FILE).is_err());
        one.within = Some("fn c(".to_string());
        assert!(one.apply(FILE).is_err());
        assert!(two.apply("fn c() {\n}\n").is_err());
    }
}
