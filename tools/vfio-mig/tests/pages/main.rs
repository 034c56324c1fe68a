// SPDX-License-Identifier: GPL-2.0

//! The output of the tool in our pages is what the tool prints. Commands that need no device
//! are run here; of the others, the command line is checked, and the scenario `tool` runs
//! them.

mod shown;

use shown::Shown;
use std::{
    fs,
    path::Path,
    process::{
        Command,
        Output,
        Stdio, //
    },
};

fn tool(args: &[String]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vfio-mig"));
    command.args(args).stdin(Stdio::null()).output().unwrap()
}

fn printed(output: &Output) -> String {
    let bytes = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn what_needs_no_device_prints_what_pages_show() {
    let shown: Vec<Shown> = shown::all();
    let here: Vec<&Shown> = shown.iter().filter(|one| !one.needs_device).collect();
    assert!(!here.is_empty());
    for one in here {
        let output = tool(&one.args);
        assert!(!one.output.is_empty(), "{:?} prints nothing?", one.args);
        one.compare(&printed(&output)).unwrap();
    }
}

/// Devices that no machine has, in place of those of a page: a command line that is wrong
/// is found before they are missing.
fn absent(arg: &str) -> String {
    match arg.strip_prefix("01:00.") {
        Some(function) => format!("ffff:ff:1f.{function}"),
        None => arg.to_string(),
    }
}

#[test]
fn what_needs_a_device_has_a_right_command_line() {
    let shown = shown::all();
    let there: Vec<&Shown> = shown.iter().filter(|one| one.needs_device).collect();
    assert!(there.iter().any(|one| !one.output.is_empty()));
    for one in there {
        let args: Vec<String> = one.args.iter().map(|arg| absent(arg)).collect();
        let output = tool(&args);
        let said = printed(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
    }
}

/// All pages below a folder, and what is in them.
fn pages(dir: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rst") {
            let name = path.file_name().unwrap().to_str().unwrap().to_string();
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

/// All pages, with their names.
fn all_pages() -> Vec<(String, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = fs::read_to_string(top.join("README.md")).unwrap();
    let mut found = vec![("README.md".to_string(), readme)];
    pages(&top.join("Documentation"), &mut found);
    found
}

/// What follows the name of the tool in a text: in a line of a block, or between backquotes.
fn mentioned(text: &str) -> Vec<Vec<&str>> {
    let lines = text.lines().flat_map(|line| {
        let of_block = line
            .trim_start()
            .trim_start_matches(['#', '$'])
            .trim_start();
        let indented = line.starts_with("    ").then_some(of_block);
        let quoted = line.split('`').skip(1);
        quoted.chain(indented)
    });
    lines
        .filter_map(|text| text.strip_prefix("vfio-mig "))
        .map(|args| {
            args.split_whitespace()
                .map(|word| word.trim_matches(['[', ']']))
                .collect()
        })
        .collect()
}

#[test]
fn each_command_that_a_page_mentions_exists() {
    let mut count = 0;
    for (page, text) in all_pages() {
        for args in mentioned(&text) {
            let [name, rest @ ..] = &args[..] else {
                continue;
            };
            // `help --help` is about something else.
            if *name == "help" || !name.chars().all(|c| c.is_ascii_lowercase()) {
                continue;
            }
            let output = tool(&[name.to_string(), "--help".to_string()]);
            assert!(output.status.success(), "{page}: vfio-mig {name}");
            let help = printed(&output);
            for option in rest.iter().filter(|word| word.starts_with("--")) {
                let mut words = help.split(|c: char| !c.is_ascii_lowercase() && c != '-');
                let known = words.any(|word| word == *option);
                assert!(known, "{page}: vfio-mig {name} has no {option}");
            }
            count += 1;
        }
    }
    assert!(count > 50, "{count}");
}

#[test]
fn all_pages_with_commands_are_looked_at() {
    for (name, text) in all_pages() {
        let listed = shown::PAGES.iter().any(|(page, _)| *page == name);
        let shows = !shown::on("", &text).is_empty();
        assert_eq!(shows, listed, "{name}: shown.rs has the list");
    }
}

#[test]
fn a_difference_is_found() {
    let text = "\
Text::

    # vfio-mig test 01:00.4 --only \\
        precopy
    1..2
    ok 1 one
    ...
    # Totals: pass:1 ...

    $ vfio-mig --version
    vfio-mig 0.1.0

More text.
";
    let shown = shown::on("page", text);
    let [test, version] = &shown[..] else {
        panic!("{} commands", shown.len());
    };
    assert!(test.needs_device && !version.needs_device);
    assert_eq!(test.args, ["test", "01:00.4", "--only", "precopy"]);
    assert_eq!(version.output, ["vfio-mig 0.1.0"]);
    let good = "1..2\nok 1 one\nok 2 two\n# Totals: pass:2 fail:0\n";
    test.compare(good).unwrap();
    for (from, to) in [
        ("1..2", "1..3"),
        ("one", "another"),
        ("Totals", "Sums"),
        ("ok 1 one\n", ""),
    ] {
        test.compare(&good.replace(from, to)).unwrap_err();
    }
    version.compare("vfio-mig 12.3.45\n").unwrap();
    version.compare("vfio-mig 0.1.0\nmore\n").unwrap_err();
    version.compare("").unwrap_err();
}
