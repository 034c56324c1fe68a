// SPDX-License-Identifier: GPL-2.0

//! The figures of a migration, from the trace events of both QEMUs.

use super::{
    config::{
        state_name,
        Assigned,
        Config, //
    },
    trace::Trace, //
};
use crate::events;
use anyhow::{
    ensure,
    Result, //
};
use serde_json::{
    json,
    Value, //
};
use std::ops::Range;
use vfio_mig::precopy::InfoVersion;

/// Most bytes that are not of an image: for each image, its record's header; and for each VF
/// its PCI configuration, which QEMU sends and counts if there are several channels.
const OF_RECORD: u64 = 16;
const OF_VF: u64 = 16 << 10;

/// Of one VF.
struct Device {
    precopy_bytes: u64,
    stopcopy_bytes: u64,
    save_ms: f64,
    load_ms: f64,
    arcs_ms: f64,
}

fn ms(microseconds: u64) -> f64 {
    microseconds as f64 / 1e3
}

/// What QEMU says a VF's state has taken while the guest stood still.
fn downtime(trace: &Trace, event: &str, index: usize) -> f64 {
    let name = state_name(index);
    let of_it = |idstr: Option<&str>| idstr.is_some_and(|idstr| idstr.starts_with(&name));
    let events = trace.of(event).filter(|event| of_it(event.field("idstr")));
    ms(events.map(|event| event.number("downtime")).sum())
}

/// When something was reached on the way.
fn checkpoint(trace: &Trace, about: &str) -> Option<f64> {
    let mut checkpoints = trace.of("vmstate_downtime_checkpoint");
    let reached = checkpoints.find(|event| event.about == about);
    reached.map(|event| event.at)
}

/// What a VF's changes of state have taken in this time.
fn arcs(trace: &Trace, vf: &str, time: &Range<f64>) -> f64 {
    let mut begin = None;
    let mut sum = 0.0;
    let events = trace.events.iter().filter(|event| event.device == vf);
    for event in events.filter(|event| time.contains(&event.at)) {
        match event.name.as_str() {
            "vfio_migration_set_state" => begin = Some(event.at),
            "vfio_migration_set_device_state" => {
                sum += begin.take().map_or(0.0, |begin| event.at - begin);
            }
            _ => (),
        }
    }
    sum * 1e3
}

fn device(source: &Trace, destination: &Trace, vfs: (Assigned, Assigned), index: usize) -> Device {
    let (from, to) = (vfs.0.bdf.to_string(), vfs.1.bdf.to_string());
    let end = |time: Option<f64>| time.unwrap_or(f64::INFINITY);
    let stopped =
        end(stopped_at(source))..end(checkpoint(destination, "dst-precopy-bh-vm-started"));
    let bytes = |in_downtime: bool| {
        let blocks = source.of("vfio_save_block").filter(|e| e.device == from);
        let blocks = blocks.filter(|event| (event.at >= stopped.start) == in_downtime);
        blocks.map(|event| event.number("data_size")).sum()
    };
    Device {
        precopy_bytes: bytes(false),
        stopcopy_bytes: bytes(true),
        save_ms: downtime(source, "vmstate_downtime_save", index),
        load_ms: downtime(destination, "vmstate_downtime_load", index),
        arcs_ms: arcs(source, &from, &stopped) + arcs(destination, &to, &stopped),
    }
}

/// How often the destination said that it has loaded the initial bytes of a VF.
pub fn acks(source: &Trace) -> usize {
    source
        .of("source_return_path_thread_switchover_acked")
        .count()
}

/// Pages that VFs have written to, as trackers say.
fn dirty_pages(source: &Trace) -> u64 {
    let events = source.of("vfio_container_query_dirty_bitmap");
    events.map(|event| event.number("dirty_pages")).sum()
}

/// How often a VF had new initial bytes, so that the source has asked for another ack.
fn reinits(source: &Trace) -> usize {
    source
        .of("vfio_query_precopy_size_request_switchover_ack")
        .count()
}

/// When the migration began.
fn begin(source: &Trace) -> Option<f64> {
    source.of("migrate_set_state").next().map(|event| event.at)
}

/// When the source has stopped the guest.
pub fn stopped_at(source: &Trace) -> Option<f64> {
    checkpoint(source, "src-downtime-start")
}

/// Whether the states of VFs went through channels of their own.
pub fn used_multifd(destination: &Trace) -> bool {
    destination.of("vfio_load_state_device_buffer_end").count() > 0
}

/// Checks that VFs were used in the way that was asked for.
pub fn check_use(trace: &Trace, vfs: &[Assigned], info: InfoVersion) -> Result<()> {
    for vf in vfs {
        let vf = vf.bdf.to_string();
        let init = trace.of("vfio_migration_init").find(|e| e.device == vf);
        ensure!(
            init.is_some_and(|init| init.field("mig_flags") == Some("0x7")
                && init.number("dirty_pages_supported") == 1
                && (init.number("precopy_info_v2_used") == 1) == (info == InfoVersion::V2)),
            "{vf}: {init:?}"
        );
    }
    Ok(())
}

