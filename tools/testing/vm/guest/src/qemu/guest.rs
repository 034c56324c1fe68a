// SPDX-License-Identifier: GPL-2.0

//! A guest, which migrates from QEMU to QEMU.

use super::{
    config::{
        Assigned,
        Common,
        Config, //
    },
    figures,
    process::{
        file,
        Qemu,
        TIMEOUT, //
    },
    trace::Trace, //
};
use crate::{
    events,
    host::ROOT,
    inner,
    tap::Results, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use serde_json::{
    json,
    Value, //
};
use std::{
    fs,
    thread,
    time::Duration, //
};

const BOOT_TIMEOUT: Duration = Duration::from_secs(300);
/// Reports of the guest before and after a migration.
const REPORTS: usize = 3;
/// In milliseconds: emulation is slow.
const DOWNTIME_LIMIT: u64 = 3000;
/// In bytes for each second.
pub(super) const MAX_BANDWIDTH: u64 = 1 << 34;
/// Bandwidth with which the guest's memory takes a minute.
const LOW_BANDWIDTH: u64 = 1 << 20;
/// Bandwidth of a page, or a buffer of a VF's state, every 100 ms.
pub(super) const LEAST_BANDWIDTH: u64 = 4096;
/// The bandwidth that QEMU is to expect in the downtime: the measured one, one so low that
/// nothing fits into the downtime limit, and one so high that anything does.
pub(super) const MEASURED: u64 = 0;
pub(super) const NOTHING_FITS: u64 = 1;
pub(super) const ANYTHING_FITS: u64 = 1 << 40;
/// Time after which a socket that nobody reads from is full.
const SENDING: Duration = Duration::from_secs(1);
/// How often QEMU may give a migration up since a VF's new initial bytes came too late. The
/// next one is not likely to meet that, too.
const MOST_REFUSALS: usize = 4;
/// What QEMU says of such a migration.
const REFUSAL: &str = "Switchover ACK was requested by ";
/// All capabilities that are used somewhere.
const CAPABILITIES: &[&str] = &[
    "events",
    "return-path",
    "switchover-ack",
    "multifd",
    "pause-before-switchover",
];
/// Threads of the channels beside the main one.
const MULTIFD_CHANNELS: u32 = 2;

/// How a guest goes to another QEMU.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Through one socket.
    Socket,
    /// Through several: memory, and what VFs have to say while they are stopped.
    Multifd,
    /// As Socket, with a stop between pre-copy and stop-copy.
    Paused,
    /// Through a file: nobody answers.
    File,
}

impl Channel {
    fn capabilities(self) -> &'static [&'static str] {
        match self {
            Self::Socket => &["events", "return-path", "switchover-ack"],
            Self::Multifd => &["events", "return-path", "switchover-ack", "multifd"],
            Self::Paused => &[
                "events",
                "return-path",
                "switchover-ack",
                "pause-before-switchover",
            ],
            Self::File => &["events"],
        }
    }

    fn address(self) -> Value {
        let addr = match self {
            Self::File => json!({ "transport": "file", "filename": snapshot(), "offset": 0 }),
            _ => json!({ "transport": "socket", "type": "unix", "path": file("the", "socket") }),
        };
        json!({ "channels": [{ "channel-type": "main", "addr": addr }] })
    }
}

fn snapshot() -> String {
    file("the", "snapshot")
}

/// When a destination dies.
#[derive(Clone, Copy)]
pub enum Death {
    /// While the guest runs.
    InPreCopy,
    /// While the guest's VFs are stopped, and their last state is sent.
    InStopCopy,
}

/// Whether QEMU has given a migration up since a VF had new initial bytes when the guest was
/// stopped already, and the destination could not say in time that it has them. Nothing is
/// wrong then: the guest goes on in the source, and can be migrated again.
fn is_refusal(info: &Value) -> bool {
    let said = info["error-desc"].as_str().unwrap_or_default();
    info["status"] == "failed" && said.starts_with(REFUSAL)
}

/// How often the guest has found its VF to be reset.
fn resets(reports: &str) -> usize {
    let is_reset = |line: &&str| *line == inner::WAS_RESET;
    reports.lines().filter(is_reset).count()
}

