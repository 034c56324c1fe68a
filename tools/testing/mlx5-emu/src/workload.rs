// SPDX-License-Identifier: GPL-2.0

//! The registers through which a test makes a VF work.

use crate::{
    host::{
        FunctionId,
        Host, //
    },
    migration::{
        Running,
        Vhca, //
    },
};
use mlx5_emu_regs::{
    self as regs,
    pattern,
    scatter_page,
    PAGE, //
};

/// The registers of a VF. All but its number is in its state.
#[derive(Clone, Debug)]
pub struct Workload {
    vf: u16,
}

/// What the registers tell of the HCA, and not of the VF's state.
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    /// Violations of the firmware interface.
    pub violations: u64,
    /// How many commands and reports a fault was for.
    pub fired: u64,
    /// Faults that are still to fire.
    pub armed: u64,
    /// Commands that wait to be released.
    pub held: u64,
    /// What of the VF's writes is tracked: ranges and bytes.
    pub tracked: (u64, u64),
}

fn half(value: u64, offset: u64) -> u32 {
    (value >> (offset % 8 * 8)) as u32
}

fn set_half(value: &mut u64, offset: u64, half: u32) {
    let shift = offset % 8 * 8;
    *value = *value & !(0xffff_ffff << shift) | (u64::from(half) << shift);
}

/// The index of the u64 at `offset` in an array of `count` from `base` on.
fn index(offset: u64, base: u64, count: usize) -> Option<usize> {
    let index = (offset.checked_sub(base)? / 8) as usize;
    (index < count).then_some(index)
}

impl Workload {
    /// The registers of a VF.
    pub fn new(vf: u16) -> Self {
        Self { vf }
    }

    /// Reads 4 bytes.
    pub fn read(&self, vhca: &Vhca, shared: &Shared, offset: u64) -> u32 {
        let state = &vhca.state;
        if let Some(i) = index(offset, regs::SCRATCH, regs::SCRATCH_COUNT) {
            return half(state.scratch[i], offset);
        }
        if let Some(i) = index(offset, regs::ARGS, state.command.args.len()) {
            return half(state.command.args[i], offset);
        }
        match offset {
            regs::MAGIC => regs::MAGIC_VALUE,
            regs::VERSION => regs::VERSION_VALUE,
            regs::STATUS => state.command.status,
            regs::FLAGS => match vhca.running {
                Running::Fully => 0,
                Running::InitiatorSuspended => regs::FLAG_INITIATOR_SUSPENDED,
                Running::Suspended => {
                    regs::FLAG_INITIATOR_SUSPENDED | regs::FLAG_RESPONDER_SUSPENDED
                }
            },
            _ => half(
                match offset & !7 {
                    regs::STATE_SIZE => state.size(),
                    regs::SEQ => state.seq,
                    regs::DIGEST => state.command.digest,
                    regs::VIOLATIONS => shared.violations,
                    regs::FAULTS_FIRED => shared.fired,
                    regs::FAULTS_ARMED => shared.armed,
                    regs::COMMANDS_HELD => shared.held,
                    regs::TRACKED_RANGES => shared.tracked.0,
                    regs::TRACKED_BYTES => shared.tracked.1,
                    regs::IRQS => state.irqs,
                    regs::DMA_BYTES => state.dma_bytes,
                    regs::VF_ID => regs::VF_ID_BASE + u64::from(self.vf),
                    _ => 0,
                },
                offset,
            ),
        }
    }

    /// Writes 4 bytes.
    pub fn write(
        &self,
        vhca: &mut Vhca,
        host: &mut dyn Host,
        function: FunctionId,
        offset: u64,
        value: u32,
    ) {
        if let Some(i) = index(offset, regs::SCRATCH, regs::SCRATCH_COUNT) {
            // A suspended responder does not answer to its driver.
            if vhca.running != Running::Suspended {
                set_half(&mut vhca.state.scratch[i], offset, value);
            }
        } else if let Some(i) = index(offset, regs::ARGS, vhca.state.command.args.len()) {
            set_half(&mut vhca.state.command.args[i], offset, value);
        } else if offset == regs::CMD {
            vhca.state.command.status = match run(vhca, host, function, value) {
                Ok(()) => regs::STATUS_OK,
                Err(status) => status,
            };
        }
    }
}

/// Carries a command out.
fn run(
    vhca: &mut Vhca,
    host: &mut dyn Host,
    function: FunctionId,
    command: u32,
) -> Result<(), u32> {
    let [arg0, arg1, arg2, _] = vhca.state.command.args;
    match command {
        regs::CMD_DIGEST => {
            vhca.state.command.digest = vhca.state.digest();
            return Ok(());
        }
        regs::CMD_LOSE_TRACKING => {
            vhca.lose_tracking();
            return Ok(());
        }
        regs::CMD_CHANGE_STATE
        | regs::CMD_CREATE_STATE
        | regs::CMD_DMA_WRITE
        | regs::CMD_RAISE_IRQ
        | regs::CMD_DMA_SCATTER => (),
        _ => return Err(regs::STATUS_BAD_CMD),
    }
    if vhca.running != Running::Fully {
        return Err(regs::STATUS_SUSPENDED);
    }
    let state = &mut vhca.state;
    match command {
        regs::CMD_CHANGE_STATE | regs::CMD_CREATE_STATE => {
            if arg0 > state.pages() {
                return Err(regs::STATUS_BAD_ARG);
            }
            state.seq = state.seq.wrapping_add(1);
            state.rewrite(arg1, arg0);
            if command == regs::CMD_CREATE_STATE {
                let pages = state.around(arg1, arg0);
                vhca.created(pages);
            }
            Ok(())
        }
        regs::CMD_DMA_WRITE => {
            if arg0 % 8 != 0 || arg1 % 8 != 0 || arg1 > regs::MAX_DMA {
                return Err(regs::STATUS_BAD_ARG);
            }
            state.seq = state.seq.wrapping_add(1);
            write_pattern(host, function, state.seq, arg0, arg1, &mut state.dma_bytes)
        }
        regs::CMD_DMA_SCATTER => {
            let pages = arg1 / PAGE;
            if arg0 % PAGE != 0 || pages == 0 || arg2 > regs::MAX_DMA / PAGE {
                return Err(regs::STATUS_BAD_ARG);
            }
            state.seq = state.seq.wrapping_add(1);
            let seq = state.seq;
            (0..arg2).try_for_each(|i| {
                let iova = arg0.wrapping_add(scatter_page(seq, i, pages) * PAGE);
                write_pattern(host, function, seq, iova, PAGE, &mut state.dma_bytes)
            })
        }
        _ => {
            state.seq = state.seq.wrapping_add(1);
            state.irqs = state.irqs.wrapping_add(1);
            host.interrupt(function, arg0 as u16);
            Ok(())
        }
    }
}

/// Writes the pattern of command `seq` to `iova..iova + len`.
fn write_pattern(
    host: &mut dyn Host,
    function: FunctionId,
    seq: u64,
    iova: u64,
    len: u64,
    written: &mut u64,
) -> Result<(), u32> {
    let mut at = iova;
    let mut left = len;
    while left > 0 {
        let n = left.min(PAGE - at % PAGE);
        let data: Vec<u8> = (0..n / 8)
            .flat_map(|i| pattern(seq, at.wrapping_add(i * 8)).to_le_bytes())
            .collect();
        host.dma_write(function, at, &data)
            .map_err(|_| regs::STATUS_DMA_FAULT)?;
        *written = written.wrapping_add(n);
        at = at.wrapping_add(n);
        left -= n;
    }
    Ok(())
}
