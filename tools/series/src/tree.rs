// SPDX-License-Identifier: GPL-2.0

//! What the kernel's tree has after a patch.

use crate::{
    git,
    imports::{
        self,
        Piece, //
    },
    manifest::{
        self,
        Manifest,
        Series, //
    },
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    collections::{
        BTreeMap,
        BTreeSet, //
    },
    fs,
    path::Path,
};

/// The attributes of a crate begin so.
const ATTRIBUTES: &str = "\n#![";
/// What a crate needs whose other modules come with later patches.
const UNUSED: &str =
    "\n// Until the rest of the crate is there.\n#![allow(dead_code, unreachable_pub, unused_imports, unused_macros)]";

/// Files that patches add, by their paths in the kernel.
pub type Files = BTreeMap<String, String>;

/// The texts of all files of `chain`, and of the series that apply to it, without what patches add
/// to them that come after the first `count` of its last series. By their paths in this tree.
fn texts(top: &Path, manifest: &Manifest, chain: &[&Series], count: usize) -> Result<Files> {
    let after = manifest.after(chain);
    let mut texts = Files::new();
    for series in chain.iter().chain(&after) {
        for entry in series.patches.iter().flat_map(|patch| &patch.files) {
            let text = fs::read_to_string(top.join(entry.from())).with_context(|| {
                format!(
                    "{0} cannot be read; if it is gone for good, take it out of \
                     tools/series/{1}/series.toml",
                    entry.from(),
                    series.name
                )
            })?;
            texts.insert(entry.from().to_string(), text);
        }
    }
    let counted = manifest::counted(chain, count).chain(after.iter().map(|series| (*series, 0)));
    let later = counted.flat_map(|(series, count)| {
        let patches = series.patches[count..].iter();
        patches.map(move |patch| (series, patch))
    });
    let mut diffs: Vec<_> = later
        .filter_map(|(series, patch)| Some((series, patch, patch.without.as_ref()?)))
        .collect();
    diffs.reverse();
    if diffs.is_empty() {
        return Ok(texts);
    }
    let folder = tempfile::tempdir()?;
    for (path, text) in &texts {
        git::put(folder.path(), path, text)?;
    }
    for (series, patch, diff) in diffs {
        git::apply(folder.path(), diff).with_context(|| {
            format!(
                "the tree has changed where {}/{} adds to it: adapt its diff",
                series.name, patch.name
            )
        })?;
    }
    for (path, text) in &mut texts {
        *text = fs::read_to_string(folder.path().join(path))?;
    }
    Ok(texts)
}

/// The files of this tree as they are in the kernel after the first `count` patches of the last
/// series of `chain`, and all of the others.
pub fn files(top: &Path, manifest: &Manifest, chain: &[&Series], count: usize) -> Result<Files> {
    let mut files = Files::new();
    let texts = texts(top, manifest, chain, count)?;
    for (series, count) in manifest::counted(chain, count) {
        for entry in series.patches[..count]
            .iter()
            .flat_map(|patch| &patch.files)
        {
            let text = &texts[entry.from()];
            let text = manifest.rules.apply(text, entry.from(), entry.to())?;
            files.insert(entry.to().to_string(), text);
        }
    }
    let present: BTreeSet<String> = files.keys().cloned().collect();
    let mut incomplete = Vec::new();
    for (path, text) in &mut files {
        if path.ends_with(".rs") {
            let whole = without_absent(path, text, &present)?;
            if whole != *text {
                incomplete.push(path.clone());
                *text = manifest.rules.format(whole, path)?;
            }
        }
    }
    for (path, text) in &mut files {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let is_in = |file: &String| file.starts_with(&format!("{folder}/"));
        if is_crate(path) && incomplete.iter().any(is_in) {
            *text = text.replacen(ATTRIBUTES, &format!("{UNUSED}{ATTRIBUTES}"), 1);
        }
    }
    Ok(files)
}

/// Whether a file is the first one of a crate.
fn is_crate(path: &str) -> bool {
    path.ends_with("/lib.rs") || path.ends_with("_main.rs")
}

/// The folder that the modules of a file are in.
fn modules_of(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name {
        "mod.rs" => format!("{folder}/"),
        _ if is_crate(path) => format!("{folder}/"),
        name => format!("{folder}/{}/", name.trim_end_matches(".rs")),
    }
}

