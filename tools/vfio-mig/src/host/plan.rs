// SPDX-License-Identifier: GPL-2.0

//! Changes of a host, step by step. Each step is a line that a shell could carry out, and is
//! shown before it is done. If one fails, or a signal comes, those before it are undone.

use super::{
    devlink::EswitchMode,
    driver_dir,
    lock::Lock,
    pci_dir,
    problem::Problem,
    usage::Force,
    waiting::{
        self,
        Users, //
    },
    Host, //
};
use crate::{
    bdf::Bdf,
    error::Error,
    interrupt,
    text, //
};
use std::{
    ffi::OsStr,
    path::{
        Path,
        PathBuf, //
    },
};

/// One change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Writes a text to a file of sysfs.
    Write(PathBuf, String),
    /// Changes the mode of a PF's e-switch.
    Eswitch(Bdf, EswitchMode),
    /// Makes VF `number` of a PF migratable, or not.
    Migratable {
        /// The PF.
        pf: Bdf,
        /// The VF.
        number: usize,
        /// Whether the VF is to be migratable.
        enable: bool,
    },
}

impl Change {
    /// Writes to a file of a function.
    pub fn of_function(function: Bdf, file: &str, text: impl ToString) -> Self {
        Self::Write(pci_dir(function).join(file), text.to_string())
    }

    /// Writes to a file.
    pub fn write(path: impl AsRef<Path>, text: impl ToString) -> Self {
        Self::Write(path.as_ref().to_path_buf(), text.to_string())
    }

    /// What a shell would do.
    pub fn command(&self, host: &Host) -> String {
        match self {
            Self::Write(path, text) if text.is_empty() => format!("echo > {}", path.display()),
            Self::Write(path, text) => format!("echo {} > {}", text::quoted(text), path.display()),
            Self::Eswitch(pf, mode) => format!("devlink dev eswitch set pci/{pf} mode {mode}"),
            Self::Migratable { pf, number, enable } => {
                let index = match port(host, *pf, *number) {
                    Ok(index) => index.to_string(),
                    // It does not exist yet.
                    Err(_) => format!("PORT_OF_VF_{number}"),
                };
                let what = if *enable { "enable" } else { "disable" };
                format!("devlink port function set pci/{pf}/{index} migratable {what}")
            }
        }
    }

    /// The functions that are taken from their drivers by it.
    fn released(&self, host: &Host) -> Vec<Bdf> {
        let Self::Write(path, text) = self else {
            return Vec::new();
        };
        let parsed = |name: Option<&OsStr>| name?.to_str()?.parse::<Bdf>().ok();
        match path.file_name().and_then(OsStr::to_str) {
            Some("unbind") => text.parse().into_iter().collect(),
            Some("sriov_numvfs") => {
                let pf = parsed(path.parent().and_then(Path::file_name));
                pf.map_or(Vec::new(), |pf| host.vfs(pf))
            }
            _ => Vec::new(),
        }
    }

    fn carry_out(&self, host: &Host, tell: &mut Tell<'_>) -> Result<(), Problem> {
        let failed = |source| Problem::step(self.command(host), source);
        match self {
            Self::Write(path, text) => {
                let why = Users::of(host, &self.released(host));
                waiting::write(&host.at(path), &format!("{text}\n"), &why, tell)
                    .map_err(|err| failed(err.into()))
            }
            Self::Eswitch(pf, mode) => host.devlink().set_eswitch_mode(*pf, *mode).map_err(failed),
            Self::Migratable { pf, number, enable } => {
                let index = port(host, *pf, *number)?;
                host.devlink()
                    .set_migratable(*pf, index, *enable)
                    .map_err(failed)
            }
        }
    }
}

/// The port of a VF, which firmware can make migratable.
fn port(host: &Host, pf: Bdf, number: usize) -> Result<u32, Problem> {
    let command = || format!("devlink port show # of {pf}");
    let ports = host.devlink().vf_ports(pf);
    let ports = ports.map_err(|source| Problem::step(command(), source))?;
    let port = ports.iter().find(|port| port.vf as usize == number);
    match port {
        None => Err(Problem::NoPort { pf, number }),
        Some(port) if port.migratable.is_none() => Err(Problem::FirmwareCannot { pf }),
        Some(port) => Ok(port.index),
    }
}

