// SPDX-License-Identifier: GPL-2.0

//! The emulated HCA: drivers that send anything, as a guest with a VF may. If the emulated
//! HCA panics, QEMU ends, and the machine's test with it.

use crate::machine::{
    self,
    Machine,
    DATA,
    DOORBELL,
    QUEUE, //
};
use mlx5_emu::{
    config::Config,
    hca::Hca,
    host::FunctionId,
    ifc, //
};
use mlx5_emu_regs::{
    ARGS,
    BLOCK,
    BLOCK_LEN,
    CMD,
    CMD_CHANGE_STATE,
    CMD_DMA_WRITE, //
};
use mlx5_rust_logic::fuzz::{
    Input,
    Seed, //
};

/// Bytes of memory that there is.
const MEMORY: usize = 0x2_0000;
/// Most steps of an input.
const STEPS: usize = 64;

/// The high half of the address of the command queue.
const QUEUE_HIGH: u64 = 0x10;

/// The lowest three bits of the byte that a step begins with; the others are a function.
const COMMAND: u8 = 0;
/// As it is in the input: 64 bytes of a slot.
const SLOT: u8 = 1;
const REGISTER: u8 = 2;
const MEMORY_WRITE: u8 = 3;
/// Time passes: until the emulated HCA wants to be called, or by a jump, as a shift in a
/// byte.
const TIME: u8 = 4;
/// A command of the register block that makes a VF work.
const WORK: u8 = 5;
const RESET: u8 = 6;

/// Commands that firmware has, for one byte to choose from.
const OPCODES: [u16; 36] = [
    ifc::QUERY_HCA_CAP,
    ifc::QUERY_ADAPTER,
    ifc::INIT_HCA,
    ifc::TEARDOWN_HCA,
    ifc::ENABLE_HCA,
    ifc::DISABLE_HCA,
    ifc::QUERY_PAGES,
    ifc::MANAGE_PAGES,
    ifc::SET_HCA_CAP,
    ifc::QUERY_ISSI,
    ifc::SET_ISSI,
    ifc::SUSPEND_VHCA,
    ifc::RESUME_VHCA,
    ifc::QUERY_VHCA_MIGRATION_STATE,
    ifc::SAVE_VHCA_STATE,
    ifc::LOAD_VHCA_STATE,
    ifc::CREATE_MKEY,
    ifc::DESTROY_MKEY,
    ifc::CREATE_EQ,
    ifc::DESTROY_EQ,
    ifc::CREATE_CQ,
    ifc::DESTROY_CQ,
    ifc::CREATE_QP,
    ifc::DESTROY_QP,
    ifc::RST2INIT_QP,
    ifc::INIT2RTR_QP,
    ifc::RTR2RTS_QP,
    ifc::ALLOC_PD,
    ifc::DEALLOC_PD,
    ifc::ALLOC_UAR,
    ifc::DEALLOC_UAR,
    ifc::ACCESS_REG,
    ifc::CREATE_GENERAL_OBJECT,
    ifc::MODIFY_GENERAL_OBJECT,
    ifc::QUERY_GENERAL_OBJECT,
    ifc::DESTROY_GENERAL_OBJECT,
];

/// The HCA, and the machine that it is in.
struct Model {
    hca: Hca,
    machine: Machine,
}

impl Model {
    fn new(options: u8) -> Self {
        let on = |bit: u8| u64::from((options >> bit) & 1);
        let config = Config {
            vfs: 2,
            state_size: STATE,
            chunk_size: on(0) << 14,
            chunks_grow: on(1) > 0,
            save_unwritten: on(2) as u32 * 100,
            command_ns: on(3),
            report_ns: on(4),
            message_ns: on(4),
            rnr_retries: 3 * on(4) as u32,
            page_repeats: 1 + on(5) as u16,
            save_ns_per_mib: on(6) << 10,
            load_ns_per_mib: on(6) << 10,
            command_timeout_ms: on(7) as u32,
            ..Config::default()
        };
        let mut model = Self {
            hca: Hca::new(config),
            machine: Machine::new(MEMORY),
        };
        model.machine.begin(&mut model.hca);
        model
    }

    fn write(&mut self, function: FunctionId, offset: u64, value: u32) {
        self.machine.write(&mut self.hca, function, offset, value);
    }

