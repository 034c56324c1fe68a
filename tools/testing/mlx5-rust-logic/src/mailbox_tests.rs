// SPDX-License-Identifier: GPL-2.0

//! [`mailbox`](crate::mailbox): commands of the skeletons, and what is known of those that
//! have failed.

use crate::mailbox::{
    Failure,
    Registers,
    Slot,
    ARGUMENT,
    BUSY,
    COMMAND,
    DATA,
    DONE,
    REFUSED,
    STATUS, //
};
use proptest::{
    collection::vec,
    prelude::*, //
};
use std::cell::Cell;

/// Most waits for an answer.
const WAITS: usize = 3;

/// What a device makes of a command.
#[derive(Clone, Copy, Debug)]
struct Script {
    /// Reads of `STATUS` before it has an answer.
    busy: usize,
    /// `STATUS` of the answer.
    status: u32,
    /// Number of the access that fails.
    fails: Option<usize>,
}

const OBEYS: Script = Script {
    busy: 1,
    status: DONE,
    fails: None,
};

/// A device that answers a command with the command.
struct Device {
    script: Cell<Script>,
    accesses: Cell<usize>,
    /// The command that it was given last, until the answer was read.
    command: Cell<Option<u32>>,
}

impl Device {
    fn new() -> Self {
        Self {
            script: Cell::new(OBEYS),
            accesses: Cell::new(0),
            command: Cell::new(None),
        }
    }

    /// What it makes of the next command.
    fn set(&self, script: Script) {
        self.script.set(script);
        self.accesses.set(0);
    }

    fn access(&self) -> Result<(), &'static str> {
        let number = self.accesses.replace(self.accesses.get() + 1);
        match self.script.get().fails == Some(number) {
            true => Err("no access"),
            false => Ok(()),
        }
    }
}

impl Registers for Device {
    type Error = &'static str;
    const EIO: Self::Error = "EIO";

    fn write(&self, register: usize, value: u32) -> Result<(), Self::Error> {
        assert_eq!(self.command.get(), None, "a command has no answer yet");
        self.access()?;
        match register {
            COMMAND => self.command.set(Some(value)),
            _ => assert!([ARGUMENT, DATA].contains(&register)),
        }
        Ok(())
    }

    fn read(&self, register: usize) -> Result<u32, Self::Error> {
        self.access()?;
        let mut script = self.script.get();
        match register {
            STATUS if script.busy > 0 => {
                script.busy -= 1;
                self.script.set(script);
                Ok(BUSY)
            }
            STATUS => {
                if script.status == REFUSED {
                    self.command.set(None);
                }
                Ok(script.status)
            }
            DATA => Ok(self.command.take().unwrap()),
            _ => panic!("{register} is not to be read"),
        }
    }

    fn wait(&self, waits: usize) -> Result<(), Self::Error> {
        match waits < WAITS {
            true => Ok(()),
            false => Err("timeout"),
        }
    }
}

/// Sends one command, and returns how the next one of the same epoch ends.
fn next_after(script: Script) -> Result<u32, Failure<&'static str>> {
    let (device, mut slot) = (Device::new(), Slot::default());
    device.set(script);
    let first = slot.call(&device, 0, [1, 0, 0]);
    assert!(first.is_err(), "{first:?}");
    device.set(OBEYS);
    slot.call(&device, 0, [2, 0, 0])
}

#[test]
fn a_command_that_is_not_sent_or_refused_leaves_the_mailbox_to_others() {
    for fails in 0..3 {
        let fails = Some(fails);
        assert!(matches!(next_after(Script { fails, ..OBEYS }), Ok(2)));
    }
    let status = REFUSED;
    assert!(matches!(next_after(Script { status, ..OBEYS }), Ok(2)));
}

#[test]
fn a_command_without_an_answer_is_the_last() {
    let no_answers = [
        Script {
            busy: WAITS + 1,
            ..OBEYS
        },
        // What a device reads as that is not there.
        Script {
            status: u32::MAX,
            ..OBEYS
        },
        // STATUS, and DATA.
        Script {
            fails: Some(3),
            ..OBEYS
        },
        Script {
            fails: Some(5),
            ..OBEYS
        },
    ];
    for script in no_answers {
        let next = next_after(script);
        assert!(matches!(next, Err(Failure::NotSent("EIO"))), "{script:?}");
    }
}

fn scripts() -> impl Strategy<Value = Script> {
    let status = prop_oneof![4 => Just(DONE), 1 => Just(REFUSED), 1 => 3..=u32::MAX];
    let fails = prop_oneof![2 => Just(None), 1 => (0..8usize).prop_map(Some)];
    (0..WAITS + 2, status, fails).prop_map(|(busy, status, fails)| Script {
        busy,
        status,
        fails,
    })
}

proptest! {
    /// Whatever fails, an answer is that of its own command, and the caller learns whether the
    /// device has got the command, and may carry it out yet.
    #[test]
    fn what_is_said_of_a_command_is_true(calls in vec((scripts(), any::<bool>()), 1..30)) {
        let (device, mut slot, mut epoch) = (Device::new(), Slot::default(), 0);
        for (id, (script, reset)) in (1..).zip(calls) {
            if reset {
                epoch += 2;
                device.command.set(None);
            }
            let before = device.command.get();
            device.set(script);
            let called = slot.call(&device, epoch, [id, 0, 0]);
            match called {
                Ok(word) => {
                    prop_assert_eq!(word, id);
                    prop_assert_eq!(device.command.get(), None);
                }
                Err(Failure::Refused(err)) => {
                    prop_assert_eq!((err, script.status), ("EIO", REFUSED));
                    prop_assert_eq!(device.command.get(), None);
                }
                Err(Failure::NotSent(_)) => {
                    prop_assert_eq!(device.command.get(), before);
                    // Nothing is touched while an answer is missing.
                    prop_assert_eq!(before.is_some(), device.accesses.get() == 0);
                }
                Err(Failure::Unknown(_)) => {
                    prop_assert_eq!(before, None);
                    prop_assert_eq!(device.command.get(), Some(id));
                }
            }
        }
    }
}
