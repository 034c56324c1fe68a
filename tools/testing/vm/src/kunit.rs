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
/// Examples of the kernel crate that rustdoc has made tests of, among a kernel's objects.
const DOCTESTS: &str = "rust/doctests_kernel_generated_kunit.c";
/// Their suite.
const DOCTESTS_SUITE: &str = "rust_doctests_kernel";
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

/// Fails unless each file without kernel types has a suite. That of a skeleton has none.
fn require_suites(top: &Path) -> Result<()> {
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
    Ok(())
}

/// The suites of the modules whose source is in `top`.
fn modules(top: &Path) -> Result<Suites> {
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

/// How many examples a file has.
fn examples_in(text: &str) -> usize {
    let lines = text.lines().map(str::trim);
    let fences = lines.filter(|line| *line == "/// ```" || *line == "//! ```");
    // Each has one at its end.
    (fences.count() - text.matches("```text").count()) / 2
}

/// How many examples the documentation of the abstractions has.
fn examples(top: &Path) -> Result<usize> {
    let mut files = Vec::new();
    sources(&top.join(DOCUMENTED), &mut files)?;
    files.iter().map(|file| Ok(examples_in(&read(file)?))).sum()
}

/// The examples of files of the kernel crate that the series add or change, as tests of the
/// kernel with these objects. The source of those files is in `tree`.
fn doctests(tree: &Path, objects: &Path) -> Result<Vec<String>> {
    let built = read(&objects.join(DOCTESTS))?;
    let built: Vec<_> = built
        .lines()
        .filter_map(|line| between(line, "KUNIT_CASE(", ")"))
        .collect();
    let crates = tree.join("rust");
    let mut files = Vec::new();
    sources(&crates.join("kernel"), &mut files)?;
    let mut all = Vec::new();
    for file in files {
        let name = file.strip_prefix(&crates)?.display().to_string();
        let prefix = format!("rust_doctest_{}_", name.replace(['/', '.'], "_"));
        let is_of_file = |test: &&&str| {
            let rest = test.strip_prefix(&prefix);
            rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let tests = built.iter().filter(is_of_file).map(|test| test.to_string());
        let before = all.len();
        all.extend(tests);
        ensure!(
            all.len() > before || examples_in(&read(&file)?) == 0,
            "no example of {name} is a test"
        );
    }
    ensure!(!all.is_empty(), "the kernel crate has no examples");
    Ok(all)
}

/// What the machine must report: in each line a suite, and a test of it.
pub fn list(paths: &Paths, kernel: Kernel) -> Result<String> {
    require_suites(&paths.top)?;
    // Modules that take the place of a kernel's are built from this tree, an image from the
    // series.
    let (objects, top) = match folder(kernel) {
        Some(folder) => (paths.build.join(folder), &paths.top),
        None => (paths.builtin.clone(), &paths.laid),
    };
    let mut all = modules(top)?;
    let built = suites(&read(&objects.join(EXAMPLES))?);
    let count: usize = built.values().map(Vec::len).sum();
    let expected = examples(top)?;
    ensure!(
        count == expected && count > 0,
        "{count} of {expected} examples are tests"
    );
    all.extend(built);
    if folder(kernel).is_none() {
        all.insert(DOCTESTS_SUITE.to_string(), doctests(top, &objects)?);
    }
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
        require_suites(&top).unwrap();
        let suites = modules(&top).unwrap();
        assert!(suites.len() > 5, "{suites:?}");
        assert!(examples(&top).unwrap() > 0);
    }

    #[test]
    fn examples_of_the_kernel_crate_are_known_by_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put(
            DOCTESTS,
            "KUNIT_CASE(rust_doctest_kernel_sync_wait_rs_0),\n\
             KUNIT_CASE(rust_doctest_kernel_sync_wait_rs_x_rs_0),\n\
             KUNIT_CASE(rust_doctest_kernel_list_rs_0),\n",
        );
        put("rust/kernel/sync/wait.rs", "/// ```\n/// x();\n/// ```\n");
        put("rust/kernel/sync.rs", "pub mod wait;\n");
        let found = || doctests(folder.path(), folder.path());
        assert_eq!(found().unwrap(), ["rust_doctest_kernel_sync_wait_rs_0"]);
        put("rust/kernel/page.rs", "/// ```\n/// x();\n/// ```\n");
        let missing = found().unwrap_err().to_string();
        assert_eq!(missing, "no example of kernel/page.rs is a test");
    }
}
