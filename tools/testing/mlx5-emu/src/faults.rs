// SPDX-License-Identifier: GPL-2.0

//! Faults that a test has armed: commands that fail, or are answered late or
//! not at all, events that do not come, or come late or twice, and reports of a page tracker
//! that go wrong.
//!
//! Faults belong to the HCA and survive resets, so that a fault can be armed
//! before a VF is opened, which resets it. Only those that a VF was told of
//! with `CMD_FAULT` and `CMD_TRACK_FAULT` end with its reset.

use crate::{
    hca::Hca,
    host::{
        FunctionId,
        Host, //
    },
    ifc::{
        self,
        Status, //
    },
};
use mlx5_emu_regs as regs;
use std::fmt;

/// How a command fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failed {
    /// Its status.
    pub status: u8,
    /// Its syndrome.
    pub syndrome: u32,
}

/// When a command is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// As always.
    InTime,
    /// Later by this many nanoseconds.
    Late(u64),
    /// When it is released.
    Held,
}

/// What happens to a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Effect {
    /// `None` if it is carried out.
    pub failed: Option<Failed>,
    /// When it is answered.
    pub answer: Answer,
}

/// Which commands, or events, of a kind a fault is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Which {
    /// How many go by first.
    skip: u32,
    /// How many it is for; `None` for all that follow.
    times: Option<u32>,
}

impl Which {
    /// The `nth` (1, or 0, is the next) and those after it; if `times` is 0, all.
    pub fn new(nth: u32, times: u64) -> Self {
        Self {
            skip: nth.saturating_sub(1),
            times: Some(times.min(u32::MAX.into()) as u32).filter(|times| *times > 0),
        }
    }

    /// There is one more, with which `met` is what happens: that of another fault, or `effect`
    /// if it is for this one. Returns whether there are more that it is for.
    pub fn count<T: Copy>(&mut self, met: &mut Option<T>, effect: T) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
        } else if met.is_none() {
            *met = Some(effect);
            self.times = self.times.map(|times| times - 1);
        }
        self.times != Some(0)
    }
}

/// A fault of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The command; `None` for any.
    pub opcode: Option<u16>,
    /// The VHCA that it is about; `None` for any.
    pub vhca: Option<u16>,
    /// Which of them it is for.
    pub which: Which,
    /// What happens to them.
    pub effect: Effect,
}

/// What happens to an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventEffect {
    /// It does not come.
    Lost,
    /// It comes twice.
    Twice,
    /// It comes later by this many nanoseconds.
    Late(u64),
}

/// A fault of an event.
#[derive(Clone, PartialEq, Eq, Debug)]
struct EventFault {
    /// Its type.
    kind: u8,
    which: Which,
    effect: EventEffect,
}

/// How a report of a page tracker goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrackFault {
    /// Nothing comes, ever.
    Stall,
    /// The object goes to its error state, and an event tells.
    Error,
    /// The QP that reports come through fails, and an event tells.
    Qp,
    /// The CQ that tells of reports fails, and an event tells.
    Cq,
    /// A message says that the object is in its error state.
    Message,
    /// Nothing comes before it is released.
    Held,
}

/// What was asked for is no fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadFault(String);

impl fmt::Display for BadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TrackFault {
    fn from_raw(raw: u64) -> Option<Self> {
        Some(match raw {
            regs::TRACK_STALL => Self::Stall,
            regs::TRACK_ERROR => Self::Error,
            regs::TRACK_QP_ERROR => Self::Qp,
            regs::TRACK_CQ_ERROR => Self::Cq,
            regs::TRACK_ERROR_MESSAGE => Self::Message,
            regs::TRACK_HOLD => Self::Held,
            _ => return None,
        })
    }

    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "track-stall" => Self::Stall,
            "track-error" => Self::Error,
            "track-qp" => Self::Qp,
            "track-cq" => Self::Cq,
            "track-message" => Self::Message,
            "track-hold" => Self::Held,
            _ => return None,
        })
    }
}

/// A fault, and the VF whose reset ends it.
#[derive(Clone, Debug)]
struct Armed<T> {
    fault: T,
    until_reset: Option<u16>,
}

/// A fault of the next report of a VHCA's page tracker.
#[derive(Clone, Debug)]
struct OfReport {
    vhca: u16,
    fault: TrackFault,
}

/// All faults of an HCA.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    commands: Vec<Armed<Fault>>,
    reports: Vec<Armed<OfReport>>,
    events: Vec<EventFault>,
    /// How many commands, reports and events a fault was for.
    pub fired: u64,
    /// The last command that a fault was for; 0 if there was none.
    pub last: u16,
}

