// SPDX-License-Identifier: GPL-2.0

//! Migrations that may fail, step by step, and what becomes of the guest.

use super::{
    figures,
    guest::{
        set_bandwidth,
        Channel,
        Guest,
        ANYTHING_FITS,
        LEAST_BANDWIDTH,
        MAX_BANDWIDTH,
        MEASURED,
        NOTHING_FITS, //
    },
    process::{
        Qemu,
        TIMEOUT, //
    },
    trace::Trace, //
};
use crate::{
    inner,
    tap::Results, //
};
use anyhow::{
    ensure,
    Result, //
};
use serde_json::json;
use std::{
    thread,
    time::{
        Duration,
        Instant, //
    },
};

/// How long to look for a QEMU that runs the guest.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);
/// Number of polls with one answer after which the answer counts.
const STABLE: u32 = 5;

/// Where a guest runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In the QEMU that it came from.
    Source,
    /// In the QEMU that it was to go to.
    Destination,
    /// In both: it was doubled.
    Both,
    /// In neither: it is lost.
    Nowhere,
}

impl Place {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Both => "both",
            Self::Nowhere => "none",
        }
    }
}

/// What came of a migration.
pub struct End {
    /// Whether it has completed, as the source says.
    pub completed: bool,
    /// Where the guest is.
    pub place: Place,
    /// Whether the destination has loaded all that it was sent, but for what the source has
    /// sent last.
    pub lacks_last_block: bool,
}

/// The blocks of VFs that a source has sent: bytes of each.
fn sent(trace: &Trace) -> impl Iterator<Item = u64> + '_ {
    let blocks = trace.of("vfio_save_block").map(|e| e.number("data_size"));
    blocks.filter(|bytes| *bytes > 0)
}

/// The blocks that a destination has given to its VFs without an error.
fn loaded(trace: &Trace) -> impl Iterator<Item = u64> + '_ {
    let blocks = trace.of("vfio_load_state_device_data");
    let blocks = blocks.filter(|event| event.field("ret") == Some("0"));
    blocks.map(|event| event.number("size"))
}

/// Finds out where the guest runs, once both QEMUs have stopped changing.
fn find(source: &mut Qemu, destination: &mut Qemu) -> Result<Place> {
    let begin = Instant::now();
    let mut last = None;
    let mut polls = 0;
    loop {
        let place = match (source.runs()?, destination.runs()?) {
            (true, false) => Place::Source,
            (false, true) => Place::Destination,
            (true, true) => Place::Both,
            (false, false) => Place::Nowhere,
        };
        polls = if last == Some(place) { polls + 1 } else { 0 };
        last = Some(place);
        // A QEMU to which nothing comes any more ends.
        let settled = match place {
            Place::Source => destination.has_ended()?,
            Place::Destination => true,
            Place::Both | Place::Nowhere => false,
        };
        if (settled && polls >= STABLE) || begin.elapsed() > PATIENCE {
            return Ok(place);
        }
        thread::sleep(POLL);
    }
}

