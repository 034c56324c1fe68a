// SPDX-License-Identifier: GPL-2.0

//! How much memory, and how many files and tasks there are: as much after a test as before it.

use super::memory::{
    free,
    meminfo, //
};
use anyhow::{
    bail,
    Context,
    Result, //
};
use std::{
    fs, thread,
    time::{
        Duration,
        Instant, //
    },
};

/// How long what is freed later may take, and how often to look.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(500);

/// How much there is of what a session takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amounts {
    /// Pages that are free, or that have what is counted apart: objects of the kernel, and
    /// memory of processes, whose allocators keep what they get.
    pages: u64,
    /// Bytes of objects of the kernel.
    slab: u64,
    /// Objects in the cache of IOVAs, if the kernel tells.
    iovas: u64,
    /// Open files of this process.
    files: u64,
    /// Processes, and threads of the kernel but those that work queues come and go with.
    tasks: u64,
}

fn tasks() -> Result<u64> {
    let mut count = 0;
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        let is_task = path.join("task").exists();
        count += u64::from(is_task && !name.starts_with("kworker"));
    }
    Ok(count)
}

impl Amounts {
    /// What there is now.
    pub(super) fn now() -> Result<Self> {
        let memory = fs::read_to_string("/proc/meminfo")?;
        // Not each kernel has the file.
        let slabs = fs::read_to_string("/proc/slabinfo").unwrap_or_default();
        let iovas = slabs
            .lines()
            .find_map(|line| line.strip_prefix("iommu_iova "));
        let active = iovas.and_then(|line| line.split_whitespace().next());
        let slab = meminfo(&memory, "Slab")?;
        Ok(Self {
            pages: (free()? + slab + meminfo(&memory, "AnonPages")?) / 4096,
            slab,
            iovas: active.map_or(Ok(0), str::parse)?,
            files: fs::read_dir("/proc/self/fd")?.count() as u64,
            tasks: tasks()?,
        })
    }

    /// What is lost from here to `now`, if that is more than rounds of this number explain by
    /// chance.
    fn lost(&self, now: &Self, rounds: u64) -> Option<String> {
        // Less than one of each size in a round.
        let pages = self.pages.saturating_sub(now.pages);
        let slab = now.slab.saturating_sub(self.slab);
        let most = (256 + rounds, (1 << 20) + 64 * rounds);
        let checks = [
            ("pages", pages, most.0),
            ("bytes of slab", slab, most.1),
            ("IOVAs", now.iovas.saturating_sub(self.iovas), 256),
            ("open files", now.files.saturating_sub(self.files), 0),
            ("tasks", now.tasks.saturating_sub(self.tasks), 0),
        ];
        let mut lost = checks.iter().filter(|(_, count, most)| count > most);
        let (what, count, _) = lost.next()?;
        Some(format!("{count} {what} are lost after {rounds} rounds"))
    }

    /// Fails unless there is as much again as here, after `rounds` rounds: at once, or when what
    /// is freed later is.
    fn returned(&self, rounds: u64) -> Result<()> {
        let begin = Instant::now();
        loop {
            match self.lost(&Self::now()?, rounds) {
                None => return Ok(()),
                Some(lost) if begin.elapsed() > PATIENCE => bail!("{lost}"),
                Some(_) => thread::sleep(POLL),
            }
        }
    }

    /// Fails if `turn` loses something. It returns what there was when it had warmed up, and its
    /// rounds since then.
    ///
    /// A pool of the kernel's that has grown does not grow again: who loses something has
    /// another turn, and that one decides.
    pub(super) fn kept(mut turn: impl FnMut() -> Result<(Self, u64)>) -> Result<()> {
        let (before, rounds) = turn()?;
        let Err(lost) = before.returned(rounds) else {
            return Ok(());
        };
        let (before, rounds) = turn()?;
        before
            .returned(rounds)
            .with_context(|| format!("{lost:#}, and then again"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_told() {
        let before = Amounts {
            pages: 1000,
            slab: 5 << 20,
            iovas: 10,
            files: 4,
            tasks: 50,
        };
        assert_eq!(before.lost(&before, 10), None);
        let fewer = Amounts {
            pages: 700,
            ..before
        };
        assert_eq!(
            before.lost(&fewer, 10).unwrap(),
            "300 pages are lost after 10 rounds"
        );
        let more = Amounts { files: 5, ..before };
        assert_eq!(
            before.lost(&more, 10).unwrap(),
            "1 open files are lost after 10 rounds"
        );
        // Others may end, and free what they had.
        let better = Amounts {
            pages: 2000,
            tasks: 40,
            ..before
        };
        assert_eq!(before.lost(&better, 10), None);
    }
}
