// SPDX-License-Identifier: GPL-2.0

//! The command queue: slots, mailboxes, and commands that take time.

use crate::{
    encoded::{
        list_len,
        BYTE,
        U64, //
    },
    faults::{
        Answer,
        Effect, //
    },
    hca::Hca,
    host::{
        FunctionId,
        Host, //
    },
    ifc::{
        self,
        event,
        Delivery, //
    },
    initseg::{
        LOG_SLOTS,
        LOG_STRIDE, //
    },
    log::CommandRecord,
    resources::Saved, //
};
use serde::{
    Deserialize,
    Serialize, //
};
use std::collections::BTreeMap;

const SLOT_LEN: usize = 1 << LOG_STRIDE;
/// Bytes of input and of output in the slot itself.
const INLINE: usize = 16;
/// Bytes of data in a mailbox (MLX5_CMD_DATA_BLOCK_SIZE).
const BLOCK_DATA: usize = 512;
/// Bytes of a mailbox (mlx5_cmd_prot_block).
const BLOCK_LEN: usize = 576;
const BLOCK_NEXT: usize = 560;
const BLOCK_NUMBER: usize = 568;
const BLOCK_TOKEN: usize = 573;
/// Shortest input or output.
const MIN_LEN: usize = 8;
/// Longest input or output: an mkey over 4 GiB in pages of 4 KiB, and some.
const MAX_LEN: usize = 9 << 20;
/// Where a slot says who owns it, and how its command was delivered.
const SLOT_STATUS: usize = 63;
/// The first type of slot: PCIe command interface.
const TYPE_PCI: u8 = 7;
/// When a command that is held is answered.
pub const NEVER: u64 = u64::MAX;
/// Longest firmware time that an image can have of a command, in nanoseconds: an hour. QEMU's
/// timers take one in 292 years for one that is over.
const MAX_DURATION: u64 = 3_600_000_000_000;

/// A command as it was read.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Command {
    slot: u8,
    token: u8,
    /// All of its input.
    pub input: Vec<u8>,
    /// Bytes of output that the driver has room for.
    pub out_len: usize,
    out_ptr: u64,
}

impl Command {
    /// What it is.
    pub fn opcode(&self) -> u16 {
        ifc::OPCODE.get(&self.input) as u16
    }
}

/// A command that is being carried out, as an image has it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SavedCommand {
    command: Command,
    eq: Option<u8>,
    /// Firmware time of all of it.
    duration: u64,
}

impl Saved for SavedCommand {
    const MAX_LEN: usize = 4 * BYTE + list_len(MAX_LEN, BYTE) + 3 * U64;

    fn is_sound(&self) -> bool {
        let Command {
            slot,
            input,
            out_len,
            ..
        } = &self.command;
        *slot < 1 << LOG_SLOTS
            && (MIN_LEN..=MAX_LEN).contains(&input.len())
            && (MIN_LEN..=MAX_LEN).contains(out_len)
            && self.duration <= MAX_DURATION
    }
}

/// A command that is being carried out.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Through whose command queue it came.
    pub function: FunctionId,
    /// What it is.
    pub command: Command,
    /// The EQ that hears of its end: one that was there when it was sent. For
    /// the CREATE_EQ that makes it, the driver does not look there yet.
    eq: Option<u8>,
    /// When it was sent.
    pub start: u64,
    due: u64,
    /// The VHCA that it is about was reset after it was sent.
    pub aborted: bool,
    /// What a test wants to happen to it.
    pub fault: Option<Effect>,
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap_or_default())
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap_or_default())
}

