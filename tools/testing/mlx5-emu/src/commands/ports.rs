// SPDX-License-Identifier: GPL-2.0

//! Commands about ports, and about where what they receive goes.

use super::{
    unknown,
    Context,
    Failure,
    Result, //
};
use crate::{
    ifc::{
        self,
        ethernet::{
            flow,
            register,
            vport, //
        },
        Status, //
    },
    steering::{
        kind::Kind,
        FlowTables,
        Named, //
    },
    vport::Vport,
};

/// Carries out a command about tables. Returns the number of what was made.
pub(super) fn change_tables(
    tables: &mut FlowTables,
    opcode: u16,
    input: &[u8],
    exists: impl Fn(Named) -> bool,
) -> Result<std::result::Result<Option<u32>, Status>> {
    let op_mod = ifc::OP_MOD.get(input);
    let made = |number: std::result::Result<u32, Status>| number.map(Some);
    let done = |result: std::result::Result<(), Status>| result.map(|()| None);
    Ok(match opcode {
        ifc::SET_FLOW_TABLE_ROOT => done(tables.set_root(op_mod, input)),
        ifc::CREATE_FLOW_TABLE => made(tables.create_table(input)),
        ifc::DESTROY_FLOW_TABLE => done(tables.destroy_table(input)),
        ifc::MODIFY_FLOW_TABLE => done(tables.modify_table(input)),
        ifc::CREATE_FLOW_GROUP => made(tables.create_group(input)),
        ifc::DESTROY_FLOW_GROUP => done(tables.destroy_group(input)),
        ifc::SET_FLOW_TABLE_ENTRY => done(tables.set_entry(op_mod, input, exists)),
        ifc::DELETE_FLOW_TABLE_ENTRY => done(tables.delete_entry(input)),
        _ => return Err(unknown()),
    })
}

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

    /// The virtual port that a command is about.
    fn vport(&mut self) -> Result<&mut Vport> {
        let owner = self.vport_owner()?;
        Ok(&mut self.hca.functions[usize::from(owner.0)].vport)
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
        if select & vport::SELECT_MANAGED != 0 {
            self.check_manager()?;
        }
        Ok(self.vport()?.modify(select, new)?)
    }

    pub(super) fn query_vport_counter(&mut self) -> Result<()> {
        let clear = vport::CLEAR.get(self.input) == 1;
        let counters = self.vport()?.read_counters(clear);
        counters.write(self.output);
        Ok(())
    }

    pub(super) fn flow_table(&mut self, opcode: u16) -> Result<()> {
        let input = self.input;
        let kind = Kind::from_number(flow::TABLE_TYPE.get(input));
        let result = match kind.ok_or(Failure::from(Status::BadParam))? {
            Kind::NicReceive => {
                if flow::OTHER_VPORT.get(input) != 0 {
                    return Err(Status::BadParam.into());
                }
                let objects = self.objects();
                let (tirs, counters) = (&objects.tirs, &objects.flow_counters);
                let exists = |named| match named {
                    Named::Tir(tir) => tirs.contains_key(&tir),
                    Named::Counter(number) => counters.has(number),
                    Named::Vport(_) => false,
                };
                change_tables(&mut objects.flow_tables, opcode, input, exists)?
            }
            kind => self.eswitch_table(kind, opcode)?,
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