    fn command(&mut self, function: FunctionId, input: &mut Input<'_>) {
        let (command, out_len) = machine::command(&OPCODES, input);
        self.machine
            .send(&mut self.hca, function, &command, out_len);
    }

    fn step(&mut self, input: &mut Input<'_>) {
        self.machine.step();
        let options = input.byte();
        let function = FunctionId(u16::from(options >> 3) % 4);
        match options & 7 {
            COMMAND => self.command(function, input),
            SLOT => {
                let mut slot = [0; 64];
                let bytes = input.bytes(64);
                slot[..bytes.len()].copy_from_slice(bytes);
                self.machine.put(QUEUE, &slot);
                self.write(function, DOORBELL, 1);
            }
            REGISTER => {
                let offset = u64::from(input.u32() & 0x3f_fffc);
                let value = input.u32();
                self.write(function, offset, value);
                self.hca.read(&mut self.machine, function, offset);
            }
            MEMORY_WRITE => {
                let at = u64::from(input.u16()) * 8 % MEMORY as u64;
                let bytes = input.bytes(8);
                self.machine.put(at, bytes);
            }
            TIME => {
                let jump = 1 << (input.byte() % 32);
                self.machine.pass(&mut self.hca, jump);
            }
            WORK => {
                let register = match input.byte() {
                    number @ ..8 => ARGS + u64::from(number) * 4,
                    8 => CMD,
                    number => u64::from(number) * 4 % BLOCK_LEN,
                };
                let value = input.u32();
                // The block is little endian.
                let (hca, machine) = (&mut self.hca, &mut self.machine);
                hca.write(machine, function, BLOCK + register, value);
                hca.read(machine, function, BLOCK + register);
            }
            RESET => self.hca.reset(function),
            _ => (),
        }
    }
}

/// Takes the steps of an input.
fn drive(bytes: &[u8]) -> Model {
    let mut input = Input::new(bytes);
    let mut model = Model::new(input.byte());
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        model.step(&mut input);
    }
    model
}

/// Runs one input: a byte that configures the HCA, and steps of its drivers.
pub fn run(bytes: &[u8]) {
    drive(bytes);
}

/// What steps are made of.
mod steps {
    use super::*;

    fn number(opcode: u16) -> u8 {
        let found = OPCODES.iter().position(|one| *one == opcode);
        found.expect("a known command") as u8
    }

    /// A command of the PF, whose input has these words.
    pub fn command(opcode: u16, op_mod: u8, (len, out_len): Lens, words: &[(u16, u32)]) -> Vec<u8> {
        let mut bytes = vec![COMMAND, number(opcode), op_mod];
        bytes.extend([((len - 8) / 8) as u8, ((out_len - 8) / 4) as u8]);
        bytes.push(words.len() as u8);
        for (at, word) in words {
            bytes.push((at / 4) as u8);
            bytes.extend(word.to_le_bytes());
        }
        bytes
    }

    /// Bytes of input and of output.
    type Lens = (u16, u16);

    /// A command that names an object, or nothing.
    pub fn short(opcode: u16, object: u32) -> Vec<u8> {
        command(opcode, 0, (16, 16), &[(8, object)])
    }

    /// SUSPEND_VHCA, of both sides.
    pub fn suspend(vf: u32) -> Vec<u8> {
        let side = |op_mod| command(ifc::SUSPEND_VHCA, op_mod, (16, 16), &[(8, vf)]);
        [side(0), side(1)].concat()
    }

    /// SAVE or LOAD, through the mkey of [`mkey()`].
    pub fn transfer(opcode: u16, vf: u32, size: u32) -> Vec<u8> {
        command(
            opcode,
            0,
            (32, 16),
            &[(8, vf), (0x18, 0x1000), (0x1c, size)],
        )
    }

    /// ALLOC_PD, and an mkey over 64 KiB of [`DATA`].
    pub fn mkey() -> Vec<u8> {
        let words = [
            (0x10, 0xd00),
            (0x1c, 1),
            (0x2c, 0x1_0000),
            (0x44, 1),
            (0x48, 16),
            (0x60, 1),
            (0x114, DATA as u32),
        ];
        let create = command(ifc::CREATE_MKEY, 0, (0x120, 16), &words);
        [short(ifc::ALLOC_PD, 0), create].concat()
    }

