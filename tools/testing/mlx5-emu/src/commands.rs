// SPDX-License-Identifier: GPL-2.0

//! What each command does.

mod queues;

use crate::{
    caps,
    cmdq::Pending,
    eq::EventQueue,
    hca::Hca,
    host::{FunctionId, Host},
    ifc::{self, event, Status},
    image::{self, Refused},
    migration::{Refusal, Save, Side, Vhca},
    mkey::{AccessError, Mkey},
    objects::{self, Objects},
    pages,
};

/// UAR pages of the PF: from 1 MiB to its MSI-X table at 2 MiB.
const PF_UARS: std::ops::Range<u32> = 0x100..0x200;
/// UAR pages of a VF: up to its MSI-X table at 512 KiB.
const VF_UARS: std::ops::Range<u32> = 0x20..0x80;
/// Numbers of protection domains.
const PDS: std::ops::Range<u32> = 1..1 << 16;
/// Indices of mkeys.
const MKEYS: std::ops::Range<u32> = 0x10..1 << 20;
/// Numbers of event queues.
const EQS: std::ops::Range<u8> = 1..64;
/// Nanoseconds for a MiB are charged in proportion.
const MIB: u64 = 1 << 20;
/// Longest output: QUERY_HCA_CAP and MANAGE_PAGES stay well below.
const MAX_OUTPUT: usize = 1 << 16;

/// How a command ended.
pub struct Reply {
    /// All of its output.
    pub output: Vec<u8>,
    /// The VHCA or function that it was about.
    pub subject: Option<u16>,
    /// Bytes of state that it moved.
    pub bytes: u64,
}

/// Why a command fails.
struct Failure {
    status: u8,
    syndrome: u32,
    /// A driver must never cause this; `None` where others can.
    violation: Option<String>,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self {
            status: status as u8,
            syndrome: 0,
            violation: Some(format!("{status:?}")),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Misuse(status) => status.into(),
            Refusal::Changed => Self {
                status: Status::BadResState as u8,
                syndrome: 0,
                violation: None,
            },
        }
    }
}

impl From<Refused> for Failure {
    /// The stream comes from user space.
    fn from(refused: Refused) -> Self {
        Self {
            status: Status::BadParam as u8,
            syndrome: refused as u32,
            violation: None,
        }
    }
}

fn violation(status: Status, what: impl Into<String>) -> Failure {
    Failure {
        status: status as u8,
        syndrome: 0,
        violation: Some(format!("{status:?} {}", what.into())),
    }
}

type Result<T> = std::result::Result<T, Failure>;

/// A command while it is being carried out.
struct Context<'a> {
    hca: &'a mut Hca,
    host: &'a mut dyn Host,
    function: FunctionId,
    input: &'a [u8],
    output: &'a mut [u8],
    subject: Option<u16>,
    bytes: u64,
}

impl Hca {
    /// Firmware time of a command.
    pub fn duration(&self, input: &[u8]) -> u64 {
        let config = &self.config;
        let moved = |ns_per_mib: u64| {
            let size = match ifc::OPCODE.get(input) as u16 {
                ifc::LOAD_VHCA_STATE => ifc::STATE_SIZE.get(input),
                // What will be written, not what there is room for.
                _ => self
                    .vhca(ifc::VHCA_ID.get(input))
                    .and_then(|vhca| vhca.query(ifc::INCREMENTAL.get(input) == 1).ok())
                    .map_or(0, |sizes| sizes.next),
            };
            (u128::from(ns_per_mib) * u128::from(size) / u128::from(MIB)) as u64
        };
        config.command_ns
            + match ifc::OPCODE.get(input) as u16 {
                ifc::SUSPEND_VHCA => config.suspend_ns,
                ifc::RESUME_VHCA => config.resume_ns,
                ifc::SAVE_VHCA_STATE => moved(config.save_ns_per_mib),
                ifc::LOAD_VHCA_STATE => moved(config.load_ns_per_mib),
                _ => 0,
            }
    }

    /// The VHCA with this id: its VF is the function of the same number.
    fn vhca(&self, id: u64) -> Option<&Vhca> {
        let vf = self.functions.get(usize::try_from(id).ok()?)?.vf.as_ref()?;
        Some(&vf.vhca)
    }

