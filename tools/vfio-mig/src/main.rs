// SPDX-License-Identifier: GPL-2.0

//! `vfio-mig`: look at and migrate VFIO devices.

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::{path::PathBuf, process::ExitCode};
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    error::Error,
    migrate::{self, Observer},
    uapi,
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
    /// Move the state of one device to another, by stop-copy.
    ///
    /// The source is left stopped, the destination running. If it fails, the
    /// source runs again and the destination is reset.
    Migrate {
        /// The device whose state moves.
        src: Bdf,
        /// The device that gets it.
        dst: Bdf,
        /// Save to this file, and load from it.
        #[arg(long, value_name = "FILE")]
        through: Option<PathBuf>,
    },
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

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Info { bdf } => info(bdf, cli.json),
        Command::Migrate { src, dst, through } => migrate(src, dst, through, cli.json),
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
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_bad_address_is_refused_before_anything_is_opened() {
        assert!(Cli::try_parse_from(["vfio-mig", "info", "nonsense"]).is_err());
        assert!(Cli::try_parse_from(["vfio-mig", "--json", "info", "01:00.2"]).is_ok());
    }
}
