// SPDX-License-Identifier: GPL-2.0

//! Migration of one device's state by stop-copy.

use crate::{
    address::Address,
    device::{
        self,
        Device, //
    },
    error::{
        Context,
        Error,
        StreamContext, //
    },
    output::Output,
    state::State,
    stream,
    target::{
        DeviceTarget,
        Target, //
    },
    text, //
};
use serde::Serialize;
use std::{
    fs::File,
    time::Instant, //
};

/// A part of a migration.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// What was done.
    pub name: &'static str,
    /// How long it took, in milliseconds.
    pub ms: f64,
    /// Bytes of state that it moved.
    pub bytes: u64,
}

/// How a migration went.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Bytes of the stream.
    pub bytes: u64,
    /// Its parts, in order.
    pub phases: Vec<Phase>,
    /// SHA-256 of the stream, where one was made.
    pub sha256: Option<String>,
}

/// Is told of the progress.
pub trait Observer {
    /// A phase begins. `total` is an estimate of the bytes that it will move.
    fn phase(&mut self, name: &'static str, total: u64);
    /// `bytes` have been moved in the phase so far.
    fn bytes(&mut self, bytes: u64);
}

/// Ignores the progress.
impl Observer for () {
    fn phase(&mut self, _name: &'static str, _total: u64) {}
    fn bytes(&mut self, _bytes: u64) {}
}

struct Recorder<'a> {
    observer: &'a mut dyn Observer,
    phases: Vec<Phase>,
}

impl Recorder<'_> {
    fn run<T>(
        &mut self,
        name: &'static str,
        total: u64,
        work: impl FnOnce(&mut dyn Observer) -> Result<(T, u64), Error>,
    ) -> Result<T, Error> {
        self.observer.phase(name, total);
        let start = Instant::now();
        let (result, bytes) = work(self.observer)?;
        self.phases.push(Phase {
            name,
            ms: start.elapsed().as_secs_f64() * 1e3,
            bytes,
        });
        Ok(result)
    }
}

/// Migrates by stop-copy: the source stops, its state is moved, and the target goes on. Only
/// then the source frees what it has saved, so that this does not add to the downtime. If
/// this fails before the target goes on, the source runs again, and the target forgets the
/// state. The two never run at the same time.
pub fn stop_copy(
    source: &Device,
    target: &mut dyn Target,
    observer: &mut dyn Observer,
) -> Result<Report, Error> {
    source.features()?;
    let mut recorder = Recorder {
        observer,
        phases: Vec::new(),
    };
    let saved = move_state(source, target, &mut recorder)
        .and_then(|saved| start(target, saved, &mut recorder))
        .map_err(|err| back_out(source, target, err))?;
    end(source, saved, target.checksum(), recorder)
}

/// As [`stop_copy`], but the state goes to `file` first, a regular one, and from there
/// to the destination.
pub fn through_file(
    source: &Device,
    destination: &Device,
    file: Output,
    observer: &mut dyn Observer,
) -> Result<Report, Error> {
    source.features()?;
    let mut target = DeviceTarget::new(destination);
    let mut recorder = Recorder {
        observer,
        phases: Vec::new(),
    };
    let saved = move_through(source, &mut target, file, &mut recorder)
        .and_then(|saved| start(&mut target, saved, &mut recorder))
        .map_err(|err| back_out(source, &mut target, err))?;
    end(source, saved, target.checksum(), recorder)
}

/// A state that was moved: the source's file, and its bytes.
struct Saved {
    file: File,
    bytes: u64,
}

/// After a failure, has the source run again, if the target does not have its state.
pub(crate) fn back_out(source: &Device, target: &mut dyn Target, err: Error) -> Error {
    let device = source.address();
    let abandoned = target.abandon(&err);
    undone(device, err, abandoned, || source.step_back())
}

/// Completes `err`: whether the target has forgotten the state, and if so, whether the
/// source runs.
fn undone(
    device: Address,
    err: Error,
    abandoned: Result<(), Error>,
    step_back: impl FnOnce() -> Result<(), Error>,
) -> Error {
    match abandoned {
        Ok(()) => err.unless_undone(step_back()),
        Err(why) => Error::NotAbandoned {
            device,
            source: Box::new(err),
            why: Box::new(why),
        },
    }
}

fn prepare(
    source: &Device,
    target: &mut dyn Target,
    recorder: &mut Recorder<'_>,
) -> Result<u64, Error> {
    recorder.run("prepare the destination", 0, |_| Ok((target.prepare()?, 0)))?;
    recorder.run("stop the source", 0, |_| {
        source.set_state(State::STOP)?;
        Ok(((), 0))
    })?;
    source.data_size()
}

