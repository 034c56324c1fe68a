// SPDX-License-Identifier: GPL-2.0

//! `save` and `load`: one device, and a file.

use super::{
    out::{self, errln},
    show,
};
use indicatif::ProgressBar;
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};
use vfio_mig::{
    address::Address,
    device::Device,
    error::{Context, Error},
    file,
    output::Output,
};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The device.
    device: Address,
    /// The file, or "-" for standard output or input.
    file: PathBuf,
}

fn bar(json: bool) -> ProgressBar {
    if json {
        ProgressBar::hidden()
    } else {
        show::bytes(0)
    }
}

/// Says how many bytes were moved: on standard error where the state itself is
/// on standard output.
fn show_bytes(what: &str, bytes: u64, json: bool, to_stdout: bool) -> Result<(), Error> {
    if json && !to_stdout {
        show::json(&serde_json::json!({ "bytes": bytes }))
    } else {
        errln!("{what}: {bytes} bytes")
    }
}

pub fn save(args: &Args, json: bool) -> Result<(), Error> {
    let bar = bar(json);
    let progress = |bytes| bar.set_position(bytes);
    let to_stdout = args.file == Path::new("-");
    let saved = if to_stdout {
        file::save(&Device::open(args.device)?, &mut out::stdout(), progress)
    } else {
        let name = || args.file.display().to_string();
        let mut to = Output::create(&args.file).context(name())?;
        file::save(&Device::open(args.device)?, &mut to, progress).and_then(|bytes| {
            to.commit().context(name())?;
            Ok(bytes)
        })
    };
    bar.finish_and_clear();
    show_bytes("saved", saved?, json, to_stdout)
}

pub fn load(args: &Args, json: bool) -> Result<(), Error> {
    let bar = bar(json);
    let progress = |bytes| bar.set_position(bytes);
    let loaded = if args.file == Path::new("-") {
        file::load(
            &Device::open(args.device)?,
            &mut io::stdin().lock(),
            progress,
        )
    } else {
        let mut from = File::open(&args.file).context(args.file.display().to_string())?;
        file::load(&Device::open(args.device)?, &mut from, progress)
    };
    bar.finish_and_clear();
    show_bytes("loaded", loaded?, json, false)
}
