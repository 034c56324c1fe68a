// SPDX-License-Identifier: GPL-2.0

//! What each command does.

mod eswitch;
mod ethernet;
mod flow_counters;
mod functions;
mod migration;
mod objects;
mod pages;
mod ports;
mod queues;

pub use ethernet::LOG_MAX as LOG_MAX_OBJECTS;

use crate::{
    cmdq::Pending,
    hca::{
        Function,
        Hca, //
    },
    host::{
        FunctionId,
        Host, //
    },
    ifc::{
        self,
        Status, //
    },
    image::Refused,
    migration::{
        Refusal,
        Vhca, //
    },
    objects::Objects,
    times, //
};

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
            Refusal::Half => Self {
                status: Status::BadResState as u8,
                syndrome: Refused::Missing as u32,
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

/// What firmware does not have, drivers may ask for.
fn unknown() -> Failure {
    Failure {
        status: Status::BadOp as u8,
        syndrome: 0,
        violation: None,
    }
}

/// Whether a command is one of an Ethernet NIC.
fn is_of_nic(opcode: u16) -> bool {
    matches!(
        opcode,
        ifc::ACCESS_REG
            | ifc::MODIFY_CQ
            | ifc::QUERY_VPORT_STATE..=ifc::MODIFY_ESW_VPORT_CONTEXT
            | ifc::QUERY_NIC_VPORT_CONTEXT
            | ifc::MODIFY_NIC_VPORT_CONTEXT
            | ifc::QUERY_VPORT_COUNTER..=ifc::QUERY_Q_COUNTER
            | ifc::ALLOC_TRANSPORT_DOMAIN
            | ifc::DEALLOC_TRANSPORT_DOMAIN
            | ifc::SET_L2_TABLE_ENTRY
            | ifc::DELETE_L2_TABLE_ENTRY
            | ifc::CREATE_TIR..=ifc::MODIFY_FLOW_TABLE
    )
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
    /// The driver has stopped waiting for it.
    given_up: bool,
}

impl Hca {
    /// Firmware time of a command.
    pub fn duration(&self, input: &[u8]) -> u64 {
        let config = &self.config;
        let moved = |ns_per_mib: u64| {
            if ns_per_mib == 0 {
                return 0;
            }
            let size = match ifc::OPCODE.get(input) as u16 {
                ifc::LOAD_VHCA_STATE => ifc::STATE_SIZE.get(input),
                // What will be written, which may be less than there is room for.
                _ => self
                    .vhca(ifc::VHCA_ID.get(input))
                    .and_then(|vhca| {
                        let incremental = ifc::INCREMENTAL.get(input) == 1;
                        if let Some(records) = vhca.saving.as_ref().filter(|_| incremental) {
                            return vhca.query(incremental, records).ok();
                        }
                        let records = self.records(FunctionId(ifc::VHCA_ID.get(input) as u16));
                        vhca.query(incremental, &records).ok()
                    })
                    .map_or(0, |sizes| sizes.next.min(ifc::STATE_SIZE.get(input))),
            };
            (u128::from(ns_per_mib) * u128::from(size) / u128::from(MIB)) as u64
        };
        let recorded = match config.recorded_times {
            true => times::recorded_ns(input),
            false => 0,
        };
        config.command_ns
            + recorded
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

    /// Whether the driver has stopped waiting for a command.
    pub fn was_given_up(&self, host: &mut dyn Host, pending: &Pending) -> bool {
        let timeout = u64::from(self.config.command_timeout_ms) * 1_000_000;
        timeout > 0 && host.now().saturating_sub(pending.start) > timeout
    }

    /// If a VF is tracked, what its driver creates in place of what it has destroyed is new.
    fn note_destroyed(&mut self, id: FunctionId, opcode: u16) {
        if !ifc::is_destroy(opcode) {
            return;
        }
        let Function { vf, objects, .. } = &mut self.functions[usize::from(id.0)];
        if let Some(vf) = vf.as_mut().filter(|vf| vf.vhca.is_tracked()) {
            vf.vhca.destroyed(objects);
        }
    }

    /// Carries a command out.
    pub fn execute(&mut self, host: &mut dyn Host, pending: &Pending) -> Reply {
        let Pending {
            function, command, ..
        } = pending;
        let function = *function;
        let given_up = self.was_given_up(host, pending);
        let about = self.about(function, command);
        let (undone, said) = self.lies_about(host, &command.input, about);
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
            given_up,
        };
        let told = pending.fault.and_then(|effect| effect.failed);
        if told.is_some() || undone {
            context.objects().undestroyed |= ifc::is_destroy(command.opcode());
        }
        if given_up {
            // The driver does not know what is created either.
            context.objects().undestroyed = true;
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
            None if undone => Ok(()),
            None => context.run(command.opcode()),
        };
        let (subject, bytes) = (context.subject, context.bytes);
        if let Err(mut failure) = result {
            let was_reset = || {
                let vhca = self.vhca(ifc::VHCA_ID.get(&command.input));
                vhca.is_some_and(|vhca| vhca.was_reset)
            };
            // Of a command that was given up, the objects may be gone, or its memory may be
            // used again.
            if given_up || failure.status == Status::BadResState as u8 && was_reset() {
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
        self.note_destroyed(function, command.opcode());
        self.tell_changes(host);
        Self::tell_lies(&mut output, &said);
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
            _ if self.hca.config.network.is_some() && is_of_nic(opcode) => self.run_nic(opcode),
            ifc::QUERY_HCA_CAP => self.query_hca_cap(),
            ifc::SET_HCA_CAP => self.set_hca_cap(),
            ifc::QUERY_ADAPTER => self.query_adapter(),
            ifc::ACCESS_REG | ifc::SET_DRIVER_VERSION => Ok(()),
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
            _ => Err(unknown()),
        }
    }

    /// What only an HCA does that is a NIC.
    fn run_nic(&mut self, opcode: u16) -> Result<()> {
        match opcode {
            ifc::ACCESS_REG => self.access_register(),
            ifc::MODIFY_CQ => self.modify_cq(),
            ifc::QUERY_VPORT_STATE => self.query_vport_state(),
            ifc::MODIFY_VPORT_STATE => self.modify_vport_state(),
            ifc::QUERY_ESW_VPORT_CONTEXT => self.query_esw_vport_context(),
            ifc::MODIFY_ESW_VPORT_CONTEXT => self.modify_esw_vport_context(),
            ifc::QUERY_NIC_VPORT_CONTEXT => self.query_nic_vport_context(),
            ifc::MODIFY_NIC_VPORT_CONTEXT => self.modify_nic_vport_context(),
            ifc::QUERY_VPORT_COUNTER => self.query_vport_counter(),
            ifc::ALLOC_Q_COUNTER => self.alloc_q_counter(),
            ifc::DEALLOC_Q_COUNTER => self.dealloc_q_counter(),
            ifc::QUERY_Q_COUNTER => self.query_q_counter(),
            ifc::ALLOC_TRANSPORT_DOMAIN => self.alloc_domain(),
            ifc::DEALLOC_TRANSPORT_DOMAIN => self.dealloc_domain(),
            ifc::CREATE_TIR => self.create_tir(),
            ifc::MODIFY_TIR => self.modify_tir(),
            ifc::DESTROY_TIR => self.destroy_tir(),
            ifc::CREATE_SQ => self.create_sq(),
            ifc::MODIFY_SQ => self.modify_sq(),
            ifc::DESTROY_SQ => self.destroy_sq(),
            ifc::QUERY_SQ => self.query_sq(),
            ifc::CREATE_RQ => self.create_rq(),
            ifc::MODIFY_RQ => self.modify_rq(),
            ifc::DESTROY_RQ => self.destroy_rq(),
            ifc::QUERY_RQ => self.query_rq(),
            ifc::CREATE_TIS => self.create_tis(),
            ifc::DESTROY_TIS => self.destroy_tis(),
            ifc::CREATE_RQT => self.create_rqt(),
            ifc::MODIFY_RQT => self.modify_rqt(),
            ifc::DESTROY_RQT => self.destroy_rqt(),
            ifc::SET_L2_TABLE_ENTRY => self.set_l2_table_entry(),
            ifc::DELETE_L2_TABLE_ENTRY => self.delete_l2_table_entry(),
            ifc::ALLOC_FLOW_COUNTER => self.alloc_flow_counter(),
            ifc::DEALLOC_FLOW_COUNTER => self.dealloc_flow_counter(),
            ifc::QUERY_FLOW_COUNTER => self.query_flow_counter(),
            _ => self.flow_table(opcode),
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

    /// Returns the function that `function_id` names; 0 is the sender.
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
}
