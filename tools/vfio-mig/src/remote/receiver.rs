// SPDX-License-Identifier: GPL-2.0

//! The side that has the destination.

use super::{
    callers::{
        check_version,
        wait_for_sender, //
    },
    connection::Connection,
    ends::Ends,
    frames::{
        bad,
        reason,
        ABANDON,
        BARRIER,
        DATA,
        DONE,
        END,
        FAILED,
        HELLO,
        MAX_VERSION,
        START, //
    },
};
use crate::{
    device::Device,
    error::{
        Context,
        Error, //
    },
    stream,
    target::{
        DeviceTarget,
        Target, //
    },
    wait::Signals, //
};
use serde::Serialize;
use sha2::{
    Digest,
    Sha256, //
};
use std::{
    io,
    net::TcpListener,
    time::Duration, //
};

/// Most `BARRIER`s of a sender. A sender of ours sends one in each round of pre-copy, and
/// there are at most 50 rounds.
pub(super) const MAX_BARRIERS: u32 = 64;

/// The result of a migration that was received.
#[derive(Clone, Debug, Serialize)]
pub struct Received {
    /// The sender.
    pub from: String,
    /// Bytes of the state.
    pub bytes: u64,
    /// SHA-256 of them, which is what the sender has, too.
    pub sha256: String,
}

/// Is told of the progress of [`serve`].
pub trait Observer {
    /// A peer was refused, for this reason.
    fn refused(&mut self, peer: &str, why: &str) -> Result<(), Error>;
    /// `bytes` have been received in all.
    fn bytes(&mut self, bytes: u64);
}

/// Waits for one sender, and loads what it sends into `device`, which then runs.
/// If this fails, the device is reset. A peer that is no sender is refused.
pub fn serve(
    device: &Device,
    listener: TcpListener,
    timeout: Duration,
    observer: &mut dyn Observer,
) -> Result<Received, Error> {
    let mut target = DeviceTarget::new(device).with_timeout(timeout);
    serve_into(&mut target, listener, timeout, observer)
}

/// As [`serve`], of a sender at the other end of `ends`, which are called `name`.
pub fn serve_one(
    device: &Device,
    ends: Ends,
    name: &str,
    timeout: Duration,
    observer: &mut dyn Observer,
) -> Result<Received, Error> {
    let mut target = DeviceTarget::new(device).with_timeout(timeout);
    serve_one_into(&mut target, ends, name, timeout, observer)
}

/// Tells a sender at the other end of `ends` why there is no device for it.
pub fn refuse(ends: Ends, why: &Error, timeout: Duration) {
    let mut connection = Connection::new(ends, timeout);
    // What a signal would interrupt is over.
    connection.signals = Signals::Ignore;
    let _ = connection.send(FAILED, why.to_string().as_bytes());
    connection.linger();
}

pub(super) fn serve_one_into(
    target: &mut dyn Target,
    ends: Ends,
    name: &str,
    timeout: Duration,
    observer: &mut dyn Observer,
) -> Result<Received, Error> {
    let mut connection = Connection::new(ends, timeout);
    if let Err(err) = hear_hello(&mut connection) {
        let _ = connection.send(FAILED, err.to_string().as_bytes());
        connection.linger();
        return Err(err).context(name);
    }
    serve_sender(target, connection, name.to_string(), observer)
}

/// Receives `HELLO`.
fn hear_hello(connection: &mut Connection) -> io::Result<()> {
    let mut version = Vec::new();
    match connection.receive(&mut version)? {
        HELLO if version.len() <= MAX_VERSION => check_version(&version),
        _ => Err(bad("no vfio-mig: it did not say HELLO")),
    }
}

pub(super) fn serve_into(
    target: &mut dyn Target,
    listener: TcpListener,
    timeout: Duration,
    observer: &mut dyn Observer,
) -> Result<Received, Error> {
    let (connection, from) = wait_for_sender(&listener, timeout, observer)?;
    // No other sender is taken: one that connects now must not wait.
    drop(listener);
    serve_sender(target, connection, from.to_string(), observer)
}

