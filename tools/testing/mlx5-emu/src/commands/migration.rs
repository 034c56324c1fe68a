// SPDX-License-Identifier: GPL-2.0

//! Commands about VHCAs that migrate.

use super::{
    violation,
    Context,
    Failure,
    Result, //
};
use crate::{
    caps,
    host::FunctionId,
    ifc::{
        self,
        Status, //
    },
    image::{
        Image,
        Refused, //
    },
    migration::{
        Now,
        Save,
        Side,
        Vhca, //
    },
    mkey::{
        AccessError,
        Mkey, //
    },
    records::Records, //
};

impl Context<'_> {
    /// The VF that a migration command is about, which only the PF sends.
    fn migrating(&self) -> FunctionId {
        FunctionId(ifc::VHCA_ID.get(self.input) as u16)
    }

    /// Its VHCA.
    pub(super) fn vhca(&mut self) -> Result<&mut Vhca> {
        let id = self.migrating();
        let enabled = |function: &&mut crate::hca::Function| function.enabled;
        let function = match self.function {
            FunctionId::PF => self.hca.function(id),
            _ => None,
        };
        match function.filter(enabled).and_then(|f| f.vf.as_mut()) {
            Some(vf) => Ok(&mut vf.vhca),
            None => Err(violation(Status::BadRes, format!("VHCA {}", id.0))),
        }
    }

    /// What its driver has made of it.
    fn records(&mut self) -> Result<Records> {
        self.vhca()?;
        Ok(self.hca.records(self.migrating()))
    }

    pub(super) fn suspend(&mut self) -> Result<()> {
        self.expect_len(0x10, 0x10)?;
        let side = match ifc::OP_MOD.get(self.input) {
            0 => Side::Initiator,
            1 => Side::Responder,
            op_mod => return Err(violation(Status::BadParam, format!("op_mod {op_mod}"))),
        };
        Ok(self.vhca()?.suspend(side)?)
    }

    pub(super) fn resume(&mut self) -> Result<()> {
        self.expect_len(0x10, 0x10)?;
        let side = match ifc::OP_MOD.get(self.input) {
            0 => Side::Responder,
            1 => Side::Initiator,
            op_mod => return Err(violation(Status::BadParam, format!("op_mod {op_mod}"))),
        };
        self.vhca()?.resume(side)?;
        let id = self.migrating();
        if !self.hca.is_suspended(id) {
            self.hca.resumed(self.host, id);
        }
        Ok(())
    }

    fn no_op_mod(&self) -> Result<()> {
        match ifc::OP_MOD.get(self.input) {
            0 => Ok(()),
            op_mod => Err(violation(Status::BadParam, format!("op_mod {op_mod}"))),
        }
    }

    pub(super) fn query_migration_state(&mut self) -> Result<()> {
        self.expect_len(0x10, 0x40)?;
        self.no_op_mod()?;
        let chunk = match (ifc::CHUNK.get(self.input), self.hca.config.chunk_size) {
            (0, _) => None,
            (_, 0) => return Err(violation(Status::BadParam, "chunk, without the capability")),
            (_, size) => Some(size),
        };
        let incremental = ifc::INCREMENTAL.get(self.input) == 1;
        let chunks_grow = self.hca.config.chunks_grow;
        let records = self.records()?;
        let vhca = self.vhca()?;
        // This is how the driver says which way it will save.
        vhca.chunk = chunk;
        vhca.chunks_grow = chunks_grow;
        let sizes = vhca.query(incremental, &records)?;
        let state = vhca.migration_state(&records);
        if self.hca.config.migration_state {
            ifc::MIGRATION_STATE.set(self.output, state as u64);
        }
        let unwritten = u64::from(self.hca.config.save_unwritten);
        let total = sizes.total + unwritten * sizes.saves;
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

    pub(super) fn save(&mut self) -> Result<()> {
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
        // A VF that is saved in chunks is as it was when the first one was, even if one between
        // them is refused.
        let begun = self.vhca()?.saving.take();
        let is_begun = begun.is_some();
        let (records, kept) = match begun {
            Some(records) if save.incremental => (records, None),
            begun => (self.records()?, begun),
        };
        let now = Now {
            records: &records,
            capabilities: caps::of_image(&self.hca.config, self.migrating()),
        };
        let saved = self.vhca()?.save(save, room, now);
        self.vhca()?.saving = match saved {
            Ok((_, 0)) => None,
            Ok(_) => Some(records),
            Err(_) => kept.or(is_begun.then_some(records)),
        };
        let (image, next) = saved?;
        mkey.write(self.host, 0, &image)
            .map_err(|error| self.access_failure(error))?;
        self.bytes = image.len() as u64 + unwritten;
        ifc::ACTUAL_IMAGE_SIZE.set(self.output, self.bytes);
        if next > 0 {
            ifc::NEXT_REQUIRED_UMEM_SIZE.set(self.output, next + unwritten);
        }
        Ok(())
    }

    pub(super) fn load(&mut self) -> Result<()> {
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
        let id = self.migrating();
        let capabilities = caps::of_image(&self.hca.config, id);
        let image = Image::parse(&self.vhca()?.state, capabilities, &bytes)?;
        self.hca.load_image(self.host, id, image)?;
        self.bytes = size;
        Ok(())
    }
}
