// SPDX-License-Identifier: GPL-2.0

//! The walk over the arcs of the migration state machine: which arc comes next, how its result
//! changes the state, and when the walk ends.
//!
//! The file uses no kernel types, so that it can also be compiled and tested in user space.

/// State of a device: `enum vfio_device_mig_state`.
///
/// # Examples
///
/// ```
/// use vfio_rust::migration::State;
///
/// // The numbers are those of the uAPI.
/// assert_eq!(State::StopCopy as u32, 3);
/// assert_eq!(State::from_raw(3), Some(State::StopCopy));
/// assert_eq!(State::from_raw(8), None);
/// ```
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
///
/// # Examples
///
/// ```
/// use vfio_rust::migration::{
///     State,
///     StateArc, //
/// };
///
/// // The step of an arc that begins a session must return a data file, and that of any other arc
/// // must not.
/// let arc = StateArc {
///     from: State::Stop,
///     to: State::StopCopy,
/// };
/// assert!(arc.begins_session());
/// ```
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
        use State::{
            PreCopy,
            PreCopyP2p,
            Resuming,
            Running,
            RunningP2p,
            Stop,
            StopCopy, //
        };
        matches!(
            (self.from, self.to),
            (Stop, StopCopy | Resuming) | (Running, PreCopy) | (RunningP2p, PreCopyP2p)
        )
    }
}

/// How a step failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepError<E> {
    /// The device is in the state that it was in before the step.
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
    /// The device is being reset, or was reset.
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

    /// Returns the device's state, or `None` if the device is being reset, or was reset.
    fn state(&self) -> Option<State>;

    /// Returns the state after `from` on the way to `target`. Both `target` and the result are
    /// values of `enum vfio_device_mig_state` that need not be valid.
    fn next_state(&self, from: State, target: u32) -> Result<u32, Self::Error>;

    /// Has the driver carry out `arc`.
    fn step(&mut self, arc: StateArc) -> Result<Option<Self::File>, StepError<Self::Error>>;

    /// Sets the device's state, unless the device is being reset, or was reset.
    fn set_state(&mut self, state: State);

    /// Ends the device's sessions.
    fn end_sessions(&mut self);
}

/// Walks from the device's state to `target`, and returns the data file that the
/// last arc opened.
///
/// Only the last arc of a path opens a data file: no path begins a session before its last arc. The
/// walk sets the state after each arc, so it ends, whatever the driver does.
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
            // Only a reset leads out of ERROR.
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

#[cfg(any(test, CONFIG_VFIO_RUST_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_VFIO_RUST_KUNIT_TEST,
    kernel::prelude::kunit_tests(vfio_rust_walk)
)]
mod tests {
    use super::{
        State::{
            Error,
            PreCopy,
            PreCopyP2p,
            Resuming,
            Running,
            RunningP2p,
            Stop,
            StopCopy, //
        },
        *, //
    };
    use core::cell::Cell;

    const STATES: [State; 8] = [
        Error, Stop, Running, StopCopy, Resuming, RunningP2p, PreCopy, PreCopyP2p,
    ];

    /// The arcs of a device, and whether each opens a data file. They depend on whether the device
    /// has pre-copy and peer-to-peer (vfio_mig_get_next_state() in drivers/vfio/vfio_main.c).
    type Arcs = &'static [(State, State, bool)];

    const ALL: Arcs = &[
        (Running, RunningP2p, false),
        (RunningP2p, Running, false),
        (RunningP2p, Stop, false),
        (Stop, RunningP2p, false),
        (Stop, StopCopy, true),
        (StopCopy, Stop, false),
        (Stop, Resuming, true),
        (Resuming, Stop, false),
        (Running, PreCopy, true),
        (PreCopy, Running, false),
        (PreCopy, PreCopyP2p, false),
        (PreCopyP2p, PreCopy, false),
        (RunningP2p, PreCopyP2p, true),
        (PreCopyP2p, StopCopy, false),
    ];

    const P2P: Arcs = &[
        (Running, RunningP2p, false),
        (RunningP2p, Running, false),
        (RunningP2p, Stop, false),
        (Stop, RunningP2p, false),
        (Stop, StopCopy, true),
        (StopCopy, Stop, false),
        (Stop, Resuming, true),
        (Resuming, Stop, false),
    ];

