// SPDX-License-Identifier: GPL-2.0

//! `migrate` and `receive`.

use super::{
    check_distinct,
    complete,
    destination::{
        Destination,
        STANDARD, //
    },
    out::{
        self,
        errln,
        outln, //
    },
    show,
    values, //
};
use clap::ValueEnum;
use clap_complete::{
    ArgValueCandidates,
    ArgValueCompleter, //
};
use indicatif::ProgressBar;
use serde::Serialize;
use std::{
    path::PathBuf,
    time::Duration, //
};
use vfio_mig::{
    address::Address,
    device::Device,
    error::{
        Context,
        Error, //
    },
    interrupt,
    migrate::{
        self,
        Observer, //
    },
    output::Output,
    precopy::{
        self,
        InfoVersion, //
    },
    remote::{
        Ends,
        RemoteTarget, //
    },
    target::{
        DeviceTarget,
        FileTarget,
        Target, //
    },
    text,
    uapi,
    workload::Workload, //
};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The device whose state moves.
    #[arg(add = ArgValueCandidates::new(complete::devices))]
    source: Address,
    /// Where the state goes: a device, "file:PATH", or a receiver (`vfio-mig receive`) at
    /// "tcp:HOST:PORT", at the standard input and output of a command, "exec:COMMAND", or at
    /// those of this command, "-".
    ///
    /// TCP is neither encrypted nor authenticated. Use ssh between hosts, with "exec:": its
    /// words are split as a shell does, but no shell runs them.
    #[arg(add = ArgValueCompleter::new(complete::Destinations))]
    destination: Destination,
    /// Save to this file, and load from it.
    #[arg(long, value_name = "FILE", conflicts_with = "precopy")]
    through: Option<PathBuf>,
    /// Move most of the state while the source runs.
    #[arg(long)]
    precopy: bool,
    /// Time limit for each step of the destination, in seconds: to answer, to take a piece
    /// of the state, or to load what it has got.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = values::at_least_one::<u64>)]
    timeout: u64,
    #[command(flatten)]
    precopy_options: PrecopyOptions,
}

#[derive(clap::Args, Debug)]
#[group(id = "precopy_options", requires = "precopy", multiple = true)]
struct PrecopyOptions {
    /// Which PRECOPY_INFO to use: version 2 tells of initial bytes that come
    /// later. With "both", migrates with one and then with the other, to a device
    /// of this host. Without this option, uses the newest that the device has.
    #[arg(long, value_name = "VERSION", value_enum)]
    precopy_info: Option<InfoChoice>,
    /// Stop the source when no initial bytes are left, and no more dirty bytes
    /// than this.
    #[arg(long, value_name = "BYTES", value_parser = values::parse_bytes, default_value = "1M")]
    switchover_bytes: u64,
    /// Have the source create objects of this size once the destination has all initial
    /// bytes. Only for emulated ConnectX VFs.
    #[arg(long, value_name = "BYTES", value_parser = values::parse_bytes, default_value = "0")]
    create: u64,
    /// Have the source change this many bytes in each round. Only for emulated
    /// ConnectX VFs.
    #[arg(long, value_name = "BYTES", value_parser = values::parse_bytes, default_value = "0")]
    change: u64,
}

/// What to say if a report cannot be printed.
const DONE: &str = "the migration is complete";

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum InfoChoice {
    V1,
    V2,
    Both,
}

impl InfoChoice {
    /// The version of each migration; `None` for the newest that the source has.
    fn versions(choice: Option<Self>) -> &'static [Option<InfoVersion>] {
        match choice {
            None => &[None],
            Some(Self::V1) => &[Some(InfoVersion::V1)],
            Some(Self::V2) => &[Some(InfoVersion::V2)],
            Some(Self::Both) => &[Some(InfoVersion::V1), Some(InfoVersion::V2)],
        }
    }
}

