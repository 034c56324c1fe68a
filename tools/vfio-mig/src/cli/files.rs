// SPDX-License-Identifier: GPL-2.0

//! `save` and `load`: one device, and a file.

use super::{
    complete,
    out::{
        self,
        errln, //
    },
    show::{
        self,
        To, //
    },
};
use clap_complete::ArgValueCandidates;
use indicatif::ProgressBar;
use std::{
    fs::File,
    io,
    path::{
        Path,
        PathBuf, //
    },
};
use vfio_mig::{
    address::Address,
    device::Device,
    error::{
        Context,
        Error,
        StreamContext, //
    },
    file,
    interrupt,
    output::Output,
    stream,
    text, //
};

#[derive(clap::Args, Debug)]
pub struct SaveArgs {
    /// The device.
    #[arg(add = ArgValueCandidates::new(complete::devices))]
    device: Address,
    /// The file, or "-" for standard output.
    file: PathBuf,
}

#[derive(clap::Args, Debug)]
pub struct LoadArgs {
    /// The device.
    #[arg(add = ArgValueCandidates::new(complete::devices))]
    device: Address,
    /// The file, or "-" for standard input.
    file: PathBuf,
}

fn bar(json: bool) -> ProgressBar {
    if json {
        ProgressBar::hidden()
    } else {
        show::bytes(0)
    }
}

/// Whether a file is standard output or input.
fn is_standard(file: &Path) -> bool {
    file == Path::new("-")
}

impl SaveArgs {
    /// Whether standard output gets the state.
    pub fn is_standard(&self) -> bool {
        is_standard(&self.file)
    }
}

/// Prints how many bytes were moved, to standard error if standard output has the state.
fn show_bytes(
    what: &str,
    done: &'static str,
    bytes: u64,
    json: bool,
    to_stdout: bool,
) -> Result<(), Error> {
    let object = serde_json::json!({ "bytes": bytes });
    let printed = match (json, to_stdout) {
        (true, false) => show::json(&object),
        (true, true) => show::json_to(&object, To::BesideState),
        (false, _) => errln!("{what}: {bytes} bytes"),
    };
    out::after(done, printed)
}

/// The name of `file` in messages.
fn name_of(file: &Path, dash: &str) -> String {
    match is_standard(file) {
        true => dash.to_string(),
        false => text::shown_path(file),
    }
}

/// Opens the device, which is put back if a signal comes from here on. Before, there is
/// nothing to put back, and opening a FIFO may take for ever.
fn open(device: Address) -> Result<Device, Error> {
    interrupt::catch()?;
    Device::open(device)
}

pub fn save(args: &SaveArgs, json: bool) -> Result<(), Error> {
    let bar = bar(json);
    let progress = |bytes| bar.set_position(bytes);
    let to_stdout = args.is_standard();
    let name = name_of(&args.file, "standard output");
    let saved = if to_stdout {
        let mut to = out::unbuffered_stdout()?;
        file::save(&open(args.device)?, &mut to, progress)
    } else {
        let to = Output::create(&args.file).context(name.clone())?;
        let commit = |to: Output| to.commit().context(name.clone());
        file::save_with(&open(args.device)?, to, commit, progress)
    };
    bar.finish_and_clear();
    let saved = saved.stream_context(stream::WRITING, &name);
    let bytes = saved.map_err(|err| match err {
        Error::NotPutBack { .. } => Error::Saved {
            to: name,
            source: Box::new(err),
        },
        err => err,
    })?;
    show_bytes("saved", "the state is saved", bytes, json, to_stdout)
}

/// Opens a file to read, which a folder is not.
fn open_to_read(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    match file.metadata()?.is_dir() {
        true => Err(io::Error::from_raw_os_error(libc::EISDIR)),
        false => Ok(file),
    }
}

pub fn load(args: &LoadArgs, json: bool) -> Result<(), Error> {
    let bar = bar(json);
    let progress = |bytes| bar.set_position(bytes);
    let name = name_of(&args.file, "standard input");
    let loaded = if is_standard(&args.file) {
        let mut from = io::stdin().lock();
        file::load(&open(args.device)?, &mut from, progress)
    } else {
        let mut from = open_to_read(&args.file).context(name.clone())?;
        file::load(&open(args.device)?, &mut from, progress)
    };
    bar.finish_and_clear();
    let bytes = loaded.stream_context(stream::READING, &name)?;
    show_bytes("loaded", "the state is loaded", bytes, json, false)
}