/// Has the target go on.
fn start(
    target: &mut dyn Target,
    saved: Saved,
    recorder: &mut Recorder<'_>,
) -> Result<Saved, Error> {
    recorder.run("finish", 0, |_| Ok((target.finish()?, 0)))?;
    recorder.run("start the destination", 0, |_| Ok((target.start()?, 0)))?;
    Ok(saved)
}

/// Has the source forget what it has saved. The target runs.
pub(crate) fn free(source: &Device, file: File) -> Result<(), Error> {
    let stopped = device::uninterrupted(|| source.set_state(State::STOP).map(drop));
    drop(file);
    stopped.map_err(|err| Error::NotFreed {
        device: source.address(),
        source: Box::new(err),
    })
}

fn end(
    source: &Device,
    saved: Saved,
    sha256: Option<String>,
    mut recorder: Recorder<'_>,
) -> Result<Report, Error> {
    recorder.run("free the source", 0, |_| Ok((free(source, saved.file)?, 0)))?;
    Ok(Report {
        bytes: saved.bytes,
        phases: recorder.phases,
        sha256,
    })
}

fn move_state(
    source: &Device,
    mut target: &mut dyn Target,
    recorder: &mut Recorder<'_>,
) -> Result<Saved, Error> {
    let total = prepare(source, target, recorder)?;
    recorder.run("save and load", total, |observer| {
        let mut file = source.begin(State::STOP_COPY)?;
        let bytes = stream::copy(&mut file, &mut target, |n| observer.bytes(n))
            .map_err(|err| target.explain(err))?;
        Ok((Saved { file, bytes }, bytes))
    })
}

fn move_through(
    source: &Device,
    target: &mut DeviceTarget<'_>,
    mut file: Output,
    recorder: &mut Recorder<'_>,
) -> Result<Saved, Error> {
    let total = prepare(source, target, recorder)?;
    let path = file.path().to_path_buf();
    let what = || text::shown_path(&path);
    let saved = recorder.run("save", total, |observer| {
        let mut from = source.begin(State::STOP_COPY)?;
        let bytes = stream::copy(&mut from, &mut file, |n| observer.bytes(n))
            .stream_context(stream::WRITING, &what())?;
        file.commit().context(what())?;
        Ok((Saved { file: from, bytes }, bytes))
    })?;
    recorder.run("load", saved.bytes, |observer| {
        let mut file = File::open(&path).context(what())?;
        let bytes = stream::copy(&mut file, target, |n| observer.bytes(n))
            .stream_context(stream::READING, &what())
            .map_err(|err| target.explain(err))?;
        Ok(((), bytes))
    })?;
    Ok(saved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn failed(what: &str, errno: i32) -> Error {
        Error::Io {
            what: what.to_string(),
            source: io::Error::from_raw_os_error(errno),
        }
    }

    fn not_put_back(wanted: &'static str) -> Error {
        Error::NotPutBack {
            device: "01:00.2".parse().unwrap(),
            wanted,
            left: Some(State::ERROR),
            source: Box::new(failed("it", libc::EIO)),
        }
    }

    #[test]
    fn a_device_that_is_not_put_back_is_told_of() {
        let device: Address = "01:00.2".parse().unwrap();
        let text = |abandoned, back| {
            let first = failed("the migration", libc::ENOSPC);
            let err = undone(device, first, abandoned, || back);
            assert_eq!(err.errno(), Some(libc::ENOSPC));
            err.to_string()
        };
        let first = "the migration: No space left on device (ENOSPC); free some space, or choose \
                     another place";
        assert_eq!(text(Ok(()), Ok(())), first);

        let text_is = text(Ok(()), Err(not_put_back("put back to RUNNING")));
        let left = "; 0000:01:00.2 is left in ERROR, since it could not be put back to RUNNING: it";
        assert!(text_is.starts_with(&format!("{first}{left}")), "{text_is}");
        assert!(text_is.contains("`vfio-mig state 0000:01:00.2`"));

        // The destination may run: then the source must not.
        let err = undone(
            device,
            failed("the migration", libc::ENOSPC),
            Err(not_put_back("reset")),
            || unreachable!(),
        );
        let text_is = err.to_string();
        assert!(text_is.contains("could not be reset: it"), "{text_is}");
        assert!(text_is.contains("0000:01:00.2 stays stopped"), "{text_is}");
    }
}
