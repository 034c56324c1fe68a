// SPDX-License-Identifier: GPL-2.0

//! As many VFs as the emulated HCA has, all in use at the same time.

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
pub const SCENARIOS: &[NamedRun] = &[("many", run)];

/// VFs of the HCA.
const VFS: u16 = 64;

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