/// Checks that reports are the beginning of the one sequence that there is.
fn check_sequence(reports: &str) -> Result<()> {
    let notes = [inner::CREATED, inner::WAS_RESET, inner::WAS_REMOVED];
    let is_round = |line: &&str| !notes.contains(line) && !line.starts_with(inner::NOTE);
    for (i, line) in (0..).zip(reports.lines().filter(is_round)) {
        let expected = inner::report(i * inner::STEP);
        ensure!(
            line == expected,
            "after {i} reports the guest says {line:?} and not {expected:?}"
        );
    }
    Ok(())
}

fn lines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

fn set_up(qemu: &mut Qemu, channel: Channel) -> Result<()> {
    let on = channel.capabilities();
    let capabilities: Vec<Value> = CAPABILITIES
        .iter()
        .map(|name| json!({ "capability": name, "state": on.contains(name) }))
        .collect();
    qemu.execute(
        "migrate-set-capabilities",
        json!({ "capabilities": capabilities }),
    )?;
    qemu.execute(
        "migrate-set-parameters",
        json!({ "downtime-limit": DOWNTIME_LIMIT, "multifd-channels": MULTIFD_CHANNELS }),
    )?;
    set_bandwidth(qemu, (MAX_BANDWIDTH, MEASURED))
}

/// What it may use, and what it is to expect of the downtime.
pub(super) fn set_bandwidth(qemu: &mut Qemu, (max, in_downtime): (u64, u64)) -> Result<()> {
    let parameters = json!({ "max-bandwidth": max, "avail-switchover-bandwidth": in_downtime });
    qemu.execute("migrate-set-parameters", parameters)?;
    Ok(())
}

/// A guest.
pub struct Guest<'a> {
    common: &'a Common,
    config: Config,
    /// The VFs that it has, and those that it can go to.
    pub(super) vfs: (Vec<Assigned>, Vec<Assigned>),
    /// Root ports for its VFs.
    ports: usize,
    pub(super) qemu: Qemu,
    /// What it has said in QEMUs that are gone.
    said: String,
    /// How often its VF was reset, as a test has found out.
    resets: usize,
    /// How many QEMUs there were before this one.
    qemus: u32,
    /// How its last migration goes to the other QEMU.
    channel: Channel,
}

impl<'a> Guest<'a> {
    /// Boots it.
    pub fn boot(
        results: &mut Results,
        common: &'a Common,
        config: Config,
        vfs: (&[Assigned], &[Assigned]),
    ) -> Result<Self> {
        let ports = vfs.0.len();
        let mut guest = Self {
            common,
            config,
            vfs: (vfs.0.to_vec(), vfs.1.to_vec()),
            ports,
            qemu: Qemu::start(results, common, config, "qemu-0", (vfs.0, ports), false)?,
            said: String::new(),
            resets: 0,
            qemus: 0,
            channel: Channel::Socket,
        };
        results.say("qemu-0: the guest boots");
        guest.hear(results, BOOT_TIMEOUT)?;
        let reports = guest.qemu.reports();
        for note in reports
            .lines()
            .filter_map(|line| line.strip_prefix(inner::NOTE))
        {
            results.say(&format!("qemu-0: {note}"));
        }
        let last = guest.qemu.reports();
        let last = last.lines().next_back().unwrap_or_default();
        results.say(&format!("qemu-0: the guest works with its VFs, at {last}"));
        figures::check_use(&guest.qemu.trace, vfs.0, config.info)?;
        Ok(guest)
    }

    /// Starts a QEMU for it to go to.
    fn destination(&mut self, results: &mut Results, channel: Channel) -> Result<Qemu> {
        self.qemus += 1;
        let name = format!("qemu-{}", self.qemus);
        let vfs = (&self.vfs.1[..], self.ports);
        let mut qemu = Qemu::start(results, self.common, self.config, &name, vfs, true)?;
        self.qemu.trace.forget()?;
        if self.config.traced {
            // The same, of the driver.
            events::taken()?;
        }
        set_up(&mut qemu, channel)?;
        set_up(&mut self.qemu, channel)?;
        self.channel = channel;
        Ok(qemu)
    }

    /// Starts a QEMU, and to migrate to it. `bandwidth` is as for [`set_bandwidth`].
    pub(super) fn begin(
        &mut self,
        results: &mut Results,
        channel: Channel,
        bandwidth: (u64, u64),
    ) -> Result<Qemu> {
        let mut destination = self.destination(results, channel)?;
        destination.execute("migrate-incoming", channel.address())?;
        set_bandwidth(&mut self.qemu, bandwidth)?;
        self.qemu.execute("migrate", channel.address())?;
        Ok(destination)
    }

