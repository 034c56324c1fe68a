// SPDX-License-Identifier: GPL-2.0

//! Signals that end the command.

use super::{
    command::{
        require_running,
        ways_to_save,
        PATH, //
    },
    files::SmallDisk,
    hosts::{
        Receiver,
        DONE,
        HELLO, //
    },
};
use crate::{
    scenarios::compare::Site,
    sys, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    fs::{
        self,
        OpenOptions, //
    },
    io::{
        Read,
        Write, //
    },
    net::{
        TcpListener,
        TcpStream, //
    },
    os::{
        fd::OwnedFd,
        unix::fs::OpenOptionsExt, //
    },
    path::{
        Path,
        PathBuf, //
    },
    process::{
        Child,
        Command,
        Stdio, //
    },
    sync::mpsc,
    thread,
    time::{
        Duration,
        Instant, //
    },
};
use vfio_mig::device::Device;

/// Waits until the tool has created its temporary file.
fn wait_for_temporary(folder: &Path, child: &mut Child) -> Result<()> {
    let begin = Instant::now();
    while fs::read_dir(folder)?.count() < 2 {
        ensure!(child.try_wait()?.is_none(), "it has ended before");
        ensure!(begin.elapsed() < Duration::from_secs(30), "no file");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Signals during a save, on a device that takes its time.
pub fn interrupted_saves(site: &Site) -> Result<()> {
    let folder = Path::new("/tmp/interrupted");
    fs::create_dir_all(folder)?;
    let path = folder.join("state");
    fs::write(&path, SmallDisk::OLD)?;
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let name = path.to_str().context("a path")?;
        for args in ways_to_save(site, name) {
            let mut child = Command::new(PATH).args(&args).spawn()?;
            wait_for_temporary(folder, &mut child)?;
            sys::kill(child.id(), signal)?;
            let status = child.wait()?;
            ensure!(status.code() == Some(128 + signal), "{args:?}: {status}");
            let files = fs::read_dir(folder)?.count();
            ensure!(files == 1, "{args:?}: {files} files");
            ensure!(fs::read(&path)? == SmallDisk::OLD, "{args:?}: another file");
        }
    }
    require_running(site)
}

/// A command that cannot go on, and what keeps it from that.
pub(super) struct Stuck {
    pub(super) child: Child,
    _held: Vec<OwnedFd>,
}

/// Starts the tool, which gets stuck once it has a device open.
fn stuck(args: &[&str], held: Vec<OwnedFd>) -> Result<Stuck> {
    stuck_with(args, held, Stdio::piped())
}

/// As [`stuck`], with this standard output.
pub(super) fn stuck_with(args: &[&str], held: Vec<OwnedFd>, stdout: Stdio) -> Result<Stuck> {
    let mut child = Command::new(PATH)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()?;
    let files = PathBuf::from(format!("/proc/{}/fd", child.id()));
    let is_device = |file: PathBuf| {
        let name = file.to_string_lossy().into_owned();
        name.contains("[vfio-device]") || name.starts_with("/dev/vfio/devices/")
    };
    let begin = Instant::now();
    loop {
        ensure!(child.try_wait()?.is_none(), "{args:?}: it has ended");
        ensure!(begin.elapsed() < Duration::from_secs(30), "{args:?}");
        let mut open = fs::read_dir(&files)?.flatten();
        if open.any(|fd| fs::read_link(fd.path()).is_ok_and(is_device)) {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    // Not needed, but the next step of the tool is what is interesting.
    thread::sleep(Duration::from_millis(200));
    ensure!(child.try_wait()?.is_none(), "{args:?}: it is not stuck");
    Ok(Stuck { child, _held: held })
}

/// A FIFO with a reader that does not read.
fn unread_fifo(path: &str) -> Result<OwnedFd> {
    if !Path::new(path).exists() {
        sys::make_node(path, libc::S_IFIFO | 0o600, 0, 0)?;
    }
    let reader = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    Ok(reader.into())
}

/// Signals to a tool whose state cannot go on, wherever it comes from or goes to.
pub(super) fn signals(site: &Site) -> Result<()> {
    let (vf, other) = (site.vf.to_string(), site.other.to_string());
    let fifo = "/tmp/unread";
    let to_fifo = format!("file:{fifo}");
    let mut commands = vec![
        vec!["save", &vf, "-"],
        vec!["save", &vf, fifo],
        vec!["migrate", &vf, &to_fifo],
        vec!["migrate", &vf, &to_fifo, "--precopy"],
        vec!["load", &vf, "-"],
        vec!["receive", &other, "--listen", "127.0.0.1:0"],
        vec!["watch", &vf, "--interval", "86400"],
    ];
    if Device::kernel_has_iommufd() {
        commands.push(vec!["dirty", &vf, "--interval", "86400"]);
    }
    let names = [
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGHUP, "SIGHUP"),
    ];
    for (i, args) in commands.iter().enumerate() {
        // Every signal for the first command, and one for each other one.
        let count = if i == 0 { names.len() } else { 1 };
        for (signal, name) in names.iter().cycle().skip(i % names.len()).take(count) {
            let held = match args.iter().any(|arg| arg.ends_with(fifo)) {
                true => vec![unread_fifo(fifo)?],
                false => Vec::new(),
            };
            let stuck = stuck(args, held)?;
            sys::kill(stuck.child.id(), *signal)?;
            let begin = Instant::now();
            let output = stuck.child.wait_with_output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(
                output.status.code() == Some(128 + signal),
                "{args:?}: {}: {said}",
                output.status
            );
            // Nothing follows: the device was put back.
            let interrupted = said.trim_end().ends_with(&format!("interrupted by {name}"));
            ensure!(interrupted, "{args:?}: {said}");
            ensure!(begin.elapsed() < Duration::from_secs(10), "{args:?}");
        }
    }
    fs::remove_file(fifo)?;
    require_running(site)
}

/// Signals to both ends of a connection, each of which tells the other one.
pub(super) fn signals_of_hosts(site: &Site) -> Result<()> {
    let (vf, other) = (site.vf.to_string(), site.other.to_string());
    let receiver = Receiver::start(&other)?;
    let mut sender = TcpStream::connect(receiver.address())?;
    sender.write_all(HELLO)?;
    let mut answer = [0; DONE.len()];
    sender.read_exact(&mut answer)?;
    ensure!(answer == DONE, "{answer:?}");
    sys::kill(receiver.id(), libc::SIGTERM)?;
    let mut reason = Vec::new();
    sender.read_to_end(&mut reason)?;
    let reason = String::from_utf8_lossy(&reason);
    let (status, said) = receiver.end()?;
    ensure!(
        reason.ends_with("interrupted by SIGTERM") && status.code() == Some(128 + libc::SIGTERM),
        "{reason}: {status}: {said}"
    );

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let to = format!("tcp:{}", listener.local_addr()?);
    let (state_comes, state) = mpsc::channel();
    let answering = thread::spawn(move || -> Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut hello = [0; HELLO.len()];
        stream.read_exact(&mut hello)?;
        stream.write_all(DONE)?;
        // All that it sends, until it waits for an answer and hears none.
        stream.read_exact(&mut vec![0; 1 << 20])?;
        state_comes.send(())?;
        stream.read_to_end(&mut Vec::new())?;
        Ok(())
    });
    let stuck = stuck(&["migrate", &vf, &to], Vec::new())?;
    state.recv().context("it sends no state")?;
    sys::kill(stuck.child.id(), libc::SIGINT)?;
    let output = stuck.child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(128 + libc::SIGINT) && said.contains("interrupted by SIGINT"),
        "{}: {said}",
        output.status
    );
    answering.join().ok().context("a thread panicked")??;
    require_running(site)
}
