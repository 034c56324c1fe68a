// SPDX-License-Identifier: GPL-2.0

//! What a driver has made of its function: all that an image of it has, beside the registers
//! that a test makes it work with.
//!
//! A record has what `postcard` makes of a structure. It comes from user space, so each is
//! checked before it is taken: it must be one that a command could have made.

pub mod limits;

use crate::{
    caps::Chosen,
    cmdq::SavedCommand,
    config::Config,
    encoded::{
        BYTE,
        U32, //
    },
    hca::{
        Function,
        Hca, //
    },
    host::{
        FunctionId,
        Host, //
    },
    initseg::LOG_SLOTS,
    objects::Objects,
    pages::LentPages,
    pool::Numbered,
    records::{
        Key,
        Kind,
        Records, //
    },
    vport::{
        Counters,
        Settings, //
    },
};
use serde::{
    de::DeserializeOwned,
    Deserialize,
    Serialize, //
};
use std::collections::BTreeMap;

/// What a record can have.
pub trait Saved: Serialize + DeserializeOwned {
    /// Most bytes of a record.
    const MAX_LEN: usize;

    /// Whether the model could have come to it by itself.
    fn is_sound(&self) -> bool;

    /// It is one of this function from now on.
    fn belong(&mut self, _id: FunctionId) {}
}

/// What a function is told to be and to do beside its objects.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Registers {
    started: bool,
    up: bool,
    undestroyed: bool,
    chosen: Chosen,
    command_queue: [u32; 2],
    rung: u32,
    cq_doorbell: u32,
    told_link: bool,
}

impl Saved for Registers {
    const MAX_LEN: usize = 4 * BYTE + Chosen::MAX_LEN + 4 * U32;

    fn is_sound(&self) -> bool {
        self.chosen.is_sound()
    }
}

impl Saved for u32 {
    const MAX_LEN: usize = U32;

    fn is_sound(&self) -> bool {
        true
    }
}

/// A record is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsound;

/// All that records are made of.
#[derive(Clone, Debug)]
pub struct Resources {
    registers: Registers,
    commands: BTreeMap<u32, SavedCommand>,
    pages: LentPages,
    vport: Settings,
    counters: Counters,
    objects: Objects,
}

fn encode<T: Saved>(what: &T) -> Vec<u8> {
    // Only what has no length beforehand cannot be encoded.
    postcard::to_stdvec(what).unwrap_or_default()
}

fn decode<T: Saved>(id: FunctionId, bytes: &[u8]) -> Result<T, Unsound> {
    if bytes.len() > T::MAX_LEN {
        return Err(Unsound);
    }
    let (mut what, rest) = postcard::take_from_bytes::<T>(bytes).map_err(|_| Unsound)?;
    if !rest.is_empty() || !what.is_sound() {
        return Err(Unsound);
    }
    what.belong(id);
    Ok(what)
}

/// Puts one of many objects where it belongs, or takes it away.
fn put<K: TryFrom<u32>, T: Saved>(
    objects: &mut impl Numbered<K, T>,
    id: FunctionId,
    number: u32,
    bytes: Option<&[u8]>,
) -> Result<(), Unsound> {
    let number = K::try_from(number).map_err(|_| Unsound)?;
    let object = bytes.map(|bytes| decode(id, bytes)).transpose()?;
    objects.put(number, object);
    Ok(())
}

/// Adds the records of all objects of a kind.
fn add<K: Copy + Into<u32>, T: Saved>(records: &mut Records, kind: Kind, all: &BTreeMap<K, T>) {
    records.extend(all.iter().map(|(number, object)| {
        let number = (*number).into();
        (Key { kind, number }, encode(object))
    }));
}

impl Resources {
    fn of_function(function: &Function, commands: BTreeMap<u32, SavedCommand>) -> Self {
        Self {
            registers: Registers {
                started: function.started,
                up: function.up,
                undestroyed: function.objects.undestroyed,
                chosen: function.chosen.clone(),
                command_queue: function.initseg.queue_registers(),
                rung: function.rung,
                cq_doorbell: function.cq_doorbell,
                told_link: function.told_link,
            },
            commands,
            pages: function.pages.clone(),
            vport: function.vport.settings(),
            counters: function.vport.counters,
            objects: function.objects.clone(),
        }
    }

    /// Those of a function that was reset.
    pub fn after_reset(config: &Config, id: FunctionId) -> Self {
        Self::of_function(&Function::new(config, id, None), BTreeMap::new())
    }

    /// What there is one of, and nothing else is: its kind, and its record.
    fn singles(&self) -> [(Kind, Vec<u8>); 7] {
        let objects = &self.objects;
        [
            (Kind::Registers, encode(&self.registers)),
            (Kind::Pages, encode(&self.pages)),
            (Kind::Vport, encode(&self.vport)),
            (Kind::Counters, encode(&self.counters)),
            (Kind::Pds, encode(&objects.pds)),
            (Kind::Uars, encode(&objects.uars)),
            (Kind::Domains, encode(&objects.domains)),
        ]
    }

