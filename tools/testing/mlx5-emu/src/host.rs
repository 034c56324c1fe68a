// SPDX-License-Identifier: GPL-2.0

//! What the model needs of the machine it is in.

use crate::log::CommandRecord;

/// A function of the HCA: 0 is the PF, VF n is n + 1.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct FunctionId(pub u16);

impl FunctionId {
    /// The physical function.
    pub const PF: Self = Self(0);
}

/// The IOMMU, or the lack of memory, refused an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DmaFault;

/// Memory, interrupts, time, and where a log goes.
pub trait Host {
    /// Reads memory as `function`.
    fn dma_read(&mut self, function: FunctionId, addr: u64, buf: &mut [u8])
        -> Result<(), DmaFault>;
    /// Writes memory as `function`.
    fn dma_write(&mut self, function: FunctionId, addr: u64, buf: &[u8]) -> Result<(), DmaFault>;
    /// Whether `function` is a bus master: no access to memory succeeds otherwise.
    fn is_bus_master(&mut self, _function: FunctionId) -> bool {
        true
    }
    /// Raises an MSI-X vector of `function`.
    fn interrupt(&mut self, function: FunctionId, vector: u16);
    /// Nanoseconds since some beginning.
    fn now(&mut self) -> u64;
    /// Has [`crate::hca::Hca::timer`] called at this time.
    fn wake_at(&mut self, time: u64);
    /// Sends a frame over the wire.
    fn send_frame(&mut self, frame: &[u8]);
    /// A command has ended.
    fn log_command(&mut self, _record: &CommandRecord) {}
    /// The firmware interface was violated.
    fn log_violation(&mut self, _function: FunctionId, _what: &str) {}
}
