// SPDX-License-Identifier: GPL-2.0

//! Commands about functions: capabilities, start and end.

use super::{
    violation,
    Context,
    Result, //
};
use crate::{
    caps::{
        self,
        Asked,
        Values, //
    },
    host::FunctionId,
    ifc::{
        self,
        Status, //
    },
    pages, //
};

/// The vendor's IEEE and PCI numbers.
const MELLANOX_OUI: u64 = 0x2c9;
const MELLANOX_PCI: u64 = 0x15b3;
/// Not that of a product: by it, tools choose a firmware.
const BOARD_ID: &[u8; 16] = b"EMU_0000000001\0\0";

impl Context<'_> {
    /// Returns the function that QUERY_HCA_CAP and SET_HCA_CAP are about.
    fn about_capabilities(&mut self) -> Result<FunctionId> {
        match ifc::CAP_OTHER_FUNCTION.get(self.input) {
            0 => Ok(self.function),
            _ => self.named_function(),
        }
    }

    fn asked(&self, function: FunctionId) -> Asked<'_> {
        Asked {
            function,
            chosen: &self.hca.functions[usize::from(function.0)].chosen,
            config: &self.hca.config,
        }
    }

    pub(super) fn query_hca_cap(&mut self) -> Result<()> {
        let function = self.about_capabilities()?;
        let op_mod = ifc::OP_MOD.get(self.input) as u16;
        let values = match op_mod & 1 {
            0 => Values::Max,
            _ => Values::Current,
        };
        let page = caps::page(op_mod >> 1, values, self.asked(function));
        let output = self.output.get_mut(ifc::CAPABILITY..).unwrap_or_default();
        let room = output.len().min(page.len());
        output[..room].copy_from_slice(&page[..room]);
        Ok(())
    }

    pub(super) fn set_hca_cap(&mut self) -> Result<()> {
        let function = self.about_capabilities()?;
        let kind = (ifc::OP_MOD.get(self.input) >> 1) as u16;
        let wanted = self.input.get(ifc::CAPABILITY..).unwrap_or_default();
        let chosen = caps::choose(kind, self.asked(function), wanted)?;
        self.hca.functions[usize::from(function.0)].chosen = chosen;
        Ok(())
    }

    pub(super) fn query_adapter(&mut self) -> Result<()> {
        self.expect_len(0x10, ifc::PSID + BOARD_ID.len())?;
        ifc::IEEE_VENDOR_ID.set(self.output, MELLANOX_OUI);
        ifc::VSD_VENDOR_ID.set(self.output, MELLANOX_PCI);
        self.output[ifc::PSID..][..BOARD_ID.len()].copy_from_slice(BOARD_ID);
        Ok(())
    }

    pub(super) fn enable_hca(&mut self, enable: bool) -> Result<()> {
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
        let lent = &self.hca.functions[usize::from(id.0)].pages_of_pf;
        match (id == self.function, enable) {
            (false, true) => self.request_pages(id, i64::from(lent.missing(pages::VF))),
            (false, false) => self.request_pages(id, -i64::from(lent.count())),
            (true, true) => (),
            (true, false) => self.check_pages(),
        }
        Ok(())
    }

    pub(super) fn init_hca(&mut self) -> Result<()> {
        let wanted = self.wanted_pages(self.function);
        let me = self.me();
        let missing = me.pages.missing(wanted);
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

    pub(super) fn teardown_hca(&mut self) -> Result<()> {
        let function = self.function;
        if !self.me().up {
            return Err(violation(Status::BadSysState, "not initialised"));
        }
        let mut left = self.objects().counts().to_vec();
        if function == FunctionId::PF {
            left.extend(self.hca.eswitch.counts());
        }
        let excused = self.objects().undestroyed;
        for (what, count) in left.into_iter().filter(|(_, count)| !excused && *count > 0) {
            let what = format!("TEARDOWN_HCA: {count} {what} not destroyed");
            self.hca.violation(self.host, function, &what);
        }
        self.me().up = false;
        Ok(())
    }
}
