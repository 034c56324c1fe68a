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
    numbers::{
        self,
        Numbers, //
    },
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
use std::{
    collections::BTreeMap,
    ops::Range, //
};

/// What a record can have.
pub trait Saved: Serialize + DeserializeOwned {
    /// Most bytes of a record.
    const MAX_LEN: usize;

    /// Whether the model could have come to it by itself.
    fn is_sound(&self) -> bool;

    /// Whether an HCA like this lets a driver make it.
    fn is_possible(&self, _config: &Config) -> bool {
        true
    }

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
        // INIT_HCA comes after ENABLE_HCA, and what ends that ends both.
        self.chosen.is_sound() && (self.started || !self.up)
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

fn decode<T: Saved>(config: &Config, id: FunctionId, bytes: &[u8]) -> Result<T, Unsound> {
    if bytes.len() > T::MAX_LEN {
        return Err(Unsound);
    }
    let (mut what, rest) = postcard::take_from_bytes::<T>(bytes).map_err(|_| Unsound)?;
    if !rest.is_empty() || !what.is_sound() || !what.is_possible(config) {
        return Err(Unsound);
    }
    what.belong(id);
    Ok(what)
}

/// A record that is loaded, or that there is none any more.
struct Loaded<'a> {
    config: &'a Config,
    id: FunctionId,
    number: u32,
    bytes: Option<&'a [u8]>,
}

impl Loaded<'_> {
    fn decode<T: Saved>(&self) -> Result<Option<T>, Unsound> {
        let decode = |bytes| decode(self.config, self.id, bytes);
        self.bytes.map(decode).transpose()
    }

    /// Loads what there is one of; `fresh` is that after a reset.
    fn single<T: Saved + Clone>(&self, now: &mut T, fresh: &T) -> Result<(), Unsound> {
        *now = self.decode()?.unwrap_or_else(|| fresh.clone());
        Ok(())
    }

    /// Loads which numbers of `range` are taken.
    fn numbers(
        &self,
        now: &mut Numbers,
        fresh: &Numbers,
        range: Range<u32>,
    ) -> Result<(), Unsound> {
        let numbers: Numbers = self.decode()?.unwrap_or_else(|| fresh.clone());
        if !numbers.are_within(range) {
            return Err(Unsound);
        }
        *now = numbers;
        Ok(())
    }

    /// Puts one of many objects where it belongs, or takes it away.
    fn put<K: TryFrom<u32>, T: Saved>(
        &self,
        objects: &mut impl Numbered<K, T>,
    ) -> Result<(), Unsound> {
        let number = K::try_from(self.number).map_err(|_| Unsound)?;
        objects.put(number, self.decode()?);
        Ok(())
    }
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
        config: &Config,
        fresh: &Self,
        id: FunctionId,
        Key { kind, number }: Key,
        bytes: Option<&[u8]>,
    ) -> Result<(), Unsound> {
        if !limits::numbers(kind).contains(&number) {
            return Err(Unsound);
        }
        let loaded = Loaded {
            config,
            id,
            number,
            bytes,
        };
        let (own, of_fresh) = (&mut self.objects, &fresh.objects);
        match kind {
            Kind::Registers => loaded.single(&mut self.registers, &fresh.registers),
            Kind::Pages => loaded.single(&mut self.pages, &fresh.pages),
            Kind::Vport => loaded.single(&mut self.vport, &fresh.vport),
            Kind::Counters => loaded.single(&mut self.counters, &fresh.counters),
            Kind::Pds => loaded.numbers(&mut own.pds, &of_fresh.pds, numbers::PDS),
            Kind::Uars => loaded.numbers(&mut own.uars, &of_fresh.uars, numbers::VF_UARS),
            Kind::Domains => loaded.numbers(&mut own.domains, &of_fresh.domains, numbers::DOMAINS),
            Kind::Command => loaded.put(&mut self.commands),
            Kind::Eq => loaded.put(&mut own.eqs),
            Kind::Mkey => loaded.put(&mut own.mkeys),
            Kind::Cq => loaded.put(&mut own.cqs),
            Kind::Qp => loaded.put(&mut own.qps),
            Kind::Tis => loaded.put(&mut own.tiss),
            Kind::Tir => loaded.put(&mut own.tirs),
            Kind::Rqt => loaded.put(&mut own.rqts),
            Kind::Sq => loaded.put(&mut own.sqs),
            Kind::Rq => loaded.put(&mut own.rqs),
            Kind::QCounter => loaded.put(&mut own.q_counters),
            Kind::FlowTable => loaded.put(&mut own.flow_tables),
            Kind::Root => {
                own.flow_tables.load_root(loaded.decode()?);
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