    const PRE_COPY: Arcs = &[
        (Running, Stop, false),
        (Stop, Running, false),
        (Stop, StopCopy, true),
        (StopCopy, Stop, false),
        (Stop, Resuming, true),
        (Resuming, Stop, false),
        (Running, PreCopy, true),
        (PreCopy, Running, false),
        (PreCopy, StopCopy, false),
    ];

    const NEITHER: Arcs = &[
        (Running, Stop, false),
        (Stop, Running, false),
        (Stop, StopCopy, true),
        (StopCopy, Stop, false),
        (Stop, Resuming, true),
        (Resuming, Stop, false),
    ];

    /// The error of VFIO for a target that no arc leads to.
    const REFUSED: &str = "refused by VFIO";

    /// More steps than any path has.
    const MOST: usize = 10;

    /// A data file, which counts as open until it is dropped.
    #[derive(PartialEq, Debug)]
    struct File<'a>(&'a Cell<usize>);

    impl<'a> File<'a> {
        fn open(files: &'a Cell<usize>) -> Self {
            files.set(files.get() + 1);
            Self(files)
        }
    }

    impl Drop for File<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }

    /// Result of a step: whether it opens a data file.
    type Step = Result<bool, StepError<&'static str>>;

    /// A device whose driver does what a test says.
    struct Device<'a, D> {
        state: State,
        reset_pending: bool,
        sessions_ended: bool,
        steps: [Option<StateArc>; MOST],
        arcs: Arcs,
        /// Replaces VFIO's answer, if it is set.
        next_state: Option<u32>,
        /// Number of data files that are open.
        files: &'a Cell<usize>,
        /// Carries out a step. May set the mark of a reset, as another thread does.
        driver: D,
    }

    impl<'a, D: FnMut(StateArc, &mut bool) -> Step> Device<'a, D> {
        fn new(state: State, files: &'a Cell<usize>, driver: D) -> Self {
            Self {
                state,
                reset_pending: false,
                sessions_ended: false,
                steps: [None; MOST],
                arcs: ALL,
                next_state: None,
                files,
                driver,
            }
        }

        fn steps(&self) -> impl Iterator<Item = StateArc> + '_ {
            self.steps.iter().flatten().copied()
        }
    }

    /// A step of a correct driver.
    fn obey(arc: StateArc) -> Step {
        obey_with(ALL, arc)
    }

    /// A step of a correct driver whose device has these arcs.
    fn obey_with(arcs: Arcs, arc: StateArc) -> Step {
        arcs.iter()
            .find(|(from, to, _)| (*from, *to) == (arc.from, arc.to))
            .map(|(_, _, opens)| *opens)
            .ok_or(StepError::Lost("no arc of the state machine"))
    }

    /// The first state of a shortest path.
    fn first_step(arcs: Arcs, from: State, target: State) -> Option<State> {
        // The states in the order in which they are found, each with the first state of the path to
        // it.
        let mut found = [None; STATES.len()];
        found[0] = Some((from, None));
        let (mut at, mut count) = (0, 1);
        while let Some(&Some((state, first))) = found.get(at) {
            if state == target {
                return first;
            }
            for (_, to, _) in arcs.iter().filter(|(begin, _, _)| *begin == state) {
                if !found.iter().flatten().any(|(known, _)| known == to) {
                    found[count] = Some((*to, first.or(Some(*to))));
                    count += 1;
                }
            }
            at += 1;
        }
        None
    }

    impl<'a, D: FnMut(StateArc, &mut bool) -> Step> Walker for Device<'a, D> {
        type File = File<'a>;
        type Error = &'static str;

        fn state(&self) -> Option<State> {
            (!self.reset_pending).then_some(self.state)
        }

        fn next_state(&self, from: State, target: u32) -> Result<u32, &'static str> {
            if from == Error {
                return Err("VFIO must not be asked");
            }
            if let Some(next) = self.next_state {
                return Ok(next);
            }
            STATES
                .into_iter()
                .find(|state| *state as u32 == target)
                .and_then(|target| first_step(self.arcs, from, target))
                .map(|next| next as u32)
                .ok_or(REFUSED)
        }

        fn step(&mut self, arc: StateArc) -> Result<Option<File<'a>>, StepError<&'static str>> {
            let free = self.steps.iter_mut().find(|step| step.is_none());
            *free.ok_or(StepError::Lost("the walk does not end"))? = Some(arc);
            let done = (self.driver)(arc, &mut self.reset_pending);
            if self.reset_pending {
                // The state is `RUNNING` as long as a reset is pending.
                self.state = Running;
            }
            Ok(done?.then(|| File::open(self.files)))
        }

        fn set_state(&mut self, state: State) {
            if !self.reset_pending {
                self.state = state;
            }
        }

        fn end_sessions(&mut self) {
            self.sessions_ended = true;
        }
    }

    #[test]
    fn states_have_the_values_of_the_uapi() {
        for (value, state) in STATES.into_iter().enumerate() {
            assert_eq!(state as usize, value);
            assert_eq!(State::from_raw(value as u32), Some(state));
        }
        assert_eq!(State::from_raw(8), None);
        assert_eq!(State::from_raw(u32::MAX), None);
    }

    #[test]
    fn every_path_ends_in_its_target_with_the_file_of_its_last_arc() {
        for from in &STATES[1..] {
            for target in &STATES[1..] {
                let files = Cell::new(0);
                let mut device = Device::new(*from, &files, |arc, _| obey(arc));
                let walked = walk(&mut device, *target as u32);
                assert!(walked.is_ok());
                assert_eq!(device.state, *target);
                assert!(!device.sessions_ended);
                let opens = device.steps().last().is_some_and(StateArc::begins_session);
                assert_eq!(walked.is_ok_and(|file| file.is_some()), opens);
                let mut at = *from;
                for arc in device.steps() {
                    assert_eq!(arc.from, at);
                    at = arc.to;
                }
                assert_eq!(files.get(), 0);
            }
        }
    }

    #[test]
    fn every_combination_of_features_walks_its_own_arcs() {
        for arcs in [P2P, PRE_COPY, NEITHER] {
            let has = |state: State| arcs.iter().any(|(from, _, _)| *from == state);
            for from in STATES.into_iter().filter(|from| has(*from)) {
                for target in STATES[1..].iter().copied() {
                    let files = Cell::new(0);
                    let mut device = Device::new(from, &files, |arc, _| obey_with(arcs, arc));
                    device.arcs = arcs;
                    let walked = walk(&mut device, target as u32);
                    if !has(target) {
                        assert_eq!(walked, Err(WalkError::Failed(REFUSED)));
                        assert_eq!(device.state, from);
                        continue;
                    }
                    let opens = device.steps().last().is_some_and(StateArc::begins_session);
                    assert_eq!(walked.map(|file| file.is_some()), Ok(opens));
                    assert_eq!(device.state, target);
                }
            }
            for (from, to, opens) in arcs.iter().copied() {
                assert_eq!(StateArc { from, to }.begins_session(), opens);
            }
        }
    }

    #[test]
    fn four_arcs_begin_a_session() {
        for from in STATES {
            for to in STATES {
                let opens = ALL.contains(&(from, to, true));
                assert_eq!(StateArc { from, to }.begins_session(), opens);
            }
        }
    }

    #[test]
    fn a_step_that_fails_unchanged_leaves_the_state_before_it() {
        let files = Cell::new(0);
        let mut device = Device::new(Running, &files, |arc, _| match arc.to {
            Stop => Err(StepError::Unchanged("busy")),
            _ => obey(arc),
        });
        let walked = walk(&mut device, StopCopy as u32);
        assert_eq!(walked, Err(WalkError::Failed("busy")));
        assert_eq!(device.state, RunningP2p);
        assert_eq!(device.steps().count(), 2);
        assert!(!device.sessions_ended);
    }

    #[test]
    fn a_step_that_loses_the_device_ends_in_error_for_good() {
        let files = Cell::new(0);
        let mut device = Device::new(Resuming, &files, |_, _| Err(StepError::Lost("bad image")));
        let walked = walk(&mut device, Running as u32);
        assert_eq!(walked, Err(WalkError::Failed("bad image")));
        assert_eq!(device.state, Error);
        assert_eq!(device.steps().count(), 1);
        for target in STATES {
            assert_eq!(walk(&mut device, target as u32), Err(WalkError::NoArc));
        }
        assert_eq!(device.steps().count(), 1);
    }

    #[test]
    fn a_pending_reset_ends_the_walk_before_it_begins() {
        for target in &STATES[1..] {
            let files = Cell::new(0);
            let mut device = Device::new(Running, &files, |arc, _| obey(arc));
            device.reset_pending = true;
            assert_eq!(walk(&mut device, *target as u32), Err(WalkError::Reset));
            assert_eq!(device.steps().count(), 0);
        }
    }

    #[test]
    fn a_reset_during_an_arc_ends_the_walk_after_it() {
        // The reset comes in the middle of a path, or in its last arc.
        for reset_in in [RunningP2p, Stop, StopCopy] {
            let files = Cell::new(0);
            let mut device = Device::new(Running, &files, |arc, reset| {
                *reset = arc.to == reset_in;
                obey(arc)
            });
            assert_eq!(walk(&mut device, StopCopy as u32), Err(WalkError::Reset));
            assert_eq!(device.steps().last().map(|arc| arc.to), Some(reset_in));
            assert_eq!(device.state, Running);
        }
    }

    #[test]
    fn a_reset_during_an_arc_that_fails_wins() {
        type Failure = fn(&'static str) -> StepError<&'static str>;
        for failure in [StepError::Unchanged as Failure, StepError::Lost as Failure] {
            let files = Cell::new(0);
            let mut device = Device::new(Running, &files, |_, reset| {
                *reset = true;
                Err(failure("cut off"))
            });
            let walked = walk(&mut device, Stop as u32);
            assert_eq!(walked, Err(WalkError::Failed("cut off")));
            assert_eq!(device.state, Running);
        }
    }

    #[test]
    fn a_file_that_a_reset_made_stale_is_closed() {
        let files = Cell::new(0);
        let mut device = Device::new(Stop, &files, |_, reset| {
            *reset = true;
            Ok(true)
        });
        assert_eq!(walk(&mut device, StopCopy as u32), Err(WalkError::Reset));
        assert_eq!(files.get(), 0);
    }

    #[test]
    fn a_driver_that_forgets_a_file_or_opens_one_too_many_is_stopped() {
        for (from, to, opens) in ALL.iter().copied() {
            let files = Cell::new(0);
            let mut device = Device::new(from, &files, |_, _| Ok(!opens));
            let walked = walk(&mut device, to as u32);
            assert_eq!(walked, Err(WalkError::WrongFile(StateArc { from, to })));
            assert_eq!(device.state, Error);
            assert!(device.sessions_ended);
            assert_eq!(device.steps().count(), 1);
            assert_eq!(files.get(), 0);
        }
    }

    #[test]
    fn a_driver_that_does_nothing_at_all_still_ends_the_walk() {
        // The driver does nothing, and opens no file.
        let files = Cell::new(0);
        let mut device = Device::new(Resuming, &files, |_, _| Ok(false));
        let walked = walk(&mut device, PreCopy as u32);
        let last = StateArc {
            from: Running,
            to: PreCopy,
        };
        assert_eq!(walked, Err(WalkError::WrongFile(last)));
        assert_eq!(device.state, Error);
    }

    #[test]
    fn error_is_no_target() {
        for from in STATES {
            let files = Cell::new(0);
            let mut device = Device::new(from, &files, |arc, _| obey(arc));
            assert_eq!(walk(&mut device, Error as u32), Err(WalkError::NoArc));
            assert_eq!(device.state, from);
            assert_eq!(device.steps().count(), 0);
        }
    }

    #[test]
    fn a_target_that_is_no_state_is_refused_by_vfio() {
        for from in &STATES[1..] {
            for target in [8, u32::MAX] {
                let files = Cell::new(0);
                let mut device = Device::new(*from, &files, |arc, _| obey(arc));
                let walked = walk(&mut device, target);
                assert_eq!(walked, Err(WalkError::Failed(REFUSED)));
                assert_eq!(device.state, *from);
            }
        }
    }

    #[test]
    fn an_arc_to_nowhere_is_not_carried_out() {
        // An unknown state, ERROR, and the state that the device is in.
        for next in [8, u32::MAX, Error as u32, Running as u32] {
            let files = Cell::new(0);
            let mut device = Device::new(Running, &files, |arc, _| obey(arc));
            device.next_state = Some(next);
            assert_eq!(walk(&mut device, Stop as u32), Err(WalkError::NoArc));
            assert_eq!(device.state, Running);
            assert_eq!(device.steps().count(), 0);
        }
    }
}
