// SPDX-License-Identifier: GPL-2.0

//! The command line: what each command takes, and what it shows.

mod bind;
mod changes;
mod complete;
mod destination;
mod dirty;
mod doctor;
mod examples;
mod files;
mod fuzz;
mod hwtest;
mod info;
mod json;
mod list;
mod man;
mod migrate;
mod out;
mod receive;
mod setup;
mod show;
mod state;
mod stress;
mod test;
mod usage;
mod values;
mod watch;

use clap::{
    CommandFactory,
    FromArgMatches,
    Parser,
    Subcommand, //
};
use json::Failure;
use show::To;
use std::{
    ffi::OsString,
    process::ExitCode, //
};
use vfio_mig::{
    address::{
        self,
        Address, //
    },
    bdf::Bdf,
    error::Error,
    interrupt, //
};

/// Look at, migrate and test VFIO devices, without a virtual machine monitor.
///
/// A device is given as [DOMAIN:]BUS:DEVICE.FUNCTION, or as the UUID of a mediated device.
/// It must be bound to a VFIO driver, as those that `vfio-mig list` shows, and nobody else
/// may have it open. Opening a device resets it.
///
/// Progress is shown on standard error, if that is a terminal. A terminal gets colours in
/// help and usage errors, unless the environment variable NO_COLOR is set.
///
/// Exit status: 0 if all went well, 1 if something failed, 2 if the command line is wrong,
/// 4 if no test could be run, 141 if nobody reads what is printed, 128 and the signal's
/// number if a signal has ended the tool.
#[derive(Parser, Debug)]
#[command(version, subcommand_value_name = "COMMAND")]
pub struct Cli {
    /// Print JSON, and no progress. `vfio-mig schema` describes it.
    // After the options of a command, just before --help.
    #[arg(long, global = true, display_order = 998)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Show the devices that are bound to a VFIO driver.
    ///
    /// Prints the address and the driver of each. Opens no device.
    List,
    /// Show what migration a device offers, and its state.
    ///
    /// Opens the device, which resets it. Shows the driver, how the device was opened, the
    /// migration features and the states that come with them, whether the device has
    /// version 2 of PRECOPY_INFO, whether DMA logging works here, the state, and how many
    /// bytes STOP_COPY would stream now.
    Info(info::Args),
    /// Show the migration state of a device, or take it through states.
    ///
    /// Without STATES, prints the state. With STATES, shows the time that each change took,
    /// and the arcs on the way, as the rules of the uAPI have them: the kernel does not
    /// tell which arcs it takes.
    State(state::Args),
    /// Save the state of a device to a file, by stop-copy.
    ///
    /// The device runs again afterwards. A regular file is replaced only when the state is
    /// complete and on the disk: it is written to a temporary file beside it, NAME.PID.tmp.
    /// FIFOs and character devices are written to directly. A block device is refused.
    Save(files::SaveArgs),
    /// Load the state of a device from a file.
    ///
    /// The device then runs. If loading fails, the device is reset. The file must have the
    /// stream of a driver, as `vfio-mig save` writes it, and nothing else.
    Load(files::LoadArgs),
    /// Move the state of a device to another one, a file or a host.
    ///
    /// By stop-copy, or with --precopy mostly while the source runs. The source is left
    /// stopped, the destination running. If the migration fails, the source runs again and
    /// the destination is reset: the two never run at the same time.
    Migrate(migrate::Args),
    /// Wait for the state of a device from another host.
    ///
    /// Waits for one sender, `vfio-mig migrate`, however long that takes. Peers that are no
    /// senders are refused. The device then runs. If anything fails, the device is reset,
    /// and the source runs again. With --listen -, the sender is the process at standard
    /// input and output, such as `vfio-mig migrate` at the other end of ssh; what is printed
    /// goes to standard error then.
    Receive(receive::Args),
    /// Watch what pre-copy has left to move, while the device runs.
    ///
    /// Takes the device to PRE_COPY, and shows the counters of PRECOPY_INFO, and in a
    /// terminal a plot of their sum. Reads the stream between two looks, and throws it away.
    Watch(watch::Args),
    /// Log where a device writes to, and show it as a map.
    ///
    /// Gives the device memory, and shows each report of dirty pages. A character of the map
    /// stands for some pages, of which none, few, many or all are dirty. A device without a
    /// driver in a guest does not write. The kernel needs CONFIG_IOMMUFD_DRIVER.
    Dirty(dirty::Args),
    Doctor(doctor::Args),
    Setup(setup::Args),
    Bind(bind::Args),
    Unbind(bind::UnbindArgs),
    Test(test::Args),
    Stress(stress::Args),
    Fuzz(fuzz::Args),
    Hwtest(hwtest::Args),
    /// Print completions for a shell.
    ///
    /// The shell then asks the tool what to offer: commands and options, devices that are
    /// bound to a VFIO driver, states, and tests.
    Completions(complete::Args),
    /// Print the JSON schema of what --json prints.
    Schema,
    /// Print the manual, or write a page for each command.
    ///
    /// Without --out, prints one page about the tool and all commands, which
    /// `vfio-mig man | man -l -` shows.
    Man(man::Args),
}

