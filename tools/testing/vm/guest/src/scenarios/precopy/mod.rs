// SPDX-License-Identifier: GPL-2.0

//! Pre-copy: the device is saved while it runs.
//!
//! What is in quotes is from `include/uapi/linux/vfio.h`.

mod failures;
mod info;
mod interchange;
mod reads;
mod reinit;
mod session;
mod unread;

use super::{
    compare::{
        self,
        Difference,
        Observation,
        Site, //
    },
    NamedRun,
    Vfs, //
};
use crate::{
    hca::Driver,
    tap::Results, //
};
use anyhow::Result;
use interchange::interchange;
use reads::waiting_reader;
use unread::{
    given_up_unread,
    nobody_reads,
    stopped_unread, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("precopy", run), ("precopy-chunks", run)];

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    let compared: [(&[Observation], &[Difference]); 4] = [
        (info::OBSERVATIONS, info::DIFFERENCES),
        (reinit::OBSERVATIONS, &[]),
        (reads::OBSERVATIONS, &[]),
        (failures::OBSERVATIONS, failures::DIFFERENCES),
    ];
    for (observations, differences) in compared {
        compare::both(results, &vfs, observations, differences);
    }
    interchange(results, &vfs);
    let (vf, other) = vfs.of(Driver::Rust);
    let site = Site { vf, other };
    results.test("a reset while a reader waits", |_| waiting_reader(&site));
    results.test("memory where nobody reads is bounded", |_| {
        nobody_reads(&site)
    });
    results.test("stopped where nobody reads", |_| stopped_unread(&site));
    results.test("given up where nobody reads", |_| given_up_unread(&site));
    Ok(())
}
