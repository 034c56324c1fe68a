// SPDX-License-Identifier: GPL-2.0

//! What a scenario has done, for the report of `make campaign`.

use crate::tap::Results;
use serde_json::json;

/// Figures of a driver. A campaign adds up those of all its machines.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// The driver that was tried: `rust`, `c`, or the name of a sample.
    pub driver: &'static str,
    /// Requests: system calls on a device or on a data file.
    pub requests: u64,
    /// Of those, what succeeded.
    pub succeeded: u64,
    /// Streams that were written to a device.
    pub streams: u64,
    /// Allocations, copies and firmware commands that have failed since they were told to.
    pub faults_injected: u64,
    /// Cases of a table that the time was too short for.
    pub cases_left: u64,
    /// Results that were not what they must be: another errno, another state, lost data.
    pub wrong_results: u64,
}

impl Counts {
    /// Nothing yet.
    pub fn new(driver: &'static str) -> Self {
        Self {
            driver,
            ..Self::default()
        }
    }

    /// Tells the host.
    pub fn report(&self, results: &mut Results) {
        results.json(&json!({ "campaign": {
            "driver": self.driver,
            "requests": self.requests,
            "succeeded": self.succeeded,
            "streams": self.streams,
            "faults_injected": self.faults_injected,
            "cases_left": self.cases_left,
            "wrong_results": self.wrong_results,
        } }));
    }
}