/// Nothing went wrong.
const GOOD: u8 = 0;
/// Something went wrong.
const BAD: u8 = 1;
/// The command line is wrong.
const USAGE: u8 = 2;
/// No test could be run. A kselftest exits with the same status.
const SKIP: u8 = 4;
/// Nobody reads what the tool prints. A shell shows the same status for a command that
/// SIGPIPE has ended.
const CLOSED: u8 = KILLED + libc::SIGPIPE as u8;
/// Added to the number of the signal that has ended the tool, as a shell does.
const KILLED: u8 = 128;

/// Parses the command line, `args`, and carries it out.
pub fn main(args: Vec<OsString>) -> ExitCode {
    match complete::answer() {
        Ok(false) => (),
        Ok(true) => return ExitCode::SUCCESS,
        Err(err) => return ExitCode::from(usage::not_parsed(&err, false, false)),
    }
    let mut names = args.iter().skip(1).filter_map(|arg| arg.to_str());
    if let Some(name) = names.find(|arg| !arg.starts_with('-')) {
        if command().find_subcommand(name).is_some() {
            json::set_command(name);
        }
    }
    let json = has(&args, "--json");
    // Standard output gets a state, or would have got one.
    let has_state = has(&args, "-");
    ExitCode::from(match Cli::parse_and_check(args) {
        Ok(cli) => run(cli),
        Err(err) => usage::not_parsed(&err, json, has_state),
    })
}

impl Cli {
    /// Parses the command line, and checks what depends on several of its arguments.
    fn parse_and_check(args: Vec<OsString>) -> Result<Self, clap::Error> {
        let matches = command().try_get_matches_from(&args);
        let cli = matches.and_then(|matches| Self::from_arg_matches(&matches));
        let cli = cli.map_err(|err| usage::explained(err, &args))?;
        let (name, checked) = match &cli.command {
            Command::Migrate(args) => ("migrate", args.check()),
            Command::Dirty(args) => ("dirty", args.check()),
            Command::Bind(args) => ("bind", args.check()),
            Command::Unbind(args) => ("unbind", args.check()),
            Command::Test(args) => ("test", args.check()),
            Command::Stress(args) => ("stress", args.check()),
            Command::Fuzz(args) => ("fuzz", args.check()),
            Command::Hwtest(args) => ("hwtest", args.check()),
            _ => return Ok(cli),
        };
        checked
            .map(|()| cli)
            .map_err(|message| usage::error(name, message))
    }
}

/// The command line. A negative number after an option is a value, which the option's parser
/// refuses with what is right; it is not taken for an unknown option.
fn command() -> clap::Command {
    let tool = Cli::command()
        .max_term_width(show::COLUMNS)
        .after_long_help(examples::help(""));
    tool.mut_subcommands(|command| {
        let examples = examples::help(command.get_name());
        command.after_long_help(examples).mut_args(|arg| {
            let takes_value = arg.get_long().is_some() && arg.get_action().takes_values();
            match takes_value {
                true => arg.allow_negative_numbers(true),
                false => arg,
            }
        })
    })
}

