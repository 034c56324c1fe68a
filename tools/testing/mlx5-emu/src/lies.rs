// SPDX-License-Identifier: GPL-2.0

//! Lies that a test has armed: a hostile device says what no honest one says.
//!
//! A lie changes what is said, and nothing else: the model goes on by what is true. A driver that
//! believes it may then break rules of the interface. That is no violation as long as a lie is
//! armed that has been told, or, if it was about an object, until the HCA is torn down.

use crate::{
    cq::Cqe,
    faults::Which,
    hca::Hca,
    host::{
        FunctionId,
        Host, //
    },
    ifc::{
        self,
        event,
        Field,
        Status, //
    },
};
use mlx5_emu_regs as regs;

/// Nanoseconds of a millisecond.
const MS: u64 = 1_000_000;

/// A field, and the value that it is said to have.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    field: Field,
    value: u64,
}

impl Said {
    fn new(bit: u16, width: u16, value: u64) -> Option<Self> {
        let field = ifc::field(0, bit.into(), width.into());
        let known = (1..=64).contains(&width) && field.holds(value);
        known.then_some(Self { field, value })
    }

    /// Puts the value where the field is.
    pub fn put(self, bytes: &mut [u8]) {
        self.field.set(bytes, self.value);
    }
}

/// Events that tell of nothing.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    kind: u8,
    number: u32,
    count: u16,
    every: u64,
}

/// A lie about a command.
#[derive(Clone, Copy, Debug)]
pub enum CommandLie {
    /// The answer to a command that was carried out.
    Answer(Said),
    /// The command is not carried out.
    Undone,
    /// Events come with the command.
    Events(Storm),
}

/// A lie about a message of a page tracker.
#[derive(Clone, Copy, Debug)]
pub enum MessageLie {
    /// Its completion queue entry.
    Completion(Said),
    /// More of these entries.
    Again(u16),
    /// All its addresses.
    Addresses(u64),
    /// It is full of this address, and not the last.
    Endless(u64),
    /// Events that come when the driver arms the CQ for it.
    Armed(u16),
}

impl MessageLie {
    fn is_about_arming(self) -> bool {
        matches!(self, Self::Armed(_))
    }
}

/// Commands that a lie is about.
#[derive(Clone, Copy, Debug)]
struct Commands {
    opcode: u16,
    op_mod: Option<u16>,
    vhca: Option<u16>,
}

#[derive(Clone, Debug)]
struct OfCommand {
    of: Commands,
    which: Which,
    lie: CommandLie,
}

#[derive(Clone, Debug)]
struct OfMessage {
    vhca: Option<u16>,
    which: Which,
    lie: MessageLie,
}

/// Until when a driver may have been misled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Misled {
    /// No lie was told.
    #[default]
    No,
    /// Until all lies are disarmed.
    Armed,
    /// Until the HCA is torn down: it may have wrong numbers of objects.
    Objects,
}

/// All lies of an HCA.
#[derive(Clone, Debug, Default)]
pub struct Lies {
    commands: Vec<OfCommand>,
    messages: Vec<OfMessage>,
    misled: Misled,
}

/// Whether objects are made or destroyed by a command.
fn is_about_object(opcode: u16) -> bool {
    ifc::is_create(opcode) || ifc::is_destroy(opcode)
}

impl Lies {
    /// Lies that were not told as often as they are to be.
    pub fn armed(&self) -> usize {
        self.commands.len() + self.messages.len()
    }

