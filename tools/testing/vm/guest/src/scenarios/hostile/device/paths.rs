// SPDX-License-Identifier: GPL-2.0

//! What is done with a device that lies.

use super::poison;
use crate::{
    fault::{
        self,
        Faults, //
    },
    hca::{
        self,
        Driver,
        Pf, //
    },
    scenarios::{
        compare::{
            outcome,
            words,
            Site, //
        },
        dirty::{
            pages_of,
            ALL, //
        },
    },
    vf::{
        Vf,
        IOVA, //
    },
};
use anyhow::{
    bail,
    ensure,
    Result, //
};
use mlx5_emu_regs as regs;
use std::{
    collections::BTreeSet,
    fs::File,
    io::{
        self,
        Read,
        Write, //
    },
    os::fd::AsFd,
    rc::Rc, //
};
use vfio_mig::{
    device::Device,
    error::Error,
    state::State,
    uapi::{
        self,
        PrecopyInfo, //
    },
};

/// Pages of memory of a VF that migrates.
const PAGES: u64 = 16;
/// Pages that are written to before each report.
const WRITTEN: u64 = 100;

/// Who is lied to.
pub(super) struct Victim {
    pub(super) driver: Driver,
    pub(super) site: Site,
    pub(super) faults: Faults,
    /// A state that can be loaded.
    pub(super) stream: Rc<[u8]>,
    /// The digest of a VF with it.
    pub(super) digest: u64,
}

/// Arms the lies of a case.
pub(super) type Arm<'a> = &'a dyn Fn() -> Result<()>;

/// Something that is done. The device begins to lie once everything is ready for it. Returns the
/// first error, or `ok`.
pub(super) struct Path {
    pub(super) name: &'static str,
    pub(super) run: fn(&Victim, Arm) -> Result<String>,
    /// It can be done many times.
    pub(super) is_quick: bool,
}

/// Reads what there is, up to the end or for now. It must be what the device has written, or
/// zeroes.
fn read_all(file: &mut File) -> Result<io::Result<()>> {
    let mut bytes = Vec::new();
    let read = file.read_to_end(&mut bytes);
    ensure!(
        !poison::is_in(&bytes),
        "memory of somebody else is in the stream"
    );
    Ok(match read {
        Err(err) if err.raw_os_error() == Some(libc::ENOMSG) => Ok(()),
        result => result.map(drop),
    })
}

/// Continues, or returns the error of a request.
macro_rules! step {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(err) => return Ok(outcome::<()>(Err(err))),
        }
    };
}

/// The same, of a system call.
macro_rules! call {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(err) => return Ok(words::<String>(Err(err))),
        }
    };
}

/// The error of a session's file.
fn begin(device: &Device, to: State) -> Result<File, Error> {
    device.begin(to)
}

fn save(victim: &Victim, arm: Arm) -> Result<String> {
    let vf = Vf::open(victim.site.vf, PAGES)?;
    vf.work(2, PAGES)?;
    poison::spread();
    arm()?;
    step!(vf.device().data_size());
    let mut file = step!(begin(vf.device(), State::STOP_COPY));
    call!(read_all(&mut file)?);
    step!(vf.device().set_state(State::RUNNING));
    Ok("ok".to_string())
}

fn precopy(victim: &Victim, arm: Arm) -> Result<String> {
    let vf = Vf::open(victim.site.vf, PAGES)?;
    vf.work(2, PAGES)?;
    poison::spread();
    arm()?;
    let mut file = step!(begin(vf.device(), State::PRE_COPY));
    call!(read_all(&mut file)?);
    for round in 0..2 {
        vf.command(regs::CMD_CHANGE_STATE, &[3, round * 7])?;
        call!(uapi::precopy_info(file.as_fd(), PrecopyInfo::default()));
        call!(read_all(&mut file)?);
    }
    step!(vf.device().set_state(State::STOP_COPY));
    call!(read_all(&mut file)?);
    step!(vf.device().set_state(State::RUNNING));
    Ok("ok".to_string())
}

fn leave(victim: &Victim, arm: Arm) -> Result<String> {
    let vf = Vf::open(victim.site.vf, PAGES)?;
    vf.work(2, PAGES)?;
    let mut file = vf.device().begin(State::PRE_COPY)?;
    read_all(&mut file)??;
    arm()?;
    step!(vf.device().set_state(State::RUNNING));
    Ok("ok".to_string())
}

fn load(victim: &Victim, arm: Arm) -> Result<String> {
    let vf = Vf::open(victim.site.vf, PAGES)?;
    arm()?;
    let mut file = step!(begin(vf.device(), State::RESUMING));
    call!(file.write_all(&victim.stream));
    step!(vf.device().set_state(State::RUNNING));
    Ok("ok".to_string())
}

fn bind(victim: &Victim, arm: Arm) -> Result<String> {
    hca::unbind(victim.site.vf)?;
    arm()?;
    let bound = hca::bind(victim.site.vf, victim.driver);
    let device = Device::open(victim.site.vf);
    let stopped = bound
        .is_ok()
        .then(|| device.and_then(|device| device.set_state(State::STOP)));
    victim.faults.disarm()?;
    hca::unbind(victim.site.vf)?;
    hca::bind(victim.site.vf, victim.driver)?;
    Ok(stopped.map_or_else(|| "not bound".to_string(), outcome))
}

