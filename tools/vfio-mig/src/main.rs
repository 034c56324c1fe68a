// SPDX-License-Identifier: GPL-2.0

//! `vfio-mig`: look at and migrate VFIO devices.

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    error::{Context, Error},
    file,
    migrate::{self, Observer},
    precopy::{self, InfoVersion},
    uapi,
    workload::Workload,
};

/// Look at and migrate VFIO devices, without a virtual machine monitor.
///
/// Exit status: 0 if all went well, 1 if it did not, 2 if the command line is
/// wrong.
#[derive(Parser, Debug)]
#[command(version)]
struct Cli {
    /// Print one JSON object, and no progress.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Show what migration a device offers, and its state.
    Info {
        /// The device: [DOMAIN:]BUS:DEVICE.FUNCTION.
        bdf: Bdf,
    },
    /// Save the state of a device to a file, by stop-copy.
    ///
    /// The device runs again afterwards.
    Save {
        /// The device.
        bdf: Bdf,
        /// The file, or "-" for standard output.
        file: PathBuf,
    },
    /// Load the state of a device from a file.
    ///
    /// The device then runs. If it fails, the device is reset.
    Load {
        /// The device.
        bdf: Bdf,
        /// The file, or "-" for standard input.
        file: PathBuf,
    },
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
    /// Move the state of one device to another: by stop-copy, or with pre-copy.
    ///
    /// The source is left stopped, the destination running. If it fails, the
    /// source runs again and the destination is reset.
    Migrate {
        /// The device whose state moves.
        src: Bdf,
        /// The device that gets it.
        dst: Bdf,
        /// Save to this file, and load from it.
        #[arg(long, value_name = "FILE", conflicts_with = "precopy")]
        through: Option<PathBuf>,
        /// Move most of it while the source runs.
        #[arg(long)]
        precopy: bool,
        #[command(flatten)]
        precopy_options: PrecopyOptions,
    },
}

#[derive(Args, Debug)]
#[group(id = "precopy_options", requires = "precopy", multiple = true)]
struct PrecopyOptions {
    /// Which PRECOPY_INFO to use: version 2 tells of initial bytes that come
    /// later. With "both", migrates with one and then with the other.
    #[arg(long, value_enum, default_value_t = InfoChoice::V2)]
    precopy_info: InfoChoice,
    /// Stop the source when no initial bytes are left, and no more dirty bytes
    /// than this.
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "1M")]
    switchover_bytes: u64,
    /// Have the source create objects of so many bytes once the destination has
    /// all initial bytes. Only for emulated ConnectX VFs.
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "0")]
    create: u64,
    /// Have the source change so many bytes in each round. Only for emulated
    /// ConnectX VFs.
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "0")]
    change: u64,
}

/// "4096", "16M", "1GiB": powers of 1024.
fn bytes(text: &str) -> Result<u64, parse_size::Error> {
    parse_size::Config::new().with_binary().parse_size(text)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum InfoChoice {
    V1,
    V2,
    Both,
}

impl InfoChoice {
    fn versions(self) -> &'static [InfoVersion] {
        match self {
            Self::V1 => &[InfoVersion::V1],
            Self::V2 => &[InfoVersion::V2],
            Self::Both => &[InfoVersion::V1, InfoVersion::V2],
        }
    }
}

#[derive(Serialize)]
struct Info<'a> {
    bdf: Bdf,
    driver: &'a str,
    access: &'a str,
    features: Vec<String>,
    precopy_info_v2: bool,
    dirty_tracking: bool,
    state: String,
    data_size: Option<u64>,
}

/// A progress bar for each phase.
struct Bars {
    bar: ProgressBar,
}

impl Observer for Bars {
    fn phase(&mut self, name: &'static str, total: u64) {
        self.bar.finish();
        self.bar = match total {
            0 => ProgressBar::new_spinner().with_style(style("{msg:24} {elapsed_precise}")),
            _ => ProgressBar::new(total).with_style(style(
                "{msg:24} {elapsed_precise} {bar:30} {bytes} {bytes_per_sec}",
            )),
        };
        self.bar.set_message(name);
    }

