// SPDX-License-Identifier: GPL-2.0

//! What an examination has found: for people, and for the other host of a migration.

use super::versions;
use crate::host::Host;
use serde::{
    Deserialize,
    Serialize, //
};
use std::fmt;

/// What a check means for a migration, the worst last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All is well.
    Ok,
    /// A migration may fail, or be slow, or nobody can tell.
    Warning,
    /// A migration will fail.
    Missing,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Missing => "missing",
        })
    }
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Check {
    /// What it is about, and the function, if it is about one.
    pub name: String,
    /// What it means.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do, in words.
    pub advice: Vec<String>,
    /// What to do, for a shell of root.
    pub commands: Vec<String>,
}

impl Check {
    fn new(name: impl ToString, verdict: Verdict, found: impl ToString) -> Self {
        Self {
            name: name.to_string(),
            verdict,
            found: found.to_string(),
            advice: Vec::new(),
            commands: Vec::new(),
        }
    }

    /// All is well.
    pub fn ok(name: impl ToString, found: impl ToString) -> Self {
        Self::new(name, Verdict::Ok, found)
    }

    /// Something may be wrong.
    pub fn warning(name: impl ToString, found: impl ToString) -> Self {
        Self::new(name, Verdict::Warning, found)
    }

    /// Something is wrong.
    pub fn missing(name: impl ToString, found: impl ToString) -> Self {
        Self::new(name, Verdict::Missing, found)
    }

    /// With what to do, in words.
    pub fn say(mut self, advice: impl ToString) -> Self {
        self.advice.push(advice.to_string());
        self
    }

    /// With a command that mends it.
    pub fn run(mut self, command: impl ToString) -> Self {
        self.commands.push(command.to_string());
        self
    }
}

/// What two hosts must have in common.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Adapter {
    /// The PF.
    pub pf: String,
    /// Its PCI device id.
    pub device: Option<String>,
    /// The parameter set of the firmware, which stands for a model of card.
    pub psid: Option<String>,
    /// The version of the firmware.
    pub firmware: Option<String>,
    /// The VFs that were looked at, and the driver of each.
    pub vfs: Vec<Function>,
}

/// A VF.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Function {
    /// Its address.
    pub vf: String,
    /// Its driver.
    pub driver: Option<String>,
    /// Whether it can be migrated, if that is known.
    pub migratable: Option<bool>,
    /// Number of its MSI-X vectors, if that is known.
    #[serde(default)]
    pub msix_vectors: Option<u16>,
}

/// All that was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The host's name.
    pub host: String,
    /// Its kernel.
    pub kernel: String,
    /// Its QEMU, if it has one.
    pub qemu: Option<String>,
    /// What was looked at.
    pub checks: Vec<Check>,
    /// The adapters.
    pub adapters: Vec<Adapter>,
}

impl Report {
    /// Makes one.
    pub fn new(host: &Host, checks: Vec<Check>, adapters: Vec<Adapter>) -> Self {
        let of = |file: &str| {
            host.read(format!("/proc/sys/kernel/{file}"))
                .unwrap_or_default()
        };
        let qemu = checks.iter().find(|check| check.name == "QEMU");
        Self {
            host: of("hostname"),
            kernel: of("osrelease"),
            qemu: qemu.and_then(|check| Some(versions::find(&check.found)?.to_string())),
            checks,
            adapters,
        }
    }

    /// Number of checks with this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        let all = self.checks.iter();
        all.filter(|check| check.verdict == verdict).count()
    }
}
