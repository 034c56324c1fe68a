// SPDX-License-Identifier: GPL-2.0

//! Commands about flow counters: each function has its own.

use super::{
    violation,
    Context,
    Failure,
    Result, //
};
use crate::{
    host::FunctionId,
    ifc::{
        self,
        flow_counter,
        Status, //
    }, //
};

fn none(number: u32) -> Failure {
    violation(Status::BadRes, format!("flow counter {number}"))
}

impl Context<'_> {
    pub(super) fn alloc_flow_counter(&mut self) -> Result<()> {
        if flow_counter::BULK.get(self.input) != 0 {
            return Err(violation(Status::BadParam, "what is not modelled"));
        }
        let number = self.objects().flow_counters.alloc();
        let number = number.ok_or(Failure::from(Status::Lim))?;
        flow_counter::ID.set(self.output, number.into());
        Ok(())
    }

    /// Whether an entry counts with this counter, also one of the e-switch that the function
    /// manages.
    fn uses_flow_counter(&mut self, number: u32) -> bool {
        let is_manager = self.function == FunctionId::PF;
        self.objects().flow_tables.uses_counter(number)
            || is_manager && self.hca.eswitch.uses_counter(number)
    }

    pub(super) fn dealloc_flow_counter(&mut self) -> Result<()> {
        let number = flow_counter::ID.get(self.input) as u32;
        if self.uses_flow_counter(number) {
            return Err(self.in_use(format!("flow counter {number}")));
        }
        match self.objects().flow_counters.dealloc(number) {
            true => Ok(()),
            false => Err(none(number)),
        }
    }

    pub(super) fn query_flow_counter(&mut self) -> Result<()> {
        let first = flow_counter::QUERY_ID.get(self.input) as u32;
        let count = flow_counter::COUNT.get(self.input) as u32;
        let clear = flow_counter::CLEAR.get(self.input) == 1;
        if ifc::OP_MOD.get(self.input) != 0 {
            return Err(violation(Status::BadParam, "what is not modelled"));
        }
        let len = flow_counter::STATISTICS + flow_counter::TRAFFIC_LEN * count.max(1) as usize;
        if self.output.len() < len {
            return Err(Status::BadOutputLen.into());
        }
        let counters = &mut self.objects().flow_counters;
        let counted = match count {
            0 => vec![counters.query(first, clear).ok_or_else(|| none(first))?],
            _ => counters
                .query_bulk(first, count, clear)
                .ok_or_else(|| violation(Status::BadParam, format!("{count} from {first} on")))?,
        };
        let statistics = &mut self.output[flow_counter::STATISTICS..];
        let each = statistics.chunks_exact_mut(flow_counter::TRAFFIC_LEN);
        for (out, traffic) in each.zip(counted) {
            flow_counter::PACKETS.set(out, traffic.frames);
            flow_counter::OCTETS.set(out, traffic.octets);
        }
        Ok(())
    }
}
