// SPDX-License-Identifier: GPL-2.0

//! Changes of the host, as `setup`, `bind` and `unbind` show them.

use super::{
    out::{
        self,
        errln,
        outln, //
    },
    show, //
};
use serde::Serialize;
use vfio_mig::{
    bdf::Bdf,
    error::Error,
    host::{
        plan::{
            Mode,
            Plan,
            Told, //
        },
        Host, //
    },
};

/// What was done.
#[derive(Serialize)]
struct Report {
    dry_run: bool,
    steps: Vec<String>,
    notes: Vec<String>,
    vfs: Vec<Vf>,
}

/// A VF, and the driver that it has then.
#[derive(Serialize)]
struct Vf {
    device: String,
    driver: Option<String>,
}

impl Report {
    fn print(&self) -> Result<(), Error> {
        if self.steps.is_empty() {
            outln!("# nothing to do")?;
        }
        if self.dry_run {
            return Ok(());
        }
        for Vf { device, driver } in &self.vfs {
            outln!("# {device}  {}", driver.as_deref().unwrap_or("no driver"))?;
        }
        Ok(())
    }
}

/// How changes are made.
pub struct Changes {
    mode: Mode,
    json: bool,
}

impl Changes {
    /// With `dry_run`, they are only shown.
    pub fn new(dry_run: bool, json: bool) -> Self {
        let mode = if dry_run { Mode::Show } else { Mode::Do };
        Self { mode, json }
    }

    /// Makes them, and shows the VFs that `work` returns.
    pub fn make(
        &self,
        work: impl FnOnce(&mut Plan<'_>) -> Result<Vec<Bdf>, Error>,
    ) -> Result<(), Error> {
        let host = Host::this();
        let (mut steps, mut notes) = (Vec::new(), Vec::new());
        let mut tell = |told: Told<'_>| {
            let line = match told {
                Told::Step(line) => {
                    steps.push(line.to_string());
                    line.to_string()
                }
                Told::Note(note) => {
                    notes.push(note.to_string());
                    show::wrapped("# ", note)
                }
                Told::Waiting(why) => return errln!("vfio-mig: {why}"),
            };
            match self.json {
                true => Ok(()),
                false => outln!("{line}"),
            }
        };
        let mut plan = Plan::new(&host, self.mode, &mut tell);
        let vfs = work(&mut plan);
        let vfs = plan.end(vfs)?;
        let vfs = vfs.into_iter().map(|vf| Vf {
            device: vf.to_string(),
            driver: host.driver_of(vf),
        });
        let report = Report {
            dry_run: self.mode == Mode::Show,
            steps,
            notes,
            vfs: vfs.collect(),
        };
        let printed = match self.json {
            true => show::json(&report),
            false => report.print(),
        };
        match report.dry_run || report.steps.is_empty() {
            true => printed,
            false => out::after("the changes are made", printed),
        }
    }
}
