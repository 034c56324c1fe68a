// SPDX-License-Identifier: GPL-2.0

//! The vfio-mig command if something is in its way: what must not be lost, and what
//! it says.

use super::{
    compare::{self, Site},
    tool,
};
use crate::{
    fault::{opcode, Fault, Faults},
    sys,
    tap::Results,
};
use anyhow::{ensure, Context, Result};
use std::{
    ffi::OsStr,
    fmt::Debug,
    fs::{self, File, OpenOptions, Permissions},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{chown, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use vfio_mig::device::Device;

/// As a shell shows a command that SIGPIPE has ended.
const CLOSED: i32 = 128 + libc::SIGPIPE;

/// Runs the tool, which must fail with `status`. Returns what it says.
fn fails(args: &[impl AsRef<OsStr> + Debug], status: i32) -> Result<String> {
    let output = tool::vfio_mig(args)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(status),
        "{args:?}: {}: {said}",
        output.status
    );
    Ok(said)
}

/// The ways to save to `path`.
fn ways_to_save(site: &Site, path: &str) -> [Vec<String>; 4] {
    let (vf, other) = (site.vf.to_string(), site.other.to_string());
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_string()).collect();
    let file = format!("file:{path}");
    [
        words(&["save", &vf, path]),
        words(&["migrate", &vf, &file]),
        words(&["migrate", &vf, &file, "--precopy"]),
        words(&["migrate", &vf, &other, "--through", path]),
    ]
}

fn require_running(site: &Site) -> Result<()> {
    for vf in [site.vf, site.other] {
        let info = tool::json(&["--json", "info", &vf.to_string()])?;
        ensure!(info["state"] == "RUNNING", "{info}");
    }
    Ok(())
}

/// A folder on a file system that is too small for a state, with an older file.
struct SmallDisk(PathBuf);

impl SmallDisk {
    const OLD: &'static [u8] = b"an older state";

    fn new() -> Result<Self> {
        let path = PathBuf::from("/tmp/small");
        fs::create_dir_all(&path)?;
        sys::mount_from("small", "tmpfs", "/tmp/small", 0, Some("size=64k"))?;
        fs::write(path.join("state"), Self::OLD)?;
        Ok(Self(path))
    }

    fn require_unchanged(&self) -> Result<()> {
        let file = fs::read(self.0.join("state"))?;
        ensure!(file == Self::OLD, "the older file has changed");
        let files = fs::read_dir(&self.0)?.count();
        ensure!(files == 1, "{files} files instead of one");
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = sys::unmount("/tmp/small");
    }
}

/// A save that fails leaves the older file, and nothing else.
fn full_disk(site: &Site) -> Result<()> {
    let disk = SmallDisk::new()?;
    for args in ways_to_save(site, "/tmp/small/state") {
        let said = fails(&args, 1)?;
        ensure!(said.contains("No space left"), "{args:?}: {said}");
        disk.require_unchanged()?;
    }
    require_running(site)
}

/// Device nodes are written to, and stay.
fn device_nodes(site: &Site) -> Result<()> {
    let is_device = |path| -> Result<bool> {
        let kind = fs::metadata(path)?.file_type();
        Ok(kind.is_char_device())
    };
    for args in &ways_to_save(site, "/dev/full")[..3] {
        let said = fails(args, 1)?;
        ensure!(said.contains("No space left"), "{args:?}: {said}");
        ensure!(is_device("/dev/full")?, "{args:?}");
    }
    for args in &ways_to_save(site, "/dev/null")[..3] {
        let output = tool::vfio_mig(args)?;
        ensure!(output.status.success(), "{args:?}: {output:?}");
        ensure!(is_device("/dev/null")?, "{args:?}");
    }
    require_running(site)
}

