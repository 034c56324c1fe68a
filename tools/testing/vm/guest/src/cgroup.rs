// SPDX-License-Identifier: GPL-2.0

//! Control groups: how much memory their processes are charged for and may use, and freezing
//! processes.

use crate::sys;
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    fs::{
        self,
        File,
        OpenOptions, //
    },
    io::{
        Read,
        Seek,
        Write, //
    },
    path::{
        Path,
        PathBuf, //
    },
    thread,
    time::{
        Duration,
        Instant, //
    },
};

/// Where they are.
const ROOT: &str = "/tmp/cgroup";
/// Time limit for a group to freeze or to thaw.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// A control group. When it is dropped, its processes go to the root group.
pub struct Group {
    dir: PathBuf,
}

impl Group {
    /// Makes one, with this process in it.
    pub fn of_this_process(name: &str) -> Result<Self> {
        let group = Self::new(name)?;
        group.add(0)?;
        Ok(group)
    }

    /// Makes an empty one.
    pub fn new(name: &str) -> Result<Self> {
        let root = Path::new(ROOT);
        if !root.exists() {
            sys::mount("cgroup2", ROOT)?;
            fs::write(root.join("cgroup.subtree_control"), "+memory")
                .context("the memory controller")?;
        }
        let dir = root.join(name);
        fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
        Ok(Self { dir })
    }

    /// Puts a process into it; 0 is this one.
    pub fn add(&self, process: u32) -> Result<()> {
        Ok(fs::write(
            self.dir.join("cgroup.procs"),
            process.to_string(),
        )?)
    }

    /// Bytes that it is charged for.
    pub fn charged(&self) -> Result<u64> {
        let current = fs::read_to_string(self.dir.join("memory.current"))?;
        Ok(current.trim().parse()?)
    }

    /// The most bytes that it was charged for at a time.
    pub fn peak(&self) -> Result<u64> {
        let peak = fs::read_to_string(self.dir.join("memory.peak"))?;
        Ok(peak.trim().parse()?)
    }

    /// Has the kernel kill a process of the group if the group needs more than `bytes`.
    pub fn limit(&self, bytes: u64) -> Result<()> {
        Ok(fs::write(self.dir.join("memory.max"), bytes.to_string())?)
    }

    /// Freezes or thaws the group, and waits until that has happened.
    pub fn set_frozen(&self, frozen: bool) -> Result<()> {
        let number = u32::from(frozen);
        fs::write(self.dir.join("cgroup.freeze"), number.to_string())?;
        let expected = format!("frozen {number}");
        let begin = Instant::now();
        loop {
            let events = fs::read_to_string(self.dir.join("cgroup.events"))?;
            if events.lines().any(|line| line == expected) {
                return Ok(());
            }
            ensure!(begin.elapsed() < PATIENCE, "not {expected}, but {events}");
            thread::sleep(POLL);
        }
    }
}

/// The most that a group is charged for.
pub struct Peak {
    file: File,
    before: u64,
}

/// Reads a file with a number of bytes.
fn read_bytes(file: &mut File) -> Result<u64> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text.trim().parse()?)
}

impl Peak {
    /// Begins to measure, from what the group with a name is charged for now.
    pub fn of(name: &str) -> Result<Self> {
        let path = Path::new(ROOT).join(name).join("memory.peak");
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).open(path)?;
        file.write_all(b"reset")?;
        let before = read_bytes(&mut file)?;
        Ok(Self { file, before })
    }

    /// The most bytes so far, beyond those when it began.
    pub fn growth(&mut self) -> Result<u64> {
        Ok(read_bytes(&mut self.file)?.saturating_sub(self.before))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let processes = fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        for process in processes.lines() {
            let _ = fs::write(Path::new(ROOT).join("cgroup.procs"), process);
        }
        // A group that still has processes stays, and then making the next group of this
        // name fails.
        let _ = fs::remove_dir(&self.dir);
    }
}
