// SPDX-License-Identifier: GPL-2.0

//! The rule of udev runs a command that the tool takes.

use std::process::Command;

const RULES: &str = include_str!("../udev/70-vfio-mig.rules");
const PAGE: &str = include_str!("../../../Documentation/userspace-api/vfio-rust/operators.rst");

/// What a file in /etc/vfio-mig has.
fn options(text: &str) -> &str {
    let mut lines = text
        .lines()
        .filter_map(|line| line.split_once("VFIO_MIG_OPTIONS="));
    let (_, options) = lines.next().expect("an example");
    options
}

#[test]
fn the_example_is_a_command_line() {
    assert_eq!(options(RULES), options(PAGE));
    assert!(RULES.contains("/usr/sbin/vfio-mig setup %k $env{VFIO_MIG_OPTIONS}"));
    // A PF that no machine has.
    let mut command = Command::new(env!("CARGO_BIN_EXE_vfio-mig"));
    command.args(["setup", "ffff:ff:1f.7"]);
    let output = command.args(options(RULES).split(' ')).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no such device"), "{said}");
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
