// SPDX-License-Identifier: GPL-2.0

//! The page about the tool has what `--help` has, and nothing else.

use std::{
    fs,
    process::Command, //
};

/// The page.
fn page() -> String {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../Documentation/userspace-api/vfio-rust/vfio-mig.rst"
    );
    fs::read_to_string(path).unwrap()
}

fn help(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vfio-mig"));
    let output = command.args(args).arg("--help").output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names in the list of commands.
fn commands() -> Vec<String> {
    let help = help(&[]);
    let (_, list) = help.split_once("\nCommands:\n").unwrap();
    let lines = list.lines().take_while(|line| !line.is_empty());
    lines
        .map(|line| line.split_whitespace().next().unwrap().to_string())
        .collect()
}

/// An option, as `--help` shows it.
struct Flag {
    /// With the name of its value, if it has one.
    name: String,
    /// What it is by default, unless that is nothing.
    default: Option<String>,
}

/// The options of a command, without those that every command has.
fn flags(command: &str) -> Vec<Flag> {
    let help = help(&[command]);
    let Some((_, list)) = help.split_once("\nOptions:\n") else {
        return Vec::new();
    };
    let mut flags: Vec<Flag> = Vec::new();
    for line in list.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        // Its text is indented by more than an option.
        if line.starts_with("      --") || line.starts_with("  -") {
            let name = match words[..] {
                [name, value, ..] if value.starts_with('<') => {
                    format!("{name} {}", value.trim_matches(['<', '>']))
                }
                [name, ..] => name.to_string(),
                [] => unreachable!("the line has a dash"),
            };
            let default = None;
            flags.push(Flag { name, default });
        }
        if let Some((_, default)) = line.split_once("[default: ") {
            let default = default.split(']').next().unwrap();
            let flag = flags.last_mut().expect("an option");
            flag.default = Some(default.to_string()).filter(|value| value != "0");
        }
    }
    flags.retain(|flag| !["--json", "-h,"].contains(&flag.name.as_str()));
    flags
}

/// The synopsis of a command, in one line.
fn synopsis(command: &str) -> String {
    let help = help(&[command]);
    let usage = help.lines().find_map(|line| line.strip_prefix("Usage: "));
    let mut words = usage.unwrap().replace(" [OPTIONS]", "");
    words.retain(|c| c != '<' && c != '>');
    // The usage has those that must be given.
    let usage = words.clone();
    for flag in flags(command) {
        if !usage.contains(&flag.name) {
            words.push_str(&format!(" [{}]", flag.name));
        }
    }
    words
}

/// The lines of the page's synopsis, each with the lines that go on with it.
fn synopses(page: &str) -> Vec<String> {
    let (_, block) = page.split_once("::\n\n").unwrap();
    let lines = block.lines().take_while(|line| line.starts_with("    "));
    let mut all: Vec<String> = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.first(), all.last_mut()) {
            (Some(&"vfio-mig"), _) | (_, None) => all.push(words.join(" ")),
            (_, Some(before)) => *before = format!("{before} {}", words.join(" ")),
        }
    }
    all
}

/// The section about a command; its title may name others, too.
fn section(page: &str, command: &str) -> String {
    let lines: Vec<&str> = page.lines().collect();
    // A table has blanks in such a line, or a blank line before it.
    let is_ruled = |line: &&str| line.starts_with("===") && !line.contains(' ');
    let is_title = |i: usize| lines.get(i + 1).is_some_and(is_ruled) && !lines[i].is_empty();
    let has_title = |i: &usize| is_title(*i) && lines[*i].split(", ").any(|name| name == command);
    let begin = (0..lines.len()).find(has_title);
    let begin = begin.unwrap_or_else(|| panic!("no section about {command}"));
    let end = (begin + 1..lines.len()).find(|i| is_title(*i));
    lines[begin..end.unwrap_or(lines.len())].join("\n")
}

#[test]
fn the_synopsis_is_that_of_the_help() {
    // `help --help` is about something else.
    let mut expected: Vec<String> = commands()
        .iter()
        .filter(|command| *command != "help")
        .map(|command| synopsis(command))
        .collect();
    expected.push("vfio-mig help [COMMAND]...".to_string());
    assert_eq!(synopses(&page()), expected);
}

#[test]
fn each_option_is_described_with_its_default() {
    let page = page();
    for command in commands() {
        let section = section(&page, &command);
        // Where a section is about two commands, each has a list.
        let list = match section.split_once(&format!("Options of ``{command}``:")) {
            Some((_, list)) => list.split("Options of").next().unwrap(),
            None => &section,
        };
        let flags = match command.as_str() {
            "help" => continue,
            command => flags(command),
        };
        let mut lines: Vec<String> = flags
            .iter()
            .map(|flag| match &flag.default {
                Some(default) => format!("``{}``, {default} by default", flag.name),
                None => format!("``{}``", flag.name),
            })
            .collect();
        let mut described: Vec<String> = list
            .lines()
            .filter(|line| line.starts_with("``--"))
            .filter(|line| line.ends_with("``") || line.ends_with(" by default"))
            .map(str::to_string)
            .collect();
        lines.sort();
        described.sort();
        assert_eq!(described, lines, "{command}");
    }
}

#[test]
fn each_exit_status_is_described() {
    let help = help(&[]);
    let (_, text) = help.split_once("Exit status: ").unwrap();
    let paragraph = text.split("\n\n").next().unwrap();
    let statuses: Vec<&str> = paragraph
        .split(|c: char| !c.is_ascii_digit())
        .filter(|word| !word.is_empty())
        .collect();
    assert!(statuses.len() >= 6, "{paragraph}");
    let page = page();
    let (_, table) = page.split_once("\nExit status:\n\n======").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    for status in statuses {
        let is_row = |line: &str| {
            let row = line.strip_prefix(status);
            row.is_some_and(|rest| rest.starts_with([' ', '+']))
        };
        assert!(table.lines().any(is_row), "{status}: {table}");
    }
}

#[test]
fn the_help_of_a_command_has_all_of_its_text() {
    for (command, text) in [
        ("test", "Exits with 0 if none failed"),
        ("stress", "given up half way"),
        ("fuzz", "prints the command that repeats it"),
    ] {
        let help = help(&[command])
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert!(help.contains(text), "{command}: {help}");
    }
}
