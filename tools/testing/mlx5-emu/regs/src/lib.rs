// SPDX-License-Identifier: GPL-2.0

//! The workload registers of an emulated VF.
//!
//! Real VFs have a network driver that makes them do DMA, raise interrupts and
//! change their state. An emulated VF does so when it is told to, through
//! these registers: one page of its BAR 0, little endian, accessed in aligned
//! words of 4 or 8 bytes. Writing [`CMD`] carries a command out, before the
//! write is over; [`STATUS`] says how it went.

#![no_std]

/// Where the block is in the VF's BAR 0.
pub const BLOCK: u64 = 0xc0000;
/// Size of the block, in bytes.
pub const BLOCK_LEN: u64 = 0x1000;

/// u32: [`MAGIC_VALUE`].
pub const MAGIC: u64 = 0x000;
/// u32: [`VERSION_VALUE`].
pub const VERSION: u64 = 0x004;
/// u64: bytes of the state table.
pub const STATE_SIZE: u64 = 0x008;
/// u64: number of commands that changed something, so far.
pub const SEQ: u64 = 0x010;
/// u64: result of the last [`CMD_DIGEST`].
pub const DIGEST: u64 = 0x018;
/// u64: violations of the firmware interface that the whole HCA has seen.
pub const VIOLATIONS: u64 = 0x020;
/// u32: result of the last command, one of `STATUS_*`.
pub const STATUS: u64 = 0x028;
/// u32, write only: one of `CMD_*`.
pub const CMD: u64 = 0x02c;
/// u64, four of them: arguments of the next command.
pub const ARGS: u64 = 0x030;
/// u64: interrupts raised by commands so far.
pub const IRQS: u64 = 0x050;
/// u64: bytes written by commands so far.
pub const DMA_BYTES: u64 = 0x058;
/// u32: `FLAG_*`.
pub const FLAGS: u64 = 0x060;
/// u64: differs for each VF and stays with it, whatever state is loaded.
pub const VF_ID: u64 = 0x070;
/// u64, [`SCRATCH_COUNT`] of them: part of the state, for anything.
pub const SCRATCH: u64 = 0x080;
/// u64: how often a fault has hit a firmware command, a report of a page
/// tracker or an event, of the whole HCA.
pub const FAULTS_FIRED: u64 = 0x0c0;
/// u64: faults that are still to fire.
pub const FAULTS_ARMED: u64 = 0x0c8;
/// u64: firmware commands that wait for [`CMD_RELEASE`].
pub const COMMANDS_HELD: u64 = 0x0d0;
/// u64: ranges of memory that page trackers note writes of this VF to.
pub const TRACKED_RANGES: u64 = 0x0d8;
/// u64: bytes of them.
pub const TRACKED_BYTES: u64 = 0x0e0;
/// Number of scratch registers.
pub const SCRATCH_COUNT: usize = 8;

/// What [`MAGIC`] reads as.
pub const MAGIC_VALUE: u32 = 0x5735_4c4d;
/// What [`VF_ID`] reads as for VF 0.
pub const VF_ID_BASE: u64 = 0x5f00;
/// What [`VERSION`] reads as.
pub const VERSION_VALUE: u32 = 1;

/// Rewrites ARG0 pages of the state table from page ARG1 on.
pub const CMD_CHANGE_STATE: u32 = 1;
/// Writes ARG1 bytes of [`pattern`] to IOVA ARG0; both multiples of 8.
pub const CMD_DMA_WRITE: u32 = 2;
/// Raises MSI-X vector ARG0.
pub const CMD_RAISE_IRQ: u32 = 3;
/// Computes [`DIGEST`] over all that migrates. Always possible.
pub const CMD_DIGEST: u32 = 4;
/// As [`CMD_CHANGE_STATE`], and what is written is new objects: a VF that is
/// being saved while it runs has a new initial state.
pub const CMD_CREATE_STATE: u32 = 5;
/// Writes [`pattern`] to ARG2 whole pages: those that [`scatter_page`] picks
/// of the ARG1 bytes from IOVA ARG0 on.
pub const CMD_DMA_SCATTER: u32 = 6;
/// Has firmware lose track of what has changed. Always possible.
pub const CMD_LOSE_TRACKING: u32 = 7;
/// Has the next firmware command with opcode ARG0 about this VF, or about none,
/// fail with status ARG1. Always possible.
pub const CMD_FAULT: u32 = 8;
/// Has the next report of a page tracker of this VF go wrong: ARG0 is one of
/// `TRACK_*`. Through the PF, ARG1 is the VHCA. Always possible.
pub const CMD_TRACK_FAULT: u32 = 9;
/// Arms a fault of firmware commands, which stays when VFs are reset. Always
/// possible.
///
/// ARG0: opcode in bits 15:0 ([`FAULT_ANY_OPCODE`] for any), VHCA that the
/// command is about in bits 31:16 ([`FAULT_ANY_VHCA`] for any), and in bits 63:32
/// which of these commands it is, counted from now on (1, or 0, is the next).
/// ARG1: status in bits 7:0
/// (0: the command is carried out), syndrome in bits 63:32. ARG2: milliseconds
/// by which the answer is late, or [`FAULT_HOLD`]. ARG3: for how many commands,
/// one after the other; 0 until it is disarmed.
pub const CMD_ARM_FAULT: u32 = 10;
/// Forgets all faults, and does what [`CMD_RELEASE`] does. Always possible.
pub const CMD_DISARM_FAULTS: u32 = 11;
/// Has the commands answered that [`FAULT_HOLD`] was for, and the reports sent that [`TRACK_HOLD`]
/// was for. Always possible.
pub const CMD_RELEASE: u32 = 12;
/// Through the PF: pulls the wire from the port if ARG0 is 0, else plugs it in.
pub const CMD_SET_LINK: u32 = 13;
/// Through the PF: has the initialization segment of function ARG0 say that its NIC interface
/// is disabled, until a driver gives the function a command queue.
pub const CMD_DISABLE_NIC: u32 = 14;

