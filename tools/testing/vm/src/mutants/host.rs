// SPDX-License-Identifier: GPL-2.0

//! cargo-mutants, for what compiles on the host: it makes mutants of each function of the driver's
//! pure logic, and runs the tests of the crate that compiles them.

use super::{
    list,
    tree, //
};
use crate::{
    children,
    paths::Paths, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use serde::Serialize;
use std::{
    fs,
    path::{
        Path,
        PathBuf, //
    },
    process::{
        Command,
        Stdio, //
    },
};

/// Chooses this in place of a mutant of a list.
pub const NAME: &str = "cargo-mutants";
/// The workspace of the copy: cargo-mutants takes no file from outside of it, and these are
/// all over the checkout.
const WORKSPACE: &str = "\
[workspace]
resolver = \"3\"
members = [
    \"tools/testing/mlx5-rust-logic\",
]
";
/// What is not to be changed: tests, and what is only used by them.
const EXCLUDED: [&str; 3] = ["**/*_tests.rs", "**/fuzz/**", "**/fuzz.rs"];
/// The same, by name.
const EXCLUDED_NAMES: &str = "tests::";

/// What cargo-mutants has come to.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize)]
pub struct Host {
    /// Those that compile.
    pub mutants: usize,
    /// Those that a test has noticed, or for which a test had no end.
    pub killed: usize,
    /// Those that no test has noticed, as cargo-mutants calls them.
    pub survived: Vec<String>,
    /// Those of them that nothing can notice.
    pub equivalent: usize,
}

/// The lines of a file of cargo-mutants, which is not there if there is none.
fn lines(folder: &Path, file: &str) -> Vec<String> {
    let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
    text.lines().map(str::to_string).collect()
}

/// Without the path from the crate to the checkout.
fn short(name: &str) -> &str {
    name.rsplit_once("../").map_or(name, |(_, name)| name)
}

/// "FILE: CHANGE", without line and column.
fn place(name: &str) -> String {
    let mut parts = short(name).splitn(4, ':');
    let file = parts.next().unwrap_or_default();
    let change = parts.nth(2).unwrap_or_default();
    format!("{file}:{change}")
}

/// Takes the files of a run apart. `equivalent` has mutants that nothing can notice.
fn read(folder: &Path, equivalent: &[String]) -> Host {
    let count = |file| lines(folder, file).len();
    let missed = lines(folder, "missed.txt");
    let is_equivalent = |name: &&String| equivalent.contains(&place(name));
    let known = missed.iter().filter(is_equivalent).count();
    let killed = count("caught.txt") + count("timeout.txt") + count("previously_caught.txt");
    let survived = missed.iter().filter(|name| !is_equivalent(name));
    Host {
        mutants: killed + missed.len() - known,
        killed,
        survived: survived.map(|name| short(name).to_string()).collect(),
        equivalent: known,
    }
}

/// The copy that cargo-mutants copies.
fn prepare(paths: &Paths, folder: &Path) -> Result<PathBuf> {
    let top = folder.join("tree");
    tree::copy(&paths.top, &top)?;
    fs::write(top.join("Cargo.toml"), WORKSPACE)?;
    fs::rename(top.join("tools/Cargo.lock"), top.join("Cargo.lock"))?;
    fs::remove_file(top.join("tools/Cargo.toml"))?;
    Ok(top)
}

/// Where cargo-mutants leaves what it has found.
const RESULTS: &str = "mutants.out";
/// Which code and which tests that is about.
const MARKER: &str = "code";

/// What tells code and tests apart.
fn code(paths: &Paths) -> String {
    format!("{} {}", paths.code, paths.tests)
}

/// What cargo-mutants has found so far, if it was run with this code.
pub fn results(paths: &Paths, folder: &Path) -> Option<Host> {
    let known = fs::read_to_string(folder.join(MARKER)).ok()?;
    let equivalent = list::of_host(&paths.top).ok()?;
    (known == code(paths)).then(|| read(&folder.join(RESULTS), &equivalent))
}

/// Runs cargo-mutants, or goes on with that if the code is the same as the last time.
pub fn run(paths: &Paths, folder: &Path) -> Result<()> {
    let top = prepare(paths, folder)?;
    if results(paths, folder).is_none() {
        let _ = fs::remove_dir_all(folder.join(RESULTS));
        fs::write(folder.join(MARKER), code(paths))?;
    }
    let mut command = Command::new(paths.cargo_mutants.join("bin/cargo-mutants"));
    command
        .args([
            "mutants",
            "--iterate",
            "--no-shuffle",
            "--colors=never",
            "--dir",
        ])
        .arg(&top)
        .arg("--output")
        .arg(folder)
        .args(["--exclude-re", EXCLUDED_NAMES])
        .args(EXCLUDED.iter().flat_map(|glob| ["--exclude", glob]))
        .args(["--cargo-arg=--release", "--minimum-test-timeout=60"])
        // What it builds is not to be taken for ours.
        .env_remove("CARGO_TARGET_DIR")
        .stdin(Stdio::null());
    let status = children::bind(&mut command)
        .status()
        .context("cargo-mutants")?;
    // 2: some were missed. 3: some tests had no end.
    ensure!(
        matches!(status.code(), Some(0 | 2 | 3)),
        "cargo-mutants: {status}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read() {
        let folder = std::env::temp_dir().join(format!("vm-test-host-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let name = |line: &str| format!("tools/x/src/../../../drivers/a.rs:{line}: replace f\n");
        fs::write(folder.join("caught.txt"), name("1:2") + &name("3:4")).unwrap();
        fs::write(folder.join("timeout.txt"), name("5:6")).unwrap();
        let other = "tools/x/src/../../../drivers/b.rs:1:2: replace < with <= in g\n";
        fs::write(folder.join("missed.txt"), name("7:8") + other).unwrap();
        let equivalent = ["drivers/b.rs: replace < with <= in g".to_string()];
        let expected = Host {
            mutants: 4,
            killed: 3,
            survived: vec!["drivers/a.rs:7:8: replace f".to_string()],
            equivalent: 1,
        };
        assert_eq!(read(&folder, &equivalent), expected);
        fs::remove_dir_all(folder).unwrap();
    }
}
