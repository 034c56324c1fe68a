// SPDX-License-Identifier: GPL-2.0

//! What only an adapter can tell: experiments on spare VFs, for a report that can be mailed.
//!
//! Documentation/dev-tools/vfio-rust/mlx5-emu.rst has what the emulated adapter assumes of
//! firmware. Each [`Experiment`] asks about one such assumption, and says what firmware did. An
//! experiment fails only if the driver or firmware breaks the uAPI.

mod bench;
mod logging;
mod resets;
mod states;

use crate::{
    address::Address,
    bdf::Bdf,
    doctor,
    error::{
        self,
        Error, //
    },
    host::Host,
    interrupt, //
};
use bench::Bench;
use serde::Serialize;
use serde_json::{
    Map,
    Value, //
};
use std::time::Instant;

/// What an experiment has measured: names, and values.
pub type Figures = Map<String, Value>;

/// Something that is done to the VFs.
pub struct Experiment {
    /// Its name.
    pub name: &'static str,
    /// What it does, for those who are asked whether it may.
    pub does: &'static str,
    /// What is assumed of firmware.
    pub assumed: &'static str,
    run: fn(&Bench) -> Result<Figures, Error>,
}

/// All of them, in the order in which they are done.
pub const EXPERIMENTS: &[Experiment] = &[
    Experiment {
        name: "capabilities",
        does: "asks the driver what it offers",
        assumed: "firmware that has migration_multi_load has everything the driver offers",
        run: states::capabilities,
    },
    Experiment {
        name: "stop-copy",
        does: "saves the state by stop-copy and loads it again, 5 times",
        assumed: "an image is as large as DATA_SIZE says, and loads into any VF of the PF",
        run: states::stop_copy,
    },
    Experiment {
        name: "pre-copy",
        does: "saves the state while the VF runs, and loads the images one after the other",
        assumed: "each LOAD follows the one before it without a pause",
        run: states::precopy,
    },
    Experiment {
        name: "data-size",
        does: "asks for DATA_SIZE in each state, also while a SAVE is under way",
        assumed: "QUERY_VHCA_MIGRATION_STATE is answered during a SAVE",
        run: states::data_size,
    },
    Experiment {
        name: "writes",
        does: "loads the state in pieces of 64 KiB, and times them",
        assumed: "an asynchronous LOAD runs while the next piece is written",
        run: states::writes,
    },
    Experiment {
        name: "reset-save",
        does: "resets the VF at 8 moments of a SAVE",
        assumed: "an FLR ends a SAVE, and the VF runs after it",
        run: resets::during_save,
    },
    Experiment {
        name: "reset-load",
        does: "resets the VF at 8 moments of a LOAD",
        assumed: "an FLR ends a LOAD, and the VF runs and can be saved after it",
        run: resets::during_load,
    },
    Experiment {
        name: "page-sizes",
        does: "logs DMA with pages of 4 KiB to 1 GiB",
        assumed: "the page sizes of PAGE_TRACK are those in its capabilities",
        run: logging::page_sizes,
    },
    Experiment {
        name: "ranges",
        does: "logs DMA in 1 to 256 ranges",
        assumed: "pg_track_max_num_range is the most ranges of a tracker",
        run: logging::ranges,
    },
    Experiment {
        name: "trackers",
        does: "logs DMA of all given VFs at the same time",
        assumed: "one more tracker than firmware has gets LIM_ERR, and is ENOMEM",
        run: logging::trackers,
    },
    Experiment {
        name: "afterwards",
        does: "opens the VFs again, which must run",
        assumed: "a VF that was closed runs when it is opened, whatever was done to it",
        run: resets::afterwards,
    },
];

impl Experiment {
    /// Does it.
    fn done(&self, bench: &Bench) -> Outcome {
        let begin = Instant::now();
        let result = (self.run)(bench);
        let ms = begin.elapsed().as_secs_f64() * 1e3;
        let (figures, error) = match result {
            Ok(figures) => (figures, None),
            Err(err) => (Figures::new(), Some(err)),
        };
        Outcome {
            name: self.name,
            assumed: self.assumed,
            figures,
            errno: error.as_ref().and_then(Error::errno),
            error: error.map(|err| err.to_string()),
            ms,
        }
    }
}

/// How an experiment has ended.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Its name.
    pub name: &'static str,
    /// What is assumed of firmware.
    pub assumed: &'static str,
    /// What was measured.
    pub figures: Figures,
    /// Why it has failed, if it has.
    pub error: Option<String>,
    /// The errno behind that.
    pub errno: Option<i32>,
    /// How long it took, in milliseconds.
    pub ms: f64,
}

/// The report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The VFs.
    pub vfs: Vec<Address>,
    /// What the doctor says of the host, and of the first VF.
    pub doctor: doctor::report::Report,
    /// The experiments that were done.
    pub outcomes: Vec<Outcome>,
    /// The signal that has ended them, if one has.
    pub interrupted: Option<String>,
    /// The experiments that were not done because of that.
    pub not_done: Vec<&'static str>,
}

impl Report {
    /// Number of experiments that have failed.
    pub fn failed(&self) -> usize {
        let all = self.outcomes.iter();
        all.filter(|outcome| outcome.error.is_some()).count()
    }
}

/// Fails unless these are VFs with a VFIO driver that nobody uses.
pub fn check(host: &Host, vfs: &[Bdf]) -> Result<(), Error> {
    Bench::new(host, vfs).map(drop)
}

/// The experiments with these names, or all if there are none.
pub fn chosen(only: &[String]) -> impl Iterator<Item = &'static Experiment> + '_ {
    let all = EXPERIMENTS.iter();
    all.filter(|one| only.is_empty() || only.iter().any(|name| name == one.name))
}

/// The signal that asks the tool to end, if one has come.
fn interruption() -> Option<String> {
    match interrupt::check() {
        Err(Error::Interrupted { signal }) => Some(error::signal_name(signal)),
        _ => None,
    }
}

/// Does the [`chosen`] experiments on VFs that nobody uses. `begun` is told of each. A signal ends
/// them; what was done until then is reported.
pub fn run(
    host: &Host,
    vfs: &[Bdf],
    only: &[String],
    mut begun: impl FnMut(&Experiment) -> Result<(), Error>,
) -> Result<Report, Error> {
    let bench = Bench::new(host, vfs)?;
    let mut report = Report {
        vfs: bench.addresses(),
        doctor: doctor::examine(host, vfs.first().copied(), None)?,
        outcomes: Vec::new(),
        interrupted: None,
        not_done: Vec::new(),
    };
    for experiment in chosen(only) {
        let told = match report.interrupted {
            Some(_) => Ok(()),
            None => begun(experiment),
        };
        report.interrupted = report.interrupted.or_else(interruption);
        if report.interrupted.is_some() {
            report.not_done.push(experiment.name);
            continue;
        }
        told?;
        report.outcomes.push(experiment.done(&bench));
    }
    report.interrupted = report.interrupted.or_else(interruption);
    Ok(report)
}