/// Calls `each(address, mailbox, piece of the data)` along a chain of mailboxes
/// for `len` bytes.
fn walk_chain(
    host: &mut dyn Host,
    function: FunctionId,
    first: u64,
    token: u8,
    len: usize,
    mut each: impl FnMut(&mut dyn Host, u64, &mut [u8; BLOCK_LEN], usize, usize) -> Result<(), Delivery>,
    align_error: Delivery,
) -> Result<(), Delivery> {
    let mut at = first & !0x1ff;
    if first & 0x1ff != 0 {
        return Err(align_error);
    }
    let mut done = 0;
    for number in 0.. {
        if done == len {
            break;
        }
        let mut block = [0; BLOCK_LEN];
        host.dma_read(function, at, &mut block)
            .map_err(|_| Delivery::Descriptor)?;
        if be32(&block, BLOCK_NUMBER) != number {
            return Err(Delivery::BlockNumber);
        }
        if block[BLOCK_TOKEN] != token {
            return Err(Delivery::Token);
        }
        let n = (len - done).min(BLOCK_DATA);
        each(host, at, &mut block, done, n)?;
        done += n;
        at = be64(&block, BLOCK_NEXT);
    }
    Ok(())
}

/// Reads a command from its slot.
fn fetch(
    host: &mut dyn Host,
    function: FunctionId,
    at: u64,
    slot: u8,
) -> Result<Command, Delivery> {
    let mut raw = [0; SLOT_LEN];
    host.dma_read(function, at, &mut raw)
        .map_err(|_| Delivery::Descriptor)?;
    if raw[0] != TYPE_PCI || raw[SLOT_STATUS] & 1 == 0 {
        return Err(Delivery::Descriptor);
    }
    // A signature that is there must be right: all bytes of the slot give 0xff.
    if raw[61] != 0 && raw.iter().fold(0, |sum, byte| sum ^ byte) != 0xff {
        return Err(Delivery::Signature);
    }
    let in_len = be32(&raw, 4) as usize;
    let out_len = be32(&raw, 56) as usize;
    if !(MIN_LEN..=MAX_LEN).contains(&in_len) {
        return Err(Delivery::InLength);
    }
    if !(MIN_LEN..=MAX_LEN).contains(&out_len) {
        return Err(Delivery::OutLength);
    }
    let token = raw[60];
    let mut input = raw[16..16 + in_len.min(INLINE)].to_vec();
    if in_len > INLINE {
        walk_chain(
            host,
            function,
            be64(&raw, 8),
            token,
            in_len - INLINE,
            |_, _, block, _, n| {
                input.extend_from_slice(&block[..n]);
                Ok(())
            },
            Delivery::InAlign,
        )?;
    }
    Ok(Command {
        slot,
        token,
        input,
        out_len,
        out_ptr: be64(&raw, 48),
    })
}

impl Hca {
    fn slot_address(&self, function: FunctionId, slot: u8) -> u64 {
        let queue = self.functions[usize::from(function.0)]
            .initseg
            .command_queue();
        queue + (u64::from(slot) << LOG_STRIDE)
    }

    /// Commands have been written to slots.
    pub fn doorbell(&mut self, host: &mut dyn Host, function: FunctionId, slots: u32) {
        if self.is_suspended(function) {
            self.functions[usize::from(function.0)].rung |= slots;
            return;
        }
        for slot in (0..1u8 << LOG_SLOTS).filter(|slot| (slots >> slot) & 1 == 1) {
            let own = self.pending.iter().filter(|p| p.function == function);
            if own.count() >= 1 << LOG_SLOTS {
                self.violation(host, function, "more commands than slots");
                return;
            }
            let at = self.slot_address(function, slot);
            match fetch(host, function, at, slot) {
                Ok(command) => self.start(host, function, command),
                Err(delivery) => {
                    self.violation(host, function, &format!("slot {slot}: {delivery:?}"));
                    // Best effort: there may be no memory to tell it in.
                    let _ =
                        host.dma_write(function, at + SLOT_STATUS as u64, &[(delivery as u8) << 1]);
                    self.completion_event(host, function, self.command_eq(function), slot);
                }
            }
        }
    }

    fn command_eq(&self, function: FunctionId) -> Option<u8> {
        let objects = &self.functions[usize::from(function.0)].objects;
        objects.eq_for(event::CMD)
    }

