// SPDX-License-Identifier: GPL-2.0

//! The examples of what makes VFs at boot: they run commands that the tool takes, the page shows
//! them as they are, and the package has them.

use std::process::Command;

const RULES: &str =
    include_str!("../../../Documentation/userspace-api/vfio-rust/70-vfio-mig.rules");
const UNIT: &str = include_str!("../../../Documentation/userspace-api/vfio-rust/vfio-mig@.service");
const PAGE: &str = include_str!("../../../Documentation/userspace-api/vfio-rust/operators.rst");
const PACKAGED: &str = include_str!("../../packaging/debian/vfio-mig.examples");

/// What follows a text, to the end of the line.
fn after<'a>(text: &'a str, begin: &str) -> &'a str {
    let mut lines = text.lines().filter_map(|line| line.split_once(begin));
    let (_, rest) = lines.next().expect("an example");
    rest
}

/// What a file in /etc/vfio-mig has.
fn options(text: &str) -> &str {
    after(text, "VFIO_MIG_OPTIONS=")
}

/// Fails unless these are options of `setup`. The PF is one that no machine has.
fn assert_taken(options: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vfio-mig"));
    command.args(["setup", "ffff:ff:1f.7"]);
    let output = command.args(options.split(' ')).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no such device"), "{said}");
}

#[test]
fn the_examples_are_command_lines() {
    assert_eq!(options(RULES), options(PAGE));
    assert!(RULES.contains("/usr/sbin/vfio-mig setup %k $env{VFIO_MIG_OPTIONS}"));
    assert_taken(options(RULES));
    assert_taken(after(UNIT, "ExecStart=/usr/sbin/vfio-mig setup %i "));
}

#[test]
fn the_page_and_the_package_have_the_examples() {
    for name in ["70-vfio-mig.rules", "vfio-mig@.service"] {
        let shown = format!(".. literalinclude:: {name}\n");
        assert!(PAGE.contains(&shown), "{name}");
        let path = format!("Documentation/userspace-api/vfio-rust/{name}");
        assert!(PACKAGED.lines().any(|line| line == path), "{name}");
    }
}

#[test]
fn each_rule_ends_at_the_label() {
    let mut rules = RULES
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let label = |line: &str, key: &str| {
        let (_, rest) = line.split_once(key)?;
        rest.split('"').nth(1).map(str::to_string)
    };
    let goals: Vec<String> = rules
        .clone()
        .filter_map(|line| label(line, "GOTO="))
        .collect();
    assert_eq!(goals.len(), 4);
    let end = rules
        .next_back()
        .and_then(|line| label(line, "LABEL="))
        .unwrap();
    assert!(goals.iter().all(|goal| *goal == end), "{goals:?}");
}
