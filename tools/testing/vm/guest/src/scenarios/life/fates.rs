// SPDX-License-Identifier: GPL-2.0

//! What happens to a process that uses a VF.

use super::{
    events::{
        loses_file,
        PATIENCE, //
    },
    place::Place, //
};
use crate::{
    cgroup::Group,
    scenarios::waits::{
        aside,
        within, //
    },
    sys, //
};
use anyhow::Result;
use std::sync::{
    mpsc::Receiver,
    Arc, //
};

/// A fate.
pub(super) struct Fate {
    pub(super) name: &'static str,
    /// Whether the process ends. Otherwise it stands still for a while.
    pub(super) ends: bool,
    /// Why the C driver is not tried with it at a place, if it is not.
    pub(super) c: fn(Place) -> Option<&'static str>,
    /// Begins it, for a process and its control group. This may take as long as firmware holds
    /// a command.
    begin: fn(u32, &Group) -> Result<()>,
    /// Has a process that stands still go on.
    pub(super) undo: fn(u32, &Group) -> Result<()>,
}

/// All.
pub(super) const ALL: &[Fate] = &[
    Fate {
        name: "its process is killed",
        ends: true,
        c: loses_file,
        begin: |process, _| Ok(sys::kill(process, libc::SIGKILL)?),
        undo: |_, _| Ok(()),
    },
    Fate {
        name: "its process is out of memory",
        ends: true,
        c: loses_file,
        begin: |_, group| group.limit(0),
        undo: |_, _| Ok(()),
    },
    Fate {
        name: "its process is stopped",
        ends: false,
        c: |_| None,
        begin: |process, _| Ok(sys::kill(process, libc::SIGSTOP)?),
        undo: |process, _| Ok(sys::kill(process, libc::SIGCONT)?),
    },
    Fate {
        name: "its process is frozen",
        ends: false,
        c: |_| None,
        begin: |_, group| group.set_frozen(true),
        undo: |_, group| group.set_frozen(false),
    },
];

impl Fate {
    /// Has a process meet it, on another thread.
    pub(super) fn begin(&self, process: u32, group: &Arc<Group>) -> Receiver<Result<()>> {
        let (begin, group) = (self.begin, group.clone());
        aside(move || begin(process, &group))
    }

    /// Waits until it has begun.
    pub(super) fn has_begun(&self, begun: &Receiver<Result<()>>) -> Result<()> {
        within(begun, PATIENCE, self.name)?
    }
}
