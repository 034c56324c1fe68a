// SPDX-License-Identifier: GPL-2.0

//! `series.toml`: of which patches a series consists, and of what each is made.

use crate::{
    message::{
        without_licence,
        Message, //
    },
    rewrite::Rules, //
};
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use serde::Deserialize;
use std::{
    collections::{
        BTreeMap,
        BTreeSet, //
    },
    fs,
    path::{
        Path,
        PathBuf, //
    },
};

/// The file of a series, in its folder.
const FILE: &str = "series.toml";

/// A file of this tree that a patch adds to the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Entry {
    /// The file has the same path there.
    Same(String),
    /// It has another one.
    #[serde(rename_all = "kebab-case")]
    Moved {
        /// The path in this tree.
        from: String,
        /// The path in the kernel.
        to: String,
    },
}

impl Entry {
    /// The path in this tree.
    pub fn from(&self) -> &str {
        match self {
            Self::Same(path) => path,
            Self::Moved { from, .. } => from,
        }
    }

    /// The path in the kernel.
    pub fn to(&self) -> &str {
        match self {
            Self::Same(path) => path,
            Self::Moved { to, .. } => to,
        }
    }
}

/// A patch, as `series.toml` has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PatchEntry {
    /// The file with its message, and with what it changes in files of the kernel.
    message: String,
    /// What it adds.
    #[serde(default)]
    files: Vec<Entry>,
    /// A diff by which files of this tree lose what the patch adds to them: what they are in the
    /// patches before.
    without: Option<String>,
    /// Tests that fail before the patch and pass after it, as KERNEL-SCENARIO:NAME.
    #[serde(default)]
    tests: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeriesFile {
    title: String,
    cover: String,
    base: Option<String>,
    #[serde(default)]
    rfc: bool,
    #[serde(default)]
    patch: Vec<PatchEntry>,
}

/// A patch.
#[derive(Debug)]
pub struct Patch {
    /// Its name: that of its file.
    pub name: String,
    /// Subject, body, and changes to files that the kernel has.
    pub message: Message,
    /// What it adds.
    pub files: Vec<Entry>,
    /// A diff by which files of this tree lose what the patch adds to them.
    pub without: Option<String>,
    /// Tests that fail before the patch and pass after it.
    pub tests: Vec<String>,
}

/// A series.
#[derive(Debug)]
pub struct Series {
    /// Its name: that of its folder.
    pub name: String,
    /// The subject of its cover letter.
    pub title: String,
    /// The text of its cover letter.
    pub cover: String,
    /// What the subjects of its mails begin with, in brackets.
    pub prefix: &'static str,
    /// The series that it applies to, if not to the kernel as it is.
    pub base: Option<String>,
    /// Its patches, in order.
    pub patches: Vec<Patch>,
}

/// All that the folder of series has.
#[derive(Debug)]
pub struct Manifest {
    /// The series, each after the one that it applies to.
    pub series: Vec<Series>,
    /// What is changed in files on their way to the kernel.
    pub rules: Rules,
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Whether a path leads to a file below the folder that it begins in.
fn is_below(path: &str) -> bool {
    let is_name = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.split('/').all(is_name)
}

/// Reads a file of a series, which must be in its folder and may be named once.
fn read_once(folder: &Path, name: &str, named: &mut BTreeSet<String>) -> Result<String> {
    let toml = folder.join(FILE);
    let is_name = is_below(name) && !name.contains('/');
    ensure!(
        is_name,
        "{} names {name:?}, which is no file beside it",
        toml.display()
    );
    let is_new = named.insert(name.to_string());
    ensure!(is_new, "{} names {name} twice", toml.display());
    read(&folder.join(name)).with_context(|| format!("{} names it", toml.display()))
}

impl Series {
    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let file: SeriesFile =
            toml::from_str(&read(&path)?).with_context(|| path.display().to_string())?;
        let mut named = BTreeSet::new();
        let cover_path = folder.join(&file.cover);
        let cover = read_once(folder, &file.cover, &mut named)?;
        let cover = without_licence(&cover).with_context(|| cover_path.display().to_string())?;
        let mut patches = Vec::new();
        for entry in file.patch {
            let path = folder.join(&entry.message);
            let text = read_once(folder, &entry.message, &mut named)?;
            let message = Message::parse(&text);
            let message = message.with_context(|| path.display().to_string())?;
            let name = Path::new(&entry.message).file_stem();
            let name = name.with_context(|| format!("{:?} has no name", entry.message))?;
            ensure!(
                !entry.files.is_empty() || message.diff.is_some(),
                "{} changes nothing: it has no files, and no diff",
                path.display()
            );
            let without = match &entry.without {
                Some(name) => {
                    let path = folder.join(name);
                    let text = read_once(folder, name, &mut named)?;
                    let text =
                        without_licence(&text).with_context(|| path.display().to_string())?;
                    Some(text.to_string())
                }
                None => None,
            };
            patches.push(Patch {
                name: name.to_string_lossy().into_owned(),
                message,
                files: entry.files,
                without,
                tests: entry.tests,
            });
        }
        ensure!(!patches.is_empty(), "{} has no patches", path.display());
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let extension = path.extension().unwrap_or_default();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            ensure!(
                (extension != "patch" && extension != "without") || named.contains(name.as_ref()),
                "{} is in no patch of {}",
                path.display(),
                folder.join(FILE).display()
            );
        }
        Ok(Self {
            name: folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            title: file.title,
            cover: cover.trim().to_string(),
            prefix: if file.rfc { "RFC PATCH" } else { "PATCH" },
            base: file.base,
            patches,
        })
    }
}

