// SPDX-License-Identifier: GPL-2.0

//! `receive`: waits for a state from another host.

use super::{
    complete,
    destination::{
        Listen,
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
use clap_complete::ArgValueCandidates;
use indicatif::ProgressBar;
use std::{
    net::TcpListener,
    time::Duration, //
};
use vfio_mig::{
    address::Address,
    device::Device,
    endpoint::Endpoint,
    error::{
        Context,
        Error, //
    },
    interrupt,
    remote::{
        self,
        Ends,
        Received, //
    },
};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The device that gets the state.
    #[arg(add = ArgValueCandidates::new(complete::devices))]
    device: Address,
    /// Where to listen: HOST:PORT, or "-" for a sender at standard input and output. TCP is
    /// neither encrypted nor authenticated, so other hosts should come by ssh, with "-".
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4444")]
    listen: Listen,
    /// Time limit in seconds: for a peer that connects to say that it is a sender, for each
    /// step of the sender, and for the device to load what it has got.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = values::at_least_one::<u64>)]
    timeout: u64,
}

impl Args {
    /// Whether the sender is at standard input and output.
    pub fn is_standard(&self) -> bool {
        self.listen == Listen::Standard
    }
}

/// Shows the bytes, and the peers that were refused.
struct ReceiveBar {
    bar: ProgressBar,
}

impl remote::Observer for ReceiveBar {
    fn refused(&mut self, peer: &str, why: &str) -> Result<(), Error> {
        self.bar.suspend(|| errln!("refused {peer}: {why}"))
    }

    fn bytes(&mut self, bytes: u64) {
        self.bar.set_position(bytes);
    }
}

/// Opens the device, which is put back if a signal comes from here on.
fn open(args: &Args) -> Result<Device, Error> {
    interrupt::catch()?;
    let device = Device::open(args.device)?;
    device.features()?;
    Ok(device)
}

/// Listens. Warns if other hosts can connect.
fn listen(at: &Endpoint, device: Address) -> Result<TcpListener, Error> {
    let listening = || format!("listening on {at}");
    let listener = TcpListener::bind(at).context(listening())?;
    let bound = listener.local_addr().context(listening())?;
    if !bound.ip().is_loopback() {
        errln!(
            "warning: {bound} is neither encrypted nor authenticated: whoever connects first can\n\
             load a state into {device}; ssh is safe: see the examples of `vfio-mig receive --help`"
        )?;
    }
    Ok(listener)
}

pub fn run(args: &Args, json: bool) -> Result<(), Error> {
    let timeout = Duration::from_secs(args.timeout);
    let mut observer = ReceiveBar {
        bar: if json {
            ProgressBar::hidden()
        } else {
            show::bytes(0)
        },
    };
    let received = match &args.listen {
        Listen::Standard => {
            let ends = Ends::standard().context(STANDARD)?;
            let device = match open(args) {
                Ok(device) => device,
                Err(err) => {
                    remote::refuse(ends, &err, timeout);
                    return Err(err);
                }
            };
            remote::serve_one(&device, ends, STANDARD, timeout, &mut observer)
        }
        Listen::Tcp(at) => {
            let listener = listen(at, args.device)?;
            let device = open(args)?;
            let at = listener.local_addr().context("listening")?;
            errln!("waiting for the state of {} at {at}", args.device)?;
            remote::serve(&device, listener, timeout, &mut observer)
        }
    };
    observer.bar.finish_and_clear();
    let received = received?;
    out::after("the migration is complete", print(args, &received, json))
}

fn print(args: &Args, received: &Received, json: bool) -> Result<(), Error> {
    if json {
        return show::json(received);
    }
    outln!(
        "{} -> {}: {} bytes",
        received.from,
        args.device,
        received.bytes
    )?;
    outln!("  sha256 {}", received.sha256)
}
