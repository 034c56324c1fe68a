// SPDX-License-Identifier: GPL-2.0

//! Sends commands through the mailbox, and tells how far a command got that has failed.
//!
//! The file uses no kernel types, so that it can also be compiled and tested in user space.

/// Registers of the mailbox, 32 bits each. A write to `COMMAND` sends a command.
pub(super) const COMMAND: usize = 0x00;
pub(super) const STATUS: usize = 0x04;
pub(super) const ARGUMENT: usize = 0x08;
pub(super) const DATA: usize = 0x0c;

/// Values of `STATUS`. Any other is no answer: a device that is not there reads as ones.
pub(super) const DONE: u32 = 0;
pub(super) const BUSY: u32 = 1;
pub(super) const REFUSED: u32 = 2;

/// How a command has failed.
#[derive(Debug)]
pub(super) enum Failure<E> {
    /// The device has not got the command.
    NotSent(E),
    /// The device has refused the command, and has not carried it out.
    Refused(E),
    /// The device has got the command. It is unknown whether it has carried the command out, or
    /// still will.
    Unknown(E),
}

/// Access to the registers.
pub(super) trait Registers {
    type Error;
    /// Error for a device that refuses a command, or whose answer is invalid.
    const EIO: Self::Error;

    /// Writes a register. It was not written if this fails.
    fn write(&self, register: usize, value: u32) -> Result<(), Self::Error>;

    /// Reads a register.
    fn read(&self, register: usize) -> Result<u32, Self::Error>;

    /// Waits before `STATUS` is read again, or fails if it was busy for too long. `waits`
    /// counts the calls before this one.
    fn wait(&self, waits: usize) -> Result<(), Self::Error>;
}

/// The place that the mailbox has for one command.
#[derive(Default)]
pub(super) struct Slot {
    /// The epoch of a command that was sent, and not answered. No other command is sent until the
    /// epoch ends, since the late answer would be taken for that to the next command.
    unanswered: Option<u32>,
}

impl Slot {
    /// Sends `command` with two words, waits for the answer, and returns its word.
    pub(super) fn call<R: Registers>(
        &mut self,
        registers: &R,
        epoch: u32,
        [command, argument, data]: [u32; 3],
    ) -> Result<u32, Failure<R::Error>> {
        if self.unanswered == Some(epoch) {
            return Err(Failure::NotSent(R::EIO));
        }
        [(ARGUMENT, argument), (DATA, data), (COMMAND, command)]
            .into_iter()
            .try_for_each(|(register, value)| registers.write(register, value))
            .map_err(Failure::NotSent)?;
        self.unanswered = Some(epoch);
        let answer = Self::answer(registers).map_err(Failure::Unknown)?;
        self.unanswered = None;
        answer.ok_or(Failure::Refused(R::EIO))
    }

    /// Waits for the answer. Returns its word, or `None` if the device has refused the command.
    fn answer<R: Registers>(registers: &R) -> Result<Option<u32>, R::Error> {
        for waits in 0.. {
            match registers.read(STATUS)? {
                DONE => return registers.read(DATA).map(Some),
                REFUSED => return Ok(None),
                BUSY => registers.wait(waits)?,
                _ => break,
            }
        }
        Err(R::EIO)
    }
}