    fn bytes(&mut self, bytes: u64) {
        self.bar.set_position(bytes);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn print_json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => println!("{text}"),
        Err(err) => eprintln!("vfio-mig: {err}"),
    }
}

fn info(bdf: Bdf, json: bool) -> Result<(), Error> {
    let device = Device::open(bdf)?;
    let features = device.features()?;
    let info = Info {
        bdf,
        driver: device.driver(),
        access: device.access(),
        features: features.names(),
        precopy_info_v2: device.has_feature(uapi::FEATURE_MIG_PRECOPY_INFO_V2, uapi::FEATURE_SET),
        dirty_tracking: device.has_feature(uapi::FEATURE_DMA_LOGGING_START, uapi::FEATURE_SET),
        state: device.state()?.to_string(),
        data_size: device.data_size().ok(),
    };
    if json {
        print_json(&info);
        return Ok(());
    }
    let yes = |yes| if yes { "yes" } else { "no" };
    println!("device           {bdf}");
    println!("driver           {}", info.driver);
    println!("opened through   {}", info.access);
    println!("migration        {}", info.features.join(", "));
    println!("PRECOPY_INFOv2   {}", yes(info.precopy_info_v2));
    println!("dirty tracking   {}", yes(info.dirty_tracking));
    println!("state            {}", info.state);
    if let Some(size) = info.data_size {
        println!("data size        {size} bytes");
    }
    Ok(())
}

fn migrate(src: Bdf, dst: Bdf, through: Option<PathBuf>, json: bool) -> Result<(), Error> {
    let source = Device::open(src)?;
    let destination = Device::open(dst)?;
    let mut bars = Bars {
        bar: ProgressBar::hidden(),
    };
    let observer: &mut dyn Observer = if json { &mut () } else { &mut bars };
    let report = migrate::stop_copy(&source, &destination, through.as_deref(), observer)?;
    if json {
        print_json(&report);
        return Ok(());
    }
    bars.bar.finish();
    println!("{src} -> {dst}: {} bytes", report.bytes);
    for phase in &report.phases {
        println!(
            "  {:24} {:10.3} ms {:12} bytes",
            phase.name, phase.ms, phase.bytes
        );
    }
    Ok(())
}

/// Shows the bytes, and has the source work.
struct PrecopyBar {
    bar: ProgressBar,
    workload: Workload,
}