    fn start(&mut self, host: &mut dyn Host, function: FunctionId, command: Command) {
        let start = host.now();
        let about = self.about(function, &command);
        let fault = self.faults.command(command.opcode(), about);
        let usual = start + self.duration(&command.input);
        let due = match fault.map(|effect| effect.answer) {
            None | Some(Answer::InTime) => usual,
            Some(Answer::Late(delay)) => usual.saturating_add(delay),
            Some(Answer::Held) => NEVER,
        };
        let pending = Pending {
            function,
            eq: self.command_eq(function),
            start,
            due,
            aborted: false,
            fault,
            command,
        };
        if due == start {
            self.finish(host, pending);
        } else {
            self.pending.push(pending);
            self.wake(host);
        }
    }

    /// What a function has sent and is not answered yet.
    pub fn saved_commands(&self, function: FunctionId) -> BTreeMap<u32, SavedCommand> {
        let pending = self.pending.iter();
        let own = pending.filter(|pending| pending.function == function);
        let saved = own.map(|pending| SavedCommand {
            command: pending.command.clone(),
            eq: pending.eq,
            duration: match pending.due {
                NEVER => 0,
                due => due.saturating_sub(pending.start).min(MAX_DURATION),
            },
        });
        (0..).zip(saved).collect()
    }

    /// Loads that, in place of what there is. The commands begin again: what they do is done
    /// at their end.
    pub fn load_commands(
        &mut self,
        host: &mut dyn Host,
        function: FunctionId,
        commands: BTreeMap<u32, SavedCommand>,
    ) {
        let start = host.now();
        self.pending.retain(|pending| pending.function != function);
        let pending = commands.into_values().map(|saved| Pending {
            function,
            command: saved.command,
            eq: saved.eq,
            start,
            due: start.saturating_add(saved.duration),
            aborted: false,
            fault: None,
        });
        self.pending.extend(pending);
    }

    /// A function goes on. Its driver may have been stopped as long as it was: only now the
    /// time goes on in which it waits for its commands.
    pub fn resume_commands(&mut self, host: &mut dyn Host, function: FunctionId) {
        let now = host.now();
        let own = self.pending.iter_mut().filter(|p| p.function == function);
        for pending in own {
            pending.start = now;
        }
    }

    /// The VHCA that a command is about: its sender's, if it names none.
    pub fn about(&self, function: FunctionId, command: &Command) -> u16 {
        let input = &command.input;
        let named = match command.opcode() {
            opcode if ifc::is_about_vhca(opcode) => ifc::VHCA_ID.get(input) as u16,
            ifc::ENABLE_HCA | ifc::DISABLE_HCA | ifc::QUERY_PAGES | ifc::MANAGE_PAGES => {
                ifc::FUNCTION_ID.get(input) as u16
            }
            ifc::CREATE_GENERAL_OBJECT => ifc::TRACK_VHCA.get(input) as u16,
            ifc::MODIFY_GENERAL_OBJECT
            | ifc::QUERY_GENERAL_OBJECT
            | ifc::DESTROY_GENERAL_OBJECT => self.functions[usize::from(function.0)]
                .objects
                .trackers
                .get(&(ifc::OBJ_ID.get(input) as u32))
                .map_or(0, |track| track.vhca),
            _ => 0,
        };
        match named {
            0 => function.0,
            vhca => vhca,
        }
    }

    /// Commands that wait to be released.
    pub fn held(&self) -> usize {
        self.pending.iter().filter(|p| p.due == NEVER).count()
    }

    /// Lets commands go on that wait for it.
    pub fn release_held(&mut self, host: &mut dyn Host) {
        let now = host.now();
        for pending in self.pending.iter_mut().filter(|p| p.due == NEVER) {
            pending.due = now;
        }
        self.wake(host);
    }

    /// Has the timer fire when a command is due.
    pub fn wake(&self, host: &mut dyn Host) {
        let going_on = |p: &&Pending| !self.is_suspended(p.function);
        let due = self.pending.iter().filter(going_on).map(|p| p.due);
        if let Some(due) = due.filter(|due| *due != NEVER).min() {
            host.wake_at(due);
        }
    }

