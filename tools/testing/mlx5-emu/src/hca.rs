// SPDX-License-Identifier: GPL-2.0

//! The HCA: its functions, and what they share.

use crate::{
    caps::Chosen,
    cmdq::Pending,
    config::{
        Config,
        LOG_MESSAGE,
        MAX_RNR_RETRIES,
        MAX_STATE,
        MAX_UNWRITTEN,
        MAX_VFS,
        MIN_CHUNK,
        MIN_STATE, //
    },
    control::Control,
    eswitch::Eswitch,
    events::LateEvent,
    faults::{
        self,
        Faults, //
    },
    host::{
        FunctionId,
        Host, //
    },
    initseg::InitSegment,
    lies::Lies,
    migration::Vhca,
    objects::Objects,
    pages::{
        self,
        LentPages, //
    },
    port::Port,
    sq,
    turn::Turn,
    vport::Vport,
    workload::{
        Shared,
        Workload, //
    },
};
use mlx5_emu_regs::{
    BLOCK,
    BLOCK_LEN,
    CMD, //
};

/// Bytes of a UAR page.
const UAR_LEN: u64 = 0x1000;
/// Where the CQ doorbell of a UAR is.
const CQ_DOORBELL: u64 = 0x20;
/// Where the EQ doorbells of a UAR are: one arms, one does not.
const EQ_DOORBELL_ARM: u64 = 0x40;
const EQ_DOORBELL: u64 = 0x48;

/// A PCI function.
#[derive(Debug)]
pub struct Function {
    /// Its initialization segment.
    pub initseg: InitSegment,
    /// The PF has sent ENABLE_HCA about it.
    pub enabled: bool,
    /// A VF has sent ENABLE_HCA about itself.
    pub started: bool,
    /// INIT_HCA was sent by it.
    pub up: bool,
    /// What its driver has chosen of its capabilities.
    pub chosen: Chosen,
    /// Pages that its driver has lent.
    pub pages: LentPages,
    /// Pages that the PF's driver has lent for it.
    pub pages_of_pf: LentPages,
    /// What it has created.
    pub objects: Objects,
    /// The first half of a CQ doorbell.
    pub cq_doorbell: u32,
    /// Slots that a doorbell was rung for while it was suspended.
    pub rung: u32,
    /// Whether its driver was last told that the link is up.
    pub told_link: bool,
    /// Its virtual port.
    pub vport: Vport,
    /// What a VF can be made to do; the PF has no such thing.
    pub vf: Option<VirtualFunction>,
}

/// What a VF has on top of a function.
#[derive(Debug)]
pub struct VirtualFunction {
    /// Its VHCA.
    pub vhca: Vhca,
    /// The registers that make it work.
    pub workload: Workload,
}

impl Function {
    /// A function at power-on.
    pub fn new(config: &Config, id: FunctionId, vf: Option<VirtualFunction>) -> Self {
        Self {
            initseg: InitSegment::new(config.command_timeout_ms),
            enabled: false,
            started: false,
            up: false,
            chosen: Chosen::default(),
            pages: LentPages::default(),
            pages_of_pf: LentPages::default(),
            objects: Objects::default(),
            cq_doorbell: 0,
            rung: 0,
            told_link: false,
            vport: Vport::new(config.network.unwrap_or_default(), id),
            vf,
        }
    }
}

/// The model.
#[derive(Debug)]
pub struct Hca {
    /// What its user chose.
    pub config: Config,
    /// The PF, and then the VFs.
    pub functions: Vec<Function>,
    /// Commands that take time.
    pub pending: Vec<Pending>,
    /// Events that a test has made late.
    pub late_events: Vec<LateEvent>,
    /// Violations of the firmware interface.
    pub violations: u64,
    /// What a test wants to go wrong.
    pub faults: Faults,
    /// What a test wants it to say that is not true.
    pub lies: Lies,
    /// The control capability.
    pub control: Control,
    /// The physical port.
    pub port: Port,
    /// What joins the functions and the port.
    pub eswitch: Eswitch,
    /// What it may still do before the machine goes on.
    pub turn: Turn,
}