    /// Whether the driver does not wait for a command any more.
    fn was_given_up(&self, host: &mut dyn Host, pending: &Pending) -> bool {
        let timeout = u64::from(self.config.command_timeout_ms) * 1_000_000;
        timeout > 0 && host.now().saturating_sub(pending.start) > timeout
    }

    /// Carries a command out.
    pub fn execute(&mut self, host: &mut dyn Host, pending: &Pending) -> Reply {
        let Pending {
            function, command, ..
        } = pending;
        let function = *function;
        let given_up = self.was_given_up(host, pending);
        let mut output = vec![0; command.out_len.min(MAX_OUTPUT)];
        let mut context = Context {
            hca: self,
            host,
            function,
            input: &command.input,
            output: &mut output,
            subject: ifc::is_about_vhca(command.opcode())
                .then(|| ifc::VHCA_ID.get(&command.input) as u16),
            bytes: 0,
        };
        let told = pending.fault.and_then(|effect| effect.failed);
        if told.is_some() || given_up {
            context.objects().undestroyed |= ifc::is_destroy(command.opcode());
        }
        let result = match told {
            _ if pending.aborted => Err(Failure {
                status: Status::BadResState as u8,
                syndrome: 0,
                violation: None,
            }),
            Some(failed) => Err(Failure {
                status: failed.status,
                syndrome: failed.syndrome,
                violation: None,
            }),
            None => context.run(command.opcode()),
        };
        let (subject, bytes) = (context.subject, context.bytes);
        if let Err(mut failure) = result {
            let was_reset = || {
                let vhca = self.vhca(ifc::VHCA_ID.get(&command.input));
                vhca.is_some_and(|vhca| vhca.was_reset)
            };
            let late = match failure.status {
                status if status == Status::BadResState as u8 => was_reset(),
                // What it is about was destroyed since.
                status if status == Status::BadRes as u8 => given_up,
                _ => false,
            };
            if late {
                failure.violation = None;
            }
            output.fill(0);
            ifc::STATUS.set(&mut output, failure.status.into());
            ifc::SYNDROME.set(&mut output, failure.syndrome.into());
            if let Some(what) = failure.violation {
                let name = ifc::opcode_name(command.opcode());
                self.violation(
                    host,
                    function,
                    &format!("{name} (0x{:x}): {what}", command.opcode()),
                );
            }
        }
        Reply {
            output,
            subject,
            bytes,
        }
    }
}

