// SPDX-License-Identifier: GPL-2.0

//! What the tool prints fits in a terminal of 80 columns, and has colours nowhere else.

mod listed;

use listed::{
    commands,
    printed, //
};
use std::process::{
    Command,
    Stdio, //
};

const COLUMNS: usize = 80;

fn tool(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vfio-mig"));
    command.args(args).stdin(Stdio::null());
    command
}

#[test]
fn no_line_is_too_long() {
    let mut texts = vec![
        printed(&["--help"]),
        printed(&["-h"]),
        printed(&["help"]),
        printed(&["test", "--list"]),
    ];
    for command in commands() {
        texts.push(printed(&["help", &command]));
        if command != "help" {
            texts.push(printed(&[&command, "--help"]));
            texts.push(printed(&[&command, "-h"]));
        }
    }
    for line in texts.iter().flat_map(|text| text.lines()) {
        assert!(line.chars().count() <= COLUMNS, "{line}");
    }
}

#[test]
fn only_a_terminal_gets_colours() {
    const ESCAPE: u8 = 0x1b;
    for args in [&["--help"][..], &["info"], &["nosuch"]] {
        let output = tool(args).env_remove("NO_COLOR").output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        assert!(!text.is_empty() && !text.contains(&ESCAPE), "{args:?}");
    }
    for (no_color, wanted) in [(None, true), (Some("1"), false)] {
        let terminal = nix::pty::openpty(None, None).unwrap();
        let mut command = tool(&["nosuch"]);
        command.env("TERM", "xterm").env_remove("NO_COLOR");
        command.envs(no_color.map(|value| ("NO_COLOR", value)));
        command.stderr(terminal.slave).output().unwrap();
        let mut text = [0; 64];
        let read = nix::unistd::read(std::os::fd::AsRawFd::as_raw_fd(&terminal.master), &mut text);
        let text = &text[..read.unwrap()];
        assert_eq!(text.contains(&ESCAPE), wanted, "{no_color:?}: {text:?}");
    }
}