/// Fails if a second device is the first one.
fn check_distinct(first: Address, second: Option<Address>) -> Result<(), String> {
    address::require_distinct(first, second).map_err(|err| err.to_string())
}

/// Fails if a VF is given twice.
fn check_each_once(vfs: &[Bdf]) -> Result<(), String> {
    address::require_each_once(vfs).map_err(|err| err.to_string())
}

/// Whether `wanted` is in a command line that could not be parsed. The only values that
/// begin with a dash are negative numbers.
fn has(args: &[OsString], wanted: &str) -> bool {
    args.iter()
        .take_while(|arg| *arg != "--")
        .any(|arg| arg == wanted)
}

/// Carries the command line out. Returns the exit status.
fn run(cli: Cli) -> u8 {
    let json = cli.json;
    let has_state = match &cli.command {
        Command::Save(args) => args.is_standard(),
        Command::Migrate(args) => args.is_standard(),
        Command::Receive(args) => args.is_standard(),
        _ => false,
    };
    let good = |()| GOOD;
    let result: Result<u8, Error> = match cli.command {
        Command::List => list::run(json).map(good),
        Command::Info(args) => info::run(&args, json).map(good),
        Command::State(args) => state::run(&args, json).map(good),
        Command::Save(args) => files::save(&args, json).map(good),
        Command::Load(args) => files::load(&args, json).map(good),
        Command::Migrate(args) => migrate::run(&args, json).map(good),
        Command::Receive(args) => receive::run(&args, json).map(good),
        Command::Watch(args) => watch::run(&args, json).map(good),
        Command::Dirty(args) => dirty::run(&args, json).map(good),
        Command::Doctor(args) => doctor::run(&args, json),
        Command::Setup(args) => setup::run(&args, json).map(good),
        Command::Bind(args) => bind::bind(&args, json).map(good),
        Command::Unbind(args) => bind::unbind(&args, json).map(good),
        Command::Test(args) => test::run(&args, json),
        Command::Stress(args) => stress::run(&args, json).map(good),
        Command::Fuzz(args) => fuzz::run(&args, json).map(good),
        Command::Hwtest(args) => hwtest::run(&args, json),
        Command::Completions(args) => complete::run(&args).map(good),
        Command::Schema => out::outln!("{}", json::SCHEMA.trim_end()).map(good),
        Command::Man(args) => man::run(&args).map(good),
    };
    let result = result.and_then(|status| out::flush().map(|()| status));
    result.unwrap_or_else(|err| status_of(&err, json, has_state))
}

/// Prints what went wrong, unless nobody reads it; not to standard output, if that has a
/// state. Returns the exit status.
fn status_of(err: &Error, json: bool, has_state: bool) -> u8 {
    if out::reader_gone(err) {
        if matches!(err, Error::NotPrinted { .. }) {
            // Unlike with most commands, nothing is undone.
            let _ = out::errln!("vfio-mig: {err}");
        }
        return CLOSED;
    }
    let status = match interrupt::check() {
        Err(Error::Interrupted { signal }) => KILLED | signal as u8,
        _ => BAD,
    };
    let message = err.to_string();
    let failure = Failure::new(&message, status, err.errno());
    let shown = if json && has_state {
        show::error(failure, To::BesideState)
    } else if json {
        let shown = show::error(failure, To::Output);
        shown.and(out::errln!("vfio-mig: {err}"))
    } else {
        out::errln!("vfio-mig: {err}")
    };
    match shown {
        Err(err) if out::reader_gone(&err) => CLOSED,
        _ => status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn a_bad_address_is_refused_before_anything_is_opened() {
        assert!(Cli::try_parse_from(["vfio-mig", "info", "nonsense"]).is_err());
        assert!(Cli::try_parse_from(["vfio-mig", "--json", "info", "01:00.2"]).is_ok());
    }
}