/// Arms a fault of events to EQs of the PF, which stays when VFs are reset. Always possible.
///
/// ARG0: type of the event in bits 7:0, and in bits 63:32 which of these events it is, counted
/// from now on (1, or 0, is the next). ARG1: one of `EVENT_*`. ARG2: milliseconds by which the
/// event is late. ARG3: for how many events, one after the other; 0 until it is disarmed.
pub const CMD_ARM_EVENT: u32 = 15;

/// Arms a lie: firmware says what no honest firmware says, which stays when VFs are reset.
/// Always possible.
///
/// ARG0: as that of [`CMD_ARM_FAULT`], of commands or of messages of a page tracker. ARG1: one of
/// `LIE_*` in bits 7:0, type of an event in bits 15:8, `op_mod` of the command in bits 31:16
/// ([`LIE_ANY_OP_MOD`] for any), width of a field in bits 47:32 and its first bit in bits 63:48.
/// ARG2: the value. ARG3: for how many commands or messages, one after the other; 0 until it is
/// disarmed.
pub const CMD_ARM_LIE: u32 = 16;

/// ARG0 of [`CMD_ARM_FAULT`].
pub const fn fault_what(opcode: u16, vhca: u16, nth: u32) -> u64 {
    (opcode as u64) | ((vhca as u64) << 16) | ((nth as u64) << 32)
}

/// ARG1 of [`CMD_ARM_FAULT`].
pub const fn fault_how(status: u8, syndrome: u32) -> u64 {
    (status as u64) | ((syndrome as u64) << 32)
}

/// The fault is for all commands, whatever their opcode.
pub const FAULT_ANY_OPCODE: u16 = 0xffff;
/// Most faults and lies that are armed at a time. The next one is refused: whoever drives a VF
/// can arm them, and each has memory.
pub const MOST_ARMED: usize = 1024;
/// The fault is for commands about any VHCA.
pub const FAULT_ANY_VHCA: u16 = 0xffff;
/// The command is answered when it is released.
pub const FAULT_HOLD: u64 = u64::MAX;

/// Where the control capability is in the configuration space of the PF: a
/// vendor-specific extended capability with registers of 4 bytes, for
/// [`CMD_ARM_FAULT`] and the other commands about faults. They are as in the
/// block of a VF, but a VF need not be open.
pub const CONTROL: u64 = 0xf00;
/// Size of the capability, in bytes.
pub const CONTROL_LEN: u64 = 0x40;
/// `PCI_VNDR_HEADER` of it: [`CONTROL_HEADER_VALUE`].
pub const CONTROL_HEADER: u64 = 0x04;
/// Length, revision 1 and an identifier.
pub const CONTROL_HEADER_VALUE: u32 = ((CONTROL_LEN as u32) << 20) | (1 << 16) | 0x4d4c;
/// u32, as [`STATUS`].
pub const CONTROL_STATUS: u64 = 0x08;
/// u32, as [`CMD`].
pub const CONTROL_CMD: u64 = 0x0c;
/// Four arguments of 8 bytes, as [`ARGS`].
pub const CONTROL_ARGS: u64 = 0x10;
/// u32, as [`FAULTS_FIRED`].
pub const CONTROL_FIRED: u64 = 0x30;
/// u32, as [`FAULTS_ARMED`].
pub const CONTROL_ARMED: u64 = 0x34;
/// u32, as [`COMMANDS_HELD`].
pub const CONTROL_HELD: u64 = 0x38;
/// u32: opcode of the last command that a fault was for; 0 if there was none.
pub const CONTROL_LAST: u64 = 0x3c;