    /// The records of all that is not as `fresh`, after a reset.
    pub fn records(&self, fresh: &Self) -> Records {
        let objects = &self.objects;
        let mut records = Records::new();
        let singles = self.singles().into_iter().zip(fresh.singles());
        let changed = singles.filter(|(now, fresh)| now != fresh);
        records.extend(changed.map(|((kind, bytes), _)| (Key { kind, number: 0 }, bytes)));
        add(&mut records, Kind::Command, &self.commands);
        add(&mut records, Kind::Eq, &objects.eqs);
        add(&mut records, Kind::Mkey, &objects.mkeys);
        add(&mut records, Kind::Cq, &objects.cqs);
        add(&mut records, Kind::Qp, &objects.qps);
        add(&mut records, Kind::Tis, &objects.tiss);
        add(&mut records, Kind::Tir, &objects.tirs);
        add(&mut records, Kind::Rqt, &objects.rqts);
        add(&mut records, Kind::Sq, &objects.sqs);
        add(&mut records, Kind::Rq, &objects.rqs);
        add(&mut records, Kind::QCounter, &objects.q_counters);
        add(&mut records, Kind::FlowTable, objects.flow_tables.tables());
        let root = Key {
            kind: Kind::Root,
            number: 0,
        };
        records.extend(objects.flow_tables.root().map(|id| (root, encode(&id))));
        records
    }

    /// Loads a record; what has none is as `fresh`, after a reset.
    pub fn load(
        &mut self,
        fresh: &Self,
        id: FunctionId,
        Key { kind, number }: Key,
        bytes: Option<&[u8]>,
    ) -> Result<(), Unsound> {
        fn single<T: Saved + Clone>(
            now: &mut T,
            fresh: &T,
            id: FunctionId,
            bytes: Option<&[u8]>,
        ) -> Result<(), Unsound> {
            *now = match bytes {
                Some(bytes) => decode(id, bytes)?,
                None => fresh.clone(),
            };
            Ok(())
        }
        let (own, of_fresh) = (&mut self.objects, &fresh.objects);
        match kind {
            Kind::Registers => single(&mut self.registers, &fresh.registers, id, bytes),
            Kind::Pages => single(&mut self.pages, &fresh.pages, id, bytes),
            Kind::Vport => single(&mut self.vport, &fresh.vport, id, bytes),
            Kind::Counters => single(&mut self.counters, &fresh.counters, id, bytes),
            Kind::Pds => single(&mut own.pds, &of_fresh.pds, id, bytes),
            Kind::Uars => single(&mut own.uars, &of_fresh.uars, id, bytes),
            Kind::Domains => single(&mut own.domains, &of_fresh.domains, id, bytes),
            // One for each slot.
            Kind::Command if number >= 1 << LOG_SLOTS => Err(Unsound),
            Kind::Command => put(&mut self.commands, id, number, bytes),
            Kind::Eq => put(&mut own.eqs, id, number, bytes),
            Kind::Mkey => put(&mut own.mkeys, id, number, bytes),
            Kind::Cq => put(&mut own.cqs, id, number, bytes),
            Kind::Qp => put(&mut own.qps, id, number, bytes),
            Kind::Tis => put(&mut own.tiss, id, number, bytes),
            Kind::Tir => put(&mut own.tirs, id, number, bytes),
            Kind::Rqt => put(&mut own.rqts, id, number, bytes),
            Kind::Sq => put(&mut own.sqs, id, number, bytes),
            Kind::Rq => put(&mut own.rqs, id, number, bytes),
            Kind::QCounter => put(&mut own.q_counters, id, number, bytes),
            Kind::FlowTable => put(&mut own.flow_tables, id, number, bytes),
            Kind::Root => {
                let root = bytes.map(|bytes| decode(id, bytes)).transpose()?;
                own.flow_tables.load_root(root);
                Ok(())
            }
        }
    }

    /// Whether there is no more than a driver can make.
    pub fn fit(&self) -> bool {
        self.objects.fit()
    }

    /// Whether all that is named is there.
    pub fn is_whole(&self) -> bool {
        self.objects.is_whole()
    }
}

impl Hca {
    /// What a driver has made of a function.
    pub fn resources(&self, id: FunctionId) -> Resources {
        let function = &self.functions[usize::from(id.0)];
        Resources::of_function(function, self.saved_commands(id))
    }

    /// The records of that.
    pub fn records(&self, id: FunctionId) -> Records {
        let fresh = Resources::after_reset(&self.config, id);
        self.resources(id).records(&fresh)
    }

    /// Makes a function what was loaded. Its trackers stay: they are of this HCA.
    pub fn load_resources(&mut self, host: &mut dyn Host, id: FunctionId, loaded: Resources) {
        let Resources {
            registers,
            commands,
            pages,
            vport,
            counters,
            mut objects,
        } = loaded;
        let function = &mut self.functions[usize::from(id.0)];
        objects.trackers = std::mem::take(&mut function.objects.trackers);
        objects.undestroyed = registers.undestroyed;
        function.objects = objects;
        function.started = registers.started;
        function.up = registers.up;
        function.chosen = registers.chosen;
        function.initseg.load(registers.command_queue);
        function.rung = registers.rung;
        function.cq_doorbell = registers.cq_doorbell;
        function.told_link = registers.told_link;
        function.pages = pages;
        function.vport.load(vport);
        function.vport.counters = counters;
        self.load_commands(host, id, commands);
    }
}