/// Loads what a sender sends, which has said `HELLO`.
fn serve_sender(
    target: &mut dyn Target,
    mut connection: Connection,
    from: String,
    observer: &mut dyn Observer,
) -> Result<Received, Error> {
    let mut phase = Phase::Data;
    let taken = take(&mut connection, target, &mut phase, observer);
    let err = match taken {
        Ok((bytes, sha256)) => {
            return Ok(Received {
                from,
                bytes,
                sha256,
            })
        }
        Err(err) => err,
    };
    // From here on, frames are sent and read to undo what was begun: signals do not
    // interrupt that.
    connection.signals = Signals::Ignore;
    let abandoned = target.abandon(&err);
    // The source goes on when it gets FAILED, so reset the device before that is sent.
    let may_run = phase == Phase::Started && abandoned.is_err();
    let err = err.unless_undone(abandoned);
    // The sender may be gone.
    let _ = match err {
        _ if may_run => Ok(()),
        Error::GivenUp { .. } => connection.send(DONE, &[]),
        _ => connection.send(FAILED, err.to_string().as_bytes()),
    };
    connection.linger();
    Err(err)
}

/// What the receiver has got so far.
#[derive(PartialEq, Eq)]
enum Phase {
    Data,
    Start,
    Started,
}

/// Handles the frames after `HELLO`.
fn take(
    connection: &mut Connection,
    target: &mut dyn Target,
    phase: &mut Phase,
    observer: &mut dyn Observer,
) -> Result<(u64, String), Error> {
    target.prepare()?;
    connection.send(DONE, &[]).context("the sender")?;
    let mut digest = Sha256::new();
    let mut bytes = 0;
    let mut barriers = 0;
    let mut frame = Vec::new();
    loop {
        let kind = connection.receive(&mut frame).context("the sender")?;
        if *phase == Phase::Data && connection.is_too_slow(bytes, barriers) {
            return Err(bad("sends less than 64 KiB a second")).context("the sender");
        }
        match (kind, &*phase) {
            // Otherwise a peer could keep the device for ever with empty frames.
            (DATA, Phase::Data) if frame.is_empty() => {
                return Err(bad("sends frames without data")).context("the sender");
            }
            (BARRIER | START, _) if !frame.is_empty() => {
                return Err(bad(format!("frame {kind:#x} has contents"))).context("the sender");
            }
            (DATA, Phase::Data) => {
                stream::write_all(target, &frame, bytes).map_err(|err| target.explain(err))?;
                digest.update(&frame);
                bytes += frame.len() as u64;
                observer.bytes(bytes);
                continue;
            }
            (BARRIER, Phase::Data) if barriers == MAX_BARRIERS => {
                return Err(bad("asks again and again whether all is loaded"))
                    .context("the sender");
            }
            (BARRIER, Phase::Data) => {
                barriers += 1;
                target.wait_loaded()?;
            }
            // The device would run with nothing loaded.
            (END, Phase::Data) if bytes == 0 => return Err(Error::NothingToLoad),
            (END, Phase::Data) => {
                if digest.clone().finalize()[..] != frame[..] {
                    return Err(bad("the checksum differs")).context("the state");
                }
                target.finish()?;
                *phase = Phase::Start;
            }
            (START, Phase::Start) => {
                *phase = Phase::Started;
                target.start()?;
                // The device runs, even if the sender does not get the answer.
                connection.signals = Signals::Ignore;
                let _ = connection.send(DONE, &[]);
                return Ok((bytes, format!("{:x}", digest.finalize())));
            }
            (ABANDON, _) => {
                let why = reason(&frame);
                return Err(Error::GivenUp { why });
            }
            _ => return Err(bad(format!("unexpected frame {kind:#x}"))).context("the sender"),
        }
        connection.send(DONE, &[]).context("the sender")?;
    }
}
