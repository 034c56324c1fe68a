// SPDX-License-Identifier: GPL-2.0

//! [`walk`](crate::walk): drivers that obey the rules, and drivers that do not.

use crate::walk::{
    walk,
    State::{self, Error, PreCopy, PreCopyP2p, Resuming, Running, RunningP2p, Stop, StopCopy},
    StateArc, StepError, WalkError, Walker,
};
use std::{collections::VecDeque, rc::Rc};

const STATES: [State; 8] = [
    Error, Stop, Running, StopCopy, Resuming, RunningP2p, PreCopy, PreCopyP2p,
];

/// The arcs of a device, and whether each opens a data file, by what it has of pre-copy and
/// peer-to-peer (vfio_mig_get_next_state() in drivers/vfio/vfio_main.c).
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

type Step = Result<Option<Rc<()>>, StepError<&'static str>>;

/// Carries out a step. May set the mark of a reset, as another thread does.
type Driver<'a> = Box<dyn FnMut(StateArc, &mut bool) -> Step + 'a>;

/// A device whose driver does what a test says.
struct Device<'a> {
    state: State,
    reset_pending: bool,
    sessions_ended: bool,
    steps: Vec<StateArc>,
    arcs: Arcs,
    /// Replaces what VFIO says.
    next_state: Option<u32>,
    driver: Driver<'a>,
}

fn device<'a>(state: State, driver: impl FnMut(StateArc, &mut bool) -> Step + 'a) -> Device<'a> {
    Device {
        state,
        reset_pending: false,
        sessions_ended: false,
        steps: Vec::new(),
        arcs: ALL,
        next_state: None,
        driver: Box::new(driver),
    }
}

/// A step as it should be.
fn obey(arc: StateArc) -> Step {
    obey_with(ALL, arc)
}

/// A step of a device with these arcs, as it should be.
fn obey_with(arcs: Arcs, arc: StateArc) -> Step {
    let (_, _, opens) = arcs[arcs
        .iter()
        .position(|(from, to, _)| (*from, *to) == (arc.from, arc.to))
        .expect("an arc of the state machine")];
    Ok(opens.then(|| Rc::new(())))
}

/// The first state of a shortest path.
fn first_step(arcs: Arcs, from: State, target: State) -> Option<State> {
    let mut paths = VecDeque::from([(from, None)]);
    let mut seen = vec![from];
    while let Some((at, first)) = paths.pop_front() {
        if at == target {
            return first;
        }
        for (_, to, _) in arcs.iter().filter(|(begin, _, _)| *begin == at) {
            if !seen.contains(to) {
                seen.push(*to);
                paths.push_back((*to, first.or(Some(*to))));
            }
        }
    }
    None
}

impl Walker for Device<'_> {
    type File = Rc<()>;
    type Error = &'static str;

    fn state(&self) -> Option<State> {
        (!self.reset_pending).then_some(self.state)
    }

    fn next_state(&self, from: State, target: u32) -> Result<u32, &'static str> {
        assert_ne!(from, Error, "VFIO must not be asked");
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

    fn step(&mut self, arc: StateArc) -> Step {
        assert!(self.steps.len() < 10, "the walk does not end");
        self.steps.push(arc);
        let done = (self.driver)(arc, &mut self.reset_pending);
        if self.reset_pending {
            // As whoever marks a reset does.
            self.state = Running;
        }
        done
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
            let mut device = device(*from, |arc, _| obey(arc));
            let file = walk(&mut device, *target as u32).expect("a path");
            assert_eq!(device.state, *target);
            assert!(!device.sessions_ended);
            let opens = device.steps.last().is_some_and(|arc| arc.begins_session());
            assert_eq!(file.is_some(), opens, "{from:?} -> {target:?}");
            let mut at = *from;
            for arc in &device.steps {
                assert_eq!(arc.from, at);
                at = arc.to;
            }
        }
    }
}

