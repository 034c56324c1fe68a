// SPDX-License-Identifier: GPL-2.0

//! Which KUnit tests a machine must report: those that the source has.

use crate::paths::Paths;
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    collections::BTreeMap,
    fs,
    path::{
        Path,
        PathBuf, //
    },
};
use vm_common::kernel::Kernel;

/// Where build.sh puts our modules with their tests, for a kernel that loads them.
pub fn folder(kernel: Kernel) -> Option<&'static str> {
    match kernel {
        Kernel::Intree => Some("kunit"),
        Kernel::Debug => Some("kunit-debug"),
        _ => None,
    }
}

/// The file that has the examples of the documentation, in that folder and in a kernel's.
const EXAMPLES: &str = "drivers/vfio/rust/examples_generated.rs";
/// Where the documentation with the examples is.
const DOCUMENTED: &str = "drivers/vfio/rust";
/// The crate that compiles the files without kernel types for the host.
const LOGIC: &str = "tools/testing/mlx5-rust-logic/src";

/// Tests by suite.
type Suites = BTreeMap<String, Vec<String>>;

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// What is between two texts.
fn between<'a>(line: &'a str, before: &str, behind: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(before)?;
    Some(rest.split_once(behind)?.0)
}

/// The suites of a file: modules with `kunit_tests(NAME)`.
fn suites(text: &str) -> Suites {
    let mut suites = Suites::new();
    let mut suite: Option<&mut Vec<String>> = None;
    let mut is_test = false;
    for line in text.lines() {
        if let Some(name) = between(line, "kunit_tests(", ")") {
            suite = Some(suites.entry(name.to_string()).or_default());
        } else if line == "}" {
            suite = None;
        } else if line.trim() == "#[test]" {
            is_test = true;
        } else if let (true, Some(name)) = (is_test, between(line, "fn ", "(")) {
            is_test = false;
            if let Some(suite) = &mut suite {
                suite.push(name.to_string());
            }
        }
    }
    suites
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// The suites of our modules. Each file without kernel types must have one, unless it is a
/// skeleton's.
fn modules(top: &Path) -> Result<Suites> {
    let logic = top.join(LOGIC);
    for line in read(&logic.join("lib.rs"))?.lines() {
        if let Some(path) = between(line, "#[path = \"", "\"") {
            let count = suites(&read(&logic.join(path))?).len();
            // No machine of KUnit loads a skeleton.
            let expected = usize::from(!path.contains("/skeletons/"));
            ensure!(
                count == expected,
                "{path} has {count} suites for KUnit, not {expected}"
            );
        }
    }
    let mut files = Vec::new();
    sources(&top.join("drivers"), &mut files)?;
    sources(&top.join("samples"), &mut files)?;
    let mut all = Suites::new();
    for file in files {
        for (suite, tests) in suites(&read(&file)?) {
            let file = file.display();
            ensure!(!tests.is_empty(), "{file}: {suite} has no test");
            let other = all.insert(suite, tests);
            ensure!(other.is_none(), "{file}: a suite is there twice");
        }
    }
    Ok(all)
}

/// How many examples the documentation has.
fn examples(top: &Path) -> Result<usize> {
    let mut files = Vec::new();
    sources(&top.join(DOCUMENTED), &mut files)?;
    let mut count = 0;
    for file in files {
        let text = read(&file)?;
        let lines = text.lines().map(str::trim);
        let fences = lines.filter(|line| *line == "/// ```" || *line == "//! ```");
        let texts = text.matches("```text").count();
        // Each has one at its end.
        count += (fences.count() - texts) / 2;
    }
    Ok(count)
}

/// What the machine must report: in each line a suite, and a test of it.
pub fn list(paths: &Paths, kernel: Kernel) -> Result<String> {
    let mut all = modules(&paths.top)?;
    let objects = match folder(kernel) {
        Some(folder) => paths.build.join(folder),
        None => paths.builtin.clone(),
    };
    let built = suites(&read(&objects.join(EXAMPLES))?);
    let count: usize = built.values().map(Vec::len).sum();
    let expected = examples(&paths.top)?;
    ensure!(
        count == expected && count > 0,
        "{count} of {expected} examples are tests"
    );
    all.extend(built);
    let mut list = String::new();
    for (suite, tests) in all {
        for test in tests {
            list += &format!("{suite} {test}\n");
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_is_found_with_its_tests() {
        let text = "\
#[cfg_attr(CONFIG_A, kernel::prelude::kunit_tests(one))]
mod tests {
    fn helper() {}

    #[test]
    fn a() {}

    #[test]
    #[cfg(b)]
    fn b() -> Result {}
}

#[test]
fn elsewhere() {}
";
        let tests = vec!["a".to_string(), "b".to_string()];
        assert_eq!(suites(text), Suites::from([("one".to_string(), tests)]));
        assert!(suites("mod tests {\n    #[test]\n    fn a() {}\n}\n").is_empty());
    }

    #[test]
    fn each_file_without_kernel_types_has_a_suite() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
        let suites = modules(&top).unwrap();
        assert!(suites.len() > 5, "{suites:?}");
        assert!(examples(&top).unwrap() > 0);
    }
}
