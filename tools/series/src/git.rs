// SPDX-License-Identifier: GPL-2.0

//! Series as `git format-patch` writes them, of a repository that has just the files of the kernel
//! that they change: hunks, and the digests of files, are those of the kernel's own repository.

use crate::{
    author::Author,
    finished,
    manifest::{
        self,
        Manifest,
        Patch,
        Series, //
    },
    program,
    tree::{
        self,
        Files, //
    },
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
    process::Command, //
};

/// Stands in diffs for the author, whom MAINTAINERS names.
const AUTHOR: &str = "@AUTHOR@";

/// Applies a diff to the files in a folder. Context must fit exactly.
pub fn apply(folder: &Path, diff: &str) -> Result<()> {
    let mut command = Command::new("patch");
    command.args([
        "-p1",
        "--fuzz=0",
        "--no-backup-if-mismatch",
        "--batch",
        "--quiet",
        "-d",
    ]);
    program::output(command.arg(folder), diff).map(drop)
}

/// Changes files of the kernel as a patch does.
fn change(folder: &Path, patch: &Patch, author: &str) -> Result<()> {
    match &patch.message.diff {
        Some(diff) => apply(folder, &diff.replace(AUTHOR, author))
            .with_context(|| format!("{}.patch does not apply", patch.name)),
        None => Ok(()),
    }
}

/// The files of the kernel that patches change.
fn changed(series: &[&Series]) -> BTreeSet<String> {
    let patches = series.iter().flat_map(|one| &one.patches);
    let lines = patches
        .filter_map(|patch| patch.message.diff.as_deref())
        .flat_map(str::lines);
    lines
        .filter_map(|line| line.strip_prefix("--- a/"))
        .map(|path| path.split('\t').next().unwrap_or_default().to_string())
        .collect()
}

/// Writes a file below a folder, unless it is there.
pub fn put(folder: &Path, path: &str, text: &str) -> Result<()> {
    let path = folder.join(path);
    if let Some(above) = path.parent() {
        fs::create_dir_all(above).with_context(|| above.display().to_string())?;
    }
    if fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(&path, text).with_context(|| path.display().to_string())
}

/// Makes `to` have the files that `series` change, as they are in the kernel's source.
fn begin(to: &Path, source: &Path, series: &[&Series]) -> Result<()> {
    for path in changed(series) {
        // A patch before may add it.
        if let Ok(text) = fs::read_to_string(source.join(&path)) {
            put(to, &path, &text)?;
        }
    }
    Ok(())
}

/// Writes the files of `chain` to the folder `to`: those that the kernel's source has not, or has
/// otherwise, after the first `count` patches of the last series.
pub fn write_tree(
    top: &Path,
    manifest: &Manifest,
    chain: &[&Series],
    count: usize,
    source: &Path,
    to: &Path,
) -> Result<()> {
    begin(to, source, chain)?;
    for (series, count) in manifest::counted(chain, count) {
        for patch in &series.patches[..count] {
            change(to, patch, AUTHOR)?;
        }
    }
    for (path, text) in tree::files(top, manifest, chain, count)? {
        put(to, &path, &text)?;
    }
    Ok(())
}

/// A repository.
struct Repository<'a> {
    folder: PathBuf,
    author: &'a Author,
}