    /// It is in the destination now. Returns the QEMU that it was in.
    pub(super) fn go_to(&mut self, destination: Qemu) -> Qemu {
        let source = std::mem::replace(&mut self.qemu, destination);
        self.said += &source.reports();
        std::mem::swap(&mut self.vfs.0, &mut self.vfs.1);
        source
    }

    /// Waits until it has arrived, and migrates it anew if QEMU gives that up for nothing but the
    /// time at which a VF had new initial bytes. Returns the figures of the migration.
    pub fn arrive(&mut self, results: &mut Results, mut destination: Qemu) -> Result<Value> {
        let mut refusals = Vec::new();
        let info = loop {
            let info = self
                .qemu
                .wait_for_migration(
                    results,
                    "completed",
                    Some(&mut destination.trace),
                    |info, _| {
                        info["status"] == "completed"
                            || is_refusal(info) && refusals.len() < MOST_REFUSALS
                    },
                )
                .with_context(|| destination.said())?;
            if info["status"] == "completed" {
                break info;
            }
            let stopped = figures::stopped_at(&self.qemu.trace);
            drop(destination);
            self.go_on(results)?;
            refusals.push((stopped, crate::net::now()));
            results.say(&format!(
                "{}: QEMU does not wait for what a VF has made while the guest is stopped; the \
                 guest is migrated anew",
                self.qemu.name()
            ));
            destination = self.begin(results, self.channel, (MAX_BANDWIDTH, MEASURED))?;
        };
        destination.wait_for_status(results, "completed", None)?;
        let status = self.qemu.execute("query-status", json!({}))?;
        ensure!(
            status["status"] == "postmigrate" && status["running"] == false,
            "the source is not stopped: {status}"
        );
        let source = self.go_to(destination);
        let figures = self.figures(&info, &source.trace);
        results.say(&format!(
            "{}: the guest has come from {}, and stood still for {} ms",
            self.qemu.name(),
            source.name(),
            info["downtime"]
        ));
        // The VFs are free when QEMU has ended.
        drop(source);
        let mut figures = figures?;
        figures["source_ended_at"] = crate::net::now().into();
        figures["refusals"] = json!(refusals);
        self.go_on(results)?;
        Ok(figures)
    }

    /// The figures of the migration to this QEMU.
    fn figures(&self, info: &Value, source: &Trace) -> Result<Value> {
        let vfs = (&self.vfs.1[..], &self.vfs.0[..]);
        let mut figures = figures::all(info, source, &self.qemu.trace, vfs);
        if self.config.traced {
            figures::add_driver(&mut figures, vfs)?;
        }
        if self.vfs.0.is_empty() {
            return Ok(figures);
        }
        let tracked = source.of("vfio_device_dirty_tracking_start").next();
        ensure!(tracked.is_some(), "VFs do not note what they write to");
        let something = |name: &str| figures[name].as_u64() > Some(0);
        ensure!(
            something("precopy_bytes") && something("stopcopy_bytes"),
            "nothing of a VF was transferred: {figures}"
        );
        Ok(figures)
    }

    /// How many errors it has found.
    fn errors(&self) -> usize {
        let reports = self.said.clone() + &self.qemu.reports();
        let is_error = |line: &&str| line.starts_with(inner::ERROR);
        reports.lines().filter(is_error).count()
    }

    /// Completes figures, and gives them to the host.
    fn publish(&self, results: &mut Results, mut figures: Value, run: u32) {
        let (accel, errors) = (self.common.accel, self.errors());
        figures::add_origin(&mut figures, self.config, accel, errors, run);
        results.json(&figures);
    }

    /// Migrates it to the other VFs, and gives the host the figures.
    pub fn migrate(&mut self, results: &mut Results, channel: Channel, run: u32) -> Result<()> {
        let figures = self.move_on(results, channel)?;
        self.publish(results, figures, run);
        Ok(())
    }

    /// Migrates it to the other VFs. Returns the figures.
    pub fn move_on(&mut self, results: &mut Results, channel: Channel) -> Result<Value> {
        let destination = self.begin(results, channel, (MAX_BANDWIDTH, MEASURED))?;
        let figures = self.arrive(results, destination)?;
        // Each VF wants an answer of its own.
        ensure!(
            figures["switchover_acks"].as_u64() >= Some(self.vfs.0.len() as u64),
            "the destination did not say that it was ready: {figures}"
        );
        ensure!(
            figures::used_multifd(&self.qemu.trace) == (channel == Channel::Multifd),
            "channels of its own for the VF: {}",
            self.qemu.said()
        );
        Ok(figures)
    }