impl Guest<'_> {
    /// Starts to migrate it.
    pub fn begin_migration(&mut self, results: &mut Results) -> Result<Qemu> {
        self.begin(results, Channel::Socket, (MAX_BANDWIDTH, MEASURED))
    }

    /// Starts to migrate it, and waits until the destination has its initial bytes. Does
    /// not stop it: the rest does not fit into the downtime.
    pub fn begin_precopy(&mut self, results: &mut Results) -> Result<Qemu> {
        let bandwidth = (MAX_BANDWIDTH, NOTHING_FITS);
        let mut destination = self.begin(results, Channel::Socket, bandwidth)?;
        self.wait_for_initial_bytes(results, &mut destination)?;
        Ok(destination)
    }

    /// Starts to migrate it, and waits until its VF is stopped and QEMU is not to go on.
    pub fn begin_switchover(&mut self, results: &mut Results) -> Result<Qemu> {
        let bandwidth = (MAX_BANDWIDTH, ANYTHING_FITS);
        let destination = self.begin(results, Channel::Paused, bandwidth)?;
        self.qemu.wait_for_status(results, "pre-switchover", None)?;
        Ok(destination)
    }

    /// Has hardly anything sent after [`Self::begin_precopy`].
    pub fn slow_down(&mut self) -> Result<()> {
        set_bandwidth(&mut self.qemu, (LEAST_BANDWIDTH, NOTHING_FITS))
    }

    /// Goes on after [`Self::begin_precopy`].
    pub fn switch_over(&mut self) -> Result<()> {
        set_bandwidth(&mut self.qemu, (MAX_BANDWIDTH, ANYTHING_FITS))
    }

    /// Goes on after [`Self::begin_switchover`].
    pub fn go_on_from_switchover(&mut self) -> Result<()> {
        let state = json!({ "state": "pre-switchover" });
        self.qemu.execute("migrate-continue", state)?;
        Ok(())
    }

    /// Has QEMU cancel the migration.
    pub fn give_up(&mut self) -> Result<()> {
        self.qemu.execute("migrate_cancel", json!({}))?;
        Ok(())
    }

    /// Has the guest reset its VF, and waits until it has.
    pub fn reset_vf(&mut self, results: &mut Results) -> Result<()> {
        let said = self.qemu.reports().len();
        self.qemu.order(inner::RESET)?;
        self.qemu.wait_for_reports(results, TIMEOUT, |text| {
            text[said..].contains(inner::WAS_RESET)
        })
    }

    /// Starts to migrate it. The source is stopped as soon as the destination has the
    /// initial bytes.
    pub fn begin_any_downtime(&mut self, results: &mut Results) -> Result<Qemu> {
        self.begin(results, Channel::Socket, (MAX_BANDWIDTH, ANYTHING_FITS))
    }

    /// Checks that the destination did not say yet that it has its initial bytes, and that
    /// the source did not stop the guest.
    pub fn check_not_ready(&mut self, results: &mut Results) -> Result<()> {
        self.qemu.trace.tell(results)?;
        let stopped = figures::stopped_at(&self.qemu.trace).is_some();
        let acks = figures::acks(&self.qemu.trace);
        ensure!(
            acks == 0 && !stopped,
            "switchover acks: {acks}, the guest is stopped: {stopped}\n{}",
            self.qemu.said()
        );
        Ok(())
    }

    /// Waits until the destination says that it has its initial bytes.
    pub fn wait_for_ack(&mut self, results: &mut Results) -> Result<()> {
        self.qemu.wait_for_event(results, "an ack", |event| {
            event.name == "source_return_path_thread_switchover_acked"
        })
    }

    /// Waits until the VF's state has stopped moving. The source need not answer.
    /// Returns how many blocks it has sent that are not loaded: QEMU has them in a buffer.
    pub fn wait_for_silence(
        &mut self,
        results: &mut Results,
        destination: &mut Qemu,
    ) -> Result<u32> {
        let begin = Instant::now();
        let mut last = (0, 0);
        let mut polls = 0;
        while polls < STABLE {
            self.qemu.trace.tell(results)?;
            destination.trace.tell(results)?;
            let now = (
                sent(&self.qemu.trace).count(),
                loaded(&destination.trace).count(),
            );
            polls = if now == last { polls + 1 } else { 0 };
            last = now;
            ensure!(
                begin.elapsed() < PATIENCE,
                "{} blocks are sent, {} are loaded\n{}",
                now.0,
                now.1,
                destination.said()
            );
            thread::sleep(POLL);
        }
        Ok((last.0 - last.1) as u32)
    }

    /// Waits until the migration has ended, and finds out where the guest runs. It is
    /// there from now on.
    pub fn end(&mut self, results: &mut Results, mut destination: Qemu) -> Result<End> {
        let status = self.qemu.wait_for_end(results, &mut destination.trace)?;
        let place = find(&mut self.qemu, &mut destination)?;
        self.qemu.trace.tell(results)?;
        destination.trace.tell(results)?;
        let lacks_last_block =
            sent(&self.qemu.trace).count() == loaded(&destination.trace).count() + 1;
        let other = match place {
            Place::Destination => self.go_to(destination),
            _ => destination,
        };
        // Its VFs are free when it has ended.
        drop(other);
        Ok(End {
            completed: status == "completed",
            place,
            lacks_last_block,
        })
    }
}