    /// Arms the lie that the arguments of `CMD_ARM_LIE` are.
    pub fn arm(&mut self, [what, how, value, times]: [u64; 4]) -> Option<()> {
        let (opcode, vhca) = (what as u16, (what >> 16) as u16);
        let vhca = Some(vhca).filter(|vhca| *vhca != regs::FAULT_ANY_VHCA);
        let which = Which::new((what >> 32) as u32, times);
        let (kind, event, op_mod) = (how as u8, (how >> 8) as u8, (how >> 16) as u16);
        let said = || Said::new((how >> 48) as u16, (how >> 32) as u16, value);
        let message = match kind {
            regs::LIE_COMPLETION => Some(MessageLie::Completion(said()?)),
            // All of them come in one call, which must end.
            regs::LIE_AGAIN => Some(MessageLie::Again(value.try_into().ok()?)),
            regs::LIE_ADDRESSES => Some(MessageLie::Addresses(value)),
            regs::LIE_ENDLESS => Some(MessageLie::Endless(value)),
            regs::LIE_ARMED => Some(MessageLie::Armed(value.try_into().ok()?)),
            _ => None,
        };
        if let Some(lie) = message {
            self.messages.push(OfMessage { vhca, which, lie });
            return Some(());
        }
        let lie = match kind {
            regs::LIE_ANSWER => CommandLie::Answer(said()?),
            regs::LIE_UNDONE => CommandLie::Undone,
            // An EQ has a bit for each type that it takes.
            regs::LIE_EVENTS if u32::from(event) < u64::BITS => CommandLie::Events(Storm {
                kind: event,
                number: value as u32,
                count: (value >> 32) as u16,
                every: (value >> 48) * MS,
            }),
            _ => return None,
        };
        let of = Commands {
            opcode,
            op_mod: Some(op_mod).filter(|op_mod| *op_mod != regs::LIE_ANY_OP_MOD),
            vhca,
        };
        self.commands.push(OfCommand { of, which, lie });
        Some(())
    }

    /// Forgets all lies.
    pub fn disarm(&mut self) {
        self.commands.clear();
        self.messages.clear();
        if self.misled == Misled::Armed {
            self.misled = Misled::No;
        }
    }

    /// The HCA was torn down, and with it all objects.
    pub fn torn_down(&mut self) {
        self.misled = match self.armed() {
            0 => Misled::No,
            _ => self.misled.min(Misled::Armed),
        };
    }

    /// Whether a driver may do what is wrong, because of a lie.
    pub fn have_misled(&self) -> bool {
        self.misled != Misled::No
    }

    /// A command is carried out. Returns the lies about it.
    fn command(&mut self, (opcode, op_mod, vhca): (u16, u16, u16)) -> Vec<CommandLie> {
        let mut told = Vec::new();
        self.commands.retain_mut(|OfCommand { of, which, lie }| {
            let other = |is: Option<u16>, this| is.is_some_and(|is| is != this);
            let mut met = None;
            let stays = of.opcode != opcode
                || other(of.op_mod, op_mod)
                || other(of.vhca, vhca)
                || which.count(&mut met, *lie);
            told.extend(met);
            stays
        });
        if !told.is_empty() {
            let until = match is_about_object(opcode) {
                true => Misled::Objects,
                false => Misled::Armed,
            };
            self.misled = self.misled.max(until);
        }
        told
    }

    /// A page tracker of a VHCA sends a message, or its driver arms the CQ for one. Returns the lies
    /// about it.
    fn message(&mut self, vhca: u16, is_armed: bool) -> Vec<MessageLie> {
        let mut told = Vec::new();
        self.messages.retain_mut(|message| {
            let mut met = None;
            let stays = message.lie.is_about_arming() != is_armed
                || message.vhca.is_some_and(|of| of != vhca)
                || message.which.count(&mut met, message.lie);
            told.extend(met);
            stays
        });
        if !told.is_empty() {
            self.misled = self.misled.max(Misled::Armed);
        }
        told
    }
}

impl Hca {
    /// A command is carried out. Has the events come that lies have with it, and returns the other
    /// lies about it.
    pub fn lies_about(
        &mut self,
        host: &mut dyn Host,
        input: &[u8],
        vhca: u16,
    ) -> (bool, Vec<Said>) {
        let opcode = ifc::OPCODE.get(input) as u16;
        let told = self
            .lies
            .command((opcode, ifc::OP_MOD.get(input) as u16, vhca));
        self.faults.fired += told.len() as u64;
        let mut undone = false;
        let mut said = Vec::new();
        for lie in told {
            match lie {
                CommandLie::Answer(one) => said.push(one),
                CommandLie::Undone => undone = true,
                CommandLie::Events(storm) => self.raise(host, storm, vhca),
            }
        }
        (undone, said)
    }

