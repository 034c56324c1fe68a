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
    kmsg,
    tap::Results, //
};
use serde_json::json;
use vfio_mig::fuzz::Done;

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

/// Tells the host what was done with a driver.
fn tell(results: &mut Results, driver: &'static str, done: &Done) {
    let counts = Counts {
        requests: done.requests,
        succeeded: done.succeeded,
        streams: done.streams,
        ..Counts::new(driver)
    };
    counts.report(results);
    results.json(&json!({ "hostile": { "driver": driver, "done": done } }));
}