/// Where a state could not be read back from.
fn no_files(site: &Site) -> Result<()> {
    let (vf, other) = (site.vf.to_string(), site.other.to_string());
    let block = "/tmp/block";
    // Nothing is ever opened: there need not be such a device.
    sys::make_node(block, libc::S_IFBLK | 0o600, 7, 0)?;
    for args in ways_to_save(site, block) {
        let said = fails(&args, 1)?;
        ensure!(
            said.contains("block device") || said.contains("not a regular file"),
            "{args:?}: {said}"
        );
        ensure!(fs::metadata(block)?.file_type().is_block_device());
    }
    let fifo = "/tmp/fifo";
    sys::make_node(fifo, libc::S_IFIFO | 0o600, 0, 0)?;
    let said = fails(&["migrate", &vf, &other, "--through", fifo], 1)?;
    ensure!(said.contains("not a regular file"), "{said}");
    fs::remove_file(block)?;
    fs::remove_file(fifo)?;
    require_running(site)
}

/// A file that is saved again is as open as it was.
fn owner_and_mode(site: &Site) -> Result<()> {
    let path = "/tmp/owned";
    for args in ways_to_save(site, path) {
        fs::write(path, "an older state")?;
        chown(path, Some(1234), Some(5678))?;
        fs::set_permissions(path, Permissions::from_mode(0o640))?;
        let output = tool::vfio_mig(&args)?;
        ensure!(output.status.success(), "{args:?}: {output:?}");
        let now = fs::metadata(path)?;
        let (uid, gid, mode) = (now.uid(), now.gid(), now.mode() & 0o7777);
        ensure!(
            (uid, gid, mode) == (1234, 5678, 0o640) && now.len() > 1 << 20,
            "{args:?}: {uid} {gid} {mode:o}, {} bytes",
            now.len()
        );
        fs::remove_file(path)?;
    }
    Ok(())
}

