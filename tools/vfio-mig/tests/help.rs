// SPDX-License-Identifier: GPL-2.0

//! The help, and the usage that follows an error of the command line.

mod listed;

use listed::commands;
use std::process::Command;

/// What the tool prints, to whichever of the two.
fn said(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vfio-mig"));
    let output = command.args(args).output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[test]
fn options_of_every_command_come_after_its_own() {
    for command in commands().iter().filter(|name| *name != "help") {
        for help in ["-h", "--help"] {
            let text = said(&[command, help]);
            let (_, list) = text.split_once("\nOptions:\n").expect(command);
            let names: Vec<&str> = list
                .lines()
                .filter(|line| line.starts_with("      --") || line.starts_with("  -"))
                .filter_map(|line| line.split_whitespace().next())
                .collect();
            assert!(names.ends_with(&["--json", "-h,"]), "{command}: {names:?}");
        }
    }
}

#[test]
fn a_dash_is_what_the_command_makes_of_it() {
    for (command, is, is_not) in [
        ("save", "standard output", "standard input"),
        ("load", "standard input", "standard output"),
    ] {
        let text = said(&[command, "--help"]);
        assert!(text.contains(&format!("\"-\" for {is}")), "{text}");
        assert!(!text.contains(is_not), "{text}");
    }
}

#[test]
fn setup_names_both_of_which_one_is_needed() {
    for args in [
        &["setup"][..],
        &["setup", "01:00.0"],
        &["setup", "01:00.0", "--vfs", "2", "--undo"],
    ] {
        let text = said(args);
        let usage = "Usage: vfio-mig setup <--vfs <N>|--undo> <PF>";
        assert!(text.contains(usage), "{args:?}: {text}");
    }
    assert!(said(&["setup", "-h"]).contains("setup [OPTIONS] <--vfs <N>|--undo> <PF>"));
}
