// SPDX-License-Identifier: GPL-2.0

//! A machine with memory, and a driver that sends commands as mlx5_core does.

use crate::{
    config::Config,
    hca::Hca,
    host::{
        DmaFault,
        FunctionId,
        Host, //
    },
    ifc,
    log::CommandRecord, //
};

/// Memory that is there: all of the first 16 MiB.
const MEMORY: usize = 16 << 20;

pub struct Memory {
    pub bytes: Vec<u8>,
    pub interrupts: Vec<(FunctionId, u16)>,
    pub now: u64,
    pub wake: Option<u64>,
    pub commands: Vec<CommandRecord>,
    pub violations: Vec<String>,
    pub sent: Vec<Vec<u8>>,
    /// Times that it was read.
    pub reads: u64,
    /// Functions that are no bus masters.
    pub no_masters: Vec<FunctionId>,
}

impl Memory {
    fn range(&self, addr: u64, len: usize) -> Result<std::ops::Range<usize>, DmaFault> {
        let start = usize::try_from(addr).map_err(|_| DmaFault)?;
        let end = start.checked_add(len).ok_or(DmaFault)?;
        (end <= self.bytes.len())
            .then_some(start..end)
            .ok_or(DmaFault)
    }
}

impl Host for Memory {
    fn dma_read(
        &mut self,
        function: FunctionId,
        addr: u64,
        buf: &mut [u8],
    ) -> Result<(), DmaFault> {
        if !self.is_bus_master(function) {
            return Err(DmaFault);
        }
        self.reads += 1;
        let range = self.range(addr, buf.len())?;
        buf.copy_from_slice(&self.bytes[range]);
        Ok(())
    }
    fn dma_write(&mut self, function: FunctionId, addr: u64, buf: &[u8]) -> Result<(), DmaFault> {
        if !self.is_bus_master(function) {
            return Err(DmaFault);
        }
        let range = self.range(addr, buf.len())?;
        self.bytes[range].copy_from_slice(buf);
        Ok(())
    }
    fn is_bus_master(&mut self, function: FunctionId) -> bool {
        !self.no_masters.contains(&function)
    }
    fn interrupt(&mut self, function: FunctionId, vector: u16) {
        self.interrupts.push((function, vector));
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
    fn log_command(&mut self, record: &CommandRecord) {
        self.commands.push(record.clone());
    }
    fn log_violation(&mut self, _: FunctionId, what: &str) {
        self.violations.push(what.to_string());
    }
}

/// Where the driver has its queue, its mailboxes, and data.
const QUEUE: u64 = 0x10_0000;
const IN_MAILBOXES: u64 = 0x20_0000;
const OUT_MAILBOXES: u64 = 0x60_0000;
pub const DATA: u64 = 0xa0_0000;
const TOKEN: u8 = 0x5a;

/// A machine with an HCA, and a driver of one of its functions.
pub struct Machine {
    pub hca: Hca,
    pub memory: Memory,
    function: FunctionId,
}

/// What a command came back with.
pub struct Reply {
    pub delivery: u8,
    pub output: Vec<u8>,
}

impl Reply {
    pub fn status(&self) -> u8 {
        assert_eq!(self.delivery, 0, "delivery status");
        ifc::STATUS.get(&self.output) as u8
    }
}

impl Machine {
    pub fn new(config: Config) -> Self {
        let mut machine = Self {
            hca: Hca::new(config),
            memory: Memory {
                bytes: vec![0; MEMORY],
                interrupts: Vec::new(),
                now: 0,
                wake: None,
                commands: Vec::new(),
                violations: Vec::new(),
                sent: Vec::new(),
                reads: 0,
                no_masters: Vec::new(),
            },
            function: FunctionId::PF,
        };
        machine.drive(FunctionId::PF);
        machine
    }

    /// Drives this function from now on, whose driver has started before.
    pub fn turn_to(&mut self, function: FunctionId) {
        self.function = function;
    }

    /// Drives this function from now on.
    pub fn drive(&mut self, function: FunctionId) {
        self.function = function;
        self.write_register(0x10, (QUEUE >> 32) as u32);
        self.write_register(0x14, QUEUE as u32);
    }

