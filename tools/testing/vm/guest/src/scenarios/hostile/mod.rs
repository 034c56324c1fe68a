// SPDX-License-Identifier: GPL-2.0

//! Users that want to do harm: requests that make no sense, from many threads at once, streams
//! that are no states, streams that are to pin memory, and a device that lies.

mod device;
mod memory;
mod streams;
mod users;

use super::NamedRun;
use crate::{
    campaign::Counts,
    host,
    kmsg,
    tap::Results, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use serde_json::json;
use std::path::Path;
use vfio_mig::fuzz::{
    Done,
    Guide, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[
    ("hostile-device", device::run),
    ("hostile-users", users::run),
    ("hostile-streams", streams::run),
];

/// What mlx5_core says of a command that firmware refuses. That is expected here, of states
/// that are none, ranges that are not tracked, and sessions that are given up.
const REFUSED: &str = "mlx5_cmd_out_err:";
/// What the IOMMU says of work whose address was cleared by a reset, before it began.
const STRAY_DMA: &str = "DMAR: [DMA";

/// Announces what the kernel may say.
fn expect_refusals() {
    kmsg::expect(REFUSED);
    kmsg::expect(STRAY_DMA);
}

/// Inputs that the machines before have kept, if the host has them. Each driver has its own.
struct Inputs(Option<&'static Path>);

impl Inputs {
    /// Looks for them.
    fn find() -> Result<Self> {
        Ok(Self(host::mount_kept()?))
    }

    /// What guides the choice of inputs for a driver.
    fn guide(&self, results: &mut Results, driver: &str) -> Result<Guide> {
        let folder = self.0.map(|kept| kept.join(driver));
        let guide = Guide::open(folder.as_deref())?;
        let lines = guide.skipped().iter().map(String::as_str);
        for line in lines.chain(guide.uncovered()) {
            results.progress(&format!("{driver}: {line}"));
        }
        Ok(guide)
    }
}

/// Tells the host what was done with a driver. Fails if what was made up got to no more code
/// than what is plain.
fn tell(results: &mut Results, driver: &'static str, done: &Done, guide: &Guide) -> Result<()> {
    let counts = Counts {
        requests: done.requests,
        succeeded: done.succeeded,
        streams: done.streams,
        ..Counts::new(driver)
    };
    counts.report(results);
    let guided = guide.report();
    results.json(&json!({ "hostile": { "driver": driver, "done": done, "coverage": guided } }));
    let plain = guided.pcs_plain.context("it is not known what is plain")?;
    let pcs = guided.pcs.context("the kernel records no coverage")?;
    let kept = guided.requests_kept + guided.streams_kept;
    results.progress(&format!(
        "{driver}: {pcs} program counters, {plain} of them by saving and loading; {kept} inputs \
         kept, {} of earlier machines run",
        done.replayed
    ));
    ensure!(
        pcs > plain,
        "{pcs} program counters, as by saving and loading"
    );
    ensure!(kept > 0, "no input was kept");
    Ok(())
}
