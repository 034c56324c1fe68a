// SPDX-License-Identifier: GPL-2.0

//! What the command prints, and what it does if it cannot.

use super::{
    command::{
        fails,
        objects,
        require_running,
        vfio_mig,
        PATH, //
    },
    signals::stuck_with, //
};
use crate::{
    scenarios::compare::Site,
    sys, //
};
use anyhow::{
    ensure,
    Result, //
};
use std::{
    fs::{
        self,
        OpenOptions, //
    },
    io::Write,
    os::{
        fd::OwnedFd,
        unix::net::UnixStream, //
    },
    process::{
        Command,
        Output,
        Stdio, //
    },
    thread,
    time::{
        Duration,
        Instant, //
    },
};
use vfio_mig::device::Device;

/// As a shell shows a command that SIGPIPE has ended.
const CLOSED: i32 = 128 + libc::SIGPIPE;

fn is_closed(output: &Output, args: &[&str]) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    // What cannot be undone is not passed over in silence.
    let is_right = match args[0] {
        "migrate" => said.contains("the migration is complete; its report could not be printed"),
        _ => said.is_empty(),
    };
    ensure!(
        output.status.code() == Some(CLOSED) && is_right,
        "{args:?}: {}: {said}",
        output.status
    );
    Ok(())
}

/// The reader of the tool's output has gone.
pub(super) fn closed_output(site: &Site) -> Result<()> {
    let (vf, other) = (site.vf.to_string(), site.other.to_string());
    let mut commands = vec![
        vec!["info", &vf],
        vec!["--json", "info", &vf],
        vec!["watch", &vf, "--interval", "0"],
        vec!["--json", "watch", &vf, "--interval", "0"],
        vec!["state", &vf, "STOP_COPY", "RUNNING"],
        vec!["save", &vf, "-"],
        vec!["migrate", &vf, &other],
        vec!["migrate", &vf, &other, "--precopy"],
        vec!["test", "--list"],
        vec!["test", &vf, "--only", "feature"],
        vec!["man"],
        vec!["completions", "bash"],
    ];
    if Device::kernel_has_iommufd() {
        commands.push(vec!["dirty", &vf, "--interval", "0", "--count", "1000"]);
    }
    for args in commands {
        // A socket gives EPIPE just as a pipe does.
        let (reader, writer) = UnixStream::pair()?;
        drop(reader);
        let output = Command::new(PATH)
            .args(&args)
            .stdout(OwnedFd::from(writer))
            .stderr(Stdio::piped())
            .spawn()?
            .wait_with_output()?;
        is_closed(&output, &args)?;
    }
    require_running(site)
}

/// A migration that is done has not failed if its report cannot be printed.
pub(super) fn full_output(site: &Site) -> Result<()> {
    let (vf, other) = (site.vf.to_string(), site.other.to_string());
    for args in [
        &["migrate", &vf, &other][..],
        &["migrate", &vf, &other, "--precopy"],
        &["--json", "migrate", &vf, &other],
        &["--json", "load", &vf, "/tmp/full_output"],
    ] {
        if args.contains(&"load") {
            let saved = vfio_mig(&["save", &vf, "/tmp/full_output"])?;
            ensure!(saved.status.success(), "{saved:?}");
        }
        let output = Command::new(PATH)
            .args(args)
            .stdout(OpenOptions::new().write(true).open("/dev/full")?)
            .stderr(Stdio::piped())
            .spawn()?
            .wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(1)
                && said.contains("; its report could not be printed: standard output: No space"),
            "{args:?}: {}: {said}",
            output.status
        );
    }
    require_running(site)
}

/// A signal ends a tool whose output nobody reads, and that waits for that.
pub(super) fn unread_output(site: &Site) -> Result<()> {
    let vf = site.vf.to_string();
    for more in [&[][..], &["--json"]] {
        let (reader, mut writer) = UnixStream::pair()?;
        writer.set_nonblocking(true)?;
        while writer.write(&[b'\n'; 1 << 10]).is_ok() {}
        writer.set_nonblocking(false)?;
        let args = [&["watch", &vf, "--interval", "0"][..], more].concat();
        let mut stuck = stuck_with(&args, Vec::new(), OwnedFd::from(writer).into())?;
        sys::kill(stuck.child.id(), libc::SIGTERM)?;
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = stuck.child.try_wait()? {
                break status;
            }
            ensure!(begin.elapsed() < Duration::from_secs(30), "{args:?}");
            thread::sleep(Duration::from_millis(20));
        };
        drop(reader);
        ensure!(
            status.code() == Some(128 + libc::SIGTERM),
            "{args:?}: {status}"
        );
    }
    require_running(site)
}

/// Reports fit in 80 columns, and what is no terminal gets no progress.
pub(super) fn narrow(site: &Site) -> Result<()> {
    let (vf, other) = (site.vf.to_string(), site.other.to_string());
    let mut commands = vec![
        vec!["list"],
        vec!["info", &vf],
        vec!["state", &vf, "PRE_COPY", "RESUMING"],
        vec!["migrate", &vf, &other],
        vec![
            "migrate",
            &vf,
            &other,
            "--precopy",
            "--precopy-info",
            "both",
        ],
        vec!["watch", &vf, "--interval", "0", "--count", "3"],
        vec!["stress", &vf, "--count", "2"],
    ];
    if Device::kernel_has_iommufd() {
        commands.push(vec!["dirty", &vf, "--interval", "0"]);
    }
    for args in commands {
        let output = vfio_mig(&args)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success() && said.is_empty(),
            "{args:?}: {said}"
        );
        let text = String::from_utf8(output.stdout)?;
        let long = text.lines().find(|line| line.chars().count() > 80);
        ensure!(long.is_none() && !text.contains('\x1b'), "{args:?}: {text}");
    }
    require_running(site)
}

/// Devices that are in use, and states that are none.
pub(super) fn messages(site: &Site) -> Result<()> {
    let (vf, other) = (site.vf.to_string(), site.other.to_string());
    let open = Device::open(site.other)?;
    let us = format!("(process {})", std::process::id());
    for args in [vec!["info", &other], vec!["migrate", &vf, &other]] {
        let said = fails(&args, 1)?;
        ensure!(said.contains("in use by") && said.contains(&us), "{said}");
        let object = vfio_mig(&[&["--json"], &args[..]].concat())?;
        let object = objects(&object.stdout)?;
        // iommufd and a group have different ones.
        let name = &object[0]["error"]["errno_name"];
        ensure!(*name == "EBUSY" || *name == "EINVAL", "{object:?}");
    }
    drop(open);
    let said = fails(&["state", &vf, "STOP_COPY", "PRE_COPY"], 1)?;
    ensure!(
        said.contains("(EINVAL)") && said.contains("`vfio-mig info` shows the states"),
        "{said}"
    );
    for args in [
        vec!["migrate", &vf, &vf],
        vec!["test", &vf, &vf],
        vec!["stress", &vf, &vf],
    ] {
        let said = fails(&args, 2)?;
        ensure!(said.contains("given twice"), "{args:?}: {said}");
    }
    fs::write("/tmp/garbage", [0xff; 4096])?;
    let said = fails(&["load", &vf, "/tmp/garbage"], 1)?;
    ensure!(
        said.contains("refused the state") && said.contains("dmesg"),
        "{said}"
    );
    require_running(site)
}
