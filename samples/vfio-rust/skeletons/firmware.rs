// SPDX-License-Identifier: GPL-2.0

//! How the skeletons command their devices: a mailbox in a BAR, which no real device has.
//!
//! The mailbox stands for the part that differs from vendor to vendor: registers of the VF
//! (hisi_acc), or functions of the PF's driver (the others). Each of these sends a command to the
//! firmware, and waits for its end.
//!
//! The mailbox is locked for one command at a time, and not for all commands of a state: a
//! thread that waits for a mutex cannot be killed. A command without an answer is the last one
//! before a reset.
//!
//! A command belongs to an epoch, which ends with a reset. It checks the epoch before each write
//! to the mailbox, and after each read. Commands and resets do not wait for each other: the
//! thread that resets the device may hold the lock that an access takes.
//!
//! A write checks the epoch with that lock held. So no write comes after a reset that VFIO carries
//! out, since VFIO holds the lock, too. A reset through sysfs does not take the lock: a driver of a
//! real device needs a lock of its own, around the sending of a command and in reset_prepare(),
//! such as the gate of the mlx5 driver.

mod mailbox;

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full, //
        },
        Mutex, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
};
use mailbox::{
    Failure,
    Registers,
    Slot, //
};
use vfio_rust::{
    bar::Bar,
    kernel::{
        error,
        task, //
    },
    migration::{
        StepError,
        VfioDevice, //
    },
};

/// Longest time that a command takes, in milliseconds.
const TIMEOUT: usize = 1000;

/// Longest state that is accepted, in bytes.
const MAX_STATE: usize = 1 << 20;

/// A command to a device.
#[derive(Clone, Copy)]
pub(crate) struct Command(pub(crate) u32);

impl Command {
    pub(crate) const SUSPEND: Self = Self(1);
    pub(crate) const RESUME: Self = Self(2);
    /// Returns the length of the state in `DATA`.
    const LENGTH: Self = Self(3);
    /// Returns the word of the state with the index `ARGUMENT` in `DATA`.
    const SAVE: Self = Self(4);
    /// Takes the word of the state with the index `ARGUMENT` from `DATA`.
    const LOAD: Self = Self(5);
}

/// The mailbox of a device.
#[pin_data]
pub(crate) struct Firmware {
    /// Index of the BAR that the mailbox is in.
    bar: u32,
    /// Offset of the mailbox in the BAR.
    base: usize,
    /// Counts the beginnings and the ends of resets.
    epoch: Atomic<u32>,
    /// Locked by the thread that sends a command, until the command has ended.
    #[pin]
    place: Mutex<Slot>,
}

impl Firmware {
    /// Makes a mailbox at offset `base` of a BAR.
    pub(crate) fn new(bar: u32, base: usize) -> impl PinInit<Self> {
        pin_init!(Self {
            bar,
            base,
            epoch: Atomic::new(0),
            place <- new_mutex!(Slot::default(), "vfio_skeleton_firmware"),
        })
    }

    /// Returns the epoch.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Acquire)
    }

    /// Begins another epoch: a reset begins or ends.
    pub(crate) fn next_epoch(&self) {
        self.epoch.fetch_add(1, Full);
    }

    /// Returns the right to command the device in an epoch.
    pub(crate) fn enter<'a>(&'a self, vdev: &'a VfioDevice<'_>, epoch: u32) -> Result<Mailbox<'a>> {
        Ok(Mailbox {
            bar: Bar::of(vdev, self.bar)?,
            firmware: self,
            epoch,
        })
    }
}

/// The right to command a device.
pub(crate) struct Mailbox<'a> {
    bar: Bar<'a>,
    firmware: &'a Firmware,
    epoch: u32,
}

impl Registers for Mailbox<'_> {
    type Error = Error;
    const EIO: Error = EIO;

    fn write(&self, register: usize, value: u32) -> Result {
        let at = self.firmware.base + register;
        self.bar.write32_if(at, value, || self.check())
    }

    /// Reads a register. After a reset, the value is of no use, but the read does no harm.
    fn read(&self, register: usize) -> Result<u32> {
        let value = self.bar.read32(self.firmware.base + register)?;
        self.check()?;
        Ok(value)
    }

    fn wait(&self, waits: usize) -> Result {
        if waits >= TIMEOUT {
            return Err(ETIMEDOUT);
        }
        fsleep(Delta::from_millis(1));
        Ok(())
    }
}

impl Mailbox<'_> {
    /// Returns `ECANCELED` if the device is being reset, or was reset.
    fn check(&self) -> Result {
        match self.epoch % 2 == 0 && self.epoch == self.firmware.epoch() {
            true => Ok(()),
            false => Err(error::ecanceled()),
        }
    }

    /// Sends a command with two words, and waits for the answer.
    fn exchange(&self, words: [u32; 3]) -> Result<u32, Failure<Error>> {
        self.firmware.place.lock().call(self, self.epoch, words)
    }

    /// Has the device carry out `command`, and waits for its end. The device is lost if it is
    /// unknown whether it has carried out the command.
    pub(crate) fn send(&self, command: Command) -> Result<(), StepError> {
        match self.exchange([command.0, 0, 0]) {
            Ok(_) => Ok(()),
            Err(Failure::NotSent(err) | Failure::Refused(err)) => Err(StepError::Unchanged(err)),
            Err(Failure::Unknown(err)) => Err(StepError::Lost(err)),
        }
    }

    /// Has the device carry out `command` with two words, and returns the word that it answers.
    /// Only for commands that do not change the state of the device.
    pub(crate) fn call(&self, command: Command, argument: u32, data: u32) -> Result<u32> {
        self.exchange([command.0, argument, data])
            .map_err(|failure| match failure {
                Failure::NotSent(err) | Failure::Refused(err) | Failure::Unknown(err) => err,
            })
    }

    /// Returns the length of the state.
    pub(crate) fn state_len(&self) -> Result<usize> {
        let len = self.call(Command::LENGTH, 0, 0)? as usize;
        match len % 4 == 0 && len <= MAX_STATE {
            true => Ok(len),
            false => Err(EIO),
        }
    }

    /// Returns the state of the device. Returns `EINTR` if the process is killed.
    pub(crate) fn save(&self) -> Result<KVVec<u8>> {
        let len = self.state_len()?;
        let mut state = KVVec::with_capacity(len, GFP_KERNEL_ACCOUNT)?;
        for index in 0..len / 4 {
            // Check between commands, since the next command must not find this one under way.
            task::check_killed()?;
            let word = self.call(Command::SAVE, index as u32, 0)?;
            state.extend_from_slice(&word.to_le_bytes(), GFP_KERNEL_ACCOUNT)?;
        }
        Ok(state)
    }

    /// Loads a state into the device. Returns `EINVAL` if the length is wrong, `EINTR` if the
    /// process is killed.
    pub(crate) fn load(&self, state: &[u8]) -> Result {
        if state.len() != self.state_len()? {
            return Err(EINVAL);
        }
        for (index, word) in state.chunks(4).enumerate() {
            task::check_killed()?;
            let word = u32::from_le_bytes(word.try_into().map_err(|_| EINVAL)?);
            self.call(Command::LOAD, index as u32, word)?;
        }
        Ok(())
    }
}