    /// As [`Self::migrate`], but its first VF creates new objects when the destination has
    /// all initial bytes and could take over.
    pub fn migrate_busy(&mut self, results: &mut Results, run: u32) -> Result<()> {
        let bandwidth = (MAX_BANDWIDTH, NOTHING_FITS);
        let mut destination = self.begin(results, Channel::Socket, bandwidth)?;
        self.wait_for_initial_bytes(results, &mut destination)?;
        set_bandwidth(&mut self.qemu, (LEAST_BANDWIDTH, NOTHING_FITS))?;
        self.qemu.order(inner::CREATE)?;
        self.qemu
            .wait_for_reports(results, TIMEOUT, |text| text.contains(inner::CREATED))?;
        set_bandwidth(&mut self.qemu, (MAX_BANDWIDTH, ANYTHING_FITS))?;
        let figures = self.arrive(results, destination)?;
        self.publish(results, figures, run);
        Ok(())
    }

    /// Waits until the destination has the initial bytes of all VFs, and all memory was
    /// sent.
    pub(super) fn wait_for_initial_bytes(
        &mut self,
        results: &mut Results,
        destination: &mut Qemu,
    ) -> Result<()> {
        let least = self.vfs.0.len();
        self.qemu.wait_for_migration(
            results,
            "the end of its initial bytes",
            Some(&mut destination.trace),
            |info, trace| {
                figures::acks(trace) >= least && info["ram"]["dirty-sync-count"].as_u64() > Some(2)
            },
        )?;
        Ok(())
    }

    /// Gives it an order, and waits for its answer: a line that begins with `begin`. Returns
    /// the rest of the line.
    pub fn ask(&mut self, results: &mut Results, order: &str, begin: &str) -> Result<String> {
        let said = self.qemu.reports().len();
        let answer = |text: &str| {
            let line = text[said..].lines().find(|line| line.starts_with(begin))?;
            Some(line[begin.len()..].to_string())
        };
        self.qemu.order(order)?;
        self.qemu.wait_for_reports(results, TIMEOUT, |text| {
            // The last line may not be whole.
            let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
            whole.len() > said && answer(whole).is_some()
        })?;
        answer(&self.qemu.reports()).context("no answer")
    }

    /// The last messages of its QEMU, and of its own console.
    pub fn said(&self) -> String {
        self.qemu.said()
    }

    /// Waits until it has said something.
    fn hear(&mut self, results: &mut Results, timeout: Duration) -> Result<()> {
        let until = lines(&self.qemu.reports()) + REPORTS;
        self.qemu
            .wait_for_reports(results, timeout, |text| lines(text) >= until)
    }

    /// All that it has said. The last line may not be whole, and is left out.
    fn reports(&self) -> String {
        let mut reports = self.said.clone() + &self.qemu.reports();
        reports.truncate(reports.rfind('\n').map_or(0, |end| end + 1));
        reports
    }

    /// Checks that it goes on, and has always gone on.
    fn go_on(&mut self, results: &mut Results) -> Result<()> {
        let resets = self.go_on_after_resets(results)?;
        ensure!(resets == 0, "its VF was reset {resets} times");
        Ok(())
    }

    /// Checks that it goes on, and has always gone on. Returns how often its VF was reset
    /// since the last time.
    pub fn go_on_after_resets(&mut self, results: &mut Results) -> Result<usize> {
        self.hear(results, TIMEOUT)?;
        let reports = self.reports();
        check_sequence(&reports)?;
        let resets = resets(&reports);
        let new = resets - std::mem::replace(&mut self.resets, resets);
        let last = reports.lines().next_back().unwrap_or_default();
        let name = self.qemu.name();
        let missed = match new {
            0 => "it misses nothing".to_string(),
            n => format!("resets of its VF: {n}"),
        };
        results.say(&format!("{name}: the guest goes on, at {last}; {missed}"));
        Ok(new)
    }

    /// Waits until the guest has given its VF back, which is unplugged. It has none, and
    /// can go to none, from now on.
    pub fn wait_for_removal(&mut self, results: &mut Results) -> Result<()> {
        self.qemu
            .wait_for_reports(results, TIMEOUT, |text| text.contains(inner::WAS_REMOVED))?;
        self.vfs = (Vec::new(), Vec::new());
        results.say(&format!(
            "{}: the guest has no VF any more",
            self.qemu.name()
        ));
        Ok(())
    }

