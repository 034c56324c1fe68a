// SPDX-License-Identifier: GPL-2.0

//! The commands that the help of the tool lists.

use std::process::{
    Command,
    Stdio, //
};

/// What the tool prints with these arguments, which it must take.
pub fn printed(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vfio-mig"));
    let output = command.args(args).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names of the commands.
pub fn commands() -> Vec<String> {
    let help = printed(&["--help"]);
    let (_, list) = help.split_once("\nCommands:\n").unwrap();
    let lines = list.lines().take_while(|line| !line.is_empty());
    lines
        .map(|line| line.split_whitespace().next().unwrap().to_string())
        .collect()
}
