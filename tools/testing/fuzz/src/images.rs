// SPDX-License-Identifier: GPL-2.0

//! The emulated NIC: images that anybody may have written.
//!
//! The driver of a VF makes some of everything that an image has. What an image of that has is
//! changed part by part, gets the right digest, and is loaded into another VF. That one goes on
//! with it: it sends, receives, and carries commands out.

use crate::{
    frames, machine,
    queues::{
        self,
        base,
        command,
        with_context,
        with_page,
        BUFFERS,
        BUFFERS_LEN,
        CONSUMED,
        FLUSH,
        OPCODES, //
    },
};
use mlx5_emu::{
    caps,
    host::FunctionId,
    ifc::{
        self,
        ethernet::{
            rqtc,
            tirc,
            vport, //
        },
    },
    image::{
        self,
        Content,
        Image,
        HEADER_LEN, //
    },
    migration::{
        Running,
        Vhca, //
    },
    records::{
        Key,
        Kind,
        Part,
        Records, //
    },
    suspended::Parts, //
};
use mlx5_rust_logic::fuzz::{
    Input,
    Seed, //
};

/// Most steps of an input.
const STEPS: usize = 48;
/// Most parts of an image.
const MAX_PARTS: usize = 64;
/// The VF that has a driver, and the one that images are loaded into.
const FROM: u16 = 1;
const TO: u16 = 2;
/// Bytes of a VF's table, of two pages.
const TABLE: u64 = 8 << 10;
/// Where images are, and bytes of memory for them.
const IMAGES: u64 = BUFFERS + BUFFERS_LEN;
const IMAGES_LEN: u64 = 0x2_0000;
/// Where the driver has a ring and pages that nothing else uses.
const SPARE: u64 = 0x5000;
/// Timers of QEMU have no later time.
const LAST: u64 = i64::MAX as u64;

/// The lowest four bits of the byte that a step begins with.
const BYTES: u8 = 0;
const KEY: u8 = 1;
const RESIZE: u8 = 2;
/// A part goes, comes twice, changes places, or says that its record is gone.
const ARRANGE: u8 = 3;
const SPLIT: u8 = 4;
/// A number in a record becomes one as long as there can be.
const NUMBER: u8 = 5;
const HEADER: u8 = 6;
const LOAD: u8 = 7;
const RESUME: u8 = 8;
const SUSPEND: u8 = 9;
const FRAME: u8 = 10;
const REGISTER: u8 = 11;
const TIME: u8 = 12;
const COMMAND: u8 = 13;
const MEMORY_WRITE: u8 = 14;
const RESET: u8 = 15;

/// The other bits of a LOAD: what was loaded before it stays, it has one page instead of all,
/// more follows, and its parts are changed no more. With the second one, SUSPEND is only about
/// the initiator.
const INCREMENTAL: u8 = 1 << 4;
const PARTIAL: u8 = 1 << 5;
const MORE: u8 = 1 << 6;
const ANEW: u8 = 1 << 7;

/// The HCA, its machine, and parts of an image.
struct Model {
    of: queues::Model,
    /// The PF's key of the memory for images.
    key: u32,
    /// What the driver has made.
    original: Vec<Part>,
    parts: Vec<Part>,
    /// Words of the header of the next image.
    words: Vec<(u8, u64)>,
    /// Bytes that were loaded.
    loaded: usize,
    /// What the second VF does. The first one is suspended.
    running: Running,
}

fn about(opcode: u16, op_mod: u64, vhca: u16) -> Vec<u8> {
    command(
        opcode,
        16,
        &[(ifc::OP_MOD, op_mod), (ifc::VHCA_ID, vhca.into())],
    )
}

/// Has the PF's driver make a key of the memory for images.
fn create_key(of: &mut queues::Model) -> u32 {
    let pages = IMAGES_LEN / 4096;
    let pd = of.create(FunctionId::PF, &command(ifc::ALLOC_PD, 16, &[]));
    let fields = [
        (ifc::MKC_ACCESS_MODE, ifc::ACCESS_MODE_MTT),
        (ifc::MKC_LW, 1),
        (ifc::MKC_LR, 1),
        (ifc::MKC_PD, pd),
        (ifc::MKC_LEN, IMAGES_LEN),
        (ifc::MKC_OCTWORDS, pages / 2),
        (ifc::MKC_LOG_PAGE_SIZE, 12),
        (ifc::MKEY_ACTUAL_OCTWORDS, pages / 2),
    ];
    let list = (0..pages).map(|page| IMAGES + page * 4096);
    let mkey = command(ifc::CREATE_MKEY, ifc::MKEY_MTT, &fields);
    let mkey = of.create(FunctionId::PF, &list.fold(mkey, with_page));
    (mkey as u32) << 8
}

