// SPDX-License-Identifier: GPL-2.0

//! What is said of a wrong command line, and the help.

use super::{
    command,
    json::Failure,
    out,
    show::{
        self,
        To, //
    },
    status_of,
    CLOSED,
    GOOD,
    USAGE, //
};
use clap::error::{
    ContextKind,
    ContextValue,
    ErrorKind, //
};
use std::ffi::OsString;
use vfio_mig::text;

/// An error of the command line of the subcommand `name`.
pub fn error(name: &str, message: String) -> clap::Error {
    let mut command = command();
    command.build();
    let command = match command.find_subcommand_mut(name) {
        Some(subcommand) => subcommand,
        None => &mut command,
    };
    command.error(ErrorKind::ValueValidation, message)
}

/// Shows arguments as any text of others: a shell puts names of files in the place of `*`.
fn with_shown_arguments(mut err: clap::Error) -> clap::Error {
    let shown = err.context().filter_map(|(kind, value)| match value {
        ContextValue::String(given) => Some((kind, text::shown(given))),
        _ => None,
    });
    for (kind, text) in shown.collect::<Vec<_>>() {
        err.insert(kind, ContextValue::String(text));
    }
    err
}

/// Adds the names that exist to an error about one that does not.
fn with_right_names(mut err: clap::Error, args: &[OsString]) -> clap::Error {
    let mut command = command();
    command.build();
    let text = match err.kind() {
        ErrorKind::InvalidSubcommand => {
            let names: Vec<&str> = command
                .get_subcommands()
                .map(|sub| sub.get_name())
                .collect();
            format!("commands: {}", names.join(", "))
        }
        ErrorKind::UnknownArgument => {
            let given = args.iter().skip(1).filter_map(|arg| arg.to_str());
            let command = given
                .filter_map(|arg| command.find_subcommand(arg))
                .next()
                .unwrap_or(&command);
            let options: Vec<String> = command
                .get_arguments()
                .filter_map(|arg| arg.get_long())
                .map(|long| format!("--{long}"))
                .collect();
            format!("options of {}: {}", command.get_name(), options.join(", "))
        }
        _ => return err,
    };
    let tip = ContextValue::StyledStrs(vec![text.into()]);
    err.insert(ContextKind::Suggested, tip);
    err
}

/// Adds to an error what helps to mend the command line, `args`.
pub fn explained(err: clap::Error, args: &[OsString]) -> clap::Error {
    with_shown_arguments(with_right_names(err, args))
}

/// Prints the help or the version, if those were asked for, or else what is wrong
/// with the command line. Returns the exit status.
pub fn not_parsed(err: &clap::Error, json: bool, has_state: bool) -> u8 {
    if !err.use_stderr() {
        let shown = out::print_parsed(err).and_then(|()| out::flush());
        return shown.map_or_else(|err| status_of(&err, false, false), |()| GOOD);
    }
    let summary = summary(err);
    let failure = Failure::new(&summary, USAGE, None);
    let shown = if json && has_state {
        show::error(failure, To::BesideState)
    } else if json {
        let shown = show::error(failure, To::Output).and_then(|()| out::flush());
        shown.and_then(|()| out::print_parsed(err))
    } else {
        out::print_parsed(err)
    };
    match shown {
        Err(err) if out::reader_gone(&err) => CLOSED,
        _ => USAGE,
    }
}

/// The message of a usage error, in one line, without the usage and the hint at
/// `--help` that follow it.
fn summary(err: &clap::Error) -> String {
    let text = err.render().to_string();
    let message: Vec<&str> = text
        .trim_start_matches("error: ")
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    message.join(" ").replace(" tip: ", "; ")
}