/// The event does not come.
pub const EVENT_LOST: u64 = 1;
/// The event comes twice.
pub const EVENT_TWICE: u64 = 2;
/// The event is late.
pub const EVENT_LATE: u64 = 3;

/// The field of a command's answer has the value.
pub const LIE_ANSWER: u8 = 1;
/// The command is answered as if it was carried out, with zeroes, and was not.
pub const LIE_UNDONE: u8 = 2;
/// With the command, events come that tell of nothing: of the number in bits 31:0 of the value
/// ([`LIE_OWN`]: of the page tracker of the VHCA), as many as bits 47:32 say, each later than the
/// one before by as many milliseconds as bits 63:48 say.
pub const LIE_EVENTS: u8 = 3;
/// The field of the completion queue entry of a message has the value.
pub const LIE_COMPLETION: u8 = 4;
/// A message comes with this many completion queue entries more, which are like the first: at most
/// 65535.
pub const LIE_AGAIN: u8 = 5;
/// All addresses in a message are the value.
pub const LIE_ADDRESSES: u8 = 6;
/// A message is full of this address, and is not the last one.
pub const LIE_ENDLESS: u8 = 7;
/// When the driver arms the CQ of the page tracker, as many events of it come at once as the value
/// says, and tell of nothing: at most 65535.
pub const LIE_ARMED: u8 = 8;
/// A lie about commands with any `op_mod`.
pub const LIE_ANY_OP_MOD: u16 = 0xffff;
/// The events are about the CQ, the QP or the object of the page tracker.
pub const LIE_OWN: u32 = u32::MAX;

/// ARG1 of [`CMD_ARM_LIE`].
pub const fn lie_how(kind: u8, event: u8, op_mod: u16, (bit, width): (u16, u16)) -> u64 {
    (kind as u64)
        | ((event as u64) << 8)
        | ((op_mod as u64) << 16)
        | ((width as u64) << 32)
        | ((bit as u64) << 48)
}

/// ARG2 of [`CMD_ARM_LIE`], of [`LIE_EVENTS`].
pub const fn lie_events(number: u32, count: u16, every_ms: u16) -> u64 {
    (number as u64) | ((count as u64) << 32) | ((every_ms as u64) << 48)
}

/// Nothing is reported, ever.
pub const TRACK_STALL: u64 = 1;
/// The tracker goes to its error state.
pub const TRACK_ERROR: u64 = 2;
/// The QP that reports come through fails.
pub const TRACK_QP_ERROR: u64 = 3;
/// The CQ that tells of reports fails.
pub const TRACK_CQ_ERROR: u64 = 4;
/// A message says that the tracker is in its error state.
pub const TRACK_ERROR_MESSAGE: u64 = 5;
/// Nothing is reported before [`CMD_RELEASE`].
pub const TRACK_HOLD: u64 = 6;

/// The command was carried out.
pub const STATUS_OK: u32 = 0;
/// There is no such command.
pub const STATUS_BAD_CMD: u32 = 1;
/// The VF is suspended: nothing was done.
pub const STATUS_SUSPENDED: u32 = 2;
/// The IOMMU refused a write; what comes before it was done.
pub const STATUS_DMA_FAULT: u32 = 3;
/// An argument is out of range, or [`MOST_ARMED`] faults and lies are armed: nothing was done.
pub const STATUS_BAD_ARG: u32 = 4;

/// The initiator is suspended.
pub const FLAG_INITIATOR_SUSPENDED: u32 = 1 << 0;
/// The responder is suspended.
pub const FLAG_RESPONDER_SUSPENDED: u32 = 1 << 1;

/// Bytes of a page of the state table, and of a scattered write.
pub const PAGE: u64 = 4096;
/// Most bytes, and most pages times [`PAGE`], of one command.
pub const MAX_DMA: u64 = 1 << 30;

const fn splitmix64(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The word that the command with sequence number `seq` writes to `iova`.
pub const fn pattern(seq: u64, iova: u64) -> u64 {
    splitmix64(seq.rotate_left(32) ^ iova)
}

/// The page, of `pages`, that write number `i` of the [`CMD_DMA_SCATTER`] with
/// sequence number `seq` goes to.
pub const fn scatter_page(seq: u64, i: u64, pages: u64) -> u64 {
    splitmix64(seq ^ i.rotate_left(20)) % pages
}