#[test]
fn every_combination_of_features_walks_its_own_arcs() {
    for arcs in [P2P, PRE_COPY, NEITHER] {
        let has = |state: State| arcs.iter().any(|(from, _, _)| *from == state);
        for from in STATES.into_iter().filter(|from| has(*from)) {
            for target in STATES[1..].iter().copied() {
                let mut device = device(from, |arc, _| obey_with(arcs, arc));
                device.arcs = arcs;
                let walked = walk(&mut device, target as u32);
                if !has(target) {
                    assert_eq!(walked, Err(WalkError::Failed(REFUSED)));
                    assert_eq!(device.state, from);
                    continue;
                }
                let last = device.steps.last().copied();
                let opens = last.is_some_and(StateArc::begins_session);
                assert_eq!(walked.map(|file| file.is_some()), Ok(opens));
                assert_eq!(device.state, target, "{from:?} -> {target:?}");
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
    let mut device = device(Running, |arc, _| match arc.to {
        Stop => Err(StepError::Unchanged("busy")),
        _ => obey(arc),
    });
    let walked = walk(&mut device, StopCopy as u32);
    assert_eq!(walked, Err(WalkError::Failed("busy")));
    assert_eq!(device.state, RunningP2p);
    assert_eq!(device.steps.len(), 2);
    assert!(!device.sessions_ended);
}

#[test]
fn a_step_that_loses_the_device_ends_in_error_for_good() {
    let mut device = device(Resuming, |_, _| Err(StepError::Lost("bad image")));
    let walked = walk(&mut device, Running as u32);
    assert_eq!(walked, Err(WalkError::Failed("bad image")));
    assert_eq!(device.state, Error);
    assert_eq!(device.steps.len(), 1);
    for target in STATES {
        assert_eq!(walk(&mut device, target as u32), Err(WalkError::NoArc));
    }
    assert_eq!(device.steps.len(), 1);
}

#[test]
fn a_pending_reset_ends_the_walk_before_it_begins() {
    for target in &STATES[1..] {
        let mut device = device(Running, |arc, _| obey(arc));
        device.reset_pending = true;
        assert_eq!(walk(&mut device, *target as u32), Err(WalkError::Reset));
        assert!(device.steps.is_empty());
    }
}

#[test]
fn a_reset_during_an_arc_ends_the_walk_after_it() {
    // In the middle of a path, and in its last arc.
    for reset_in in [RunningP2p, Stop, StopCopy] {
        let mut device = device(Running, |arc, reset| {
            *reset = arc.to == reset_in;
            obey(arc)
        });
        assert_eq!(walk(&mut device, StopCopy as u32), Err(WalkError::Reset));
        assert_eq!(device.steps.last().map(|arc| arc.to), Some(reset_in));
        assert_eq!(device.state, Running);
    }
}

#[test]
fn a_reset_during_an_arc_that_fails_wins() {
    type Failure = fn(&'static str) -> StepError<&'static str>;
    for failure in [StepError::Unchanged as Failure, StepError::Lost as Failure] {
        let mut device = device(Running, |_, reset| {
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
    let file = Rc::new(());
    let mut device = device(Stop, |_, reset| {
        *reset = true;
        Ok(Some(file.clone()))
    });
    assert_eq!(walk(&mut device, StopCopy as u32), Err(WalkError::Reset));
    assert_eq!(Rc::strong_count(&file), 1);
}

#[test]
fn a_driver_that_forgets_a_file_or_opens_one_too_many_is_stopped() {
    for (from, to, opens) in ALL.iter().copied() {
        let file = Rc::new(());
        let mut device = device(from, |_, _| Ok((!opens).then(|| file.clone())));
        let walked = walk(&mut device, to as u32);
        assert_eq!(walked, Err(WalkError::WrongFile(StateArc { from, to })));
        assert_eq!(device.state, Error);
        assert!(device.sessions_ended);
        assert_eq!(device.steps.len(), 1);
        assert_eq!(Rc::strong_count(&file), 1, "the file is closed");
    }
}

#[test]
fn a_driver_that_does_nothing_at_all_still_ends_the_walk() {
    // No file, no state: what a driver does that was forgotten to be written.
    let mut device = device(Resuming, |_, _| Ok(None));
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
        let mut device = device(from, |arc, _| obey(arc));
        assert_eq!(walk(&mut device, Error as u32), Err(WalkError::NoArc));
        assert_eq!(device.state, from);
        assert!(device.steps.is_empty());
    }
}

#[test]
fn a_target_that_is_no_state_is_refused_by_vfio() {
    for from in &STATES[1..] {
        for target in [8, u32::MAX] {
            let mut device = device(*from, |arc, _| obey(arc));
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
        let mut device = device(Running, |arc, _| obey(arc));
        device.next_state = Some(next);
        assert_eq!(walk(&mut device, Stop as u32), Err(WalkError::NoArc));
        assert_eq!(device.state, Running);
        assert!(device.steps.is_empty());
    }
}
