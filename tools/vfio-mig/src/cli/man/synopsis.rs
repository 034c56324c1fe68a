// SPDX-License-Identifier: GPL-2.0

//! The synopsis of a command: its options with their values, what may be given more than once,
//! and of which one must be given. The synopsis of `clap_mangen` has none of these.

use clap::{
    Arg,
    ArgAction,
    Command, //
};
use clap_mangen::roff::{
    bold,
    italic,
    roman,
    Inline,
    Roff, //
};
use std::io::{
    self,
    Write, //
};

/// The names of the values that an argument takes.
fn values(arg: &Arg) -> Vec<String> {
    let names = arg.get_value_names().unwrap_or_default();
    names.iter().map(ToString::to_string).collect()
}

/// Whether an argument may be given again, or may have more values than one.
fn repeats(arg: &Arg) -> bool {
    let several = arg.get_num_args().is_some_and(|n| n.max_values() > 1);
    several || matches!(arg.get_action(), ArgAction::Append)
}

/// An option, with what stands for its value.
fn option(arg: &Arg) -> Vec<Inline> {
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let mut words = Vec::new();
    for name in short.into_iter().chain(long) {
        if !words.is_empty() {
            words.push(roman("|"));
        }
        words.push(bold(name));
    }
    if arg.get_action().takes_values() {
        for value in values(arg) {
            words.extend([roman(" "), italic(value)]);
        }
    }
    words
}

/// Puts words in brackets, with dots behind them if they may be given again.
fn bracketed(begin: &str, words: Vec<Inline>, end: &str, arg: Option<&Arg>) -> Vec<Inline> {
    let dots = arg.is_some_and(repeats).then(|| roman("..."));
    let mut all = vec![roman(begin)];
    all.extend(words);
    all.push(roman(end));
    all.extend(dots);
    all
}

/// What a command takes, in order: its own options, those of every command, its other arguments.
fn parts(command: &Command) -> Vec<Vec<Inline>> {
    let mut options: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| !arg.is_positional() && !arg.is_hide_set())
        .collect();
    options.sort_by_key(|arg| arg.get_display_order());
    let groups: Vec<Vec<&Arg>> = command
        .get_groups()
        .filter(|group| group.is_required_set())
        .map(|group| {
            let is_in = |arg: &&&Arg| group.get_args().any(|id| id == arg.get_id());
            options.iter().filter(is_in).copied().collect()
        })
        .collect();
    let mut parts: Vec<Vec<Inline>> = Vec::new();
    for group in &groups {
        let mut words = Vec::new();
        for arg in group {
            if !words.is_empty() {
                words.push(roman("|"));
            }
            words.extend(option(arg));
        }
        parts.push(bracketed("{", words, "}", None));
    }
    let grouped: Vec<&Arg> = groups.concat();
    for arg in options {
        if !grouped.iter().any(|other| other.get_id() == arg.get_id()) {
            parts.push(bracketed("[", option(arg), "]", Some(arg)));
        }
    }
    for arg in command.get_positionals() {
        let words = values(arg).into_iter().map(italic).collect();
        let (begin, end) = match arg.is_required_set() {
            true => ("", ""),
            false => ("[", "]"),
        };
        parts.push(bracketed(begin, words, end, Some(arg)));
    }
    if let Some(name) = command.get_subcommand_value_name() {
        if command.has_subcommands() {
            parts.push(vec![italic(name)]);
        }
    }
    parts
}

/// Writes the section.
pub fn section(page: &mut impl Write, command: &Command) -> io::Result<()> {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let mut line = vec![bold(name)];
    for part in parts(command) {
        line.push(roman(" "));
        line.extend(part);
    }
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    // No word is broken, and none is stretched.
    roff.control("nh", []);
    roff.control("ad", ["l"]);
    roff.text(line);
    roff.control("ad", []);
    roff.control("hy", []);
    roff.to_writer(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;

    fn synopsis(name: &str) -> String {
        let mut tool = cli::command();
        tool.build();
        let command = tool.find_subcommand(name).unwrap_or(&tool);
        let words = parts(command).into_iter().map(|part| {
            let text = |word: Inline| match word {
                Inline::Roman(text) | Inline::Italic(text) | Inline::Bold(text) => text,
                Inline::LineBreak => unreachable!("a synopsis has none"),
            };
            part.into_iter().map(text).collect::<String>()
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn options_have_their_values_and_what_repeats_has_dots() {
        for (command, expected) in [
            ("", "[--json] [-h|--help] [-V|--version] COMMAND"),
            (
                "bind",
                "[--driver NAME] [--force] [--dry-run] [--json] [-h|--help] VF...",
            ),
            ("state", "[--json] [-h|--help] DEVICE [STATES]..."),
            (
                "setup",
                "{--vfs N|--undo} [--switchdev] [--driver NAME] [--force] [--dry-run] [--json] \
                 [-h|--help] PF",
            ),
            (
                "hwtest",
                "[--only NAME]... [--yes] [--output NAME] [--json] [-h|--help] VF...",
            ),
        ] {
            assert_eq!(synopsis(command), expected, "{command}");
        }
    }
}
