// SPDX-License-Identifier: GPL-2.0

//! The initialization segment: the beginning of BAR 0 (initial_seg).

/// Number of command slots, as a shift: 32.
pub const LOG_SLOTS: u32 = 5;
/// Bytes of a slot, as a shift: 64.
pub const LOG_STRIDE: u32 = 6;

const FW_REV: u64 = 0x0;
const CMDIF_REV: u64 = 0x4;
const CMDQ_HIGH: u64 = 0x10;
const CMDQ_LOW: u64 = 0x14;
const DOORBELL: u64 = 0x18;
const CMD_EXEC_TO: u64 = 0xff8;
const CMD_Q_INIT_TO: u64 = 0xffc;
const TIMER_HIGH: u64 = 0x1000;
const TIMER_LOW: u64 = 0x1004;
const HEALTH_COUNTER: u64 = 0x1010;
const END: u64 = 0x2000;

/// Field `nic_interface` beside the low half of the queue's address, and its value for a
/// function that is disabled. The driver writes 0, the value for a full driver.
const NIC_INTERFACE: u32 = 0x700;
const NIC_DISABLED: u32 = 0x100;

/// Firmware 28.43: minor, then major.
const FW_VERSION: u32 = (43 << 16) | 28;
/// The command interface that mlx5_core speaks.
const CMDIF_VERSION: u32 = 5;
/// The health counter steps so often; the driver looks every two seconds.
const HEALTH_STEP_NS: u64 = 10_000_000;

/// How long a driver is to wait for firmware to start, in milliseconds: what
/// mlx5_core does by itself.
const INIT_TIMEOUT_MS: u32 = 2000;
/// Longest time that `cmd_exec_to` can have in milliseconds.
pub const MAX_TIMEOUT_MS: u32 = 0xf_ffff;

/// What is written to the segment, and what differs between devices.
#[derive(Clone, Default, Debug)]
pub struct InitSegment {
    /// How long a driver is to wait for a command, in milliseconds; 0 if
    /// firmware does not say.
    timeout_ms: u32,
    high: u32,
    low: u32,
}

impl InitSegment {
    /// The segment of a device that was reset.
    pub fn new(timeout_ms: u32) -> Self {
        Self {
            timeout_ms: timeout_ms.min(MAX_TIMEOUT_MS),
            ..Self::default()
        }
    }

    /// Whether an offset belongs to the segment.
    pub fn covers(offset: u64) -> bool {
        offset < END
    }

    /// Where the command queue is.
    pub fn command_queue(&self) -> u64 {
        (u64::from(self.high) << 32) | u64::from(self.low & !0xfff)
    }

    /// Whether a driver has said where its command queue is since the function was reset.
    pub fn has_command_queue(&self) -> bool {
        self.command_queue() != 0
    }

    /// Says that the function is disabled, until a driver says where its command queue is.
    pub fn disable_nic(&mut self) {
        self.low = self.low & !NIC_INTERFACE | NIC_DISABLED;
    }

    /// Where the driver has written that its command queue is.
    pub fn queue_registers(&self) -> [u32; 2] {
        [self.high, self.low]
    }

    /// Loads that.
    pub fn load(&mut self, [high, low]: [u32; 2]) {
        (self.high, self.low) = (high, low);
    }

    /// Reads a dword.
    pub fn read(&self, now: u64, offset: u64) -> u32 {
        match offset {
            FW_REV => FW_VERSION,
            CMDIF_REV => CMDIF_VERSION << 16,
            CMDQ_HIGH => self.high,
            CMDQ_LOW => self.low & !0xff | (LOG_SLOTS << 4) | LOG_STRIDE,
            CMD_EXEC_TO => self.timeout_ms,
            // mlx5_core reads this time-out only if `cmd_exec_to` is set.
            CMD_Q_INIT_TO if self.timeout_ms > 0 => INIT_TIMEOUT_MS,
            TIMER_HIGH => (now >> 32) as u32,
            TIMER_LOW => now as u32,
            HEALTH_COUNTER => (now / HEALTH_STEP_NS) as u32,
            // The health buffer says that all is well by saying nothing.
            _ => 0,
        }
    }

    /// Writes a dword. Returns the slots that a doorbell was rung for. A driver that does not
    /// know that its function was reset rings it for nothing.
    pub fn write(&mut self, offset: u64, value: u32) -> u32 {
        match offset {
            CMDQ_HIGH => self.high = value,
            CMDQ_LOW => self.low = value,
            DOORBELL if self.has_command_queue() => return value,
            _ => (),
        }
        0
    }
}