impl Context<'_> {
    fn run(&mut self, opcode: u16) -> Result<()> {
        match opcode {
            ifc::QUERY_HCA_CAP => self.query_hca_cap(),
            ifc::QUERY_ADAPTER | ifc::SET_HCA_CAP | ifc::ACCESS_REG | ifc::SET_DRIVER_VERSION => {
                Ok(())
            }
            ifc::QUERY_ISSI => {
                // ISSI 1 is what mlx5_core sets, 0 what there is before.
                ifc::SUPPORTED_ISSI_DW0.set(self.output, 0b10);
                Ok(())
            }
            ifc::SET_ISSI => match ifc::CURRENT_ISSI.get(self.input) {
                0 | 1 => Ok(()),
                issi => Err(violation(Status::BadParam, format!("ISSI {issi}"))),
            },
            ifc::ENABLE_HCA => self.enable_hca(true),
            ifc::DISABLE_HCA => self.enable_hca(false),
            ifc::QUERY_PAGES => self.query_pages(),
            ifc::MANAGE_PAGES => self.manage_pages(),
            ifc::INIT_HCA => self.init_hca(),
            ifc::TEARDOWN_HCA => self.teardown_hca(),
            ifc::CREATE_EQ => self.create_eq(),
            ifc::DESTROY_EQ => self.destroy_eq(),
            ifc::CREATE_CQ => self.create_cq(),
            ifc::DESTROY_CQ => self.destroy_cq(),
            ifc::CREATE_QP => self.create_qp(),
            ifc::RST2INIT_QP | ifc::INIT2RTR_QP | ifc::RTR2RTS_QP => self.modify_qp(opcode),
            ifc::DESTROY_QP => self.destroy_qp(),
            ifc::CREATE_GENERAL_OBJECT => self.create_object(),
            ifc::MODIFY_GENERAL_OBJECT => self.modify_object(),
            ifc::QUERY_GENERAL_OBJECT => self.query_object(),
            ifc::DESTROY_GENERAL_OBJECT => self.destroy_object(),
            ifc::ALLOC_PD => self.alloc_pd(),
            ifc::DEALLOC_PD => self.dealloc_pd(),
            ifc::ALLOC_UAR => self.alloc_uar(),
            ifc::DEALLOC_UAR => self.dealloc_uar(),
            ifc::CREATE_MKEY => self.create_mkey(),
            ifc::DESTROY_MKEY => self.destroy_mkey(),
            ifc::SUSPEND_VHCA => self.suspend(),
            ifc::RESUME_VHCA => self.resume(),
            ifc::QUERY_VHCA_MIGRATION_STATE => self.query_migration_state(),
            ifc::SAVE_VHCA_STATE => self.save(),
            ifc::LOAD_VHCA_STATE => self.load(),
            // What firmware does not have, drivers may ask for.
            _ => Err(Failure {
                status: Status::BadOp as u8,
                syndrome: 0,
                violation: None,
            }),
        }
    }

    fn expect_len(&self, input: usize, output: usize) -> Result<()> {
        if self.input.len() != input {
            let len = self.input.len();
            return Err(violation(
                Status::BadInputLen,
                format!("{len} bytes, not {input}"),
            ));
        }
        if self.output.len() < output {
            let len = self.output.len();
            return Err(violation(
                Status::BadOutputLen,
                format!("room for {len} bytes, not {output}"),
            ));
        }
        Ok(())
    }

    /// The function that `function_id` names; 0 is who asks.
    fn named_function(&mut self) -> Result<FunctionId> {
        let number = ifc::FUNCTION_ID.get(self.input) as u16;
        let id = match number {
            0 => self.function,
            _ if self.function == FunctionId::PF => FunctionId(number),
            _ => return Err(violation(Status::BadParam, "a VF names another function")),
        };
        if usize::from(id.0) >= self.hca.functions.len() {
            return Err(violation(Status::BadParam, format!("no function {number}")));
        }
        self.subject = Some(id.0);
        Ok(id)
    }

    fn me(&mut self) -> &mut crate::hca::Function {
        &mut self.hca.functions[usize::from(self.function.0)]
    }

    fn objects(&mut self) -> &mut Objects {
        self.hca.objects(self.function)
    }

    /// An object cannot be destroyed yet.
    fn in_use(&mut self, what: String) -> Failure {
        let mut failure = violation(Status::BadResState, format!("{what} is in use"));
        if self.objects().undestroyed {
            failure.violation = None;
        }
        failure
    }

    fn query_hca_cap(&mut self) -> Result<()> {
        let function = match ifc::CAP_OTHER_FUNCTION.get(self.input) {
            0 => self.function,
            _ => self.named_function()?,
        };
        let kind = (ifc::OP_MOD.get(self.input) >> 1) as u16;
        let page = caps::page(kind, function, &self.hca.config)?;
        let output = self.output.get_mut(0x10..).unwrap_or_default();
        let room = output.len().min(page.len());
        output[..room].copy_from_slice(&page[..room]);
        Ok(())
    }

    fn enable_hca(&mut self, enable: bool) -> Result<()> {
        let id = self.named_function()?;
        let function = &mut self.hca.functions[usize::from(id.0)];
        let flag = match self.function {
            FunctionId::PF => &mut function.enabled,
            _ => &mut function.started,
        };
        if *flag == enable {
            return Err(violation(Status::BadSysState, "already so"));
        }
        *flag = enable;
        match enable {
            true => (),
            false if id == self.function => self.hca.release(id),
            false => self.hca.wipe(id),
        }
        let lent = &self.hca.functions[usize::from(id.0)].pages;
        match (id == self.function, enable) {
            (false, true) => self.request_pages(id, i64::from(lent.missing(pages::VF))),
            (false, false) => self.request_pages(id, -i64::from(lent.count())),
            (true, true) => (),
            (true, false) => self.check_pages(),
        }
        Ok(())
    }

    /// Asks the PF's driver for pages for a VF, or to take some back.
    fn request_pages(&mut self, vf: FunctionId, count: i64) {
        if count == 0 {
            return;
        }
        let mut data = [0; 28];
        data[2..4].copy_from_slice(&vf.0.to_be_bytes());
        data[4..8].copy_from_slice(&(count as i32).to_be_bytes());
        self.hca
            .post_event(self.host, self.function, event::PAGE_REQUEST, &data);
    }

    /// A driver that disables its function must have taken all pages back, the
    /// PF's also those of its VFs.
    fn check_pages(&mut self) {
        let function = self.function;
        let mine = |id: usize| id == usize::from(function.0) || function == FunctionId::PF;
        let left: u32 = (0..self.hca.functions.len())
            .filter(|id| mine(*id))
            .map(|id| self.hca.functions[id].pages.count())
            .sum();
        if left > 0 {
            let what = format!("DISABLE_HCA: {left} pages not taken back");
            self.hca.violation(self.host, function, &what);
        }
    }

    fn query_pages(&mut self) -> Result<()> {
        let id = self.named_function()?;
        let want = match ifc::OP_MOD.get(self.input) {
            1 => pages::BOOT,
            2 => pages::BOOT + pages::INIT,
            3 => 0,
            op_mod => return Err(violation(Status::BadParam, format!("op_mod {op_mod}"))),
        };
        let missing = self.hca.functions[usize::from(id.0)].pages.missing(want);
        ifc::FUNCTION_ID.set(self.output, ifc::FUNCTION_ID.get(self.input));
        ifc::NUM_PAGES.set(self.output, missing.into());
        Ok(())
    }

    fn manage_pages(&mut self) -> Result<()> {
        let id = self.named_function()?;
        let count = ifc::NUM_PAGES.get(self.input) as u32;
        let lent = &mut self.hca.functions[usize::from(id.0)].pages;
        match ifc::OP_MOD.get(self.input) {
            // The driver has none to give.
            0 => Ok(()),
            1 => {
                let given: Vec<u64> = self
                    .input
                    .get(ifc::MANAGE_PAGES_PAS..)
                    .unwrap_or_default()
                    .chunks_exact(8)
                    .take(count as usize)
                    .map(|pa| u64::from_be_bytes(pa.try_into().unwrap_or_default()))
                    .collect();
                if given.len() != count as usize {
                    return Err(violation(Status::BadInputLen, "fewer pages than it says"));
                }
                lent.give(&given)?;
                Ok(())
            }
            2 => {
                let room = self.output.len().saturating_sub(ifc::MANAGE_PAGES_PAS) / 8;
                let back = lent.take(count.min(room as u32));
                ifc::OUTPUT_NUM_ENTRIES.set(self.output, back.len() as u64);
                let pas = self.output.get_mut(ifc::MANAGE_PAGES_PAS..);
                for (slot, page) in pas.unwrap_or_default().chunks_exact_mut(8).zip(&back) {
                    slot.copy_from_slice(&page.to_be_bytes());
                }
                Ok(())
            }
            op_mod => Err(violation(Status::BadParam, format!("op_mod {op_mod}"))),
        }
    }

    fn init_hca(&mut self) -> Result<()> {
        let me = self.me();
        let missing = me.pages.missing(pages::BOOT + pages::INIT);
        let enabled = me.enabled && (me.started || me.vf.is_none());
        if !enabled || me.up || missing > 0 {
            return Err(violation(
                Status::BadSysState,
                format!("{missing} pages missing"),
            ));
        }
        me.up = true;
        Ok(())
    }

    fn teardown_hca(&mut self) -> Result<()> {
        let function = self.function;
        if !self.me().up {
            return Err(violation(Status::BadSysState, "not initialised"));
        }
        let left = self.objects().counts();
        let excused = self.objects().undestroyed;
        for (what, count) in left.into_iter().filter(|(_, count)| !excused && *count > 0) {
            let what = format!("TEARDOWN_HCA: {count} {what} not destroyed");
            self.hca.violation(self.host, function, &what);
        }
        self.me().up = false;
        Ok(())
    }

    fn create_eq(&mut self) -> Result<()> {
        let eq = EventQueue::parse(self.input)?;
        let uar = ifc::EQ_UAR.get(self.input) as u32;
        if !self.objects().uars.has(uar) {
            return Err(violation(Status::BadRes, format!("UAR {uar:#x}")));
        }
        let number = objects::insert(&mut self.objects().eqs, EQS, eq);
        let number = number.ok_or(Failure::from(Status::Lim))?;
        ifc::EQ_NUMBER.set(self.output, number.into());
        Ok(())
    }

    fn destroy_eq(&mut self) -> Result<()> {
        let number = ifc::EQ_NUMBER.get(self.input) as u8;
        match self.objects().eqs.remove(&number) {
            Some(_) => Ok(()),
            None => Err(violation(Status::BadRes, format!("EQ {number}"))),
        }
    }

    fn alloc_pd(&mut self) -> Result<()> {
        self.expect_len(0x10, 0x10)?;
        let pd = self.objects().pds.alloc(PDS);
        ifc::OBJECT.set(self.output, pd.ok_or(Failure::from(Status::Lim))?.into());
        Ok(())
    }

    fn dealloc_pd(&mut self) -> Result<()> {
        self.expect_len(0x10, 0x10)?;
        let pd = ifc::OBJECT.get(self.input) as u32;
        if self.objects().uses_pd(pd) {
            return Err(self.in_use(format!("PD {pd}")));
        }
        match self.objects().pds.free(pd) {
            true => Ok(()),
            false => Err(violation(Status::BadRes, format!("PD {pd}"))),
        }
    }

    fn alloc_uar(&mut self) -> Result<()> {
        let range = match self.function {
            FunctionId::PF => PF_UARS,
            _ => VF_UARS,
        };
        let uar = self.objects().uars.alloc(range);
        ifc::OBJECT.set(self.output, uar.ok_or(Failure::from(Status::Lim))?.into());
        Ok(())
    }

    fn dealloc_uar(&mut self) -> Result<()> {
        let uar = ifc::OBJECT.get(self.input) as u32;
        match self.objects().uars.free(uar) {
            true => Ok(()),
            false => Err(violation(Status::BadRes, format!("UAR {uar:#x}"))),
        }
    }

    fn create_mkey(&mut self) -> Result<()> {
        let largest = self.hca.config.log_max_mkey_page.into();
        let mkey = Mkey::parse(self.function, self.input, largest)?;
        if !self.objects().pds.has(mkey.pd) {
            return Err(violation(Status::BadRes, format!("PD {}", mkey.pd)));
        }
        let index = objects::insert(&mut self.objects().mkeys, MKEYS, mkey);
        let index = index.ok_or(Failure::from(Status::Lim))?;
        ifc::OBJECT.set(self.output, index.into());
        Ok(())
    }

    fn destroy_mkey(&mut self) -> Result<()> {
        self.expect_len(0x10, 0x10)?;
        let index = ifc::OBJECT.get(self.input) as u32;
        if self.hca.moves_state(self.function, index) {
            // The driver has given up waiting.
            self.objects().undestroyed = true;
            return Err(self.in_use(format!("mkey {index:#x}")));
        }
        match self.objects().mkeys.remove(&index) {
            Some(_) => Ok(()),
            None => Err(violation(Status::BadRes, format!("mkey {index:#x}"))),
        }
    }

    /// The VHCA that a migration command is about: a VF's, and only for the PF.
    fn vhca(&mut self) -> Result<&mut Vhca> {
        let id = ifc::VHCA_ID.get(self.input) as u16;
        let enabled = |function: &&mut crate::hca::Function| function.enabled;
        let function = match self.function {
            FunctionId::PF => self.hca.functions.get_mut(usize::from(id)),
            _ => None,
        };
        match function.filter(enabled).and_then(|f| f.vf.as_mut()) {
            Some(vf) => Ok(&mut vf.vhca),
            None => Err(violation(Status::BadRes, format!("VHCA {id}"))),
        }
    }

    fn suspend(&mut self) -> Result<()> {
        self.expect_len(0x10, 0x10)?;
        let side = match ifc::OP_MOD.get(self.input) {
            0 => Side::Initiator,
            1 => Side::Responder,
            op_mod => return Err(violation(Status::BadParam, format!("op_mod {op_mod}"))),
        };
        Ok(self.vhca()?.suspend(side)?)
    }

    fn resume(&mut self) -> Result<()> {
        self.expect_len(0x10, 0x10)?;
        let side = match ifc::OP_MOD.get(self.input) {
            0 => Side::Responder,
            1 => Side::Initiator,
            op_mod => return Err(violation(Status::BadParam, format!("op_mod {op_mod}"))),
        };
        Ok(self.vhca()?.resume(side)?)
    }

    fn no_op_mod(&self) -> Result<()> {
        match ifc::OP_MOD.get(self.input) {
            0 => Ok(()),
            op_mod => Err(violation(Status::BadParam, format!("op_mod {op_mod}"))),
        }
    }

    fn query_migration_state(&mut self) -> Result<()> {
        self.expect_len(0x10, 0x40)?;
        self.no_op_mod()?;
        let chunk = match (ifc::CHUNK.get(self.input), self.hca.config.chunk_size) {
            (0, _) => None,
            (_, 0) => return Err(violation(Status::BadParam, "chunk, without the capability")),
            (_, size) => Some(size),
        };
        let incremental = ifc::INCREMENTAL.get(self.input) == 1;
        let chunks_grow = self.hca.config.chunks_grow;
        let vhca = self.vhca()?;
        // This is how the driver says which way it will save.
        vhca.chunk = chunk;
        vhca.chunks_grow = chunks_grow;
        let sizes = vhca.query(incremental)?;
        let state = vhca.migration_state();
        if self.hca.config.migration_state {
            ifc::MIGRATION_STATE.set(self.output, state as u64);
        }
        let unwritten = u64::from(self.hca.config.save_unwritten);
        let total = sizes.total + unwritten * sizes.total.div_ceil(sizes.next);
        ifc::REQUIRED_UMEM_SIZE.set(self.output, sizes.next + unwritten);
        ifc::REMAINING_TOTAL_SIZE.set(self.output, total);
        Ok(())
    }

    /// The mkey that a SAVE or LOAD names, if it has `size` bytes.
    fn state_mkey(&mut self, size: u64) -> Result<Mkey> {
        let key = ifc::STATE_MKEY.get(self.input) as u32;
        let mkey = match self.objects().mkey(key) {
            Some(mkey) => mkey,
            None => return Err(violation(Status::BadRes, format!("mkey {key:#x}"))),
        };
        match mkey.check(0, size) {
            Ok(_) => Ok(mkey.clone()),
            Err(_) => Err(violation(
                Status::BadParam,
                format!("{size} bytes are more than mkey {key:#x} has"),
            )),
        }
    }

    fn access_failure(&self, error: AccessError) -> Failure {
        violation(Status::BadRes, format!("mkey: {error:?}"))
    }

    fn save(&mut self) -> Result<()> {
        self.expect_len(0x20, 0x10)?;
        self.no_op_mod()?;
        let room = ifc::STATE_SIZE.get(self.input);
        let mkey = self.state_mkey(room)?;
        let save = Save {
            incremental: ifc::INCREMENTAL.get(self.input) == 1,
            set_track: ifc::SET_TRACK.get(self.input) == 1,
        };
        let unwritten = u64::from(self.hca.config.save_unwritten);
        let room = room.saturating_sub(unwritten);
        let (image, next) = self.vhca()?.save(save, room)?;
        mkey.write(self.host, 0, &image)
            .map_err(|error| self.access_failure(error))?;
        self.bytes = image.len() as u64 + unwritten;
        ifc::ACTUAL_IMAGE_SIZE.set(self.output, self.bytes);
        if next > 0 {
            ifc::NEXT_REQUIRED_UMEM_SIZE.set(self.output, next + unwritten);
        }
        Ok(())
    }

    fn load(&mut self) -> Result<()> {
        self.expect_len(0x20, 0x10)?;
        self.no_op_mod()?;
        let size = ifc::STATE_SIZE.get(self.input);
        let mkey = self.state_mkey(size)?;
        self.vhca()?.check_load()?;
        // What is at the end was not written by a SAVE, and means nothing.
        let written = size.checked_sub(self.hca.config.save_unwritten.into());
        let written = written.ok_or(Refused::Length)?;
        let bytes = mkey
            .read(self.host, 0, written as usize)
            .map_err(|error| self.access_failure(error))?;
        image::load(&mut self.vhca()?.state, &bytes)?;
        self.bytes = size;
        Ok(())
    }
}
