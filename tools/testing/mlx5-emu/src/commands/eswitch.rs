// SPDX-License-Identifier: GPL-2.0

//! Commands of the manager of the e-switch, which is the driver of the PF.

use super::{
    violation,
    Context,
    Failure,
    Result, //
};
use crate::{
    eswitch::{
        AdminState,
        EswPort, //
    },
    hca::Hca,
    host::FunctionId,
    ifc::{
        self,
        eswitch::{
            esw_vport,
            l2_table,
            vport_state,
            UPLINK,
            VPORT_NUMBER, //
        },
        ethernet::vport,
        Status, //
    },
    steering::{
        kind::Kind,
        Named, //
    },
    vport::Mac, //
};

/// MLX5_VPORT_STATE_UP and MLX5_VPORT_ADMIN_STATE_UP
const UP: u64 = 1;

impl Context<'_> {
    /// Fails if the sender is not the manager of the e-switch.
    pub(super) fn check_manager(&self) -> Result<()> {
        match self.function {
            FunctionId::PF => Ok(()),
            _ => Err(violation(Status::BadParam, "not the manager")),
        }
    }

    /// The function whose port a command is about. Only the manager can name another one.
    pub(super) fn vport_owner(&mut self) -> Result<FunctionId> {
        if vport::OTHER.get(self.input) == 0 {
            return Ok(self.function);
        }
        self.check_manager()?;
        let number = VPORT_NUMBER.get(self.input) as u16;
        match usize::from(number) < self.hca.functions.len() {
            true => Ok(FunctionId(number)),
            false => Err(violation(Status::BadParam, format!("no port {number}"))),
        }
    }

    pub(super) fn query_vport_state(&mut self) -> Result<()> {
        let owner = self.vport_owner()?;
        let admin = self.hca.eswitch.ports[usize::from(owner.0)].admin;
        let is_up = self.hca.vport_is_up(owner);
        if owner == self.function {
            self.me().told_link = is_up;
        }
        let (admin, is_up) = match ifc::OP_MOD.get(self.input) {
            vport_state::OF_FUNCTION => (UP, is_up),
            vport_state::OF_ESWITCH => (admin as u64, is_up),
            vport_state::OF_UPLINK => (UP, self.hca.port.is_up()),
            _ => return Err(violation(Status::BadParam, "no such state")),
        };
        vport_state::ADMIN_STATE.set(self.output, admin);
        vport::STATE.set(self.output, if is_up { UP } else { 0 });
        Ok(())
    }

    pub(super) fn modify_vport_state(&mut self) -> Result<()> {
        self.check_manager()?;
        let owner = self.vport_owner()?;
        let state = AdminState::from_number(vport_state::ADMIN_STATE.get(self.input));
        let of_eswitch = ifc::OP_MOD.get(self.input) == vport_state::OF_ESWITCH;
        match state {
            // The PF's port is as the wire.
            Some(state) if of_eswitch && owner != FunctionId::PF => {
                self.hca.change_links(self.host, |hca| {
                    hca.eswitch.ports[usize::from(owner.0)].admin = state;
                });
                Ok(())
            }
            _ => Err(violation(Status::BadParam, "what is not modelled")),
        }
    }

    fn esw_port(&mut self) -> Result<&mut EswPort> {
        self.check_manager()?;
        let owner = self.vport_owner()?;
        Ok(&mut self.hca.eswitch.ports[usize::from(owner.0)])
    }

    pub(super) fn query_esw_vport_context(&mut self) -> Result<()> {
        let context = self.esw_port()?.context().to_vec();
        self.give(esw_vport::CONTEXT, &context)
    }

    pub(super) fn modify_esw_vport_context(&mut self) -> Result<()> {
        let input = self.input;
        let new = input.get(esw_vport::CONTEXT..).unwrap_or_default();
        Ok(self.esw_port()?.modify(esw_vport::SELECT.get(input), new)?)
    }

    pub(super) fn set_l2_table_entry(&mut self) -> Result<()> {
        self.check_manager()?;
        let index = l2_table::INDEX.get(self.input) as u32;
        let mac = self.input.get(l2_table::MAC);
        let mac: Option<Mac> = mac.and_then(|mac| mac.try_into().ok());
        let mac = mac.ok_or(Failure::from(Status::BadInputLen))?;
        if l2_table::OPTIONS.get(self.input) != 0 {
            return Err(violation(Status::BadParam, "what is not modelled"));
        }
        Ok(self.hca.eswitch.mpfs.set(index, mac)?)
    }

    pub(super) fn delete_l2_table_entry(&mut self) -> Result<()> {
        self.check_manager()?;
        let index = l2_table::INDEX.get(self.input) as u32;
        Ok(self.hca.eswitch.mpfs.delete(index)?)
    }

    /// Carries out a command about tables of the e-switch.
    pub(super) fn eswitch_table(
        &mut self,
        kind: Kind,
        opcode: u16,
    ) -> Result<std::result::Result<Option<u32>, Status>> {
        self.check_manager()?;
        let (owner, input) = (self.vport_owner()?, self.input);
        if kind == Kind::Fdb && vport::OTHER.get(input) != 0 {
            return Err(violation(Status::BadParam, "an FDB of a port"));
        }
        let Hca {
            eswitch, functions, ..
        } = &mut *self.hca;
        let ports = functions.len();
        let counters = &functions[usize::from(self.function.0)]
            .objects
            .flow_counters;
        let tables = eswitch.tables(kind, owner);
        let tables = tables.ok_or(Failure::from(Status::BadParam))?;
        let exists = |named| match named {
            Named::Vport(port) => port == UPLINK || usize::from(port) < ports,
            Named::Counter(number) => counters.has(number),
            Named::Tir(_) => false,
        };
        super::ports::change_tables(tables, opcode, input, exists)
    }
}