impl precopy::Observer for PrecopyBar {
    fn round(&mut self, source: &Device, round: u32) -> Result<(), Error> {
        let Workload {
            create_bytes,
            change_bytes,
        } = self.workload;
        if create_bytes + change_bytes > 0 {
            self.workload.step(source, round)?;
        }
        Ok(())
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

fn migrate_precopy(src: Bdf, dst: Bdf, options: &PrecopyOptions, json: bool) -> Result<(), Error> {
    let mut reports = Vec::new();
    for info in options.precopy_info.versions() {
        // Opening resets them.
        let (source, destination) = (Device::open(src)?, Device::open(dst)?);
        let bar = match json {
            true => ProgressBar::hidden(),
            false => ProgressBar::new_spinner()
                .with_style(style("{elapsed_precise} {bytes} {bytes_per_sec} {msg}")),
        };
        let mut observer = PrecopyBar {
            bar,
            workload: Workload {
                create_bytes: options.create,
                change_bytes: options.change,
            },
        };
        let options = precopy::Options {
            info: *info,
            switchover_bytes: options.switchover_bytes,
            ..Default::default()
        };
        let report = precopy::migrate(&source, &destination, options, &mut observer);
        observer.bar.finish_and_clear();
        reports.push(report?);
    }
    if json {
        print_json(&reports);
        return Ok(());
    }
    println!("{src} -> {dst}");
    let row = |name: &str, value: &dyn Fn(&precopy::Report) -> String| {
        let values = reports
            .iter()
            .map(|report| format!("{:>16}", value(report)));
        println!("  {name:32}{}", values.collect::<String>());
    };
    row("PRECOPY_INFO version", &|r| {
        format!("{:?}", r.info).to_lowercase()
    });
    row("rounds of pre-copy", &|r| r.rounds.to_string());
    row("new initial bytes (REINIT)", &|r| r.reinits.to_string());
    row("pre-copy, ms", &|r| format!("{:.1}", r.precopy_ms));
    row("pre-copy, bytes", &|r| r.precopy_bytes.to_string());
    row("downtime, ms", &|r| format!("{:.1}", r.downtime_ms));
    row("downtime, bytes", &|r| r.downtime_bytes.to_string());
    row("downtime, loading, ms", &|r| {
        format!("{:.1}", r.downtime_load_ms)
    });
    Ok(())
}

/// A bar for a stream whose length is not known.
fn stream_bar(json: bool) -> ProgressBar {
    match json {
        true => ProgressBar::hidden(),
        false => ProgressBar::new_spinner()
            .with_style(style("{elapsed_precise} {bytes} {bytes_per_sec}")),
    }
}

/// Says how many bytes were moved: on standard error where the state itself is
/// on standard output.
fn show_bytes(what: &str, bytes: u64, json: bool, to_stdout: bool) {
    if json && !to_stdout {
        print_json(&serde_json::json!({ "bytes": bytes }));
    } else {
        eprintln!("{what}: {bytes} bytes");
    }
}

fn save(bdf: Bdf, path: &Path, json: bool) -> Result<(), Error> {
    let device = Device::open(bdf)?;
    let bar = stream_bar(json);
    let progress = |bytes| bar.set_position(bytes);
    let to_stdout = path == Path::new("-");
    let saved = if to_stdout {
        file::save(&device, &mut io::stdout().lock(), progress)
    } else {
        let name = || path.display().to_string();
        let mut to = File::create(path).context(name())?;
        file::save(&device, &mut to, progress).and_then(|bytes| {
            to.sync_all().context(name())?;
            Ok(bytes)
        })
    };
    bar.finish_and_clear();
    show_bytes("saved", saved?, json, to_stdout);
    Ok(())
}

fn load(bdf: Bdf, path: &Path, json: bool) -> Result<(), Error> {
    let bar = stream_bar(json);
    let progress = |bytes| bar.set_position(bytes);
    let loaded = if path == Path::new("-") {
        file::load(&Device::open(bdf)?, &mut io::stdin().lock(), progress)
    } else {
        let mut from = File::open(path).context(path.display().to_string())?;
        file::load(&Device::open(bdf)?, &mut from, progress)
    };
    bar.finish_and_clear();
    show_bytes("loaded", loaded?, json, false);
    Ok(())
}

fn completions(shell: clap_complete::Shell) {
    let mut command = Cli::command();
    clap_complete::generate(shell, &mut command, "vfio-mig", &mut io::stdout());
}

fn man() -> Result<(), Error> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut page)
        .and_then(|()| io::stdout().write_all(&page))
        .context("standard output")
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Info { bdf } => info(bdf, cli.json),
        Command::Save { bdf, file } => save(bdf, &file, cli.json),
        Command::Load { bdf, file } => load(bdf, &file, cli.json),
        Command::Completions { shell } => {
            completions(shell);
            Ok(())
        }
        Command::Man => man(),
        Command::Migrate {
            src,
            dst,
            precopy: true,
            precopy_options,
            ..
        } => migrate_precopy(src, dst, &precopy_options, cli.json),
        Command::Migrate {
            src, dst, through, ..
        } => migrate(src, dst, through, cli.json),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            if cli.json {
                print_json(&serde_json::json!({ "error": err.to_string(), "errno": err.errno() }));
            }
            eprintln!("vfio-mig: {err}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_is_in_the_manual() {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command())
            .render(&mut page)
            .unwrap();
        let page = String::from_utf8(page).unwrap();
        for command in Cli::command().get_subcommands() {
            assert!(page.contains(command.get_name()), "{}", command.get_name());
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("4096").unwrap(), 4096);
        assert_eq!(bytes("768M").unwrap(), 768 << 20);
        assert_eq!(bytes("1GiB").unwrap(), 1 << 30);
        assert!(bytes("much").is_err());
    }

    #[test]
    fn a_bad_address_is_refused_before_anything_is_opened() {
        assert!(Cli::try_parse_from(["vfio-mig", "info", "nonsense"]).is_err());
        assert!(Cli::try_parse_from(["vfio-mig", "--json", "info", "01:00.2"]).is_ok());
    }
}