/// Pages that a VF writes to, whether it is tracked or not.
fn scatter(vf: &Vf) -> Result<BTreeSet<u64>> {
    let pages = ALL.length / regs::PAGE;
    vf.command(regs::CMD_DMA_SCATTER, &[IOVA, ALL.length, WRITTEN])?;
    let seq = vf.seq()?;
    let written = (0..WRITTEN).map(|nth| regs::scatter_page(seq, nth, pages));
    Ok(written.collect())
}

/// What a report lacks if it succeeds, or its error.
fn report(vf: &Vf) -> Result<String> {
    let written = scatter(vf)?;
    let bitmap = step!(pages_of(vf.device(), ALL));
    let is_set = |page: &u64| (bitmap[(page / 64) as usize] >> (page % 64)) & 1 == 1;
    Ok(match written.iter().all(is_set) {
        true => "ok".to_string(),
        false => "pages are lost".to_string(),
    })
}

/// Two reports: the second finds what the first has left.
fn reports(victim: &Victim, arm: Arm) -> Result<String> {
    let vf = Vf::open(victim.site.vf, ALL.length / regs::PAGE)?;
    vf.device().start_logging(regs::PAGE, &[ALL])?;
    arm()?;
    match report(&vf)?.as_str() {
        "ok" => report(&vf),
        other => Ok(other.to_string()),
    }
}

/// A tracker is made, reports once, and is destroyed.
fn track(victim: &Victim, arm: Arm) -> Result<String> {
    let vf = Vf::open(victim.site.vf, ALL.length / regs::PAGE)?;
    arm()?;
    step!(vf.device().start_logging(regs::PAGE, &[ALL]));
    let reported = report(&vf)?;
    step!(vf.device().stop_logging());
    Ok(reported)
}

/// The same twice: events about the first may come when there is the second.
fn track_again(victim: &Victim, arm: Arm) -> Result<String> {
    match track(victim, arm)?.as_str() {
        "ok" => track(victim, &|| Ok(())),
        other => Ok(other.to_string()),
    }
}

/// Reports of a tracker that sends nothing.
fn silent(victim: &Victim, arm: Arm) -> Result<String> {
    let vf = Vf::open(victim.site.vf, ALL.length / regs::PAGE)?;
    vf.device().start_logging(regs::PAGE, &[ALL])?;
    let vhca = fault::vhca(victim.site.vf)?;
    victim.faults.arm_report(vhca, regs::TRACK_STALL)?;
    arm()?;
    report(&vf)
}

/// The PF is set up, and then something is done.
fn set_up(victim: &Victim, arm: Arm, then: fn(&Victim, Arm) -> Result<String>) -> Result<String> {
    arm()?;
    let pf = Pf::find()?;
    pf.reload()?;
    let done = then(victim, &|| Ok(()));
    victim.faults.disarm()?;
    pf.reload()?;
    done
}

/// The PF is set up, and a tracker is made.
fn reload(victim: &Victim, arm: Arm) -> Result<String> {
    set_up(victim, arm, track)
}

/// The PF is set up, the driver is bound, and a VF migrates.
fn reload_migrate(victim: &Victim, arm: Arm) -> Result<String> {
    let migrated = set_up(victim, arm, |victim, arm| {
        hca::unbind(victim.site.vf)?;
        hca::bind(victim.site.vf, victim.driver)?;
        match precopy(victim, arm)?.as_str() {
            "ok" => load(victim, arm),
            other => Ok(other.to_string()),
        }
    });
    hca::unbind(victim.site.vf)?;
    hca::bind(victim.site.vf, victim.driver)?;
    migrated
}

pub(super) const SAVE: Path = Path {
    name: "a stopped VF is saved",
    run: save,
    is_quick: true,
};
pub(super) const PRECOPY: Path = Path {
    name: "a running VF is saved",
    run: precopy,
    is_quick: true,
};
pub(super) const LEAVE: Path = Path {
    name: "pre-copy is left",
    run: leave,
    is_quick: true,
};
pub(super) const LOAD: Path = Path {
    name: "a state is loaded",
    run: load,
    is_quick: true,
};
pub(super) const BIND: Path = Path {
    name: "the driver is bound",
    run: bind,
    is_quick: false,
};
pub(super) const REPORTS: Path = Path {
    name: "dirty pages are reported",
    run: reports,
    is_quick: true,
};
pub(super) const TRACK: Path = Path {
    name: "logging starts and stops",
    run: track,
    is_quick: true,
};
pub(super) const TRACK_AGAIN: Path = Path {
    name: "logging starts again",
    run: track_again,
    is_quick: true,
};
pub(super) const SILENT: Path = Path {
    name: "nothing is reported",
    run: silent,
    is_quick: false,
};
pub(super) const RELOAD: Path = Path {
    name: "the PF is set up",
    run: reload,
    is_quick: false,
};

pub(super) const RELOAD_MIGRATE: Path = Path {
    name: "the PF is set up, and a VF migrates",
    run: reload_migrate,
    is_quick: false,
};

impl Victim {
    /// After a lie, and a reset, the VF works.
    pub(super) fn is_usable(&self) -> Result<()> {
        let vf = Vf::open(self.site.vf, PAGES)?;
        vf.device().reset()?;
        let state = vf.device().state()?;
        ensure!(state == State::RUNNING, "a reset leads to {state}");
        let mut file = vf.device().begin(State::RESUMING)?;
        file.write_all(&self.stream)?;
        vf.device().set_state(State::RUNNING)?;
        ensure!(vf.digest()? == self.digest, "another state is loaded");
        vf.work(1, PAGES)?;
        drop(vf);
        match track(self, &|| Ok(()))?.as_str() {
            "ok" => Ok(()),
            other => bail!("a tracker afterwards: {other}"),
        }
    }
}