/// Whether changes are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// They are.
    Do,
    /// They are only shown.
    Show,
}

/// What the user is told of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told<'a> {
    /// The command of a change, before it is made.
    Step(&'a str),
    /// What to know of the steps after it.
    Note(&'a str),
    /// Why a step has not ended yet.
    Waiting(&'a str),
}

/// Tells the user.
pub type Tell<'a> = dyn FnMut(Told<'_>) -> Result<(), Error> + 'a;

/// Makes changes, and remembers how to undo them.
pub struct Plan<'a> {
    /// The host that is changed.
    pub host: &'a Host,
    mode: Mode,
    tell: &'a mut Tell<'a>,
    undo: Vec<Change>,
    /// Functions that were taken from their drivers, if only on paper.
    released: Vec<Bdf>,
    locks: Vec<Lock>,
}

impl<'a> Plan<'a> {
    /// Begins.
    pub fn new(host: &'a Host, mode: Mode, tell: &'a mut Tell<'a>) -> Self {
        Self {
            host,
            mode,
            tell,
            undo: Vec::new(),
            released: Vec::new(),
            locks: Vec::new(),
        }
    }

    /// Keeps other processes of the tool from changing these PFs and their VFs, until the plan has
    /// ended. What is found out of them before that may not be so any more.
    pub fn lock(&mut self, mut pfs: Vec<Bdf>) -> Result<(), Error> {
        if self.only_shows() {
            return Ok(());
        }
        // In one order, so that no two wait for each other.
        pfs.sort();
        pfs.dedup();
        for pf in pfs {
            self.locks.push(Lock::of(self.host, pf, self.tell)?);
        }
        Ok(())
    }

    /// The driver that a function is bound to, after the changes so far.
    pub fn driver_of(&self, function: Bdf) -> Option<String> {
        let released = self.only_shows() && self.released.contains(&function);
        self.host.driver_of(function).filter(|_| !released)
    }

    /// Takes a function from its driver, if it has one.
    pub fn release(&mut self, function: Bdf) -> Result<(), Error> {
        let Some(driver) = self.driver_of(function) else {
            return Ok(());
        };
        let dir = driver_dir(&driver);
        let back = Change::write(dir.join("bind"), function);
        self.change(&Change::write(dir.join("unbind"), function), Some(back))?;
        self.released.push(function);
        Ok(())
    }

    /// Whether changes are only shown, so that nothing will be different after them.
    pub fn only_shows(&self) -> bool {
        self.mode == Mode::Show
    }

    /// Fails if a function is used, as far as that is known, and says how far that is.
    pub fn check_free(&mut self, function: Bdf, force: Force) -> Result<(), Error> {
        self.host.check_free(function, force)?;
        match self.host.unseen_users_of(function) {
            Some(note) => self.note(&note),
            None => Ok(()),
        }
    }

    /// Says something about the steps after it.
    pub fn note(&mut self, note: &str) -> Result<(), Error> {
        (self.tell)(Told::Note(note))
    }

    /// Makes a change, which `undo` undoes. From the first one on, a signal does not end the tool:
    /// it makes the next change fail.
    pub fn change(&mut self, change: &Change, undo: Option<Change>) -> Result<(), Error> {
        if self.mode == Mode::Do {
            interrupt::catch()?;
            interrupt::check()?;
        }
        (self.tell)(Told::Step(&change.command(self.host)))?;
        if self.mode == Mode::Do {
            change.carry_out(self.host, self.tell)?;
            self.undo.extend(undo);
        }
        Ok(())
    }

    /// Has `change` made if what follows fails.
    pub fn undo_later(&mut self, change: Change) {
        self.undo.push(change);
    }

    /// Keeps all changes if `result` is good. Else undoes them, the last one first, and returns
    /// what has failed.
    pub fn end<T>(mut self, result: Result<T, Error>) -> Result<T, Error> {
        let Err(mut err) = result else {
            return result;
        };
        interrupt::undo(|| {
            while let Some(change) = self.undo.pop() {
                // Nobody may be there to read it.
                let _ = (self.tell)(Told::Step(&change.command(self.host)));
                let undone = change.carry_out(self.host, self.tell).map_err(Error::from);
                err = err.unless_undone(undone);
            }
            Err(err)
        })
    }
}