/// A migration, as an object.
#[derive(Serialize)]
#[serde(tag = "method", rename_all = "kebab-case")]
enum Migration<'a> {
    StopCopy(&'a migrate::Report),
    PreCopy(&'a precopy::Report),
}

/// A progress bar for each phase.
struct Bars {
    bar: ProgressBar,
}

impl Observer for Bars {
    fn phase(&mut self, name: &'static str, total: u64) {
        self.bar.finish();
        self.bar = match total {
            0 => show::spinner(),
            _ => show::bytes(total),
        };
        self.bar.set_message(name);
    }

    fn bytes(&mut self, bytes: u64) {
        self.bar.set_position(bytes);
    }
}

/// Shows the bytes, and makes the source work.
struct PrecopyBar {
    bar: ProgressBar,
    workload: Workload,
}

impl precopy::Observer for PrecopyBar {
    fn round(&mut self, source: &Device, round: u32) -> Result<(), Error> {
        self.workload.step(source, round)
    }

    fn info(&mut self, info: &uapi::PrecopyInfo) {
        self.bar.set_message(format!(
            "{} initial, {} dirty",
            info.initial_bytes, info.dirty_bytes
        ));
    }

    fn bytes(&mut self, bytes: u64) {
        self.bar.set_position(bytes);
    }
}

impl Args {
    /// Fails if the arguments do not fit each other.
    pub fn check(&self) -> Result<(), String> {
        let option = match self.destination {
            Destination::Device(destination) => {
                return check_distinct(self.source, Some(destination))
            }
            _ if self.through.is_some() => "--through",
            // The second migration would reset the source, whose state has moved
            // already, and would overwrite the file.
            _ if self.precopy_options.precopy_info == Some(InfoChoice::Both) => {
                "--precopy-info both"
            }
            _ => return Ok(()),
        };
        Err(format!(
            "{option} needs a device of this host as the destination"
        ))
    }

    /// Opens the destination and then the source, and does something with them. Opening the
    /// source resets it, so it is opened last, when the destination is known to be right.
    fn with_both<T>(
        &self,
        work: impl FnOnce(&Device, &mut dyn Target) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let timeout = Duration::from_secs(self.timeout);
        match &self.destination {
            Destination::Device(address) => {
                let device = self.open_destination(*address)?;
                let mut target = DeviceTarget::new(&device).with_timeout(timeout);
                work(&self.open_source()?, &mut target)
            }
            Destination::File(path) => {
                let mut target = FileTarget::create(path)?;
                work(&self.open_source()?, &mut target)
            }
            Destination::Tcp(host) => self.with_remote(RemoteTarget::connect(host, timeout)?, work),
            Destination::Command(words) => {
                let name = self.destination.to_string();
                let tell = |line: &str| {
                    // Nobody may be there to read it.
                    let _ = errln!("{line}");
                };
                let ends = Ends::command(words, &name, tell).context(name.clone())?;
                self.with_remote(RemoteTarget::over(ends, &name, timeout), work)
            }
            Destination::Standard => {
                let ends = Ends::standard().context(STANDARD)?;
                self.with_remote(RemoteTarget::over(ends, STANDARD, timeout), work)
            }
        }
    }

    /// As [`Self::with_both`]. The receiver must answer before the source is opened.
    fn with_remote<T>(
        &self,
        mut target: RemoteTarget,
        work: impl FnOnce(&Device, &mut dyn Target) -> Result<T, Error>,
    ) -> Result<T, Error> {
        target.greet()?;
        match self.open_source() {
            Ok(source) => work(&source, &mut target),
            Err(err) => {
                let abandoned = target.abandon(&err);
                Err(err.unless_undone(abandoned))
            }
        }
    }

    /// Opens a device of this host, which resets it, unless there is no source.
    fn open_destination(&self, address: Address) -> Result<Device, Error> {
        Device::look_up(self.source)?;
        Device::open(address)
    }

    /// Opens the source, which is put back if a signal comes from here on. Before, there
    /// is nothing to put back, and opening a FIFO or a connection may take for ever.
    fn open_source(&self) -> Result<Device, Error> {
        interrupt::catch()?;
        Device::open(self.source)
    }

    fn title(&self) -> String {
        format!("{} -> {}", self.source, self.destination)
    }

    /// Whether the receiver is at standard input and output.
    pub fn is_standard(&self) -> bool {
        self.destination == Destination::Standard
    }
}

pub fn run(args: &Args, json: bool) -> Result<(), Error> {
    if args.precopy {
        return with_precopy(args, json);
    }
    let mut bars = Bars {
        bar: ProgressBar::hidden(),
    };
    let observer: &mut dyn Observer = if json { &mut () } else { &mut bars };
    let report = match (&args.destination, &args.through) {
        (Destination::Device(destination), Some(path)) => {
            let name = format!("--through {}", text::shown_path(path));
            let file = Output::create_regular(path).context(name)?;
            let destination = args.open_destination(*destination)?;
            migrate::through_file(&args.open_source()?, &destination, file, observer)
        }
        // check() lets --through pass with a device only.
        _ => args.with_both(|source, target| migrate::stop_copy(source, target, observer)),
    }?;
    bars.bar.finish();
    out::after(DONE, print_report(args, &report, json))
}

fn print_report(args: &Args, report: &migrate::Report, json: bool) -> Result<(), Error> {
    if json {
        let report = Migration::StopCopy(report);
        return show::json(&serde_json::json!({ "migrations": [report] }));
    }
    outln!("{}: {} bytes", args.title(), report.bytes)?;
    for phase in &report.phases {
        outln!(
            "  {:24} {:10.3} ms {:12} bytes",
            phase.name,
            phase.ms,
            phase.bytes
        )?;
    }
    if let Some(sha256) = &report.sha256 {
        outln!("  sha256 {sha256}")?;
    }
    Ok(())
}

fn with_precopy(args: &Args, json: bool) -> Result<(), Error> {
    let options = &args.precopy_options;
    let mut reports = Vec::new();
    for info in InfoChoice::versions(options.precopy_info) {
        let mut observer = PrecopyBar {
            bar: if json {
                ProgressBar::hidden()
            } else {
                show::bytes(0)
            },
            workload: Workload {
                create_bytes: options.create,
                change_bytes: options.change,
            },
        };
        let report = args.with_both(|source, target| {
            let options = precopy::Options {
                info: info.unwrap_or_else(|| InfoVersion::newest_of(source)),
                switchover_bytes: options.switchover_bytes,
                ..Default::default()
            };
            precopy::migrate(source, target, options, &mut observer)
        });
        observer.bar.finish_and_clear();
        reports.push(report?);
    }
    out::after(DONE, print_precopy_reports(args, &reports, json))
}

fn print_precopy_reports(
    args: &Args,
    reports: &[precopy::Report],
    json: bool,
) -> Result<(), Error> {
    if json {
        let reports: Vec<Migration> = reports.iter().map(Migration::PreCopy).collect();
        return show::json(&serde_json::json!({ "migrations": reports }));
    }
    outln!("{}", args.title())?;
    let row = |name: &str, value: &dyn Fn(&precopy::Report) -> String| {
        let values = reports
            .iter()
            .map(|report| format!("{:>16}", value(report)));
        outln!("  {name:32}{}", values.collect::<String>())
    };
    row("PRECOPY_INFO version", &|r| {
        format!("{:?}", r.info).to_lowercase()
    })?;
    row("rounds of pre-copy", &|r| r.rounds.to_string())?;
    row("new initial bytes (REINIT)", &|r| r.reinits.to_string())?;
    row("pre-copy, ms", &|r| format!("{:.1}", r.precopy_ms))?;
    row("pre-copy, bytes", &|r| r.precopy_bytes.to_string())?;
    row("downtime, ms", &|r| format!("{:.1}", r.downtime_ms))?;
    row("downtime, bytes", &|r| r.downtime_bytes.to_string())?;
    row("downtime, loading, ms", &|r| {
        format!("{:.1}", r.downtime_load_ms)
    })?;
    row("then, freeing the source, ms", &|r| {
        format!("{:.1}", r.free_ms)
    })?;
    for sha256 in reports.iter().filter_map(|report| report.sha256.as_ref()) {
        outln!("  sha256 {sha256}")?;
    }
    Ok(())
}
