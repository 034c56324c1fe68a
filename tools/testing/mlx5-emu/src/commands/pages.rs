// SPDX-License-Identifier: GPL-2.0

//! Commands about the pages that a driver lends to firmware.

use super::{
    violation,
    Context,
    Result, //
};
use crate::{
    host::FunctionId,
    ifc::{
        self,
        event,
        Status, //
    },
    pages::{
        self,
        LentPages, //
    },
};
impl Context<'_> {
    /// Asks the PF's driver for pages for a VF, or to take some back.
    pub(super) fn request_pages(&mut self, vf: FunctionId, count: i64) {
        if count == 0 {
            return;
        }
        let mut data = [0; 28];
        data[2..4].copy_from_slice(&vf.0.to_be_bytes());
        data[4..8].copy_from_slice(&(count as i32).to_be_bytes());
        self.hca
            .post_event(self.host, self.function, event::PAGE_REQUEST, &data);
    }

    /// Pages that a function must have when it sends INIT_HCA.
    pub(super) fn wanted_pages(&self, id: FunctionId) -> u32 {
        pages::BOOT
            + match id {
                FunctionId::PF => self.hca.config.init_pages,
                _ => pages::VF_INIT,
            }
    }

    /// A driver that disables its function must have taken all pages back, the
    /// PF's also those of its VFs.
    pub(super) fn check_pages(&mut self) {
        let function = self.function;
        let of_vfs: u32 = match function {
            FunctionId::PF => {
                let functions = self.hca.functions.iter();
                functions.map(|one| one.pages_of_pf.count()).sum()
            }
            _ => 0,
        };
        let left = self.me().pages.count() + of_vfs;
        if left > 0 {
            let what = format!("DISABLE_HCA: {left} pages not taken back");
            self.hca.violation(self.host, function, &what);
        }
    }

    /// What a driver has lent for a function.
    fn lent(&mut self, id: FunctionId) -> &mut LentPages {
        let own = id == self.function;
        let function = &mut self.hca.functions[usize::from(id.0)];
        match own {
            true => &mut function.pages,
            false => &mut function.pages_of_pf,
        }
    }

    pub(super) fn query_pages(&mut self) -> Result<()> {
        let id = self.named_function()?;
        let want = match ifc::OP_MOD.get(self.input) {
            1 => pages::BOOT,
            2 => self.wanted_pages(id),
            3 => 0,
            op_mod => return Err(violation(Status::BadParam, format!("op_mod {op_mod}"))),
        };
        let missing = self.lent(id).missing(want);
        ifc::FUNCTION_ID.set(self.output, ifc::FUNCTION_ID.get(self.input));
        ifc::NUM_PAGES.set(self.output, missing.into());
        Ok(())
    }

    pub(super) fn manage_pages(&mut self) -> Result<()> {
        let id = self.named_function()?;
        let (input, room) = (self.input, self.output.len());
        let count = ifc::NUM_PAGES.get(input) as u32;
        let lent = self.lent(id);
        match ifc::OP_MOD.get(input) {
            // The driver has none to give.
            0 => Ok(()),
            1 => {
                let given: Vec<u64> = input
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
                let room = room.saturating_sub(ifc::MANAGE_PAGES_PAS) / 8;
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
}