    /// With two VFs of 64 KiB, enabled.
    pub fn with_vfs() -> Self {
        let mut machine = Self::new(Config {
            vfs: 2,
            state_size: 64 << 10,
            ..Config::default()
        });
        for function in 0..3 {
            let mut input = command(ifc::ENABLE_HCA, 0, 16);
            ifc::FUNCTION_ID.set(&mut input, function);
            assert_eq!(machine.send(&input, 16).status(), 0);
        }
        machine
    }

    /// A register of the function, big endian.
    pub fn write_register(&mut self, offset: u64, value: u32) {
        self.hca
            .write(&mut self.memory, self.function, offset, value.swap_bytes());
    }

    pub fn read_register(&mut self, offset: u64) -> u32 {
        self.hca
            .read(&mut self.memory, self.function, offset)
            .swap_bytes()
    }

    fn mailboxes(&mut self, at: u64, data: &[u8]) {
        for (number, block) in data.chunks(512).enumerate() {
            let base = (at + number as u64 * 1024) as usize;
            let mailbox = &mut self.memory.bytes[base..base + 576];
            mailbox.fill(0);
            mailbox[..block.len()].copy_from_slice(block);
            mailbox[560..568].copy_from_slice(&(base as u64 + 1024).to_be_bytes());
            mailbox[568..572].copy_from_slice(&(number as u32).to_be_bytes());
            mailbox[573] = TOKEN;
        }
    }

    /// Writes a command to a slot.
    pub fn submit(&mut self, slot: u8, input: &[u8], out_len: usize) {
        let inline = input.len().min(16);
        self.mailboxes(IN_MAILBOXES, &input[inline..]);
        self.mailboxes(OUT_MAILBOXES, &vec![0; out_len.saturating_sub(16)]);
        let base = (QUEUE + u64::from(slot) * 64) as usize;
        let raw = &mut self.memory.bytes[base..base + 64];
        raw.fill(0);
        raw[0] = 7;
        raw[4..8].copy_from_slice(&(input.len() as u32).to_be_bytes());
        raw[8..16].copy_from_slice(&IN_MAILBOXES.to_be_bytes());
        raw[16..16 + inline].copy_from_slice(&input[..inline]);
        raw[48..56].copy_from_slice(&OUT_MAILBOXES.to_be_bytes());
        raw[56..60].copy_from_slice(&(out_len as u32).to_be_bytes());
        raw[60] = TOKEN;
        raw[63] = 1;
    }

    /// The bytes of a slot.
    pub fn slot(&mut self, slot: u8) -> &mut [u8] {
        let base = (QUEUE + u64::from(slot) * 64) as usize;
        &mut self.memory.bytes[base..base + 64]
    }

    /// A byte of an input mailbox.
    pub fn in_mailbox(&mut self, number: u64, offset: usize) -> &mut u8 {
        &mut self.memory.bytes[(IN_MAILBOXES + number * 1024) as usize + offset]
    }

    /// A byte of an output mailbox.
    pub fn out_mailbox(&mut self, number: u64, offset: usize) -> &mut u8 {
        &mut self.memory.bytes[(OUT_MAILBOXES + number * 1024) as usize + offset]
    }

    pub fn ring(&mut self, slots: u32) {
        self.write_register(0x18, slots);
    }

    /// Returns what is in a slot, whether the driver or firmware owns it.
    pub fn reply(&mut self, slot: u8, out_len: usize) -> Reply {
        let raw = self.slot(slot).to_vec();
        let mut output = raw[32..32 + out_len.min(16)].to_vec();
        for block in 0..out_len.saturating_sub(16).div_ceil(512) {
            let base = OUT_MAILBOXES as usize + block * 1024;
            let n = (out_len - 16 - block * 512).min(512);
            output.extend_from_slice(&self.memory.bytes[base..base + n]);
        }
        Reply {
            delivery: raw[63] >> 1,
            output,
        }
    }