fn number<T: TryFrom<u64>>(text: &str) -> Option<T> {
    let value = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    value.ok()?.try_into().ok()
}

impl Faults {
    /// Faults from the property `faults`: separated by `;`, and each a command's
    /// name or opcode, or a kind of report, followed by options:
    /// `LOAD_VHCA_STATE/vhca=2/nth=3/status=0x9;track-stall/vhca=1`.
    pub fn parse(text: &str) -> Result<Self, BadFault> {
        let mut faults = Self::default();
        for one in text.split(';').filter(|one| !one.is_empty()) {
            faults
                .parse_one(one)
                .ok_or_else(|| BadFault(format!("{one:?} is no fault")))?;
        }
        Ok(faults)
    }

    fn parse_one(&mut self, text: &str) -> Option<()> {
        let (name, options) = text.split_once('/').unwrap_or((text, ""));
        let mut vhca = None;
        let mut nth = 1;
        let mut times = 1;
        let mut status = None;
        let mut syndrome = 0;
        let mut answer = Answer::InTime;
        for option in options.split('/').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("vhca", value)) => vhca = Some(number(value)?),
                Some(("nth", value)) => nth = number(value)?,
                Some(("times", value)) => times = number(value)?,
                Some(("status", value)) => status = Some(number::<u8>(value)?),
                Some(("syndrome", value)) => syndrome = number(value)?,
                Some(("delay-ms", value)) => answer = late(number(value)?),
                None if option == "hold" => answer = Answer::Held,
                _ => return None,
            }
        }
        if let Some(fault) = TrackFault::from_name(name) {
            self.arm_report(vhca?, fault, None);
            return Some(());
        }
        // What is only late does not fail.
        let status = status.unwrap_or(match answer {
            Answer::InTime => Status::BadResState as u8,
            _ => 0,
        });
        self.arm(
            Fault {
                opcode: match name {
                    "any" => None,
                    _ => Some(ifc::opcode_by_name(name).or_else(|| number(name))?),
                },
                vhca,
                which: Which::new(nth, times),
                effect: Effect {
                    failed: (status != 0).then_some(Failed { status, syndrome }),
                    answer,
                },
            },
            None,
        )
    }

    /// Arms a fault of a command, until a VF is reset or for ever.
    fn arm(&mut self, fault: Fault, until_reset: Option<u16>) -> Option<()> {
        if fault.effect.failed.is_none() && fault.effect.answer == Answer::InTime {
            return None;
        }
        self.commands.push(Armed { fault, until_reset });
        Some(())
    }

    /// Arms a fault of the next report about a VHCA.
    fn arm_report(&mut self, vhca: u16, fault: TrackFault, until_reset: Option<u16>) {
        self.reports.push(Armed {
            fault: OfReport { vhca, fault },
            until_reset,
        });
    }

    /// Faults that have not fired as often as they are to.
    pub fn armed(&self) -> usize {
        self.commands.len() + self.reports.len() + self.events.len()
    }

    /// A command was sent. Returns what is to happen to it. Each fault counts
    /// all its commands; of several that are due, the oldest fires.
    pub fn command(&mut self, opcode: u16, vhca: u16) -> Option<Effect> {
        let mut effect = None;
        self.commands.retain_mut(|Armed { fault, .. }| {
            let other = |is: Option<u16>, this| is.is_some_and(|is| is != this);
            other(fault.opcode, opcode)
                || other(fault.vhca, vhca)
                || fault.which.count(&mut effect, fault.effect)
        });
        if effect.is_some() {
            self.fired += 1;
            self.last = opcode;
        }
        effect
    }

    /// An event of this type is to be posted to an EQ of the PF. Returns what is to happen to
    /// it. Each fault counts all its events; of several that are due, the oldest fires.
    pub fn event(&mut self, kind: u8) -> Option<EventEffect> {
        let mut effect = None;
        self.events
            .retain_mut(|fault| fault.kind != kind || fault.which.count(&mut effect, fault.effect));
        self.fired += u64::from(effect.is_some());
        effect
    }

    /// A report about a VHCA begins. Returns how it goes wrong.
    pub fn report(&mut self, vhca: u16) -> Option<TrackFault> {
        let at = self.reports.iter().position(|r| r.fault.vhca == vhca)?;
        self.fired += 1;
        Some(self.reports.remove(at).fault.fault)
    }

    /// A VF was reset.
    pub fn vf_reset(&mut self, vf: u16) {
        self.commands.retain(|armed| armed.until_reset != Some(vf));
        self.reports.retain(|armed| armed.until_reset != Some(vf));
    }

    /// The HCA was reset, and with it all VFs.
    pub fn hca_reset(&mut self) {
        self.commands.retain(|armed| armed.until_reset.is_none());
        self.reports.retain(|armed| armed.until_reset.is_none());
    }

    fn disarm(&mut self) {
        self.commands.clear();
        self.reports.clear();
        self.events.clear();
    }
}