/// The name in a line that declares a module in another file.
fn declared(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("pub ").unwrap_or(line);
    let rest = rest.strip_prefix("pub(crate) ").unwrap_or(rest);
    rest.strip_prefix("mod ")?.trim_end().strip_suffix(';')
}

/// The text of a file without the modules that come with a later patch.
fn without_absent(path: &str, text: &str, present: &BTreeSet<String>) -> Result<String> {
    let folder = modules_of(path);
    let is_absent = |name: &str| {
        !present.contains(&format!("{folder}{name}.rs"))
            && !present.contains(&format!("{folder}{name}/mod.rs"))
    };
    let absent: BTreeSet<&str> = text
        .lines()
        .filter_map(declared)
        .filter(|name| is_absent(name))
        .collect();
    if absent.is_empty() {
        return Ok(text.to_string());
    }
    let mut done = String::new();
    for piece in imports::pieces(text).with_context(|| path.to_string())? {
        match piece {
            Piece::Text(text) => {
                // What documents a module goes with it.
                let mut about = String::new();
                for line in text.split_inclusive('\n') {
                    if declared(line.trim_end_matches('\n'))
                        .is_some_and(|name| absent.contains(name))
                    {
                        about.clear();
                        continue;
                    }
                    about += line;
                    if !line.starts_with("///") && !line.starts_with("#[") {
                        done += &std::mem::take(&mut about);
                    }
                }
                done += &about;
            }
            Piece::Imports(mut imports, text) => {
                let paths = imports.paths.len();
                imports.paths.retain(|path| {
                    let path = path.strip_prefix("self::").unwrap_or(path);
                    !absent.contains(path.split("::").next().unwrap_or_default())
                });
                match imports.paths.len() == paths {
                    true => done += &text,
                    false => done += &imports.text(),
                }
            }
        }
    }
    Ok(done)
}

/// Fails unless each file below `folders` of this tree is in a series once, and is whole at the end.
pub fn require_all(top: &Path, manifest: &Manifest, folders: &[String]) -> Result<()> {
    let mut last = BTreeMap::new();
    for series in &manifest.series {
        for patch in &series.patches {
            for entry in &patch.files {
                last.insert(entry.to(), (entry.from(), &patch.name));
            }
        }
    }
    let sent: BTreeSet<&str> = last.values().map(|(from, _)| *from).collect();
    let mut open: Vec<_> = folders.iter().map(|folder| top.join(folder)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let below = fs::read_dir(&path).with_context(|| path.display().to_string())?;
            for entry in below {
                open.push(entry?.path());
            }
            continue;
        }
        let name = path.strip_prefix(top)?.to_string_lossy().into_owned();
        ensure!(
            sent.contains(name.as_str()) || manifest.rules.stays(&name),
            "{name} is in no patch; give it a place in a series.toml of tools/series, or a \
             reason under [[stays]] of tools/series/rewrite.toml; if kbuild has left it, `make \
             clean` removes it"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "//! A crate.\n\n/// First.\npub mod a;\n/// Second.\nmod b;\n\npub use \
                        b::{\n    X,\n    Y, //\n};\nuse a::Z;\n";

    #[test]
    fn modules_come_with_their_files() {
        let present = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        let both = present(&["x/a/mod.rs", "x/b.rs"]);
        assert_eq!(without_absent("x/lib.rs", TEXT, &both).unwrap(), TEXT);
        let one = present(&["x/a.rs"]);
        assert_eq!(
            without_absent("x/lib.rs", TEXT, &one).unwrap(),
            "//! A crate.\n\n/// First.\npub mod a;\n\nuse a::Z;\n"
        );
        let below = present(&["x/y/a.rs", "x/y/b.rs"]);
        assert_eq!(without_absent("x/y.rs", TEXT, &below).unwrap(), TEXT);
    }

    #[test]
    fn nothing_is_left_behind_what_a_file_ends_with() {
        let text = "fn f() {}\n\n#[cfg(CONFIG_X)]\nmod tests;\n";
        let text = without_absent("x/lib.rs", text, &BTreeSet::new()).unwrap();
        let text = crate::rewrite::Rules::default().format(text, "x/lib.rs");
        assert_eq!(text.unwrap(), "fn f() {}\n");
    }
}
