// SPDX-License-Identifier: GPL-2.0

//! Commands about event queues, protection domains, UAR pages and mkeys.

use super::{
    violation,
    Context,
    Failure,
    Result, //
};
use crate::{
    eq::EventQueue,
    host::FunctionId,
    ifc::{
        self,
        Status, //
    },
    mkey::{
        Limits,
        Mkey, //
    },
    numbers,
    objects,
    pool::Listed, //
};

impl Context<'_> {
    /// Checks that the function can have a list of this many pages more. How many there can be,
    /// a driver cannot know.
    pub(super) fn check_list(&mut self, pages: usize) -> Result<()> {
        match self.objects().pages() + pages <= objects::MAX_PAGES {
            true => Ok(()),
            false => Err(Failure {
                status: Status::Lim as u8,
                syndrome: 0,
                violation: None,
            }),
        }
    }

    pub(super) fn create_eq(&mut self) -> Result<()> {
        let eq = EventQueue::parse(self.input)?;
        self.check_list(eq.pages())?;
        let uar = ifc::EQ_UAR.get(self.input) as u32;
        if !self.objects().uars.has(uar) {
            return Err(violation(Status::BadRes, format!("UAR {uar:#x}")));
        }
        let number = self.objects().eqs.create(numbers::EQS, eq);
        let number = number.ok_or(Failure::from(Status::Lim))?;
        ifc::EQ_NUMBER.set(self.output, number.into());
        Ok(())
    }

    pub(super) fn destroy_eq(&mut self) -> Result<()> {
        let number = ifc::EQ_NUMBER.get(self.input) as u8;
        match self.objects().eqs.remove(&number) {
            Some(_) => Ok(()),
            None => Err(violation(Status::BadRes, format!("EQ {number}"))),
        }
    }

    pub(super) fn alloc_pd(&mut self) -> Result<()> {
        self.expect_len(0x10, 0x10)?;
        let pd = self.objects().pds.alloc(numbers::PDS);
        ifc::OBJECT.set(self.output, pd.ok_or(Failure::from(Status::Lim))?.into());
        Ok(())
    }

    pub(super) fn dealloc_pd(&mut self) -> Result<()> {
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

    pub(super) fn alloc_uar(&mut self) -> Result<()> {
        let range = match self.function {
            FunctionId::PF => numbers::PF_UARS,
            _ => numbers::VF_UARS,
        };
        let uar = self.objects().uars.alloc(range);
        ifc::OBJECT.set(self.output, uar.ok_or(Failure::from(Status::Lim))?.into());
        Ok(())
    }

    pub(super) fn dealloc_uar(&mut self) -> Result<()> {
        let uar = ifc::OBJECT.get(self.input) as u32;
        match self.objects().uars.free(uar) {
            true => Ok(()),
            false => Err(violation(Status::BadRes, format!("UAR {uar:#x}"))),
        }
    }

    pub(super) fn create_mkey(&mut self) -> Result<()> {
        let limits = Limits::of(&self.hca.config);
        let mkey = Mkey::parse(self.function, self.input, limits)?;
        self.check_list(mkey.pages())?;
        if !self.objects().pds.has(mkey.pd) {
            return Err(violation(Status::BadRes, format!("PD {}", mkey.pd)));
        }
        let index = self.objects().mkeys.create(numbers::MKEYS, mkey);
        let index = index.ok_or(Failure::from(Status::Lim))?;
        ifc::OBJECT.set(self.output, index.into());
        Ok(())
    }

    pub(super) fn destroy_mkey(&mut self) -> Result<()> {
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
}