    /// Time has passed: ends the commands that are due.
    pub fn timer(&mut self, host: &mut dyn Host) {
        self.noting(host, |hca, host| {
            hca.finish_due(host);
            hca.send_behind(host);
            hca.deliver_frames(host);
            hca.send_reports(host);
            hca.tell_due(host);
            hca.post_late_events(host);
            hca.wake(host);
        });
    }

    /// Ends the commands that are due.
    fn finish_due(&mut self, host: &mut dyn Host) {
        let now = host.now();
        loop {
            let is_due = |p: &Pending| p.due <= now && !self.is_suspended(p.function);
            let Some(at) = self.pending.iter().position(is_due) else {
                break;
            };
            let pending = self.pending.remove(at);
            self.finish(host, pending);
        }
    }

    /// Makes commands about a VHCA fail that are under way, and forgets those
    /// that come from it.
    pub fn abort_about(&mut self, function: FunctionId) {
        self.pending.retain(|p| p.function != function);
        for pending in &mut self.pending {
            let command = &pending.command;
            if ifc::is_about_vhca(command.opcode())
                && ifc::VHCA_ID.get(&command.input) == u64::from(function.0)
            {
                pending.aborted = true;
            }
        }
    }

    /// Whether a command is under way that moves state through an mkey.
    pub fn moves_state(&self, function: FunctionId, index: u32) -> bool {
        self.pending.iter().any(|pending| {
            let command = &pending.command;
            pending.function == function
                && matches!(
                    command.opcode(),
                    ifc::SAVE_VHCA_STATE | ifc::LOAD_VHCA_STATE
                )
                && ifc::STATE_MKEY.get(&command.input) as u32 >> 8 == index
        })
    }

    fn finish(&mut self, host: &mut dyn Host, pending: Pending) {
        let Pending {
            function, command, ..
        } = &pending;
        let reply = self.execute(host, &pending);
        let delivery = match self.write_output(host, *function, command, &reply.output) {
            Ok(()) => Delivery::Ok,
            Err(delivery) => {
                // A driver that has given a command up uses its mailboxes for others.
                if !self.was_given_up(host, &pending) {
                    self.violation(host, *function, &format!("output: {delivery:?}"));
                }
                delivery
            }
        };
        let end = host.now();
        host.log_command(&CommandRecord {
            start: pending.start,
            duration: end - pending.start,
            function: *function,
            opcode: command.opcode(),
            op_mod: ifc::OP_MOD.get(&command.input) as u16,
            subject: reply.subject,
            status: ifc::STATUS.get(&reply.output) as u8,
            syndrome: ifc::SYNDROME.get(&reply.output) as u32,
            bytes: reply.bytes,
            fault: pending.fault.is_some(),
        });
        let at = self.slot_address(*function, command.slot);
        let _ = host.dma_write(*function, at + SLOT_STATUS as u64, &[(delivery as u8) << 1]);
        self.completion_event(host, *function, pending.eq, command.slot);
    }

    /// Writes a command's output: to its slot, and then to its mailboxes.
    fn write_output(
        &self,
        host: &mut dyn Host,
        function: FunctionId,
        command: &Command,
        output: &[u8],
    ) -> Result<(), Delivery> {
        let at = self.slot_address(function, command.slot);
        let inline = output.len().min(INLINE);
        host.dma_write(function, at + 32, &output[..inline])
            .map_err(|_| Delivery::Descriptor)?;
        let rest = &output[inline..];
        walk_chain(
            host,
            function,
            command.out_ptr,
            command.token,
            rest.len(),
            |host, at, _, done, n| {
                host.dma_write(function, at, &rest[done..done + n])
                    .map_err(|_| Delivery::Descriptor)
            },
            Delivery::OutAlign,
        )
    }

    fn completion_event(
        &mut self,
        host: &mut dyn Host,
        function: FunctionId,
        eq: Option<u8>,
        slot: u8,
    ) {
        let mut data = [0; 28];
        data[..4].copy_from_slice(&(1u32 << slot).to_be_bytes());
        if let Some(eq) = eq {
            self.post_to(host, function, eq, (event::CMD, 0), &data);
        }
    }
}
