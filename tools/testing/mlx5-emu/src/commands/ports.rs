// SPDX-License-Identifier: GPL-2.0

//! Commands about ports, and about where what they receive goes.

use super::{
    unknown,
    violation,
    Context,
    Failure,
    Result, //
};
use crate::{
    ifc::{
        self,
        ethernet::{
            register,
            vport, //
        },
        Status, //
    },
    vport::{
        Counters,
        Vport, //
    },
};

/// MLX5_VPORT_STATE_UP and MLX5_VPORT_ADMIN_STATE_UP
const UP: u64 = 1;

impl Context<'_> {
    pub(super) fn access_register(&mut self) -> Result<()> {
        let id = register::ID.get(self.input);
        let write = ifc::OP_MOD.get(self.input) == 0;
        let mut data = self
            .input
            .get(register::DATA..)
            .unwrap_or_default()
            .to_vec();
        self.hca
            .access_register(self.host, self.function, write, id, &mut data)?;
        self.give(register::DATA, &data)
    }

    /// The virtual port that a command is about. Who is not an e-switch manager,
    /// and there is none, has only its own.
    fn vport(&mut self) -> Result<&mut Vport> {
        match vport::OTHER.get(self.input) {
            0 => Ok(&mut self.me().vport),
            _ => Err(violation(Status::BadParam, "another virtual port")),
        }
    }

    pub(super) fn query_vport_state(&mut self) -> Result<()> {
        self.vport()?;
        let up = self.hca.port.is_up();
        self.me().told_link = up;
        vport::ADMIN_STATE.set(self.output, UP);
        vport::STATE.set(self.output, if up { UP } else { 0 });
        Ok(())
    }

    pub(super) fn query_nic_vport_context(&mut self) -> Result<()> {
        let list = vport::QUERY_LIST.get(self.input);
        let context = self.vport()?.query(list)?;
        self.give(vport::QUERY_CONTEXT, &context)
    }

    pub(super) fn modify_nic_vport_context(&mut self) -> Result<()> {
        let input = self.input;
        let select = vport::SELECT.get(input);
        let new = input.get(vport::MODIFY_CONTEXT..).unwrap_or_default();
        Ok(self.vport()?.modify(select, new)?)
    }

    pub(super) fn query_vport_counter(&mut self) -> Result<()> {
        let clear = vport::CLEAR.get(self.input) == 1;
        let vport = self.vport()?;
        let counters = vport.counters;
        if clear {
            vport.counters = Counters::default();
        }
        counters.write(self.output);
        Ok(())
    }

    pub(super) fn flow_table(&mut self, opcode: u16) -> Result<()> {
        let input = self.input;
        let op_mod = ifc::OP_MOD.get(input);
        let objects = self.objects();
        let (tables, tirs) = (&mut objects.flow_tables, &objects.tirs);
        let made = |number: std::result::Result<u32, Status>| number.map(Some);
        let done = |result: std::result::Result<(), Status>| result.map(|()| None);
        let result = match opcode {
            ifc::SET_FLOW_TABLE_ROOT => done(tables.set_root(op_mod, input)),
            ifc::CREATE_FLOW_TABLE => made(tables.create_table(input)),
            ifc::DESTROY_FLOW_TABLE => done(tables.destroy_table(input)),
            ifc::MODIFY_FLOW_TABLE => done(tables.modify_table(input)),
            ifc::CREATE_FLOW_GROUP => made(tables.create_group(input)),
            ifc::DESTROY_FLOW_GROUP => done(tables.destroy_group(input)),
            ifc::SET_FLOW_TABLE_ENTRY => {
                done(tables.set_entry(op_mod, input, |tir| tirs.contains_key(&tir)))
            }
            ifc::DELETE_FLOW_TABLE_ENTRY => done(tables.delete_entry(input)),
            _ => return Err(unknown()),
        };
        let number = match result {
            Ok(number) => number,
            Err(Status::BadResState) => return Err(self.in_use("it".to_string())),
            Err(status) => return Err(Failure::from(status)),
        };
        if let Some(number) = number {
            ifc::OBJECT.set(self.output, number.into());
        }
        Ok(())
    }
}