impl Hca {
    /// An HCA at power-on.
    pub fn new(config: Config) -> Self {
        let mut config = config;
        config.vfs = config.vfs.min(MAX_VFS);
        config.init_pages = config.init_pages.min(pages::MAX - pages::BOOT);
        config.state_size = config.state_size.clamp(MIN_STATE, MAX_STATE);
        if config.chunk_size > 0 {
            config.chunk_size = config.chunk_size.max(MIN_CHUNK);
        }
        config.log_max_message = config
            .log_max_message
            .clamp(*LOG_MESSAGE.start(), *LOG_MESSAGE.end());
        config.save_unwritten = config.save_unwritten.min(MAX_UNWRITTEN);
        config.page_repeats = config.page_repeats.max(1);
        config.rnr_retries = config.rnr_retries.min(MAX_RNR_RETRIES);
        let vf = |number: u16| VirtualFunction {
            vhca: Vhca::new(config.state_size),
            workload: Workload::new(number),
        };
        let functions: Vec<Function> = std::iter::once(None)
            .chain((0..config.vfs).map(|number| Some(vf(number))))
            .zip((0..).map(FunctionId))
            .map(|(vf, id)| Function::new(&config, id, vf))
            .collect();
        Self {
            eswitch: Eswitch::new(functions.len()),
            functions,
            pending: Vec::new(),
            late_events: Vec::new(),
            violations: 0,
            faults: Faults::default(),
            lies: Lies::default(),
            control: Control::default(),
            port: Port::new(true),
            turn: Turn::default(),
            config,
        }
    }

    /// The function with this number, where there is one.
    pub fn function(&mut self, id: FunctionId) -> Option<&mut Function> {
        self.functions.get_mut(usize::from(id.0))
    }

    /// What a function has created, which must exist.
    pub fn objects(&mut self, id: FunctionId) -> &mut Objects {
        &mut self.functions[usize::from(id.0)].objects
    }

    /// Counts and reports a violation of the firmware interface, unless it may be that of a driver
    /// that was lied to.
    pub fn violation(&mut self, host: &mut dyn Host, function: FunctionId, what: &str) {
        if self.lies.have_misled() {
            return;
        }
        self.violations += 1;
        host.log_violation(function, what);
    }

    /// A function was reset; the PF takes the VFs with it.
    pub fn reset(&mut self, id: FunctionId) {
        if id == FunctionId::PF {
            let mut faults = std::mem::take(&mut self.faults);
            faults.hca_reset();
            let mut lies = std::mem::take(&mut self.lies);
            lies.torn_down();
            *self = Self {
                violations: self.violations,
                faults,
                lies,
                port: Port::new(self.port.link),
                ..Self::new(self.config.clone())
            };
            return;
        }
        let Some(function) = self.function(id) else {
            return;
        };
        // The PF's driver has not taken back what it gave for the VF.
        let enabled = function.enabled;
        self.wipe(id);
        if let Some(function) = self.function(id) {
            function.enabled = enabled;
        }
    }

    /// Brings a VF back to its state at power-on, and has the PF enable it
    /// again. Pages that the PF has lent for it stay lent until they are taken back.
    /// Those of its own driver are forgotten: a driver that comes after a reset
    /// knows of none.
    pub fn wipe(&mut self, id: FunctionId) {
        self.faults.vf_reset(id.0);
        self.abort_about(id);
        let vf = VirtualFunction {
            vhca: Vhca::after_reset(self.config.state_size),
            workload: Workload::new(id.0 - 1),
        };
        let reset = Function::new(&self.config, id, Some(vf));
        if let Some(function) = self.function(id) {
            let pages_of_pf = std::mem::take(&mut function.pages_of_pf);
            function.vport.reset();
            let vport = function.vport.clone();
            *function = Function {
                pages_of_pf,
                vport,
                ..reset
            };
        }
    }

    /// A function's own driver has disabled it: nothing that it has created is
    /// left, and nothing that it has sent is answered. Pages that were lent stay
    /// lent until they are taken back.
    pub fn release(&mut self, id: FunctionId) {
        self.pending.retain(|pending| pending.function != id);
        if id == FunctionId::PF {
            self.release_eswitch();
            self.late_events.clear();
            self.lies.torn_down();
        }
        if let Some(function) = self.function(id) {
            function.vport.reset();
            function.rung = 0;
            function.told_link = false;
            function.objects = Objects::default();
            function.up = false;
            function.chosen = Chosen::default();
        }
    }

