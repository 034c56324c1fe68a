// SPDX-License-Identifier: GPL-2.0

//! The machine that an emulated HCA is in, and its drivers' command queues.

use crate::queues::Guard;
use mlx5_emu::{
    hca::Hca,
    host::{
        DmaFault,
        FunctionId,
        Host, //
    },
    ifc, //
};
use mlx5_rust_logic::fuzz::Input;

/// Where the drivers have their command queues: functions share them.
pub const QUEUE: u64 = 0x1000;
/// Where input mailboxes are, and where output is written to: to slots, and to mailboxes.
const IN_MAILBOXES: u64 = 0x8000;
const OUT_MAILBOXES: u64 = 0xc000;
pub const OUTPUT: [std::ops::Range<u64>; 2] = [QUEUE..QUEUE + 0x800, OUT_MAILBOXES..DATA];
/// From one mailbox to the next.
const MAILBOX: u64 = 1024;
/// Bytes of data in a mailbox.
const BLOCK_DATA: usize = 512;
/// Where there is memory for anything else.
pub const DATA: u64 = 0x1_0000;
/// Longest input and output of a command that is sent properly: three mailboxes.
const MAX_LEN: usize = 16 + 3 * BLOCK_DATA;
/// Most accesses to memory in a step: a command queue's doorbell is for 32 commands at most.
const ACCESSES: usize = 1 << 20;

/// Registers of the initialization segment.
const QUEUE_LOW: u64 = 0x14;
pub const DOORBELL: u64 = 0x18;

/// A machine's memory and time.
pub struct Machine {
    pub memory: Vec<u8>,
    pub now: u64,
    /// When the HCA wants to be called.
    pub wake: Option<u64>,
    /// In this step.
    accesses: usize,
    /// Frames that went out over the wire in this step.
    pub sent: Vec<Vec<u8>>,
    /// What functions may write, while that is known.
    pub guard: Option<Guard>,
    /// Functions that must neither touch memory nor interrupt.
    pub quiet: Vec<FunctionId>,
}

impl Machine {
    /// Returns a machine with so much memory.
    pub fn new(memory: usize) -> Self {
        Self {
            memory: vec![0; memory],
            now: 0,
            wake: None,
            accesses: 0,
            sent: Vec::new(),
            guard: None,
            quiet: Vec::new(),
        }
    }

    fn check_quiet(&self, function: FunctionId) {
        assert!(!self.quiet.contains(&function), "{function:?} is not quiet");
    }

    fn range(&mut self, addr: u64, len: usize) -> Result<std::ops::Range<usize>, DmaFault> {
        self.accesses += 1;
        assert!(self.accesses <= ACCESSES, "no end");
        let start = usize::try_from(addr).map_err(|_| DmaFault)?;
        let end = start.checked_add(len).ok_or(DmaFault)?;
        (end <= self.memory.len())
            .then_some(start..end)
            .ok_or(DmaFault)
    }

