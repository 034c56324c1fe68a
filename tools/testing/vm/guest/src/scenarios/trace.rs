// SPDX-License-Identifier: GPL-2.0

//! What the driver's tracepoints say of a migration.

use super::{
    streams,
    NamedRun,
    Vfs, //
};
use crate::{
    events::{
        self,
        number,
        taken, //
    },
    hca::Driver,
    records,
    tap::Results,
    vf::{
        Vf,
        IOVA, //
    },
};
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use mlx5_emu_regs as regs;
use vfio_mig::{
    device::Device,
    error::Error,
    precopy::{
        self,
        Observer, //
    },
    state::State,
    stream,
    target::DeviceTarget,
    uapi::{
        LoggingRange,
        PrecopyInfo, //
    },
    workload::{
        self,
        Workload, //
    },
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("trace", run)];

/// All of an event about a device.
fn of<'a>(events: &'a [String], name: &str, device: &Device) -> Vec<&'a str> {
    events::of(events, name, device.address())
}

/// The states that a device went through.
fn way(events: &[String], device: &Device) -> Vec<String> {
    let arcs = of(events, "arc", device);
    arcs.iter()
        .filter_map(|arc| arc.split_whitespace().nth(4))
        .map(str::to_string)
        .collect()
}

/// Creates objects, once, and keeps what the device answers.
#[derive(Default)]
struct Busy(Vec<PrecopyInfo>);

impl Observer for Busy {
    fn info(&mut self, info: &PrecopyInfo) {
        self.0.push(*info);
    }

    fn round(&mut self, source: &Device, round: u32) -> Result<(), Error> {
        let work = Workload {
            create_bytes: 64 << 10,
            change_bytes: 4 << 10,
        };
        work.step(source, round)
    }
}

fn migration(source: &Device, destination: &Device) -> Result<()> {
    let mut target = DeviceTarget::new(destination);
    let options = precopy::Options::default();
    let mut busy = Busy::default();
    let report = precopy::migrate(source, &mut target, options, &mut busy)?;
    let events = taken()?;

    let want = ["PRE_COPY", "PRE_COPY_P2P", "STOP_COPY", "STOP"];
    let got = way(&events, source);
    ensure!(got == want, "source: {got:?}");
    let want = [
        "RUNNING_P2P",
        "STOP",
        "RESUMING",
        "STOP",
        "RUNNING_P2P",
        "RUNNING",
    ];
    let got = way(&events, destination);
    ensure!(got == want, "destination: {got:?}");

    let saves = of(&events, "save_end", source);
    let loads = of(&events, "load_end", destination);
    ensure!(
        !saves.is_empty() && saves.len() == loads.len(),
        "{events:#?}"
    );
    let sum = |events: &[&str]| -> Result<u64> {
        let bytes: Result<Vec<i64>> = events.iter().map(|e| number(e, "bytes")).collect();
        Ok(bytes?.iter().sum::<i64>() as u64)
    };
    let saved = sum(&saves)?;
    ensure!(saved == sum(&loads)?, "{events:#?}");
    // The rest are headers of images, and what each stream has before them.
    let all = report.precopy_bytes + report.downtime_bytes;
    let head = records::head(&streams::saved(source)?)?;
    let rest = head + saves.len() * records::HEADER;
    ensure!(
        all == saved + rest as u64,
        "{all} bytes, of which {saved} in images and {rest} beside: {events:#?}"
    );
    for event in saves.iter().chain(&loads) {
        ensure!(
            number(event, "ret")? == 0 && number(event, "ns")? > 0,
            "{event}"
        );
    }
    begins(
        &of(&events, "save_begin", source),
        &saves,
        // The size of the buffer, which firmware need not fill.
        |begin, end| begin >= end && end > 0,
    )?;
    begins(
        &of(&events, "load_begin", destination),
        &loads,
        |begin, end| begin == end,
    )?;
    let infos = of(&events, "precopy_info", source);
    ensure!(infos.len() as u32 == report.rounds, "{infos:#?}");
    for (event, info) in infos.iter().zip(&busy.0) {
        let traced = [
            number(event, "initial_bytes")?,
            number(event, "dirty_bytes")?,
        ];
        let answered = [info.initial_bytes as i64, info.dirty_bytes as i64];
        ensure!(traced == answered, "{event}, but the answer was {info:?}");
    }
    let reinits = infos.iter().filter(|info| info.ends_with(" REINIT"));
    ensure!(reinits.count() as u32 == report.reinits, "{infos:#?}");
    Ok(())
}

/// Each transfer has a begin event, whose number of bytes fits that of its end event.
fn begins(begins: &[&str], ends: &[&str], right: fn(i64, i64) -> bool) -> Result<()> {
    ensure!(begins.len() == ends.len(), "{begins:#?}\n{ends:#?}");
    for (begin, end) in begins.iter().zip(ends) {
        let bytes = (number(begin, "bytes")?, number(end, "bytes")?);
        ensure!(right(bytes.0, bytes.1), "{begin}\n{end}");
    }
    Ok(())
}

/// A SAVE of a stopped device asks for the room that the device says it needs.
fn room(device: &Device) -> Result<()> {
    device.set_state(State::STOP)?;
    let size = device.data_size()?;
    taken()?;
    let mut file = device.begin(State::STOP_COPY)?;
    stream::copy(&mut file, &mut std::io::sink(), |_| ())?;
    let events = taken()?;
    let begins = of(&events, "save_begin", device);
    let [begin] = begins[..] else {
        bail!("{begins:#?}");
    };
    let room = number(begin, "bytes")?;
    ensure!(room as u64 == size, "{begin}, where the state has {size}");
    Ok(device.set_state(State::RUNNING).map(drop)?)
}