    /// Reads 4 bytes of a function's BAR 0.
    pub fn read(&mut self, host: &mut dyn Host, id: FunctionId, offset: u64) -> u32 {
        let now = host.now();
        let shared = Shared {
            violations: self.violations,
            fired: self.faults.fired,
            armed: (self.faults.armed() + self.lies.armed()) as u64,
            held: self.held() as u64,
            tracked: self.tracked(id.0),
        };
        let Some(function) = self.function(id) else {
            return u32::MAX;
        };
        match &function.vf {
            Some(vf) if (BLOCK..BLOCK + BLOCK_LEN).contains(&offset) => {
                vf.workload.read(&vf.vhca, &shared, offset - BLOCK)
            }
            // Big endian in memory.
            _ => function.initseg.read(now, offset).swap_bytes(),
        }
    }

    /// Writes 4 bytes of a function's BAR 0.
    pub fn write(&mut self, host: &mut dyn Host, id: FunctionId, offset: u64, value: u32) {
        self.noting(host, |hca, host| {
            hca.write_register(host, id, offset, value)
        });
    }

    fn write_register(&mut self, host: &mut dyn Host, id: FunctionId, offset: u64, value: u32) {
        let is_stopped = self.is_stopped(id);
        let Some(function) = self.function(id) else {
            return;
        };
        match &mut function.vf {
            Some(vf) if offset == BLOCK + CMD && faults::is_command(value) => {
                let args = vf.vhca.state.command.args;
                let status = self.fault_command(host, id, value, args);
                if let Some(vf) = self.functions[usize::from(id.0)].vf.as_mut() {
                    vf.vhca.state.command.status = status;
                }
                return;
            }
            Some(vf) if (BLOCK..BLOCK + BLOCK_LEN).contains(&offset) => {
                vf.workload
                    .write(&mut vf.vhca, host, id, offset - BLOCK, value);
                return;
            }
            _ if is_stopped => return,
            _ => (),
        }
        let value = value.swap_bytes();
        if InitSegment::covers(offset) {
            let slots = function.initseg.write(offset, value);
            self.doorbell(host, id, slots);
        } else if function.initseg.has_command_queue() {
            self.uar_write(host, id, offset, value);
        }
    }

    fn uar_write(&mut self, host: &mut dyn Host, id: FunctionId, offset: u64, value: u32) {
        let uar = (offset / UAR_LEN) as u32;
        let register = offset % UAR_LEN;
        let known = [CQ_DOORBELL, CQ_DOORBELL + 4, EQ_DOORBELL_ARM, EQ_DOORBELL];
        let of_sq = match self.config.network {
            Some(_) => sq::doorbell(register),
            None => None,
        };
        if !known.contains(&register) && of_sq.is_none() {
            return;
        }
        if !self.objects(id).uars.has(uar) {
            self.violation(
                host,
                id,
                &format!("doorbell on UAR {uar:#x}, not allocated"),
            );
            return;
        }
        match register {
            // It is a hint: how far to go is in the doorbell record.
            _ if of_sq == Some(false) => (),
            _ if of_sq == Some(true) => self.sq_doorbell(host, id, uar, value >> 8),
            // The second half of a CQ doorbell says which one.
            CQ_DOORBELL => self.functions[usize::from(id.0)].cq_doorbell = value,
            EQ_DOORBELL_ARM | EQ_DOORBELL => {
                self.eq_doorbell(host, id, value, register == EQ_DOORBELL_ARM);
            }
            _ => self.cq_doorbell(host, id, value),
        }
    }

    fn cq_doorbell(&mut self, host: &mut dyn Host, id: FunctionId, cqn: u32) {
        let consumer = self.functions[usize::from(id.0)].cq_doorbell;
        let is_suspended = self.is_suspended(id);
        let now = host.now();
        match self.objects(id).cqs.get_mut(&cqn) {
            Some(cq) if is_suspended => cq.note_arm(consumer),
            Some(cq) => {
                let tells = cq.arm(consumer, now);
                self.tell(host, id, cqn, tells);
                self.lie_when_armed(host, id, cqn);
            }
            None => self.violation(host, id, &format!("doorbell of CQ {cqn:#x}, not created")),
        }
    }

    fn eq_doorbell(&mut self, host: &mut dyn Host, id: FunctionId, value: u32, arm: bool) {
        let number = (value >> 24) as u8;
        let is_suspended = self.is_suspended(id);
        match self.objects(id).eqs.get_mut(&number) {
            Some(eq) if is_suspended => eq.note_doorbell(value, arm),
            Some(eq) => eq.doorbell(host, id, value & 0xff_ffff, arm),
            None => self.violation(host, id, &format!("doorbell of EQ {number}, not created")),
        }
    }
}
