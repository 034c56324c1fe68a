// SPDX-License-Identifier: GPL-2.0

use crate::{
    changes::Changes,
    in_every_order,
    turns::{
        GivenBack,
        Turns, //
    },
};
use kernel::sync::Arc;
use loom::{
    sync::atomic::{
        AtomicU32,
        Ordering::Relaxed, //
    },
    thread, //
};

/// A count. It is read and then written, so two threads that have it at once lose one step.
#[derive(Default)]
struct Value(AtomicU32);

impl Value {
    fn get(&self) -> u32 {
        self.0.load(Relaxed)
    }

    fn count(&self) {
        self.0.store(self.get() + 1, Relaxed);
    }
}

struct Shared {
    turns: Turns<Value>,
    changes: Arc<Changes>,
}

impl Shared {
    fn new() -> Arc<Self> {
        let changes = Arc::new(Changes::new());
        Arc::new(Self {
            turns: Turns::new(Value::default(), changes.clone()),
            changes,
        })
    }

    /// Waits for the turn and counts it.
    fn count(&self) -> GivenBack {
        loop {
            let seen = self.changes.seen();
            if let Some(turn) = self.turns.take() {
                turn.count();
                return turn.give_back();
            }
            self.changes.wait_uninterruptible(seen);
        }
    }
}

#[test]
fn one_has_the_value_at_a_time_and_nobody_misses_its_return() {
    in_every_order(|| {
        let shared = Shared::new();
        let others: Vec<_> = (0..2)
            .map(|_| {
                let shared = shared.clone();
                thread::spawn(move || shared.count())
            })
            .collect();
        assert!(shared.count() == GivenBack::Kept);
        for other in others {
            assert!(other.join().unwrap() == GivenBack::Kept);
        }
        assert_eq!(shared.turns.take().unwrap().get(), 3);
    });
}

#[test]
fn a_value_that_is_cleared_does_not_come_back() {
    in_every_order(|| {
        let shared = Shared::new();
        let other = thread::spawn({
            let shared = shared.clone();
            move || shared.count()
        });
        shared.turns.clear();
        let given_back = other.join().unwrap();
        let left = shared.turns.take().unwrap().get();
        match given_back {
            GivenBack::Cleared => assert_eq!(left, 0),
            // It was cleared before, or after.
            GivenBack::Kept => assert!(left <= 1),
        }
    });
}

#[test]
fn whoever_was_told_that_it_is_taken_is_told_when_it_is_not() {
    in_every_order(|| {
        let shared = Shared::new();
        let other = thread::spawn({
            let shared = shared.clone();
            move || shared.count()
        });
        loop {
            let seen = shared.changes.seen();
            if !shared.turns.is_taken() {
                break;
            }
            shared.changes.wait_uninterruptible(seen);
        }
        other.join().unwrap();
    });
}