/// A report of dirty pages.
fn dirty_report(vf: &Vf) -> Result<()> {
    const LENGTH: u64 = 64 << 10;
    let device = vf.device();
    let range = LoggingRange {
        iova: IOVA,
        length: LENGTH,
    };
    device.start_logging(regs::PAGE, &[range])?;
    for bytes in [LENGTH / 2, 0] {
        if bytes > 0 {
            workload::write(device, IOVA, bytes)?;
        }
        taken()?;
        let bitmap = device.dirty_pages(range, regs::PAGE)?;
        let pages: u32 = bitmap.iter().map(|word| word.count_ones()).sum();
        ensure!(u64::from(pages) * regs::PAGE == bytes, "{pages} pages");
        let events = taken()?;
        let reports = of(&events, "dirty_report", device);
        let [report] = reports[..] else {
            bail!("{reports:#?}");
        };
        let right = number(report, "bytes")? == bytes as i64
            && number(report, "ret")? == 0
            && number(report, "ns")? > 0;
        ensure!(right, "{report} for {bytes} bytes");
    }
    Ok(device.stop_logging()?)
}

/// The paths that `vfio-mig state` shows are those that the kernel takes.
fn paths(device: &Device) -> Result<()> {
    let features = device.features()?;
    let mut at = device.state()?;
    for to in [
        State::STOP_COPY,
        State::RUNNING,
        State::PRE_COPY,
        State::STOP,
        State::PRE_COPY_P2P,
        State::RUNNING,
        State::PRE_COPY_P2P,
        State::PRE_COPY,
        State::STOP_COPY,
        State::RUNNING_P2P,
        State::PRE_COPY,
        State::RUNNING_P2P,
        State::STOP_COPY,
        State::RESUMING,
    ] {
        taken()?;
        let _file = device.set_state(to)?;
        let got = way(&taken()?, device);
        let path = features.path(at, to).context("no path")?;
        let path: Vec<String> = path.iter().map(State::to_string).collect();
        ensure!(got == path, "{at} -> {to}: {got:?}, not {path:?}");
        at = to;
    }
    Ok(())
}

fn failure(device: &Device) -> Result<()> {
    use std::io::Write;
    let mut file = device.begin(State::RESUMING)?;
    file.write_all(&[0; 9])?;
    ensure!(device.set_state(State::STOP).is_err());
    let events = taken()?;
    let arcs = of(&events, "arc", device);
    let last = arcs.last().context("no arcs")?;
    ensure!(
        last.contains("RESUMING -> STOP") && number(last, "ret")? == -i64::from(libc::EINVAL),
        "{last}"
    );
    device.reset()?;
    Ok(())
}

/// Each event can be turned on alone. Events with a time then have one.
fn alone(device: &Device) -> Result<()> {
    for name in ["arc", "save_begin", "save_end"] {
        events::turn_on_only(name)?;
        taken()?;
        let mut file = device.begin(State::STOP_COPY)?;
        stream::copy(&mut file, &mut std::io::sink(), |_| ())?;
        device.set_state(State::RUNNING)?;
        let events = taken()?;
        let of_it = of(&events, name, device);
        ensure!(
            !of_it.is_empty() && of_it.len() == events.len(),
            "with {name} on: {events:#?}"
        );
        for event in of_it {
            ensure!(name == "save_begin" || number(event, "ns")? > 0, "{event}");
        }
    }
    events::turn(true)
}

/// Programs that decode events get numbers for states, and names for the numbers.
fn format() -> Result<()> {
    let format = events::format("arc")?;
    for state in State::ALL {
        let pair = format!("{{ {}, \"{state}\" }}", state.0);
        ensure!(format.matches(&pair).count() == 2, "no {pair} in {format}");
    }
    Ok(())
}

pub fn run(results: &mut Results) -> Result<()> {
    let vfs = Vfs::new()?;
    let (source, destination) = vfs.of(Driver::Rust);
    events::turn(true)?;
    results.test("a migration with pre-copy", |_| {
        let (source, destination) = (Vf::open(source, 16)?, Vf::open(destination, 16)?);
        taken()?;
        migration(source.device(), destination.device())
    });
    results.test("the room of a SAVE", |_| room(&Device::open(source)?));
    if Device::kernel_has_iommufd() {
        results.test("a report of dirty pages", |_| {
            dirty_report(&Vf::open(source, 16)?)
        });
    }
    results.test("the paths between states", |_| {
        paths(&Device::open(source)?)
    });
    results.test("an arc that fails", |_| failure(&Device::open(source)?));
    results.test("one event alone", |_| alone(&Device::open(source)?));
    results.test("numbers and names of states", |_| format());
    results.test("nothing, when it is turned off", |_| {
        events::turn(false)?;
        taken()?;
        let device = Device::open(source)?;
        let mut file = device.begin(State::STOP_COPY)?;
        stream::copy(&mut file, &mut std::io::sink(), |_| ())?;
        let events = taken()?;
        ensure!(events.is_empty(), "{events:?}");
        Ok(())
    });
    Ok(())
}