/// Returns all figures of a migration. `info` is the source's answer to query-migrate, `vfs`
/// are the VFs of the source and of the destination.
pub fn all(
    info: &Value,
    source: &Trace,
    destination: &Trace,
    vfs: (&[Assigned], &[Assigned]),
) -> Value {
    let mut devices = Vec::new();
    let mut precopy_bytes = 0;
    for (index, (from, to)) in vfs.0.iter().zip(vfs.1).enumerate() {
        let device = device(source, destination, (*from, *to), index);
        precopy_bytes += device.precopy_bytes;
        devices.push(json!({
            "source": from.vhca,
            "source_hca": from.hca,
            "destination": to.vhca,
            "destination_hca": to.hca,
            "busy": index == 0,
            "precopy_bytes": device.precopy_bytes,
            "stopcopy_bytes": device.stopcopy_bytes,
            "save_ms": device.save_ms,
            "load_ms": device.load_ms,
            "arcs_ms": device.arcs_ms,
            "downtime_ms": device.save_ms + device.load_ms + device.arcs_ms,
        }));
    }
    let vfio_bytes = info["vfio"]["transferred"].as_u64().unwrap_or(0);
    json!({
        "total_ms": info["total-time"],
        "downtime_ms": info["downtime"],
        "precopy_bytes": precopy_bytes,
        // Also what went through channels of its own.
        "stopcopy_bytes": vfio_bytes.saturating_sub(precopy_bytes),
        "ram_bytes": info["ram"]["transferred"],
        "switchover_acks": acks(source),
        "dirty_pages": dirty_pages(source),
        "reinits": reinits(source),
        "began_at": begin(source),
        "stopped_at": stopped_at(source),
        "runs_at": checkpoint(destination, "dst-precopy-bh-vm-started"),
        // Not yet.
        "source_ended_at": null,
        "refusals": [],
        "devices": devices,
    })
}

/// What the driver says of the images of VFs.
#[derive(Default, PartialEq, Debug)]
struct Images {
    count: u64,
    bytes: u64,
    ns: u64,
}

impl Images {
    /// What events of this name tell of these VFs.
    fn of(events: &[String], name: &str, vfs: &[Assigned]) -> Result<Self> {
        let mut images = Self::default();
        for event in vfs.iter().flat_map(|vf| events::of(events, name, vf.bdf)) {
            images.count += 1;
            images.bytes += events::number(event, "bytes")? as u64;
            images.ns += events::number(event, "ns")? as u64;
        }
        Ok(images)
    }
}

/// Adds the driver's figures of a migration. Fails if the driver's bytes, with headers, are
/// not those that QEMU says it has moved.
pub fn add_driver(figures: &mut Value, vfs: (&[Assigned], &[Assigned])) -> Result<()> {
    let events = events::taken()?;
    let saved = Images::of(&events, "save_end", vfs.0)?;
    let loaded = Images::of(&events, "load_end", vfs.1)?;
    let bytes = |name: &str| figures[name].as_u64().unwrap_or(0);
    let rest = (bytes("precopy_bytes") + bytes("stopcopy_bytes")).checked_sub(saved.bytes);
    let most = saved.count * OF_RECORD + vfs.0.len() as u64 * OF_VF;
    ensure!(
        (saved.count, saved.bytes) == (loaded.count, loaded.bytes)
            && rest.is_some_and(|rest| rest <= most),
        "the driver has saved {saved:?} and loaded {loaded:?}: {figures}"
    );
    put_driver(figures, &saved, &loaded);
    Ok(())
}

fn put_driver(figures: &mut Value, saved: &Images, loaded: &Images) {
    figures["driver_bytes"] = saved.bytes.into();
    figures["driver_save_ms"] = (saved.ns as f64 / 1e6).into();
    figures["driver_load_ms"] = (loaded.ns as f64 / 1e6).into();
}

/// Adds what the figures are of: a guest, on what it runs, how many errors it has found, and the
/// number of the run.
pub fn add_origin(figures: &mut Value, config: Config, accel: &str, errors: usize, run: u32) {
    figures["migration"] = "live".into();
    figures["driver"] = config.driver.name().into();
    figures["access"] = config.access.name().into();
    figures["accel"] = accel.into();
    figures["info"] = json!(config.info);
    figures["run"] = run.into();
    figures["guest_errors"] = errors.into();
}

#[cfg(test)]
mod tests {
    use super::{
        super::config::{
            Access,
            Program, //
        },
        *, //
    };
    use crate::hca::Driver;
    use vm_common::documented::{
        self,
        keys, //
    };

    /// A migration of a VF that no event tells of.
    fn written() -> Value {
        let trace = Trace::new("qemu-0", String::new());
        let vf = [Assigned {
            bdf: "0000:01:00.2".parse().unwrap(),
            hca: 0,
            vhca: 1,
        }];
        all(&json!({}), &trace, &trace, (&vf, &vf))
    }

    #[test]
    fn the_page_has_what_is_written_of_a_migration() {
        let page = documented::testing();
        let tables = documented::tables(&page, "The report of make run-qemu");
        let [migration, device] = &tables[..] else {
            panic!("{} tables", tables.len());
        };
        let of_net = keys(&written());
        let mut figures = written();
        put_driver(&mut figures, &Images::default(), &Images::default());
        let config = Config {
            driver: Driver::Rust,
            access: Access::Iommufd,
            traced: true,
            info: InfoVersion::V2,
            program: Program::Work,
            cpus: 1,
        };
        add_origin(&mut figures, config, "kvm", 0, 0);
        assert_eq!(migration.names(), keys(&figures));
        assert_eq!(device.names(), keys(&figures["devices"][0]));

        // The other report names those that its migrations do not have.
        let tables = documented::tables(&page, "The report of make run-net");
        let mut missing = tables[0].said_of("migrations");
        missing.remove("out/run/qemu.json");
        let expected = keys(&figures).difference(&of_net).cloned().collect();
        assert_eq!(missing, expected);
    }
}