fn late(ms: u64) -> Answer {
    Answer::Late(ms.saturating_mul(1_000_000))
}

/// The fault that the arguments of `CMD_ARM_FAULT` are.
fn from_args([what, how, delay, times]: [u64; 4]) -> Fault {
    let status = how as u8;
    Fault {
        opcode: Some(what as u16).filter(|opcode| *opcode != regs::FAULT_ANY_OPCODE),
        vhca: Some((what >> 16) as u16).filter(|vhca| *vhca != regs::FAULT_ANY_VHCA),
        which: Which::new((what >> 32) as u32, times),
        effect: Effect {
            failed: (status != 0).then_some(Failed {
                status,
                syndrome: (how >> 32) as u32,
            }),
            answer: match delay {
                0 => Answer::InTime,
                regs::FAULT_HOLD => Answer::Held,
                ms => late(ms),
            },
        },
    }
}

/// The fault that the arguments of `CMD_ARM_EVENT` are.
fn event_from_args([what, how, delay, times]: [u64; 4]) -> Option<EventFault> {
    Some(EventFault {
        kind: (what as u16).try_into().ok()?,
        which: Which::new((what >> 32) as u32, times),
        effect: match how {
            regs::EVENT_LOST => EventEffect::Lost,
            regs::EVENT_TWICE => EventEffect::Twice,
            regs::EVENT_LATE => EventEffect::Late(delay.saturating_mul(1_000_000)),
            _ => return None,
        },
    })
}

/// Whether a workload command is one about faults.
pub fn is_command(command: u32) -> bool {
    [
        regs::CMD_FAULT,
        regs::CMD_TRACK_FAULT,
        regs::CMD_ARM_FAULT,
        regs::CMD_ARM_EVENT,
        regs::CMD_ARM_LIE,
        regs::CMD_DISARM_FAULTS,
        regs::CMD_RELEASE,
    ]
    .contains(&command)
}

impl Hca {
    /// A workload command about faults, from a VF or through the control
    /// capability of the PF. Returns `STATUS_*`.
    pub fn fault_command(
        &mut self,
        host: &mut dyn Host,
        from: FunctionId,
        command: u32,
        args: [u64; 4],
    ) -> u32 {
        match self.try_fault_command(host, from, command, args) {
            Some(()) => regs::STATUS_OK,
            None => regs::STATUS_BAD_ARG,
        }
    }

    fn try_fault_command(
        &mut self,
        host: &mut dyn Host,
        from: FunctionId,
        command: u32,
        args: [u64; 4],
    ) -> Option<()> {
        let vf = (from != FunctionId::PF).then_some(from.0);
        let arms = !matches!(command, regs::CMD_DISARM_FAULTS | regs::CMD_RELEASE);
        if arms && self.faults.armed() + self.lies.armed() >= regs::MOST_ARMED {
            return None;
        }
        match command {
            regs::CMD_FAULT => {
                let opcode = args[0].try_into().ok()?;
                let status = args[1].try_into().ok().filter(|status| *status != 0)?;
                let fault = Fault {
                    opcode: Some(opcode),
                    vhca: vf.filter(|_| ifc::is_about_vhca(opcode)),
                    which: Which::new(1, 1),
                    effect: Effect {
                        failed: Some(Failed {
                            status,
                            syndrome: 0,
                        }),
                        answer: Answer::InTime,
                    },
                };
                self.faults.arm(fault, vf)?;
            }
            regs::CMD_TRACK_FAULT => {
                let vhca = vf.or_else(|| args[1].try_into().ok())?;
                let fault = TrackFault::from_raw(args[0])?;
                self.faults.arm_report(vhca, fault, vf);
            }
            regs::CMD_ARM_FAULT => self.faults.arm(from_args(args), None)?,
            regs::CMD_ARM_EVENT => self.faults.events.push(event_from_args(args)?),
            regs::CMD_ARM_LIE => self.lies.arm(args)?,
            regs::CMD_DISARM_FAULTS => {
                self.faults.disarm();
                self.lies.disarm();
                self.forget_lies();
                self.release_held(host);
                self.release_reports(host);
            }
            _ => {
                self.release_held(host);
                self.release_reports(host);
            }
        }
        Some(())
    }
}