    /// Writes memory.
    pub fn put(&mut self, addr: u64, bytes: &[u8]) {
        self.memory[addr as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    /// Begins a step.
    pub fn step(&mut self) {
        self.accesses = 0;
        self.sent.clear();
    }

    /// Writes a chain of mailboxes for `data`.
    fn put_mailboxes(&mut self, first: u64, data: &[u8]) {
        for (number, block) in data.chunks(BLOCK_DATA).enumerate() {
            let at = first + number as u64 * MAILBOX;
            let mut mailbox = [0; 576];
            mailbox[..block.len()].copy_from_slice(block);
            mailbox[560..568].copy_from_slice(&(at + MAILBOX).to_be_bytes());
            mailbox[568..572].copy_from_slice(&(number as u32).to_be_bytes());
            self.put(at, &mailbox);
        }
    }

    /// Writes a register.
    pub fn write(&mut self, hca: &mut Hca, function: FunctionId, offset: u64, value: u32) {
        hca.write(self, function, offset, value.swap_bytes());
    }

    /// Has the PF's driver enable the PF and two VFs.
    pub fn begin(&mut self, hca: &mut Hca) {
        for function in 0..3 {
            self.write(hca, FunctionId(function), QUEUE_LOW, QUEUE as u32);
        }
        for function in 0..3 {
            let mut input = vec![0; 16];
            ifc::OPCODE.set(&mut input, ifc::ENABLE_HCA.into());
            ifc::FUNCTION_ID.set(&mut input, function);
            self.send(hca, FunctionId::PF, &input, 16);
        }
    }

    /// Sends a command as mlx5_core does.
    pub fn send(&mut self, hca: &mut Hca, function: FunctionId, input: &[u8], out_len: usize) {
        let (inline, rest) = input.split_at(input.len().min(16));
        self.put_mailboxes(IN_MAILBOXES, rest);
        let room = vec![0; out_len.saturating_sub(16)];
        self.put_mailboxes(OUT_MAILBOXES, &room);
        let mut slot = [0; 64];
        slot[0] = 7;
        slot[4..8].copy_from_slice(&(input.len() as u32).to_be_bytes());
        slot[8..16].copy_from_slice(&IN_MAILBOXES.to_be_bytes());
        slot[16..16 + inline.len()].copy_from_slice(inline);
        slot[48..56].copy_from_slice(&OUT_MAILBOXES.to_be_bytes());
        slot[56..60].copy_from_slice(&(out_len as u32).to_be_bytes());
        slot[63] = 1;
        self.put(QUEUE, &slot);
        self.write(hca, function, DOORBELL, 1);
    }

    /// Returns the output that is in the slot.
    pub fn output(&self) -> &[u8] {
        &self.memory[QUEUE as usize + 32..][..16]
    }

    /// Time passes: until the HCA wants to be called, or if it does not, by a jump.
    pub fn pass(&mut self, hca: &mut Hca, jump: u64) {
        self.now = match self.wake.take() {
            Some(wake) => self.now.max(wake),
            None => self.now + jump,
        };
        hca.timer(self);
    }
}

/// Takes a command from the input: an opcode of these, or any other, and zeroes but for
/// patches: an offset in units of 4 bytes, and 4 bytes. Returns it with the bytes of output
/// that it has room for.
pub fn command(opcodes: &[u16], input: &mut Input<'_>) -> (Vec<u8>, usize) {
    let opcode = match input.byte() {
        0xff => input.u16(),
        number => opcodes[usize::from(number) % opcodes.len()],
    };
    let op_mod = input.byte();
    let len = (usize::from(input.byte()) * 8 + 8).min(MAX_LEN);
    let out_len = (usize::from(input.byte()) * 4 + 8).min(MAX_LEN);
    let mut command = vec![0; len];
    for _ in 0..input.byte() % 32 {
        let at = usize::from(input.byte()) * 4;
        let word = input.u32().to_be_bytes();
        if let Some(patched) = command.get_mut(at..at + 4) {
            patched.copy_from_slice(&word);
        }
    }
    ifc::OPCODE.set(&mut command, opcode.into());
    ifc::OP_MOD.set(&mut command, op_mod.into());
    (command, out_len)
}

impl Host for Machine {
    fn dma_read(
        &mut self,
        function: FunctionId,
        addr: u64,
        buf: &mut [u8],
    ) -> Result<(), DmaFault> {
        self.check_quiet(function);
        let range = self.range(addr, buf.len())?;
        buf.copy_from_slice(&self.memory[range]);
        if let Some(guard) = &mut self.guard {
            guard.read(function, addr, buf);
        }
        Ok(())
    }

    fn dma_write(&mut self, function: FunctionId, addr: u64, buf: &[u8]) -> Result<(), DmaFault> {
        self.check_quiet(function);
        let range = self.range(addr, buf.len())?;
        if let Some(guard) = &mut self.guard {
            guard.write(function, addr, buf);
        }
        self.memory[range].copy_from_slice(buf);
        Ok(())
    }

    fn interrupt(&mut self, function: FunctionId, _: u16) {
        self.check_quiet(function);
    }

    fn now(&mut self) -> u64 {
        self.now
    }

    fn wake_at(&mut self, time: u64) {
        self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
    }

    fn send_frame(&mut self, frame: &[u8]) {
        self.sent.push(frame.to_vec());
    }
}
