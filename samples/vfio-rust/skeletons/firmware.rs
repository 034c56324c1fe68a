// SPDX-License-Identifier: GPL-2.0

//! How the skeletons command their devices: a mailbox in a BAR, which no real device has.
//!
//! The mailbox stands for the part that differs from vendor to vendor: registers of the VF
//! (hisi_acc), or functions of the PF's driver (the others). Each of these sends a command to the
//! firmware, and waits for its end.
//!
//! A command belongs to an epoch, which ends with a reset. It checks the epoch before each access
//! to the mailbox. Commands and resets do not wait for each other: the thread that resets the
//! device may hold the lock that an access takes.
//!
//! A write checks the epoch with that lock held. So no write comes after a reset that VFIO carries
//! out, since VFIO holds the lock, too. A reset through sysfs does not take the lock: a driver of a
//! real device needs a lock of its own, around the sending of a command and in reset_prepare(),
//! such as the gate of the mlx5 driver.

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full, //
        },
        lock::{
            mutex::MutexBackend,
            Guard, //
        },
        Mutex, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
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

/// Registers of the mailbox, 32 bits each.
const COMMAND: usize = 0x00;
const STATUS: usize = 0x04;
const ARGUMENT: usize = 0x08;
const DATA: usize = 0x0c;

/// Values of `STATUS`; any other is an error.
const DONE: u32 = 0;
const BUSY: u32 = 1;

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
    /// Held while a command is sent.
    #[pin]
    turn: Mutex<()>,
}

impl Firmware {
    /// Makes a mailbox at offset `base` of a BAR.
    pub(crate) fn new(bar: u32, base: usize) -> impl PinInit<Self> {
        pin_init!(Self {
            bar,
            base,
            epoch: Atomic::new(0),
            turn <- new_mutex!((), "vfio_skeleton_firmware"),
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
            _turn: self.turn.lock(),
        })
    }
}

/// The right to command a device.
pub(crate) struct Mailbox<'a> {
    bar: Bar<'a>,
    firmware: &'a Firmware,
    epoch: u32,
    _turn: Guard<'a, (), MutexBackend>,
}

impl Mailbox<'_> {
    /// Returns `ECANCELED` if the device is being reset, or was reset.
    fn check(&self) -> Result {
        match self.epoch % 2 == 0 && self.epoch == self.firmware.epoch() {
            true => Ok(()),
            false => Err(error::ecanceled()),
        }
    }

    fn write(&self, register: usize, value: u32) -> Result {
        let at = self.firmware.base + register;
        self.bar.write32_if(at, value, || self.check())
    }

    /// Reads a register. After a reset, the value is of no use, but the read does no harm.
    fn read(&self, register: usize) -> Result<u32> {
        self.check()?;
        self.bar.read32(self.firmware.base + register)
    }

    /// Has the device carry out `command`, and waits for its end. The device is lost if it is
    /// unknown whether it has carried out the command.
    pub(crate) fn send(&self, command: Command) -> Result<(), StepError> {
        let sent = self.call(command, 0, 0);
        sent.map(|_| ()).map_err(|err| match err == ETIMEDOUT {
            true => StepError::Lost(err),
            false => StepError::Unchanged(err),
        })
    }

    /// Has the device carry out `command` with two words, and returns the word that it answers.
    pub(crate) fn call(&self, command: Command, argument: u32, data: u32) -> Result<u32> {
        self.write(ARGUMENT, argument)?;
        self.write(DATA, data)?;
        self.write(COMMAND, command.0)?;
        for _ in 0..TIMEOUT {
            match self.read(STATUS)? {
                DONE => return self.read(DATA),
                BUSY => fsleep(Delta::from_millis(1)),
                _ => return Err(EIO),
            }
        }
        Err(ETIMEDOUT)
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
