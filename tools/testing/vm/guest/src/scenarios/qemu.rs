// SPDX-License-Identifier: GPL-2.0

//! QEMU live-migrates a running guest with VFs of our driver. The guest is [`crate::inner`],
//! which reports by itself if something is lost. A migration is good if the guest goes on in
//! the destination where it was in the source: its reports in both QEMUs are one sequence.

use super::NamedRun;
use crate::{
    events,
    hca::{
        self,
        Driver,
        Pf, //
    },
    host,
    qemu::{
        Access,
        Assigned,
        Channel,
        Common,
        Config,
        Death,
        Guest,
        Program, //
    },
    tap::Results, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::fs;
use vfio_mig::precopy::InfoVersion;

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[
    ("qemu", run),
    ("qemu-suite", run_suite),
    ("bench-qemu", run_bench),
];

/// VFs. A guest has half of them, and migrates to the others.
const VFS: u16 = 8;
/// VFs of a guest with many.
const MANY: usize = 4;
/// Migrations in a row.
const IN_A_ROW: u32 = 10;

/// Makes VFs.
pub struct GuestVfs {
    vfs: Vec<Assigned>,
}

impl GuestVfs {
    fn new() -> Result<Self> {
        let pf = Pf::find()?;
        pf.set_vfs(0)?;
        pf.set_vfs(VFS)?;
        // VF n is function n + 1, and its VHCA has the same number.
        let assigned = |(vhca, bdf)| Assigned { bdf, hca: 0, vhca };
        let vfs: Vec<Assigned> = (1..).zip(pf.vfs()?).map(assigned).collect();
        ensure!(vfs.len() == usize::from(VFS), "{} VFs", vfs.len());
        Ok(Self { vfs })
    }

    /// Binds them to a driver.
    pub fn bind(&self, results: &mut Results, driver: Driver) -> Result<()> {
        for vf in &self.vfs {
            hca::bind(vf.bdf, driver)?;
        }
        let name = driver.sysfs_name();
        results.say(&format!(
            "host: {VFS} VFs of mlx5_core's PF are bound to {name}"
        ));
        Ok(())
    }

    /// Binds the PF to its driver again if it is not, and its VFs to theirs.
    pub fn restore(&self, results: &mut Results, driver: Driver) -> Result<()> {
        let pf = Pf::find()?;
        if pf.driver().is_ok() {
            return Ok(());
        }
        // Waits for an unbind that has not ended.
        pf.set_bound(true)?;
        pf.set_vfs(VFS)?;
        self.bind(results, driver)
    }

    /// `count` VFs for a guest, and as many to go to.
    pub fn take(&self, count: usize) -> (&[Assigned], &[Assigned]) {
        let (here, there) = self.vfs.split_at(MANY);
        (&here[..count], &there[..count])
    }
}

/// Prepares PF and VFs. Returns `None` if the kernel has no iommufd.
pub fn prepare(results: &mut Results) -> Result<Option<(Common, GuestVfs)>> {
    if !fs::exists("/dev/iommu")? {
        results.skip(
            "QEMU migrates a guest with a VF",
            "the kernel has no iommufd",
        );
        return Ok(None);
    }
    let common = Common::new()?;
    let vfs = GuestVfs::new()?;
    host::mount()?;
    Ok(Some((common, vfs)))
}

/// What can be done with a guest.
type Step = fn(&mut Guest<'_>, &mut Results) -> Result<()>;

/// Boots a guest, and does something with it.
fn run_steps(
    results: &mut Results,
    common: &Common,
    access: Access,
    vfs: (&[Assigned], &[Assigned]),
    steps: &[(&str, Step)],
) {
    let config = Config {
        driver: Driver::Rust,
        access,
        traced: true,
        info: InfoVersion::V2,
        program: Program::Work,
        cpus: 1,
    };
    let prefix = format!("{}, VFs: {}", access.name(), vfs.0.len());
    let mut guest = None;
    results.test(&format!("{prefix}: a guest works with them"), |results| {
        guest = Some(Guest::boot(results, common, config, vfs)?);
        Ok(())
    });
    for (name, step) in steps {
        results.test(&format!("{prefix}: {name}"), |results| {
            step(guest.as_mut().context("there is no guest")?, results)
        });
    }
}

fn migrate(guest: &mut Guest<'_>, results: &mut Results) -> Result<()> {
    guest.migrate(results, Channel::Socket, 0)
}

fn migrate_with_multifd(guest: &mut Guest<'_>, results: &mut Results) -> Result<()> {
    guest.migrate(results, Channel::Multifd, 0)
}

fn migrate_often(guest: &mut Guest<'_>, results: &mut Results) -> Result<()> {
    for i in 0..IN_A_ROW * 2 {
        migrate(guest, results).with_context(|| format!("migration {}", i + 1))?;
    }
    Ok(())
}

/// One guest goes from one VF to another.
pub fn run(results: &mut Results) -> Result<()> {
    let Some((common, vfs)) = prepare(results)? else {
        return Ok(());
    };
    vfs.bind(results, Driver::Rust)?;
    events::turn(true)?;
    let steps: [(&str, Step); 1] = [("it migrates", migrate)];
    run_steps(results, &common, Access::Iommufd, vfs.take(1), &steps);
    Ok(())
}

/// All that happens to guests.
pub fn run_suite(results: &mut Results) -> Result<()> {
    let Some((common, vfs)) = prepare(results)? else {
        return Ok(());
    };
    vfs.bind(results, Driver::Rust)?;
    events::turn(true)?;
    let one: [(&str, Step); 8] = [
        ("it migrates", migrate),
        ("it migrates with multifd", migrate_with_multifd),
        ("its migration is cancelled", |guest, results| {
            guest.cancel(results)
        }),
        ("it migrates after that", migrate),
        ("the destination dies in pre-copy", |guest, results| {
            guest.survive(results, Death::InPreCopy)
        }),
        ("the destination dies in stop-copy", |guest, results| {
            guest.survive(results, Death::InStopCopy)
        }),
        ("a snapshot is restored", |guest, results| {
            guest.restore(results)
        }),
        ("it goes back and forth ten times", migrate_often),
    ];
    let many: [(&str, Step); 2] = [
        ("it migrates", migrate),
        ("it migrates back with multifd", migrate_with_multifd),
    ];
    for access in [Access::Iommufd, Access::Container] {
        run_steps(results, &common, access, vfs.take(1), &one);
        run_steps(results, &common, access, vfs.take(MANY), &many);
    }
    Ok(())
}

/// Measures one driver with one version of PRECOPY_INFO, once.
fn measure(
    results: &mut Results,
    common: &Common,
    vfs: &GuestVfs,
    (driver, info): (Driver, InfoVersion),
    run: u32,
) -> Result<()> {
    let config = Config {
        driver,
        access: Access::Iommufd,
        // It takes time, and the C driver has none.
        traced: false,
        info,
        program: Program::Work,
        cpus: 1,
    };
    vfs.bind(results, driver)?;
    let mut guest = Guest::boot(results, common, config, vfs.take(MANY))?;
    guest.migrate_busy(results, run)
}

/// Benchmark: a guest with a busy VF and idle ones.
pub fn run_bench(results: &mut Results) -> Result<()> {
    let Some((common, vfs)) = prepare(results)? else {
        return Ok(());
    };
    super::each_version(results, |results, run, driver, info| {
        measure(results, &common, &vfs, (driver, info), run)
    })
}