    /// Waits until the guest is migrated slowly, and something of its VFs was sent.
    fn wait_for_precopy(&mut self, results: &mut Results) -> Result<()> {
        self.qemu
            .wait_for_migration(results, "pre-copy", None, |info, _| {
                info["status"] == "active" && info["vfio"]["transferred"].as_u64() > Some(0)
            })?;
        Ok(())
    }

    /// Cancels a migration while both sides have VFs that are not stopped.
    pub fn cancel(&mut self, results: &mut Results) -> Result<()> {
        let destination = self.begin(results, Channel::Socket, (LOW_BANDWIDTH, MEASURED))?;
        self.wait_for_precopy(results)?;
        self.qemu.execute("migrate_cancel", json!({}))?;
        self.qemu.wait_for_status(results, "cancelled", None)?;
        drop(destination);
        self.go_on(results)
    }

    /// Kills the destination during a migration: the guest must go on in the source.
    pub fn survive(&mut self, results: &mut Results, death: Death) -> Result<()> {
        let destination = match death {
            Death::InPreCopy => {
                let destination =
                    self.begin(results, Channel::Socket, (LOW_BANDWIDTH, MEASURED))?;
                self.wait_for_precopy(results)?;
                destination
            }
            Death::InStopCopy => {
                let destination =
                    self.begin(results, Channel::Paused, (MAX_BANDWIDTH, MEASURED))?;
                self.qemu.wait_for_status(results, "pre-switchover", None)?;
                // What is sent now goes nowhere, and holds up all else.
                destination.freeze()?;
                self.qemu
                    .send("migrate-continue", json!({ "state": "pre-switchover" }))?;
                self.qemu.wait_for_event(results, "stop-copy", |event| {
                    event.name == "migrate_set_state" && event.field("state") == Some("device")
                })?;
                thread::sleep(SENDING);
                destination
            }
        };
        let name = destination.name().to_string();
        destination.die()?;
        results.say(&format!("{name}: died"));
        self.qemu.wait_for_status(results, "failed", None)?;
        self.go_on(results)?;
        let status = self.qemu.execute("query-status", json!({}))?;
        ensure!(status["running"] == true, "{status}");
        Ok(())
    }

    /// Writes it to a file, ends it, and has it go on from the file.
    pub fn restore(&mut self, results: &mut Results) -> Result<()> {
        let mut destination = self.destination(results, Channel::File)?;
        self.qemu.execute("migrate", Channel::File.address())?;
        self.qemu.wait_for_status(results, "completed", None)?;
        let size = fs::metadata(format!("{ROOT}{}", snapshot()))?.len();
        results.say(&format!("a snapshot of {} MiB", size >> 20));
        destination.execute("migrate-incoming", Channel::File.address())?;
        let restored = self.arrive(results, destination);
        fs::remove_file(format!("{ROOT}{}", snapshot()))?;
        restored.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_vf_that_was_late_is_a_reason_to_migrate_anew() {
        let late = "Switchover ACK was requested by 1 devices during switchover";
        for (status, said, expected) in [
            ("failed", late, true),
            ("cancelled", late, false),
            ("failed", "Unable to write to socket: Broken pipe", false),
        ] {
            let info = json!({ "status": status, "error-desc": said });
            assert_eq!(is_refusal(&info), expected, "{info}");
        }
        assert!(!is_refusal(&json!({ "status": "failed" })));
    }

    #[test]
    fn a_report_that_is_lost_or_repeated_is_noticed() {
        let line = |i: u64| inner::report(i * inner::STEP) + "\n";
        assert!(check_sequence(&(line(0) + &line(1) + &line(2))).is_ok());
        let notes = format!(
            "{}\n{}\n{}\n",
            inner::CREATED,
            inner::WAS_RESET,
            inner::WAS_REMOVED
        );
        let noted = line(0) + &notes + &line(1);
        assert!(check_sequence(&noted).is_ok());
        assert_eq!(resets(&noted), 1);
        assert!(check_sequence(&(line(0) + &line(2))).is_err());
        assert!(check_sequence(&(line(0) + &line(0))).is_err());
        assert!(check_sequence(&line(1)).is_err());
        assert!(check_sequence(&(line(0) + "round 8 se")).is_err());
    }
}
