// SPDX-License-Identifier: GPL-2.0

//! A device that is open, and what it can do.

use crate::{
    address::Address,
    device::Device,
    error::{
        Context,
        Error, //
    },
    memory::DeviceMemory,
    state::{
        Features,
        State, //
    },
    uapi::LoggingRange,
    workload, //
};

/// Where its memory is, for the device.
const IOVA: u64 = 0x1_0000_0000;
/// Bytes of its memory.
const MEMORY: usize = 64 << 12;

/// An open device with memory.
pub(super) struct Site {
    pub(super) device: Device,
    pub(super) features: Features,
    /// Whether it works when it is told to, and can compute a digest of its state.
    pub(super) works: bool,
    /// Dropped after the device, which has access to it.
    _memory: DeviceMemory,
}

impl Site {
    /// Opens a device.
    pub(super) fn open(address: Address) -> Result<Self, Error> {
        let device = Device::open(address)?;
        let features = device.features()?;
        let memory = DeviceMemory::new(MEMORY).context("memory for the device")?;
        device.space().map(&memory, IOVA)?;
        let works = workload::is_available(&device);
        Ok(Self {
            device,
            features,
            works,
            _memory: memory,
        })
    }

    /// All of its memory.
    pub(super) fn range(&self) -> LoggingRange {
        LoggingRange {
            iova: IOVA,
            length: MEMORY as u64,
        }
    }

    /// A digest of its state, if it can compute one.
    pub(super) fn digest(&self) -> Result<Option<u64>, Error> {
        self.works
            .then(|| workload::digest(&self.device))
            .transpose()
    }

    /// Resets it. It has to run after that.
    pub(super) fn reset_to_running(&self) -> Result<(), Error> {
        self.device.reset()?;
        match self.device.state()? {
            State::RUNNING => Ok(()),
            state => Err(Error::Unexpected(format!(
                "after a reset the device is in {state}"
            ))),
        }
    }
}