fn size(records: &Records) -> usize {
    records
        .values()
        .map(|bytes| Part::HEADER + bytes.len())
        .sum()
}

/// Makes what was of one part another one.
fn change(part: &mut Part, change: impl FnOnce(&mut Vec<u8>)) {
    if let Part::Piece { total, bytes, .. } = part {
        let before = bytes.len() as u32;
        change(bytes);
        bytes.truncate(1 << 12);
        // None is empty.
        if bytes.is_empty() {
            bytes.push(0);
        }
        *total = total.wrapping_sub(before).wrapping_add(bytes.len() as u32);
    }
}

impl Model {
    fn new() -> Self {
        let mut of = queues::Model::new(CONSUMED | FLUSH);
        of.machine.guard = None;
        of.machine.memory.resize((IMAGES + IMAGES_LEN) as usize, 0);
        for function in [FROM, TO] {
            let function = &mut of.hca.functions[usize::from(function)];
            if let Some(vf) = &mut function.vf {
                vf.vhca = Vhca::new(TABLE);
            }
        }
        of.hca.config.state_size = TABLE;
        let key = create_key(&mut of);
        let mut model = Self {
            of,
            key,
            original: Vec::new(),
            parts: Vec::new(),
            words: Vec::new(),
            loaded: 0,
            running: Running::Suspended,
        };
        model.create_more();
        for function in [FROM, TO] {
            model.suspend(function, 0);
            model.suspend(function, 1);
        }
        let len = model.save(FROM).expect("an image of a driver's VF");
        let bytes = model.image(len).to_vec();
        let image = model.parse(&bytes).expect("an image that was saved");
        model.original = image.parts;
        model.parts = model.original.clone();
        model
    }