    /// ALLOC_UAR, and an event queue for commands and completions in page `at`.
    pub fn event_queue(at: u64) -> Vec<u8> {
        let words = [
            (0x1c, 0x400_0010),
            (0x5c, (1 << 10) | 1),
            (0x114, at as u32),
        ];
        let create = command(ifc::CREATE_EQ, 0, (0x118, 16), &words);
        [short(ifc::ALLOC_UAR, 0), create].concat()
    }

    /// A write of 8 bytes of memory.
    pub fn memory(at: u64, word: u64) -> Vec<u8> {
        let at = (at / 8) as u16;
        [&[MEMORY_WRITE][..], &at.to_le_bytes(), &word.to_be_bytes()].concat()
    }

    /// A completion queue of one entry in page `at`, and a QP that receives one message to
    /// memory that page `posted` tells of.
    pub fn receiver(at: u64, posted: u64) -> Vec<u8> {
        let record = posted + 0x800;
        let cq = [
            (0x1c, 0x10),
            (0x24, 0x10),
            (0x4c, record as u32 + 8),
            (0x114, at as u32),
        ];
        let qp = [
            (0x1c, 1),
            (0x20, 0x8000),
            (0xb4, 0x80),
            (0xbc, record as u32),
            (0x114, posted as u32),
        ];
        [
            memory(at + 56, 0xf0),
            command(ifc::CREATE_CQ, 0, (0x118, 16), &cq),
            memory(posted, 0x200_0000_1000),
            memory(posted + 8, 0x4000),
            memory(record, 1 << 32),
            command(ifc::CREATE_QP, 0, (0x118, 16), &qp),
        ]
        .concat()
    }

    /// A QP that only sends, connected to the first one, which is connected to it.
    pub fn sender() -> Vec<u8> {
        let qp = [(0x1c, 1), (0x20, 0x8000), (0xc4, 3 << 24)];
        let modify = |opcode, qp: u32, remote: u32| {
            command(opcode, 0, (0x110, 16), &[(8, qp), (0x2c, remote)])
        };
        [
            command(ifc::CREATE_QP, 0, (0x110, 16), &qp),
            modify(ifc::RST2INIT_QP, 0x40, 0),
            modify(ifc::INIT2RTR_QP, 0x40, 0x41),
            modify(ifc::RST2INIT_QP, 0x41, 0),
            modify(ifc::INIT2RTR_QP, 0x41, 0x40),
            modify(ifc::RTR2RTS_QP, 0x41, 0),
        ]
        .concat()
    }

    /// A tracker of a VF's writes to 64 KiB of [`DATA`].
    pub fn tracker(vf: u32) -> Vec<u8> {
        let words = [
            (0x18, vf),
            (0x20, 0x14_0c09),
            (0x24, 0x41),
            (0x28, 1),
            (0x44, DATA as u32),
            (0x4c, 0x1_0000),
        ];
        command(ifc::CREATE_GENERAL_OBJECT, 0x46, (0x50, 16), &words)
    }

    /// A report of that tracker.
    pub fn report() -> Vec<u8> {
        let words = [
            (8, 1),
            (0x14, 3),
            (0x20, 1 << 28),
            (0x34, DATA as u32),
            (0x3c, 0x1_0000),
        ];
        command(ifc::MODIFY_GENERAL_OBJECT, 0x46, (0x40, 16), &words)
    }

    /// What the first VF does: a command of its registers, with two arguments.
    pub fn work(command: u32, args: [u32; 2]) -> Vec<u8> {
        let write = |register: u8, value: u32| {
            [&[WORK | (1 << 3), register][..], &value.to_le_bytes()].concat()
        };
        [write(0, args[0]), write(2, args[1]), write(8, command)].concat()
    }
}

/// Bytes of a VF's state table.
const STATE: u64 = 0x4000;

/// Bytes of the image of a VF's whole state.
fn image_len() -> u32 {
    let hca = Model::new(0).hca;
    let records = hca.records(FunctionId(1));
    let vf = hca.functions[1].vf.as_ref();
    let sizes = vf.and_then(|vf| vf.vhca.query(false, &records).ok());
    sizes.map_or(0, |sizes| sizes.next as u32)
}

/// Where the completion queue of [`tracked()`] is.
const CQ: u64 = DATA + 0x2000;

