// SPDX-License-Identifier: GPL-2.0

//! A process of its own that has a VF at some place, for what happens to processes.

use super::place::Place;
use crate::{
    cgroup::Group,
    hca::Driver,
    scenarios::{
        firmware_fails::{
            session::Session,
            words, //
        },
        waits::{
            aside,
            within, //
        },
    },
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    fs,
    io::{
        self,
        BufRead,
        BufReader,
        Write, //
    },
    process::{
        Child,
        ChildStdin,
        ChildStdout,
        Command,
        ExitCode,
        ExitStatus,
        Stdio, //
    },
    sync::{
        mpsc::Receiver,
        Arc, //
    },
    thread, //
};
use vfio_mig::bdf::Bdf;

/// The stream that a process loads.
const STREAM: &str = "/tmp/life.stream";
/// What a process says: it is where it is to be, and before a result.
const READY: &str = "ready";
const RESULT: &str = "result ";

/// Lets processes load a stream.
pub(super) fn set_stream(stream: &[u8]) -> Result<()> {
    fs::write(STREAM, stream).context(STREAM)
}

/// Waits until it is told to go on.
fn wait() -> io::Result<()> {
    io::stdin().lock().read_line(&mut String::new()).map(drop)
}

/// Gets a VF ready, makes the call, each when it is told to, and keeps what it has.
fn user(args: &[String]) -> Result<()> {
    let [bdf, driver, place] = args else {
        anyhow::bail!("--user BDF DRIVER PLACE");
    };
    let mut drivers = Driver::BOTH.into_iter();
    let driver = drivers.find(|one| one.name() == driver);
    let place = Place::find(place).context("no such place")?;
    wait()?;
    let stream: Arc<[u8]> = fs::read(STREAM)?.into();
    let mut session = Session::open(driver.context("no such driver")?, bdf.parse()?, stream)?;
    place.get_ready(&mut session)?;
    println!("{READY}");
    wait()?;
    println!("{RESULT}{}", words(&place.carry_on(&mut session)));
    loop {
        thread::park();
    }
}

/// Is such a process.
pub fn use_vf(args: &[String]) -> ExitCode {
    if let Err(err) = user(args) {
        println!("{err:#}");
    }
    ExitCode::FAILURE
}

/// Such a process, seen from outside. It is killed when this is dropped.
pub(super) struct User {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl User {
    /// Starts one in a control group. It has got ready when this returns.
    pub(super) fn start(vf: Bdf, driver: Driver, place: Place, group: &Group) -> Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .args(["--user", &vf.to_string(), driver.name(), place.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().context("no stdin")?;
        let output = child.stdout.take().context("no stdout")?;
        let mut user = Self {
            child,
            input,
            output: BufReader::new(output),
        };
        group.add(user.id())?;
        user.go()?;
        let said = user.line()?;
        ensure!(said == READY, "the process said {said:?}");
        Ok(user)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim_end().to_string())
    }

    /// Its number.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Has it go on: get ready, and then make the call.
    pub(super) fn go(&mut self) -> Result<()> {
        Ok(self.input.write_all(b"\n")?)
    }

    /// Waits for what came of the call, and returns it. `None` if the process has ended.
    pub(super) fn result(mut self) -> Receiver<Result<(Self, Option<String>)>> {
        aside(move || {
            let line = self.line()?;
            let result = line.strip_prefix(RESULT).map(str::to_string);
            ensure!(line.is_empty() || result.is_some(), "it said {line:?}");
            Ok((self, result))
        })
    }

    /// Waits for its end, which must come by itself.
    pub(super) fn wait(mut self) -> Receiver<io::Result<ExitStatus>> {
        aside(move || self.child.wait())
    }

    /// Ends it, and waits for that.
    pub(super) fn end(mut self) -> Result<()> {
        self.child.kill()?;
        within(&self.wait(), super::events::PATIENCE, "a killed process")??;
        Ok(())
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // It may have ended, and was waited for.
        let _ = self.child.kill();
    }
}