    fn parse<'a>(&self, bytes: &'a [u8]) -> Option<Image<'a>> {
        let vf = self.of.hca.functions[usize::from(TO)].vf.as_ref()?;
        Image::parse(&vf.vhca.state, self.capabilities(), bytes).ok()
    }

    fn capabilities(&self) -> u64 {
        caps::of_image(&self.of.hca.config, FunctionId(TO))
    }

    fn image(&self, len: u64) -> &[u8] {
        &self.of.machine.memory[IMAGES as usize..][..len as usize]
    }

    fn records(&self, function: u16) -> Records {
        self.of.hca.records(FunctionId(function))
    }

    /// Has the driver of the first VF make what it has not made yet.
    fn create_more(&mut self) {
        let vf = FunctionId(FROM);
        let at = base(FROM) + SPARE;
        let of = &mut self.of;
        let rqn = of.drivers[usize::from(FROM)].rqn;
        let cqn = of.drivers[usize::from(FROM)].cqn.into();
        let domain = of.create(vf, &command(ifc::ALLOC_TRANSPORT_DOMAIN, 16, &[]));
        let mut rqt = with_context(
            ifc::CREATE_RQT,
            rqtc::LIST,
            &[(rqtc::MAX_SIZE, 2), (rqtc::ACTUAL_SIZE, 1)],
        );
        rqt.extend(rqn.to_be_bytes());
        let rqt = of.create(vf, &rqt);
        let fields = [
            (tirc::DISPATCH, 1),
            (tirc::HASH, 2),
            (tirc::SELECTED, 0xf),
            (tirc::RQT, rqt),
            (tirc::TRANSPORT_DOMAIN, domain),
        ];
        of.create(vf, &with_context(ifc::CREATE_TIR, tirc::LEN, &fields));
        let pd = of.create(vf, &command(ifc::ALLOC_PD, 16, &[]));
        let fields = [
            (ifc::QPC_NO_SQ, 1),
            (ifc::QPC_PD, pd),
            (ifc::QPC_LOG_RQ_SIZE, 4),
            (ifc::QPC_CQN_RCV, cqn),
            (ifc::QPC_DBR, at),
        ];
        let qp = command(ifc::CREATE_QP, ifc::QUEUE_PAS, &fields);
        of.create(vf, &with_page(qp, at));
        let fields = [(ifc::OP_MOD, 1), (ifc::NUM_PAGES, 1)];
        let pages = command(ifc::MANAGE_PAGES, ifc::MANAGE_PAGES_PAS, &fields);
        of.send(vf, &with_page(pages, at));
        let select = vport::SELECT_LIST | vport::SELECT_MTU;
        let len = vport::MODIFY_CONTEXT + vport::LIST;
        let mut port = command(
            ifc::MODIFY_NIC_VPORT_CONTEXT,
            len,
            &[(vport::SELECT, select)],
        );
        let context = &mut port[vport::MODIFY_CONTEXT..];
        vport::MTU.set(context, 9000);
        vport::LIST_SIZE.set(context, 1);
        of.send(vf, &with_page(port, 0x0200_0000_0101));
        let frame = &frames::frames()[0].1;
        of.hca.frame_arrived(&mut of.machine, frame);
        of.machine.pass(&mut of.hca, 1);
        // It is answered when the timer ends, but then the VF is suspended.
        of.hca.config.command_ns = 1000;
        of.send(vf, &command(ifc::ALLOC_PD, 16, &[]));
        of.hca.config.command_ns = 0;
    }

    /// Sends a command of the PF. Returns its status.
    fn manage(&mut self, input: &[u8]) -> u64 {
        self.of.machine.step();
        ifc::STATUS.get(&self.of.send(FunctionId::PF, input))
    }

    /// Suspends the initiator of a VF, or its responder then.
    fn suspend(&mut self, function: u16, side: u64) {
        assert_eq!(self.manage(&about(ifc::SUSPEND_VHCA, side, function)), 0);
        let quiet = &mut self.of.machine.quiet;
        if side == 0 {
            quiet.push(FunctionId(function));
        }
    }

    /// Suspends the second VF, or only its initiator.
    fn stop(&mut self, whole: bool) {
        if self.running == Running::Fully {
            self.suspend(TO, 0);
            self.running = Running::InitiatorSuspended;
        }
        if self.running == Running::InitiatorSuspended && whole {
            self.suspend(TO, 1);
            self.running = Running::Suspended;
            self.check_saved();
        }
    }

    fn transfer(&mut self, opcode: u16, function: u16, len: u64) -> u64 {
        let fields = [
            (ifc::VHCA_ID, function.into()),
            (ifc::STATE_MKEY, self.key.into()),
            (ifc::STATE_SIZE, len),
        ];
        self.manage(&command(opcode, 32, &fields))
    }

    /// Saves all of a VF that is stopped. Returns the bytes of the image, unless there is no
    /// memory for it, or the VF lacks something.
    fn save(&mut self, function: u16) -> Option<u64> {
        let size = size(&self.records(function)) as u64;
        let vhca = self.vhca(function);
        let len = image::full_len(&vhca.state) + size;
        if len > IMAGES_LEN || vhca.half.is_some() {
            return None;
        }
        assert_eq!(self.transfer(ifc::SAVE_VHCA_STATE, function, len), 0);
        Some(ifc::ACTUAL_IMAGE_SIZE.get(self.of.machine.output()))
    }

    fn vhca(&self, function: u16) -> &Vhca {
        let function = &self.of.hca.functions[usize::from(function)];
        &function.vf.as_ref().expect("a VF").vhca
    }

    /// All that a refused image must not change.
    fn state(&self) -> (Records, u64, Option<Parts>) {
        let vhca = self.vhca(TO);
        let digest = vhca.state.clone().digest();
        let half = vhca.half.as_ref();
        let config = &self.of.hca.config;
        let half = half.map(|half| half.parts(config, FunctionId(TO)));
        (self.records(TO), digest, half)
    }

    /// What is in the second VF can be saved, and loaded into the first one.
    fn check_saved(&mut self) {
        let Some(len) = self.save(TO) else {
            return;
        };
        assert_eq!(self.transfer(ifc::LOAD_VHCA_STATE, FROM, len), 0);
        assert_eq!(self.records(FROM), self.records(TO));
    }

    fn load(&mut self, options: u8) {
        if self.running != Running::Suspended {
            return;
        }
        let is_partial = options & (PARTIAL | INCREMENTAL) != 0;
        let content = Content {
            capabilities: self.capabilities(),
            pages: is_partial.then(|| vec![1]),
            begins: options & INCREMENTAL == 0,
            parts: self.parts.clone(),
            more: options & MORE != 0,
        };
        let mut bytes = image::save(&self.vhca(FROM).state, &content);
        for (word, value) in self.words.drain(..) {
            let at = usize::from(word) % (HEADER_LEN / 8) * 8;
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            image::seal(&mut bytes);
        }
        if options & ANEW != 0 {
            self.parts = self.original.clone();
        }
        if bytes.len() as u64 > IMAGES_LEN {
            return;
        }
        self.of.machine.put(IMAGES, &bytes);
        let before = self.state();
        let status = self.transfer(ifc::LOAD_VHCA_STATE, TO, bytes.len() as u64);
        if status != 0 {
            assert!(self.state() == before, "a trace of what was refused");
            return;
        }
        self.loaded += bytes.len();
        let (after, ..) = self.state();
        assert!(size(&after) <= size(&before.0) + self.loaded);
        self.check_saved();
    }

    fn resume(&mut self) {
        if self.running == Running::Fully {
            return;
        }
        if self.running == Running::Suspended {
            let status = self.manage(&about(ifc::RESUME_VHCA, 0, TO));
            assert_eq!(status != 0, self.vhca(TO).half.is_some());
            if status != 0 {
                return;
            }
        }
        self.of
            .machine
            .quiet
            .retain(|quiet| *quiet != FunctionId(TO));
        self.running = Running::Fully;
        assert_eq!(self.manage(&about(ifc::RESUME_VHCA, 1, TO)), 0);
    }

    /// Takes one of the parts.
    fn part(&mut self, input: &mut Input<'_>) -> Option<usize> {
        let number = usize::from(input.byte());
        (!self.parts.is_empty()).then(|| number % self.parts.len())
    }

    fn arrange(&mut self, at: usize, input: &mut Input<'_>) {
        match input.byte() % 4 {
            0 => drop(self.parts.remove(at)),
            1 if self.parts.len() < MAX_PARTS => self.parts.push(self.parts[at].clone()),
            2 => {
                let other = usize::from(input.byte()) % self.parts.len();
                self.parts.swap(at, other);
            }
            _ => {
                let (Part::Piece { key, .. } | Part::Gone(key)) = self.parts[at];
                self.parts[at] = Part::Gone(key);
            }
        }
    }

    /// Cuts a part in two. The second one may say that it is elsewhere.
    fn split(&mut self, number: usize, input: &mut Input<'_>) {
        let (cut, shift) = (input.u16(), input.byte());
        let Part::Piece {
            key,
            offset,
            total,
            bytes,
        } = &mut self.parts[number]
        else {
            return;
        };
        let cut = usize::from(cut) % bytes.len();
        if cut == 0 {
            return;
        }
        let rest = Part::Piece {
            key: *key,
            offset: offset.wrapping_add(cut as u32).wrapping_add(shift.into()),
            total: *total,
            bytes: bytes.split_off(cut),
        };
        if self.parts.len() < MAX_PARTS {
            self.parts.insert(number + 1, rest);
        }
    }

    fn change_part(&mut self, options: u8, input: &mut Input<'_>) {
        let Some(number) = self.part(input) else {
            return;
        };
        let part = &mut self.parts[number];
        match options & 15 {
            BYTES => {
                let (at, value) = (usize::from(input.u16()), input.byte());
                change(part, |bytes| {
                    let at = at % bytes.len();
                    bytes[at] = value;
                });
            }
            NUMBER => {
                let (at, last) = (usize::from(input.u16()), input.byte());
                change(part, |bytes| {
                    let at = at % bytes.len();
                    bytes.splice(at..=at, [[0xff; 9].as_slice(), &[last]].concat());
                });
            }
            RESIZE => {
                let len = usize::from(input.u16());
                change(part, |bytes| bytes.resize(len % (bytes.len() + 64), 0));
            }
            KEY => {
                let (kind, number) = (input.byte(), input.u32());
                let (Part::Piece { key, .. } | Part::Gone(key)) = part;
                *key = Key {
                    kind: Kind::from_number(kind.into()).unwrap_or(key.kind),
                    number,
                };
            }
            ARRANGE => self.arrange(number, input),
            _ => self.split(number, input),
        }
    }

    /// A register of a driver that knows the numbers of the first VF.
    fn register(&mut self, input: &mut Input<'_>) {
        let driver = &self.of.drivers[usize::from(FROM)];
        let uar = u64::from(driver.uar) * 0x1000;
        let (offset, value) = match input.byte() {
            0 => (uar + 0x804, driver.sqn << 8),
            1 => (uar + 0x20, input.u32()),
            2 => (uar + 0x24, driver.cqn),
            3 => (uar + 0x40, (driver.eqn << 24) | (input.u32() >> 8)),
            4 => (machine::DOORBELL, input.u32()),
            _ => (uar + u64::from(input.u16() % 0x1000), input.u32()),
        };
        self.of.write(TO, offset, value);
    }

    fn step(&mut self, input: &mut Input<'_>) {
        self.of.machine.step();
        let options = input.byte();
        match options & 15 {
            HEADER => {
                let word = input.byte();
                let value = match input.byte() {
                    0xff => input.u64(),
                    byte => byte.into(),
                };
                self.words.push((word, value));
            }
            LOAD => self.load(options),
            RESUME => self.resume(),
            SUSPEND => self.stop(options & PARTIAL == 0),
            FRAME => {
                let frame = frames::take(input);
                self.of.hca.frame_arrived(&mut self.of.machine, &frame);
            }
            REGISTER => self.register(input),
            TIME => self.of.machine.pass(&mut self.of.hca, 1 << 20),
            COMMAND => {
                let (command, out_len) = machine::command(&OPCODES, input);
                let of = &mut self.of;
                of.machine
                    .send(&mut of.hca, FunctionId(TO), &command, out_len);
            }
            MEMORY_WRITE => {
                // Of both VFs: they have the same memory.
                let at = base(FROM) + u64::from(input.u16()) * 4 % (BUFFERS - base(FROM));
                self.of.machine.put(at, &input.u32().to_be_bytes());
            }
            RESET => {
                self.of.hca.reset(FunctionId(TO));
                self.of
                    .machine
                    .quiet
                    .retain(|quiet| *quiet != FunctionId(TO));
                self.running = Running::Fully;
                self.loaded = 0;
                self.stop(true);
            }
            _ => self.change_part(options, input),
        }
        let wake = self.of.machine.wake.unwrap_or(0);
        assert!(wake < LAST, "a timer that ends at once");
    }
}