/// A tracker that reports what the first VF has written to.
fn tracked() -> Vec<Vec<u8>> {
    vec![
        steps::mkey(),
        steps::event_queue(DATA + 0x1000),
        steps::receiver(CQ, DATA + 0x3000),
        steps::sender(),
        steps::tracker(1),
        steps::work(CMD_DMA_WRITE, [DATA as u32 + 0x8000, 0x1000]),
        steps::report(),
        vec![TIME, 0, TIME, 0],
    ]
}

/// Inputs that break no rule of the interface.
fn proper() -> Vec<Seed> {
    let input = |options: u8, steps: &[Vec<u8>]| [&[options][..], &steps.concat()].concat();
    let page = DATA as u32 + 0x1000;
    let give = [(12, 2), (0x14, DATA as u32), (0x1c, page)];
    let moved = [
        steps::work(CMD_CHANGE_STATE, [1, 0]),
        steps::mkey(),
        steps::suspend(1),
        steps::transfer(ifc::SAVE_VHCA_STATE, 1, 0x8000),
        vec![TIME, 0, TIME, 0],
        steps::suspend(2),
        steps::transfer(ifc::LOAD_VHCA_STATE, 2, image_len()),
        vec![TIME, 0, TIME, 0],
    ];
    vec![
        (
            "capabilities",
            input(
                0,
                &[steps::command(ifc::QUERY_HCA_CAP, 1, (16, 0x400), &[])],
            ),
        ),
        (
            "pages that are lent",
            input(
                0,
                &[
                    steps::command(ifc::MANAGE_PAGES, 1, (32, 16), &give),
                    steps::command(ifc::MANAGE_PAGES, 2, (16, 32), &[(12, 2)]),
                ],
            ),
        ),
        ("a state that moves", input(0, &moved)),
        ("a state that moves slowly", input(0b100_0000, &moved)),
        ("an event queue", input(0, &[steps::event_queue(DATA)])),
        ("a tracker", input(0, &tracked())),
        ("a slow tracker", input(0b1_0000, &tracked())),
        (
            "a VF that works",
            input(0, &[steps::work(CMD_DMA_WRITE, [DATA as u32, 64])]),
        ),
        ("a reset", input(0, &[vec![RESET | (1 << 3), RESET]])),
        ("a word of memory", input(0, &[steps::memory(DATA, 1)])),
    ]
}

/// Returns inputs to begin with.
pub fn seeds() -> Vec<Seed> {
    let slot = [&[0, SLOT][..], &[0; 64]].concat();
    let no_room = [
        &[0][..],
        &steps::command(ifc::QUERY_HCA_CAP, 0, (16, 8), &[]),
    ]
    .concat();
    let no_room_for_pages = [
        &[0][..],
        &steps::command(ifc::MANAGE_PAGES, 2, (16, 8), &[]),
    ]
    .concat();
    let mut seeds = proper();
    seeds.extend([
        ("a slot of zeroes", slot),
        (
            "a register",
            vec![0, REGISTER, QUEUE_HIGH as u8, 0, 0, 0, 1, 0, 0, 0],
        ),
        ("capabilities without room", no_room),
        ("pages without room", no_room_for_pages),
    ]);
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An input that firmware refuses at once is not worth much.
    #[test]
    fn what_is_proper_breaks_no_rule() {
        let violations = |(name, bytes): &Seed| (*name, drive(bytes).hca.violations);
        for (name, violations) in proper().iter().map(violations) {
            assert_eq!(violations, 0, "{name}");
        }
    }

    #[test]
    fn a_state_moves() {
        for (name, bytes) in proper().iter().filter(|(name, _)| name.contains("moves")) {
            let hca = drive(bytes).hca;
            let commands = |vf: usize| hca.functions[vf].vf.as_ref().unwrap().vhca.state.seq;
            assert_eq!((commands(1), commands(2)), (1, 1), "{name}");
        }
    }

    #[test]
    fn a_tracker_reports() {
        for (name, bytes) in proper().iter().filter(|(name, _)| name.contains("tracker")) {
            let machine = drive(bytes).machine;
            // RESP_SEND_IMM.
            assert_eq!(machine.memory[CQ as usize + 63] >> 4, 3, "{name}");
            let page = &machine.memory[DATA as usize + 0x4000..][..8];
            assert_eq!(page, (DATA + 0x8000).to_be_bytes(), "{name}");
        }
    }
}