    /// Tells lies about a command that was carried out.
    pub fn tell_lies(output: &mut [u8], said: &[Said]) {
        if ifc::STATUS.get(output) == Status::Ok as u64 {
            said.iter().for_each(|said| said.put(output));
        }
    }

    /// A page tracker of a VHCA sends a message. Returns the lies about it.
    pub fn lies_in_message(&mut self, vhca: u16) -> Vec<MessageLie> {
        let told = self.lies.message(vhca, false);
        self.faults.fired += told.len() as u64;
        told
    }

    /// The driver arms a CQ. Has the events come that lies have come then, if messages of a page
    /// tracker arrive in it.
    pub fn lie_when_armed(&mut self, host: &mut dyn Host, id: FunctionId, cqn: u32) {
        let objects = self.objects(id);
        let of_cq = |sender| {
            let qp = objects.qps.get(&objects.qps.get(&sender)?.remote)?;
            Some(qp.receive.as_ref()?.cqn == cqn)
        };
        let tracker = objects
            .trackers
            .values()
            .find(|one| of_cq(one.qpn) == Some(true));
        let Some(vhca) = tracker.map(|one| one.vhca) else {
            return;
        };
        let told = self.lies.message(vhca, true);
        self.faults.fired += told.len() as u64;
        for lie in told {
            if let MessageLie::Armed(count) = lie {
                (0..count).for_each(|_| self.tell(host, id, cqn, true));
            }
        }
    }

    /// The EQ that the events of a storm go to, and the number that they tell.
    fn subject(&mut self, storm: &Storm, vhca: u16) -> Option<(u8, u32)> {
        let objects = self.objects(FunctionId::PF);
        let tracker = objects.trackers.iter().find(|(_, one)| one.vhca == vhca);
        let tracker = tracker.map(|(id, one)| (*id, one.qpn));
        let receiver = tracker.and_then(|(_, sender)| {
            let qp = objects.qps.get(&objects.qps.get(&sender)?.remote)?;
            let cqn = qp.receive.as_ref()?.cqn;
            Some((cqn, objects.cqs.get(&cqn)?.eq))
        });
        let eq = match storm.kind {
            event::COMP => receiver.map(|(_, eq)| eq),
            kind => objects.eq_for(kind),
        };
        let own = match storm.kind {
            event::COMP | event::CQ_ERROR => receiver.map(|(cqn, _)| cqn),
            event::WQ_CATAS_ERROR => tracker.map(|(_, qpn)| qpn),
            _ => tracker.map(|(id, _)| id),
        };
        let number = match storm.number {
            regs::LIE_OWN => own?,
            number => number,
        };
        Some((eq?, number))
    }

    fn raise(&mut self, host: &mut dyn Host, storm: Storm, vhca: u16) {
        let Some((eq, number)) = self.subject(&storm, vhca) else {
            return;
        };
        let mut data = [0; 28];
        let at = match storm.kind {
            event::CQ_ERROR => 0,
            event::OBJECT_CHANGE => {
                data[2..4].copy_from_slice(&ifc::OBJ_PAGE_TRACK.to_be_bytes());
                4
            }
            _ => 24,
        };
        data[at..at + 4].copy_from_slice(&number.to_be_bytes());
        if let Some(more) = storm.count.checked_sub(1) {
            self.post_lies(host, (more, storm.every), eq, (storm.kind, 0), data);
        }
    }
}

/// Applies lies to the entry of a message. Returns how many entries there are of it.
pub fn about_completion(lies: &[MessageLie], cqe: &mut Cqe) -> u64 {
    let mut count = 1;
    for lie in lies {
        match lie {
            MessageLie::Completion(said) => cqe.lie(*said),
            MessageLie::Again(more) => count += u64::from(*more),
            _ => (),
        }
    }
    count
}
