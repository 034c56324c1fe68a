// SPDX-License-Identifier: GPL-2.0

//! The flags of a tracker's events, and the thread that waits for one of them.

use crate::{
    in_every_order,
    track_events::TrackEvents, //
};
use kernel::{
    sync::{
        pin_arc,
        Arc, //
    },
    time::Instant, //
};
use loom::{
    sync::Mutex,
    thread, //
};
use std::pin::Pin;

/// Starts a thread that does something to events.
fn spawn(events: &Pin<Arc<TrackEvents>>, notes: fn(&TrackEvents)) -> thread::JoinHandle<()> {
    let events = events.clone();
    thread::spawn(move || notes(&events))
}

fn wait(events: &TrackEvents) {
    assert_eq!(events.wait(Instant::now()), Ok(()));
}

/// Waits until the tracker has failed, as a report does.
fn wait_for_failure(events: &TrackEvents) {
    while !events.has_failed() {
        wait(events);
    }
}

#[test]
fn no_change_of_the_object_is_lost() {
    const CHANGES: u32 = 2;
    in_every_order(|| {
        let events = pin_arc(TrackEvents::new());
        // Its state. A query asks firmware, which knows the present one: so does a mutex.
        let object = Arc::new(Mutex::new(0));
        let firmware = thread::spawn({
            let (events, object) = (events.clone(), object.clone());
            move || {
                for state in 1..=CHANGES {
                    *object.lock().unwrap() = state;
                    events.change();
                }
            }
        });
        let mut known = 0;
        loop {
            if events.take_changed() {
                known = *object.lock().unwrap();
            }
            if known == CHANGES {
                break;
            }
            wait(&events);
        }
        firmware.join().unwrap();
    });
}

#[test]
fn a_thread_that_is_woken_by_a_failure_sees_it() {
    in_every_order(|| {
        let events = pin_arc(TrackEvents::new());
        let failing = spawn(&events, TrackEvents::fail);
        wait(&events);
        assert!(events.has_failed());
        assert!(!events.has_ended());
        failing.join().unwrap();
    });
}

#[test]
fn a_thread_that_waits_learns_of_a_failure_beside_other_events() {
    in_every_order(|| {
        let events = pin_arc(TrackEvents::new());
        let others = [TrackEvents::message, TrackEvents::fail].map(|event| spawn(&events, event));
        wait_for_failure(&events);
        for other in others {
            other.join().unwrap();
        }
    });
}

#[test]
fn a_thread_that_is_woken_by_the_end_sees_it() {
    in_every_order(|| {
        let events = pin_arc(TrackEvents::new());
        let end = spawn(&events, TrackEvents::end);
        wait(&events);
        assert!(events.has_failed() && events.has_ended());
        end.join().unwrap();
    });
}

#[test]
fn whoever_sees_the_failure_of_a_tracker_that_has_ended_sees_the_end() {
    in_every_order(|| {
        let events = pin_arc(TrackEvents::new());
        let others = [TrackEvents::message, TrackEvents::end].map(|event| spawn(&events, event));
        wait_for_failure(&events);
        assert!(events.has_ended());
        for other in others {
            other.join().unwrap();
        }
    });
}