/// There is nothing to load: the device must not run without a state.
fn nothing_to_load(site: &Site) -> Result<()> {
    let vf = site.vf.to_string();
    File::create("/tmp/empty")?;
    for from in ["/tmp/empty", "/dev/null", "-"] {
        let said = fails(&["load", &vf, from], 1)?;
        ensure!(said.contains("nothing to load"), "{from}: {said}");
    }
    // A sender with a checksum of nothing, and then it says to start.
    let mut bytes = [tool::HELLO, b"\x04\x20\0\0\0"].concat();
    bytes.extend([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9,
        0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52,
        0xb8, 0x55,
    ]);
    bytes.extend(b"\x05\0\0\0\0");
    let receiver = tool::Receiver::start(&vf)?;
    TcpStream::connect(receiver.address())?.write_all(&bytes)?;
    let (status, said) = receiver.end()?;
    ensure!(!status.success(), "it runs without a state: {said}");
    require_running(site)
}

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
fn closed_output(site: &Site) -> Result<()> {
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
        let output = Command::new(tool::PATH)
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
fn full_output(site: &Site) -> Result<()> {
    let (vf, other) = (site.vf.to_string(), site.other.to_string());
    for args in [
        &["migrate", &vf, &other][..],
        &["migrate", &vf, &other, "--precopy"],
        &["--json", "migrate", &vf, &other],
        &["--json", "load", &vf, "/tmp/full_output"],
    ] {
        if args.contains(&"load") {
            let saved = tool::vfio_mig(&["save", &vf, "/tmp/full_output"])?;
            ensure!(saved.status.success(), "{saved:?}");
        }
        let output = Command::new(tool::PATH)
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
fn unread_output(site: &Site) -> Result<()> {
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

/// Devices that are in use, and states that are none.
fn messages(site: &Site) -> Result<()> {
    let (vf, other) = (site.vf.to_string(), site.other.to_string());
    let open = Device::open(site.other)?;
    let us = format!("(process {})", std::process::id());
    for args in [vec!["info", &other], vec!["migrate", &vf, &other]] {
        let said = fails(&args, 1)?;
        ensure!(said.contains("in use by") && said.contains(&us), "{said}");
    }
    drop(open);
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
            let mut child = Command::new(tool::PATH).args(&args).spawn()?;
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
struct Stuck {
    child: Child,
    _held: Vec<OwnedFd>,
}

/// Starts the tool, which gets stuck once it has a device open.
fn stuck(args: &[&str], held: Vec<OwnedFd>) -> Result<Stuck> {
    stuck_with(args, held, Stdio::piped())
}

/// As [`stuck`], with this standard output.
fn stuck_with(args: &[&str], held: Vec<OwnedFd>, stdout: Stdio) -> Result<Stuck> {
    let mut child = Command::new(tool::PATH)
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
fn signals(site: &Site) -> Result<()> {
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
fn signals_of_hosts(site: &Site) -> Result<()> {
    let (vf, other) = (site.vf.to_string(), site.other.to_string());
    let receiver = tool::Receiver::start(&other)?;
    let mut sender = TcpStream::connect(receiver.address())?;
    sender.write_all(tool::HELLO)?;
    let mut answer = [0; tool::DONE.len()];
    sender.read_exact(&mut answer)?;
    ensure!(answer == tool::DONE, "{answer:?}");
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
        let mut hello = [0; tool::HELLO.len()];
        stream.read_exact(&mut hello)?;
        stream.write_all(tool::DONE)?;
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

/// A source that cannot be put back, since firmware does not let it run again.
fn not_put_back(site: &Site) -> Result<()> {
    let (vf, faults) = (site.vf.to_string(), Faults::open()?);
    let full = ways_to_save(site, "/dev/full");
    let kept = "/tmp/kept";
    let good = ["save", &vf, kept].map(str::to_string).to_vec();
    // With pre-copy, the disk is full before the source is stopped.
    for args in full[..2].iter().chain([&good]) {
        faults.arm(Fault::fail(opcode::RESUME_VHCA))?;
        let said = fails(args, 1)?;
        ensure!(faults.armed()? == 0, "{args:?}: it was not put back");
        let first = match args == &good {
            true => "the whole state is in /tmp/kept; ",
            false => "No space left",
        };
        let then = format!("{vf} is left in ");
        ensure!(
            said.contains(first) && said.contains(&then) && said.contains("vfio-mig state"),
            "{args:?}: {said}"
        );
        let state = tool::json(&["--json", "state", &vf])?;
        ensure!(state["state"] == "RUNNING", "{args:?}: {state}");
    }
    // A complete state is not lost.
    let loaded = tool::json(&["--json", "load", &site.other.to_string(), kept])?;
    ensure!(loaded["bytes"].as_u64() > Some(1 << 20), "{loaded}");
    fs::remove_file(kept)?;
    require_running(site)
}

/// A receiver whose device does not start has reset it and says so: the source goes on.
fn receiver_not_started(site: &Site) -> Result<()> {
    let (vf, other, faults) = (site.vf.to_string(), site.other.to_string(), Faults::open()?);
    for more in [&[][..], &["--precopy"]] {
        let receiver = tool::Receiver::start(&other)?;
        let to = format!("tcp:{}", receiver.address());
        // The first one is the destination's: the source is put back after it has failed.
        faults.arm(Fault::fail(opcode::RESUME_VHCA))?;
        let args = [&["migrate", &vf, &to][..], more].concat();
        let said = fails(&args, 1)?;
        ensure!(faults.armed()? == 0, "{args:?}: it was not started: {said}");
        ensure!(
            said.contains(&format!("{other}: cannot go from")) && !said.contains("stays stopped"),
            "{args:?}: {said}"
        );
        let (status, said) = receiver.end()?;
        ensure!(status.code() == Some(1), "{args:?}: {status}: {said}");
    }
    require_running(site)
}

/// All but [`interrupted_saves`].
pub fn run(results: &mut Results, site: &Site, driver: &str) {
    let tests: [compare::Test; 13] = [
        ("a full disk", full_disk),
        ("device nodes stay", device_nodes),
        ("what is no file", no_files),
        ("owner and mode of a file", owner_and_mode),
        ("nothing to load", nothing_to_load),
        ("nobody reads the output", closed_output),
        ("output that cannot be written", full_output),
        ("output that is not read", unread_output),
        ("messages", messages),
        ("a source that is not put back", not_put_back),
        ("a receiver that does not start", receiver_not_started),
        ("signals", signals),
        ("signals to one of two hosts", signals_of_hosts),
    ];
    for (name, test) in tests {
        results.test(&format!("{name}, {driver} driver"), |_| test(site));
    }
}
