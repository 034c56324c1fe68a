// SPDX-License-Identifier: GPL-2.0

//! States that go to files, or come from them.

use super::{
    command::{
        fails,
        json,
        require_running,
        vfio_mig,
        ways_to_save, //
    },
    hosts::{
        Receiver,
        HELLO, //
    },
};
use crate::{
    fault::{
        opcode,
        Fault,
        Faults, //
    },
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
        File,
        Permissions, //
    },
    io::Write,
    net::TcpStream,
    os::unix::fs::{
        chown,
        FileTypeExt,
        MetadataExt,
        PermissionsExt, //
    },
    path::PathBuf, //
};

/// A folder on a file system that is too small for a state, with an older file.
pub(super) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(super) const OLD: &'static [u8] = b"an older state";

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
pub(super) fn full_disk(site: &Site) -> Result<()> {
    let disk = SmallDisk::new()?;
    for args in ways_to_save(site, "/tmp/small/state") {
        let said = fails(&args, 1)?;
        ensure!(said.contains("No space left"), "{args:?}: {said}");
        disk.require_unchanged()?;
    }
    require_running(site)
}

/// Device nodes are written to, and stay.
pub(super) fn device_nodes(site: &Site) -> Result<()> {
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
        let output = vfio_mig(args)?;
        ensure!(output.status.success(), "{args:?}: {output:?}");
        ensure!(is_device("/dev/null")?, "{args:?}");
    }
    require_running(site)
}

/// Where a state could not be read back from.
pub(super) fn no_files(site: &Site) -> Result<()> {
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
pub(super) fn owner_and_mode(site: &Site) -> Result<()> {
    let path = "/tmp/owned";
    for args in ways_to_save(site, path) {
        fs::write(path, "an older state")?;
        chown(path, Some(1234), Some(5678))?;
        fs::set_permissions(path, Permissions::from_mode(0o640))?;
        let output = vfio_mig(&args)?;
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
pub(super) fn nothing_to_load(site: &Site) -> Result<()> {
    let vf = site.vf.to_string();
    File::create("/tmp/empty")?;
    for from in ["/tmp/empty", "/dev/null", "-"] {
        let said = fails(&["load", &vf, from], 1)?;
        ensure!(said.contains("nothing to load"), "{from}: {said}");
    }
    // A sender with a checksum of nothing, and then it says to start.
    let mut bytes = [HELLO, b"\x04\x20\0\0\0"].concat();
    bytes.extend([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9,
        0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52,
        0xb8, 0x55,
    ]);
    bytes.extend(b"\x05\0\0\0\0");
    let receiver = Receiver::start(&vf)?;
    TcpStream::connect(receiver.address())?.write_all(&bytes)?;
    let (status, said) = receiver.end()?;
    ensure!(!status.success(), "it runs without a state: {said}");
    require_running(site)
}

/// A source that cannot be put back, since firmware does not let it run again.
pub(super) fn not_put_back(site: &Site) -> Result<()> {
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
        let state = json(&["--json", "state", &vf])?;
        ensure!(state["state"] == "RUNNING", "{args:?}: {state}");
    }
    // A complete state is not lost.
    let loaded = json(&["--json", "load", &site.other.to_string(), kept])?;
    ensure!(loaded["bytes"].as_u64() > Some(1 << 20), "{loaded}");
    fs::remove_file(kept)?;
    require_running(site)
}