impl Repository<'_> {
    fn git(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new("git");
        // Nothing of the user's configuration changes what is written.
        command
            .arg("-C")
            .arg(&self.folder)
            .args(["-c", "core.autocrlf=false", "-c", "commit.gpgsign=false"])
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_NAME", &self.author.name)
            .env("GIT_AUTHOR_EMAIL", &self.author.email)
            .env("GIT_COMMITTER_NAME", &self.author.name)
            .env("GIT_COMMITTER_EMAIL", &self.author.email);
        program::output(&mut command, input)
    }

    fn commit(&self, message: &str) -> Result<()> {
        self.git(&["add", "--all", "--force"], "")?;
        self.git(
            &[
                "commit",
                "--quiet",
                "--no-verify",
                "--cleanup=verbatim",
                "--file=-",
            ],
            message,
        )?;
        Ok(())
    }

    fn tree(&self, of: &str) -> Result<String> {
        self.git(&["rev-parse", &format!("{of}^{{tree}}")], "")
    }

    /// Commits each patch of a series to a branch of its name.
    fn add(&self, top: &Path, manifest: &Manifest, series: &Series) -> Result<()> {
        let base = series.base.as_deref().unwrap_or("kernel");
        self.git(&["checkout", "--quiet", "-b", &series.name, base], "")?;
        let chain = manifest.chain(&series.name)?;
        for (i, patch) in series.patches.iter().enumerate() {
            let files: Files = tree::files(top, manifest, &chain, i + 1)?;
            change(&self.folder, patch, &self.author.to_string())?;
            for (path, text) in &files {
                put(&self.folder, path, text)?;
            }
            self.commit(&patch.message.commit(&self.author.to_string()))
                .with_context(|| format!("{}/{}", series.name, patch.name))?;
        }
        Ok(())
    }

    /// Writes the mails of a series to a folder, and applies them as a maintainer does.
    fn mail(&self, series: &Series, to: &Path) -> Result<()> {
        let base = series.base.as_deref().unwrap_or("kernel");
        let range = format!("{base}..{}", series.name);
        let folder = format!("--output-directory={}", to.display());
        self.git(
            &[
                "format-patch",
                "--quiet",
                "--cover-letter",
                &format!("--subject-prefix={}", series.prefix),
                "--no-signature",
                "--full-index",
                "--no-renames",
                &folder,
                &range,
            ],
            "",
        )?;
        let cover = to.join("0000-cover-letter.patch");
        let text = fs::read_to_string(&cover).with_context(|| cover.display().to_string())?;
        let text = text
            .replacen("*** SUBJECT HERE ***", &series.title, 1)
            .replacen("*** BLURB HERE ***", &series.cover, 1);
        fs::write(&cover, text).with_context(|| cover.display().to_string())?;

        let check = format!("{}-applied", series.name);
        self.git(&["checkout", "--quiet", "-b", &check, base], "")?;
        let mut mails: Vec<_> = fs::read_dir(to)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<_>>()?;
        mails.sort();
        let mails: Vec<_> = mails
            .iter()
            .skip(1)
            .map(|path| path.to_string_lossy())
            .collect();
        let mut arguments = vec!["am", "--quiet", "--whitespace=error"];
        arguments.extend(mails.iter().map(|path| path.as_ref()));
        self.git(&arguments, "")
            .with_context(|| format!("the mails of {} do not apply", series.name))?;
        ensure!(
            self.tree(&check)? == self.tree(&series.name)?,
            "the mails of {} come to another tree than its patches",
            series.name
        );
        Ok(())
    }
}

/// Writes the series `wanted` below the folder `out`, or none of them.
pub fn write(
    top: &Path,
    manifest: &Manifest,
    wanted: &[&Series],
    source: &Path,
    author: &Author,
    out: &Path,
) -> Result<()> {
    // Git is run in another folder.
    let out = fs::canonicalize(out).with_context(|| out.display().to_string())?;
    let folder = out.join("repository");
    finished::remove(&folder)?;
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let repository = Repository { folder, author };
    let all: Vec<&Series> = manifest.series.iter().collect();
    begin(&repository.folder, source, &all)?;
    repository.git(&["init", "--quiet", "--initial-branch=kernel"], "")?;
    repository.commit("The kernel's files that are changed\n")?;
    let mut needed = BTreeSet::new();
    for series in wanted {
        let chain = manifest.chain(&series.name)?;
        needed.extend(chain.iter().map(|one| one.name.as_str()));
    }
    // Each after its base.
    for series in &manifest.series {
        if needed.contains(series.name.as_str()) {
            repository.add(top, manifest, series)?;
        }
    }
    let names: Vec<&str> = wanted.iter().map(|one| one.name.as_str()).collect();
    finished::folders(&out, &names, |i, to| repository.mail(wanted[i], to))
}