/// Takes the steps of an input.
fn drive(bytes: &[u8]) -> Model {
    let mut input = Input::new(bytes);
    let mut model = Model::new();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        model.step(&mut input);
    }
    model
}

/// Runs one input: steps that change an image, load it, and have a driver use what it has.
pub fn run(bytes: &[u8]) {
    drive(bytes);
}

/// Steps of a driver, after a LOAD.
const USE: [&[u8]; 9] = [
    &[LOAD | ANEW],
    &[RESUME],
    &[TIME],
    &[FRAME, 0, 0],
    &[REGISTER, 0],
    &[REGISTER, 1, 0, 0, 0, 0],
    &[REGISTER, 2],
    &[TIME],
    &[SUSPEND],
];

/// Steps that give the command of the image another time, which comes last in its record.
fn slow_command() -> Vec<u8> {
    let parts = Model::new().original;
    let of_command = parts
        .iter()
        .enumerate()
        .find_map(|(number, part)| match part {
            Part::Piece { key, bytes, .. } if key.kind == Kind::Command => {
                Some((number, bytes.len()))
            }
            _ => None,
        });
    // It was two bytes.
    let (number, len) = of_command.expect("a command");
    let at = (len as u16 - 2).to_le_bytes();
    vec![
        RESIZE,
        number as u8,
        len as u8 - 1,
        0,
        NUMBER,
        number as u8,
        at[0],
        at[1],
        0,
    ]
}

