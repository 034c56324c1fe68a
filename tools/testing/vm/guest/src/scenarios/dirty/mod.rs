// SPDX-License-Identifier: GPL-2.0

//! DMA logging: what a VF writes is reported, all of it.

mod compared;
mod flood;
mod killed;
mod limits;
mod logged;
mod slow;
mod vectors;

use super::{
    compare::{
        self,
        Observation,
        Site, //
    },
    hooks::attach_pasid,
    NamedRun,
    Vfs, //
};
use crate::{
    fault::{
        self,
        Faults, //
    },
    hca::Driver,
    sys,
    tap::Results,
    vf::{
        Vf,
        IOVA, //
    },
};
use anyhow::{
    ensure,
    Result, //
};
use compared::{
    DIFFERENCES,
    OBSERVATIONS, //
};
use flood::run_flood;
use limits::run_limits;
pub(super) use logged::{
    pages,
    pages_of,
    scatter,
    scatter_and_report,
    tracked,
    works_again,
    ALL,
    PAGE,
    PAGES, //
};
use mlx5_emu_regs as regs;
use slow::run_slow;
use std::fs;
use vfio_mig::{
    device::Device,
    state::State, //
};

pub use killed::report_for_ever;
pub(super) use killed::{
    kill,
    reporter, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[
    ("dirty", run),
    ("dirty-slow", run_slow),
    ("dirty-limits", run_limits),
    ("dirty-flood", run_flood),
];

/// A copy of only the reported pages is the same in the end.
fn copy_by_reports(site: &Site) -> Result<()> {
    let vf = tracked(site)?;
    let mut copy = vec![0u64; (PAGES * PAGE / 8) as usize];
    let follow = |copy: &mut Vec<u64>| -> Result<()> {
        for page in pages(vf.device(), ALL, PAGE)? {
            for word in page * PAGE / 8..(page + 1) * PAGE / 8 {
                copy[word as usize] = vf.word(word * 8);
            }
        }
        Ok(())
    };
    for round in 0..20 {
        scatter(&vf, 50 * round)?;
        let at = IOVA + round * 64 * PAGE + 24;
        vf.command(regs::CMD_DMA_WRITE, &[at, 3 * PAGE + 8 * round])?;
        follow(&mut copy)?;
    }
    scatter(&vf, 99)?;
    vf.device().set_state(State::STOP)?;
    follow(&mut copy)?;
    let wrong = (0..copy.len()).find(|word| copy[*word] != vf.word(*word as u64 * 8));
    ensure!(wrong.is_none(), "word {wrong:?} is another one");
    Ok(())
}

/// The memory for messages is charged to the process that starts logging.
fn memory_is_charged(site: &Site) -> Result<()> {
    const ROOT: &str = "/run/cgroup";
    const GROUP: &str = "/run/cgroup/logging";
    fs::create_dir_all(ROOT)?;
    sys::mount("cgroup2", ROOT)?;
    fs::write(format!("{ROOT}/cgroup.subtree_control"), "+memory")?;
    fs::create_dir_all(GROUP)?;
    let charged = || -> Result<i64> {
        Ok(fs::read_to_string(format!("{GROUP}/memory.current"))?
            .trim()
            .parse()?)
    };
    let measure = || -> Result<i64> {
        let vf = Vf::open(site.vf, PAGES)?;
        fs::write(format!("{GROUP}/cgroup.procs"), "0")?;
        let before = charged()?;
        vf.device().start_logging(PAGE, &[ALL])?;
        Ok(charged()? - before)
    };
    let bytes = measure();
    fs::write(format!("{ROOT}/cgroup.procs"), "0")?;
    fs::remove_dir(GROUP)?;
    sys::unmount(ROOT)?;
    let bytes = bytes?;
    ensure!(bytes >= 2 << 20, "{bytes} bytes were charged");
    Ok(())
}

/// The tracker of another VF fails. Events about it reach the drivers of all VFs.
fn other_tracker_fails(site: &Site) -> Result<String> {
    let vf = tracked(site)?;
    let other = Vf::open(site.other, PAGES)?;
    let faults = Faults::open()?;
    let mut seen = Vec::new();
    for kind in [
        regs::TRACK_ERROR,
        regs::TRACK_QP_ERROR,
        regs::TRACK_CQ_ERROR,
        regs::TRACK_ERROR_MESSAGE,
    ] {
        other.device().start_logging(PAGE, &[ALL])?;
        let written = scatter(&vf, 10)?;
        faults.arm_report(fault::vhca(site.other)?, kind)?;
        seen.push(compare::outcome(pages_of(other.device(), ALL)));
        ensure!(written == pages(vf.device(), ALL, PAGE)?, "other pages");
        other.device().stop_logging()?;
    }
    Ok(seen.join(", "))
}

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    compare::both(results, &vfs, OBSERVATIONS, DIFFERENCES);
    let of_two: [Observation; 1] = [("the tracker of another VF fails", other_tracker_fails)];
    compare::both(results, &vfs, &of_two, &[]);
    for driver in Driver::BOTH {
        let name = format!("a copy by reports alone, {} driver", driver.name());
        results.test(&name, |_| {
            let (vf, other) = vfs.of(driver);
            copy_by_reports(&Site { vf, other })
        });
    }
    for driver in Driver::BOTH {
        let name = format!("no PASID, as reports have none, {} driver", driver.name());
        results.test(&name, |_| {
            let device = Device::open(vfs.of(driver).0)?;
            let errno = attach_pasid(&device)
                .err()
                .and_then(|err| err.raw_os_error());
            ensure!(errno == Some(libc::EOPNOTSUPP), "{errno:?}");
            Ok(())
        });
    }
    let (vf, other) = vfs.of(Driver::Rust);
    results.test(
        "memory for reports is charged to who starts logging",
        |_| memory_is_charged(&Site { vf, other }),
    );
    Ok(())
}
