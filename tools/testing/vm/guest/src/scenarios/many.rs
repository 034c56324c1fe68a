// SPDX-License-Identifier: GPL-2.0

//! As many VFs as the emulated HCA has, all in use at the same time; and those of several HCAs.

use super::{
    streams,
    NamedRun, //
};
use crate::{
    hca::{
        self,
        Driver,
        Pf, //
    },
    sys,
    tap::Results,
    vf::Vf, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    io::Write,
    sync::Barrier,
    thread, //
};
use vfio_mig::{
    bdf::Bdf,
    state::State, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("many", run), ("many-pfs", run_pfs)];

/// VFs of the HCA.
const VFS: u16 = 64;
/// Of each of several.
const VFS_OF_EACH: u16 = 16;
/// How many HCAs these are.
const PFS: usize = 4;
/// How often a PF is reloaded while VFs of others migrate: usually, and at full length.
const RELOADS: [u32; 2] = [1, 10];

/// Migrates one VF into another. All such threads are at the same step: all VFs are open
/// when the first is saved, all are stopped when the first is loaded.
fn migrate(from: Bdf, to: Bdf, step: &Barrier) -> Result<()> {
    let opened = Vf::open(from, 16).and_then(|from| Ok((from, Vf::open(to, 16)?)));
    step.wait();
    let saved = opened.and_then(|(from, to)| {
        from.work(2, 16)?;
        let digest = from.digest()?;
        let stream = streams::saved(from.device())?;
        Ok((from, to, digest, stream))
    });
    step.wait();
    let (_from, to, digest, stream) = saved?;
    let mut file = to.device().begin(State::RESUMING)?;
    file.write_all(&stream)?;
    drop(file);
    to.device().set_state(State::RUNNING)?;
    ensure!(to.digest()? == digest, "another state was loaded");
    Ok(())
}

fn migrate_all(from: &[Bdf], to: &[Bdf]) -> Result<()> {
    let step = &Barrier::new(from.len());
    thread::scope(|scope| {
        let threads: Vec<_> = (from.iter().zip(to))
            .map(|(from, to)| scope.spawn(move || migrate(*from, *to, step)))
            .collect();
        for (thread, vf) in threads.into_iter().zip(from) {
            let result = thread.join().ok().context("a thread panicked")?;
            result.with_context(|| format!("the migration of {vf}"))?;
        }
        Ok(())
    })
}

pub fn run(results: &mut Results) -> Result<()> {
    let pf = Pf::find()?;
    pf.set_vfs(0)?;
    pf.set_vfs(VFS)?;
    let vfs = pf.vfs()?;
    results.test(&format!("{VFS} VFs are bound to our driver"), |_| {
        ensure!(vfs.len() == usize::from(VFS), "there are {} VFs", vfs.len());
        vfs.iter().try_for_each(|vf| hca::bind(*vf, Driver::Rust))
    });
    let (one, two) = vfs.split_at(vfs.len() / 2);
    results.test("half of them migrate into the others at once", |_| {
        migrate_all(one, two)
    });
    results.test("and back", |_| migrate_all(two, one));
    Ok(())
}

/// Makes VFs of a PF, and binds them to our driver.
fn bind_all(pf: &Pf) -> Result<Vec<Bdf>> {
    pf.set_vfs(VFS_OF_EACH)?;
    let vfs = pf.vfs()?;
    vfs.iter().try_for_each(|vf| hca::bind(*vf, Driver::Rust))?;
    Ok(vfs)
}

/// Reloads a PF a few times while VFs of others migrate.
fn migrate_beside_reloads(reloaded: &Pf, from: &[Bdf], to: &[Bdf]) -> Result<()> {
    let reloads = sys::rounds(RELOADS)?;
    thread::scope(|scope| {
        let reloader = scope.spawn(|| (0..reloads).try_for_each(|_| reloaded.reload()));
        migrate_all(from, to)?;
        reloader.join().ok().context("a thread panicked")?
    })
}

pub fn run_pfs(results: &mut Results) -> Result<()> {
    let pfs = Pf::all()?;
    let mut vfs = Vec::new();
    results.test(
        &format!("{VFS_OF_EACH} VFs of each of {PFS} PFs are bound to our driver"),
        |_| {
            ensure!(pfs.len() == PFS, "there are {} PFs", pfs.len());
            vfs = pfs.iter().map(bind_all).collect::<Result<_>>()?;
            Ok(())
        },
    );
    ensure!(vfs.len() == PFS, "without VFs, there is nothing to migrate");
    let (one, two) = (vfs[..2].concat(), vfs[2..].concat());
    results.test("those of two PFs migrate into the others at once", |_| {
        migrate_all(&one, &two)
    });
    results.test("and back", |_| migrate_all(&two, &one));
    for (i, pf) in pfs.iter().enumerate() {
        let (from, to) = ((i + 1) % PFS, (i + 2) % PFS);
        let name = format!("from PF {from} to PF {to}, while PF {i} is reloaded");
        results.test(&name, |_| migrate_beside_reloads(pf, &vfs[from], &vfs[to]));
    }
    results.test("all PFs are reloaded at once, and all VFs migrate", |_| {
        thread::scope(|scope| {
            let reloads: Vec<_> = pfs.iter().map(|pf| scope.spawn(|| pf.reload())).collect();
            let join = |one: thread::ScopedJoinHandle<'_, Result<()>>| {
                one.join().ok().context("a thread panicked")?
            };
            reloads.into_iter().try_for_each(join)
        })?;
        migrate_all(&one, &two)
    });
    pfs.iter().try_for_each(|pf| pf.set_vfs(0))
}
