// SPDX-License-Identifier: GPL-2.0

//! Commands about functions: capabilities, start and end.

use super::{
    violation,
    Context,
    Result, //
};
use crate::{
    caps,
    host::FunctionId,
    ifc::{
        self,
        Status, //
    },
    pages, //
};
impl Context<'_> {
    pub(super) fn query_hca_cap(&mut self) -> Result<()> {
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
        let lent = &self.hca.functions[usize::from(id.0)].pages;
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
        let left = self.objects().counts();
        let excused = self.objects().undestroyed;
        for (what, count) in left.into_iter().filter(|(_, count)| !excused && *count > 0) {
            let what = format!("TEARDOWN_HCA: {count} {what} not destroyed");
            self.hca.violation(self.host, function, &what);
        }
        self.me().up = false;
        Ok(())
    }
}