/// Returns inputs to begin with.
pub fn seeds() -> Vec<Seed> {
    let used = USE.concat();
    let with = |steps: &[&[u8]]| [&steps.concat()[..], &used].concat();
    // The last part. In front of it is a flow table, which can be cut.
    let root = Model::new().original.len() as u8 - 1;
    // Command, Pages, and so on, as they are sorted.
    let all: Vec<u8> = (0..30)
        .flat_map(|part| [BYTES, part, 3, 0, part + 1])
        .collect();
    let longer: Vec<u8> = (0..30)
        .flat_map(|part| [NUMBER, part, 2, 0, part & 1])
        .collect();
    vec![
        ("an image", used.clone()),
        ("twice", [&used[..], &used].concat()),
        (
            "in two",
            with(&[
                &[ARRANGE, root, 0],
                &[SPLIT, root - 1, 9, 0, 0],
                &[ARRANGE, root, 0],
                &[LOAD | MORE | PARTIAL | ANEW],
                &[RESUME],
                &[LOAD | INCREMENTAL],
            ]),
        ),
        ("a byte of each", with(&[&all])),
        ("a number of each", with(&[&longer])),
        ("cut short", with(&[&[RESIZE, 4, 3, 0]])),
        (
            "another key",
            with(&[&[KEY, 3, 16, 0xff, 0xff, 0xff, 0xff]]),
        ),
        ("none", with(&[&[ARRANGE, 5, 0], &[ARRANGE, 12, 3]])),
        (
            "twice in one",
            with(&[&[ARRANGE, 0, 1], &[ARRANGE, 3, 2, 7]]),
        ),
        ("a piece is missing", with(&[&[SPLIT, 3, 5, 0, 1]])),
        (
            "all counters",
            with(&[
                &[HEADER, 4, 0xff],
                &[0xff; 8],
                &[HEADER, 6, 0xff],
                &[0xff; 8],
            ]),
        ),
        ("a command that takes for ever", with(&[&slow_command()])),
        ("a version", with(&[&[HEADER, 1, 2]])),
        (
            "what comes while it is suspended",
            [
                &used[..],
                &[
                    RESUME,
                    SUSPEND | PARTIAL,
                    FRAME,
                    0,
                    0,
                    REGISTER,
                    0,
                    REGISTER,
                    2,
                ],
                &[
                    REGISTER, 4, 1, 0, 0, 0, TIME, COMMAND, 10, 0, 1, 64, 0, TIME, SUSPEND,
                ],
                &[FRAME, 0, 0, TIME, RESUME, TIME, SUSPEND | PARTIAL, RESUME],
            ]
            .concat(),
        ),
        (
            "a reset",
            [
                &[LOAD | MORE | PARTIAL | ANEW, RESET][..],
                &used,
                &[RESET],
                &used,
            ]
            .concat(),
        ),
        (
            "a command",
            [
                &used[..6],
                &[COMMAND, 10, 0, 1, 64, 0, SUSPEND, MEMORY_WRITE],
            ]
            .concat(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_image_has_everything() {
        let model = Model::new();
        let kinds: BTreeSet<Kind> = model.records(FROM).keys().map(|key| key.kind).collect();
        let missing = (1..).map_while(Kind::from_number);
        let missing: Vec<Kind> = missing.filter(|kind| !kinds.contains(kind)).collect();
        assert_eq!(missing, []);
        assert_eq!(model.of.hca.violations, 0);
    }

    #[test]
    fn what_is_loaded_goes_on() {
        let model = drive(&[LOAD | ANEW, RESUME, TIME, FRAME, 0, 0, TIME]);
        // The command that was under way was answered.
        assert!(model
            .records(TO)
            .keys()
            .all(|key| key.kind != Kind::Command));
        assert_eq!(model.running, Running::Fully);
        assert_eq!(model.of.hca.violations, 0);
    }

    #[test]
    fn seeds_are_taken_and_refused() {
        let loaded = |name| {
            let mut seeds = seeds().into_iter();
            let (_, bytes) = seeds.find(|(other, _)| *other == name).expect("a seed");
            drive(&bytes).loaded > 0
        };
        for name in ["an image", "in two", "all counters", "a reset"] {
            assert!(loaded(name), "{name}");
        }
        for name in [
            "cut short",
            "a piece is missing",
            "a version",
            "none",
            "a command that takes for ever",
        ] {
            assert!(!loaded(name), "{name}");
        }
    }

    /// A run of what libFuzzer does: seeds that are changed at random, always the same way.
    #[test]
    fn images_that_are_changed_at_random_do_no_harm() {
        let mut state = 1u64;
        let mut random = |end: usize| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (state >> 33) as usize % end
        };
        let seeds = seeds();
        for _ in 0..500 {
            let mut bytes = Vec::new();
            for _ in 0..1 + random(6) {
                bytes.extend([random(6) as u8, random(40) as u8, random(256) as u8, 0]);
                bytes.push(random(256) as u8);
            }
            bytes.extend(&seeds[random(seeds.len())].1);
            run(&bytes);
        }
    }
}