/// The series of a chain, each with how many of its patches there are after the first `count` of
/// the last one: all of the others.
pub fn counted<'a>(
    chain: &'a [&'a Series],
    count: usize,
) -> impl Iterator<Item = (&'a Series, usize)> {
    chain.iter().enumerate().map(move |(i, series)| {
        let is_last = i + 1 == chain.len();
        (*series, if is_last { count } else { series.patches.len() })
    })
}

/// Fails unless each file is added by one patch, and is below this tree and that of the kernel.
fn require_once(series: &[Series]) -> Result<()> {
    let (mut from, mut to) = (BTreeMap::new(), BTreeMap::new());
    for one in series {
        for patch in &one.patches {
            let id = format!("{}/{}", one.name, patch.name);
            for entry in &patch.files {
                for (path, all) in [(entry.from(), &mut from), (entry.to(), &mut to)] {
                    ensure!(
                        is_below(path),
                        "{id} has {path:?}, which is no path in a tree"
                    );
                    if let Some(other) = all.insert(path, id.clone()) {
                        bail!("{path} is in {other} and in {id}: one patch adds it");
                    }
                }
            }
        }
    }
    Ok(())
}

impl Manifest {
    /// Reads all series that are in folders of `folder`.
    pub fn read(folder: &Path) -> Result<Self> {
        let rules = folder.join("rewrite.toml");
        let rules = match rules.exists() {
            true => toml::from_str(&read(&rules)?).with_context(|| rules.display().to_string())?,
            false => Rules::default(),
        };
        let mut folders: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.join(FILE).exists() {
                folders.push(path);
            }
        }
        folders.sort();
        let mut open = Vec::new();
        for folder in folders {
            open.push(Series::read(&folder)?);
        }
        // Each after its base.
        let mut series: Vec<Series> = Vec::new();
        while !open.is_empty() {
            let is_ready = |one: &Series| {
                let base = one.base.as_deref();
                base.is_none_or(|base| series.iter().any(|one| one.name == base))
            };
            let Some(next) = open.iter().position(is_ready) else {
                // Others may wait for the one that is wrong.
                let waits = |one: &&Series| {
                    let is_base = |other: &Series| one.base.as_ref() == Some(&other.name);
                    open.iter()
                        .any(|other| other.name != one.name && is_base(other))
                };
                let wrong = open.iter().find(|one| !waits(one)).unwrap_or(&open[0]);
                bail!(
                    "{} applies to {:?}, which is no series that comes before it",
                    wrong.name,
                    wrong.base.as_deref().unwrap_or_default()
                );
            };
            series.push(open.remove(next));
        }
        require_once(&series)?;
        Ok(Self { series, rules })
    }

    /// The series with this name.
    fn find(&self, name: &str) -> Result<&Series> {
        let found = self.series.iter().find(|one| one.name == name);
        found.with_context(|| {
            let names: Vec<_> = self.series.iter().map(|one| one.name.as_str()).collect();
            format!("there is no series {name:?}, but {}", names.join(", "))
        })
    }

    /// The series with these names, in the order of the manifest; all, if there are no names.
    pub fn wanted(&self, names: &[String]) -> Result<Vec<&Series>> {
        for name in names {
            self.find(name)?;
        }
        let is_wanted = |one: &&Series| names.is_empty() || names.contains(&one.name);
        Ok(self.series.iter().filter(is_wanted).collect())
    }

    /// The series with this name, and all that it applies to, in order.
    pub fn chain(&self, name: &str) -> Result<Vec<&Series>> {
        let mut chain = Vec::new();
        let mut next = Some(name);
        while let Some(name) = next {
            let one = self.find(name)?;
            chain.push(one);
            next = one.base.as_deref();
        }
        chain.reverse();
        Ok(chain)
    }

    /// The series that apply to the end of `chain`, or to one that does, in order.
    pub fn after<'a>(&'a self, chain: &[&Series]) -> Vec<&'a Series> {
        let mut names: BTreeSet<&str> = chain
            .last()
            .map(|last| last.name.as_str())
            .into_iter()
            .collect();
        let mut after = Vec::new();
        // Each comes after its base.
        for series in &self.series {
            if series
                .base
                .as_deref()
                .is_some_and(|base| names.contains(base))
            {
                names.insert(&series.name);
                after.push(series);
            }
        }
        after
    }
}
