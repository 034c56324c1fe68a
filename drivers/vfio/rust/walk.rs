// SPDX-License-Identifier: GPL-2.0

//! The walk over the arcs of the migration state machine: which arc comes next,
//! what its result makes of the state, and when the walk ends.
//!
//! No kernel types: the file is also compiled and tested on the host.

/// State of a device: `enum vfio_device_mig_state`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum State {
    /// The device has failed and must be reset.
    Error = 0,
    /// The device does not change its state.
    Stop = 1,
    /// The device is running normally.
    Running = 2,
    /// The device is stopped, and its state can be read.
    StopCopy = 3,
    /// The device is stopped, and a new state can be written.
    Resuming = 4,
    /// The device is running, but does no peer-to-peer DMA.
    RunningP2p = 5,
    /// The device is running, and changes of its state are tracked.
    PreCopy = 6,
    /// `RunningP2p` and `PreCopy` at the same time.
    PreCopyP2p = 7,
}

impl State {
    /// Returns the state with the value `raw`, if there is one.
    #[inline]
    pub fn from_raw(raw: u32) -> Option<Self> {
        [
            Self::Error,
            Self::Stop,
            Self::Running,
            Self::StopCopy,
            Self::Resuming,
            Self::RunningP2p,
            Self::PreCopy,
            Self::PreCopyP2p,
        ]
        .into_iter()
        .find(|state| *state as u32 == raw)
    }
}

/// One arc of the state machine: a step that a driver carries out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StateArc {
    /// State at the beginning.
    pub from: State,
    /// State at the end.
    pub to: State,
}

impl StateArc {
    /// Returns whether the arc begins a session, and so opens its data file.
    ///
    /// `PRE_COPY_P2P -> STOP_COPY` does not: its session goes on.
    #[inline]
    pub fn begins_session(self) -> bool {
        use State::{PreCopy, PreCopyP2p, Resuming, Running, RunningP2p, Stop, StopCopy};
        matches!(
            (self.from, self.to),
            (Stop, StopCopy | Resuming) | (Running, PreCopy) | (RunningP2p, PreCopyP2p)
        )
    }
}

/// How a step failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepError<E> {
    /// The device is in the state that it was in.
    Unchanged(E),
    /// The device is lost: its state is `ERROR` until it is reset.
    Lost(E),
}

/// Why a walk ended before its target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WalkError<E> {
    /// No arc leads to the target: the target is `ERROR` or no state at all, or
    /// the device is in `ERROR`.
    NoArc,
    /// The device is being reset, or was.
    Reset,
    /// The driver has a bug: it opened a data file for an arc that begins no
    /// session, or none for an arc that does.
    WrongFile(StateArc),
    /// VFIO refused the target, or the driver failed to carry an arc out.
    Failed(E),
}

/// A device on its way from state to state.
pub(crate) trait Walker {
    /// Open data file.
    type File;
    /// Error of VFIO or of the driver.
    type Error;

    /// Returns the device's state, or `None` if the device is being reset, or was.
    fn state(&self) -> Option<State>;

    /// Returns the state after `from` on the way to `target`: two values of
    /// `enum vfio_device_mig_state`, of which the caller believes neither.
    fn next_state(&self, from: State, target: u32) -> Result<u32, Self::Error>;

    /// Has the driver carry `arc` out.
    fn step(&mut self, arc: StateArc) -> Result<Option<Self::File>, StepError<Self::Error>>;

    /// Sets the device's state, unless the device is being reset, or was.
    fn set_state(&mut self, state: State);

    /// Ends the device's sessions.
    fn end_sessions(&mut self);
}

/// Walks from the device's state to `target`, and returns the data file that the
/// last arc opened.
///
/// Only the last arc of a path opens a data file: no path has a state in its
/// middle that a session belongs to. Sets the state after each arc, so the walk
/// ends whatever the driver does.
pub(crate) fn walk<W: Walker>(
    device: &mut W,
    target: u32,
) -> Result<Option<W::File>, WalkError<W::Error>> {
    // "ERROR cannot be specified as a device state", not even in ERROR.
    if target == State::Error as u32 {
        return Err(WalkError::NoArc);
    }
    let mut file = None;
    loop {
        let from = device.state().ok_or(WalkError::Reset)?;
        if from as u32 == target {
            return Ok(file);
        }
        if from == State::Error {
            // Only a reset leads out of it.
            return Err(WalkError::NoArc);
        }
        let next = device.next_state(from, target).map_err(WalkError::Failed)?;
        let to = State::from_raw(next)
            .filter(|to| *to != State::Error && *to != from)
            .ok_or(WalkError::NoArc)?;
        let arc = StateArc { from, to };
        match device.step(arc) {
            Ok(opened) if opened.is_some() == arc.begins_session() => {
                device.set_state(to);
                file = opened;
            }
            Ok(_) => {
                device.end_sessions();
                device.set_state(State::Error);
                return Err(WalkError::WrongFile(arc));
            }
            Err(StepError::Unchanged(err)) => return Err(WalkError::Failed(err)),
            Err(StepError::Lost(err)) => {
                device.set_state(State::Error);
                return Err(WalkError::Failed(err));
            }
        }
    }
}
