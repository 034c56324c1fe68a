// SPDX-License-Identifier: GPL-2.0

//! A process that is killed in the middle of a report.

use super::logged::{
    pages,
    pages_of,
    scatter,
    stalled,
    tracked,
    ALL,
    PAGE, //
};
use crate::{
    scenarios::compare::Site,
    vf::Vf, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    io::{
        BufRead,
        BufReader, //
    },
    process::{
        Child,
        Command,
        ExitCode,
        Stdio, //
    },
    thread,
    time::{
        Duration,
        Instant, //
    },
};
use vfio_mig::bdf::Bdf;

/// A process that is in the middle of a report that does not end.
pub fn reporter(site: &Site) -> Result<Child> {
    let mut child = Command::new("/proc/self/exe")
        .args(["--report", &site.vf.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let stdout = child.stdout.take().context("no stdout")?;
    BufReader::new(stdout).read_line(&mut line)?;
    ensure!(line.trim() == "ready", "the reporter said {line:?}");
    thread::sleep(Duration::from_millis(100));
    Ok(child)
}

/// Kills a process, which must not wait for what it has begun.
pub fn kill(mut child: Child) -> Result<()> {
    child.kill()?;
    let begin = Instant::now();
    child.wait()?;
    // Far less than what silence is allowed to last.
    ensure!(
        begin.elapsed() < Duration::from_secs(5),
        "it could not be killed"
    );
    Ok(())
}

/// SIGKILL, in the middle of a report.
pub(super) fn killed(site: &Site) -> Result<()> {
    kill(reporter(site)?)?;
    let vf = tracked(site)?;
    let written = scatter(&vf, 100)?;
    ensure!(written == pages(vf.device(), ALL, PAGE)?, "other pages");
    Ok(())
}

/// What the process does that is killed.
pub fn report_for_ever(args: &[String]) -> ExitCode {
    let begin = || -> Result<Vf> {
        let vf: Bdf = args.first().context("--report BDF")?.parse()?;
        stalled(&Site { vf, other: vf })
    };
    match begin() {
        Ok(vf) => {
            println!("ready");
            let _ = pages_of(vf.device(), ALL);
            ExitCode::SUCCESS
        }
        Err(err) => {
            println!("{err:#}");
            ExitCode::FAILURE
        }
    }
}
