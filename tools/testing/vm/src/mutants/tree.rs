// SPDX-License-Identifier: GPL-2.0

//! A copy of the checkout, of which each worker has its own, and what is built from it.

use super::mutant::Mutant;
use crate::{
    children,
    paths::Paths, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    fs::{
        self,
        File, //
    },
    path::{
        Path,
        PathBuf, //
    },
    process::{
        Command,
        Stdio, //
    },
};
use vm_common::kernel::Kernel;

/// What is built from the copy, and whether it compiles.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Built {
    /// It compiles.
    Yes,
    /// The compiler refuses it, as a log says.
    No(PathBuf),
}

/// The copy, and folders of what is built from it.
pub struct Tree {
    /// Where all this is.
    folder: PathBuf,
    /// The scripts of the checkout.
    scripts: PathBuf,
    /// Those of machines that load what is built here, with results in the copy.
    pub paths: Paths,
}

/// A mutant that is applied, until this is dropped.
pub struct Applied {
    file: PathBuf,
    before: String,
}

impl Drop for Applied {
    fn drop(&mut self) {
        // If that fails, the next copy mends it.
        let _ = fs::write(&self.file, &self.before);
    }
}

/// Copies the checkout to a folder. Files that are the same there stay as they are: what was
/// built from them is not built again.
pub fn copy(top: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let status = children::bind(&mut Command::new("rsync"))
        .args([
            "-rlp",
            "--checksum",
            "--delete",
            "--exclude=/out",
            "--exclude=/.git",
        ])
        .arg(format!("{}/", top.display()))
        .arg(to)
        .status()
        .context("rsync")?;
    ensure!(status.success(), "rsync: {status}");
    Ok(())
}

impl Tree {
    /// Makes the copy of a worker, or brings it up to date.
    pub fn new(paths: &Paths, folder: PathBuf) -> Result<Self> {
        let top = folder.join("tree");
        copy(&paths.top, &top)?;
        Ok(Self {
            scripts: paths.top.join("tools/testing/vm"),
            paths: Paths {
                top,
                modules: Some(folder.join("modules")),
                ..paths.clone()
            },
            folder,
        })
    }

    /// Applies a mutant.
    pub fn apply(&self, mutant: &Mutant) -> Result<Applied> {
        let file = self.paths.top.join(&mutant.file);
        let before = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let after = mutant.apply(&before).with_context(|| mutant.name.clone())?;
        fs::write(&file, after)?;
        Ok(Applied { file, before })
    }

    /// Runs a command of which the copy is built, or tested. Its output goes to a log.
    pub fn run(&self, name: &str, command: &mut Command) -> Result<(bool, PathBuf)> {
        let log = self.folder.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| log.display().to_string())?;
        let status = children::bind(command)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .status()
            .with_context(|| format!("{command:?}"))?;
        Ok((status.success(), log))
    }

    /// Builds our modules for a kernel.
    pub fn modules(&self, kernel: Kernel) -> Result<Built> {
        let to = self.folder.join("modules").join(kernel.name());
        fs::create_dir_all(&to)?;
        let mut command = Command::new(self.scripts.join("mutant.sh"));
        command.arg(kernel.name()).arg(&self.paths.top).arg(to);
        let (ok, log) = self.run(&format!("build-{}", kernel.name()), &mut command)?;
        Ok(if ok { Built::Yes } else { Built::No(log) })
    }

    /// A cargo of the copy.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new("cargo");
        command
            .current_dir(self.paths.top.join("tools"))
            .env("CARGO_TARGET_DIR", self.folder.join("target"));
        command
    }
}