    /// Sends a command and returns its reply.
    pub fn send(&mut self, input: &[u8], out_len: usize) -> Reply {
        self.submit(0, input, out_len);
        self.ring(1);
        assert_eq!(self.slot(0)[63] & 1, 0, "the command has not ended");
        self.reply(0, out_len)
    }

    /// CREATE_MKEY over `pages`, after ALLOC_PD. Returns the key.
    pub fn mkey(&mut self, log_page_size: u32, pages: &[u64], len: u64) -> Result<u32, u8> {
        let pd = self.send(&command(ifc::ALLOC_PD, 0, 16), 16);
        let pd = ifc::OBJECT.get(&pd.output);
        let octwords = pages.len().div_ceil(2);
        let mut input = command(ifc::CREATE_MKEY, 0, ifc::MKEY_MTT + octwords * 16);
        for (field, value) in [
            (ifc::MKC_ACCESS_MODE, ifc::ACCESS_MODE_MTT),
            (ifc::MKC_LW, 1),
            (ifc::MKC_LR, 1),
            (ifc::MKC_KEY, 0x42),
            (ifc::MKC_PD, pd),
            (ifc::MKC_LEN, len),
            (ifc::MKC_OCTWORDS, octwords as u64),
            (ifc::MKC_LOG_PAGE_SIZE, log_page_size.into()),
            (ifc::MKEY_ACTUAL_OCTWORDS, octwords as u64),
        ] {
            field.set(&mut input, value);
        }
        for (i, page) in pages.iter().enumerate() {
            let at = ifc::MKEY_MTT + i * 8;
            input[at..at + 8].copy_from_slice(&page.to_be_bytes());
        }
        let reply = self.send(&input, 16);
        match reply.status() {
            0 => Ok(((ifc::OBJECT.get(&reply.output) as u32) << 8) | 0x42),
            status => Err(status),
        }
    }

    /// An mkey over 512 KiB of memory at [`DATA`].
    pub fn data_mkey(&mut self) -> u32 {
        let pages: Vec<u64> = (0..128).map(|i| DATA + i * 4096).collect();
        self.mkey(12, &pages, 128 * 4096).unwrap()
    }

    /// A command about a VHCA.
    pub fn about(&mut self, opcode: u16, op_mod: u16, vhca: u16) -> u8 {
        let mut input = command(opcode, op_mod, 16);
        ifc::VHCA_ID.set(&mut input, vhca.into());
        self.send(&input, 0x40).status()
    }

    /// SAVE or LOAD. Returns status and `actual_image_size`.
    pub fn transfer(
        &mut self,
        opcode: u16,
        vhca: u16,
        mkey: u32,
        size: u64,
        flags: &[ifc::Field],
    ) -> (u8, u64) {
        let mut input = command(opcode, 0, 32);
        ifc::VHCA_ID.set(&mut input, vhca.into());
        ifc::STATE_MKEY.set(&mut input, mkey.into());
        ifc::STATE_SIZE.set(&mut input, size);
        for flag in flags {
            flag.set(&mut input, 1);
        }
        let reply = self.send(&input, 16);
        (reply.status(), ifc::ACTUAL_IMAGE_SIZE.get(&reply.output))
    }

    /// Resumes both sides of a VHCA.
    pub fn resume(&mut self, vhca: u16) {
        assert_eq!(self.about(ifc::RESUME_VHCA, 0, vhca), 0);
        assert_eq!(self.about(ifc::RESUME_VHCA, 1, vhca), 0);
    }

    /// Suspends both sides of a VHCA.
    pub fn stop(&mut self, vhca: u16) {
        assert_eq!(self.about(ifc::SUSPEND_VHCA, 0, vhca), 0);
        assert_eq!(self.about(ifc::SUSPEND_VHCA, 1, vhca), 0);
    }
}

/// The input of a command: `len` bytes, all zero but the opcode and op_mod.
pub fn command(opcode: u16, op_mod: u16, len: usize) -> Vec<u8> {
    let mut input = vec![0; len];
    ifc::OPCODE.set(&mut input, opcode.into());
    ifc::OP_MOD.set(&mut input, op_mod.into());
    input
}
