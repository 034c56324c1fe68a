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

#[cfg(test)]
thread_local! {
    /// How often a record was made.
    pub static ENCODED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

fn encode<T: Saved>(what: &T) -> Vec<u8> {
    #[cfg(test)]
    ENCODED.set(ENCODED.get() + 1);
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

/// Undoes what a record has changed.
pub type Undo = Box<dyn FnOnce(&mut Resources)>;

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
    fn single<T: Saved + Clone + 'static>(
        &self,
        own: &mut Resources,
        fresh: &mut Resources,
        which: fn(&mut Resources) -> &mut T,
    ) -> Result<Undo, Unsound> {
        let new = self.decode()?.unwrap_or_else(|| which(fresh).clone());
        let old = std::mem::replace(which(own), new);
        Ok(Box::new(move |own| *which(own) = old))
    }

    /// Loads which numbers of `range` are taken.
    fn numbers(
        &self,
        own: &mut Resources,
        fresh: &mut Resources,
        which: fn(&mut Resources) -> &mut Numbers,
        range: Range<u32>,
    ) -> Result<Undo, Unsound> {
        let undo = self.single(own, fresh, which)?;
        if which(own).are_within(range) {
            return Ok(undo);
        }
        undo(own);
        Err(Unsound)
    }

    /// Puts one of many objects where it belongs, or takes it away.
    fn put<K, T, M>(
        &self,
        own: &mut Resources,
        which: fn(&mut Resources) -> &mut M,
    ) -> Result<Undo, Unsound>
    where
        K: Copy + TryFrom<u32> + 'static,
        T: Saved + 'static,
        M: Numbered<K, T> + 'static,
    {
        let number = K::try_from(self.number).map_err(|_| Unsound)?;
        let old = which(own).put(number, self.decode()?);
        Ok(Box::new(move |own| {
            which(own).put(number, old);
        }))
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

    /// The objects.
    #[cfg(test)]
    pub fn objects(&self) -> &Objects {
        &self.objects
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
        add(&mut records, Kind::FlowCounter, objects.flow_counters.all());
        add(&mut records, Kind::FlowTable, objects.flow_tables.tables());
        let root = Key {
            kind: Kind::Root,
            number: 0,
        };
        records.extend(objects.flow_tables.root().map(|id| (root, encode(&id))));
        records
    }

    /// Loads a record; what has none is as `fresh`, after a reset. Returns what undoes that.
    pub fn load(
        &mut self,
        config: &Config,
        fresh: &mut Self,
        id: FunctionId,
        Key { kind, number }: Key,
        bytes: Option<&[u8]>,
    ) -> Result<Undo, Unsound> {
        let is_foreign = bytes.is_some() && kind.is_of_nic() && config.network.is_none();
        if is_foreign || !limits::numbers(kind).contains(&number) {
            return Err(Unsound);
        }
        let loaded = Loaded {
            config,
            id,
            number,
            bytes,
        };
        match kind {
            Kind::Registers => loaded.single(self, fresh, |own| &mut own.registers),
            Kind::Pages => loaded.single(self, fresh, |own| &mut own.pages),
            Kind::Vport => loaded.single(self, fresh, |own| &mut own.vport),
            Kind::Counters => loaded.single(self, fresh, |own| &mut own.counters),
            Kind::Pds => loaded.numbers(self, fresh, |own| &mut own.objects.pds, numbers::PDS),
            Kind::Uars => {
                loaded.numbers(self, fresh, |own| &mut own.objects.uars, numbers::VF_UARS)
            }
            Kind::Domains => loaded.numbers(
                self,
                fresh,
                |own| &mut own.objects.domains,
                numbers::DOMAINS,
            ),
            Kind::Command => loaded.put(self, |own| &mut own.commands),
            Kind::Eq => loaded.put(self, |own| &mut own.objects.eqs),
            Kind::Mkey => loaded.put(self, |own| &mut own.objects.mkeys),
            Kind::Cq => loaded.put(self, |own| &mut own.objects.cqs),
            Kind::Qp => loaded.put(self, |own| &mut own.objects.qps),
            Kind::Tis => loaded.put(self, |own| &mut own.objects.tiss),
            Kind::Tir => loaded.put(self, |own| &mut own.objects.tirs),
            Kind::Rqt => loaded.put(self, |own| &mut own.objects.rqts),
            Kind::Sq => loaded.put(self, |own| &mut own.objects.sqs),
            Kind::Rq => loaded.put(self, |own| &mut own.objects.rqs),
            Kind::QCounter => loaded.put(self, |own| &mut own.objects.q_counters),
            Kind::FlowCounter => loaded.put(self, |own| &mut own.objects.flow_counters),
            Kind::FlowTable => loaded.put(self, |own| &mut own.objects.flow_tables),
            Kind::Root => {
                let tables = &mut self.objects.flow_tables;
                let old = tables.root();
                tables.load_root(loaded.decode()?);
                Ok(Box::new(move |own| own.objects.flow_tables.load_root(old)))
            }
        }
    }

    /// Whether there is no more than a driver can make in `states` states.
    pub fn fit(&self, states: usize) -> bool {
        self.objects.fit(states)
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

    /// The same, taken out of the function: that has none of its objects and pages until
    /// [`Self::give_back`].
    pub fn take_resources(&mut self, id: FunctionId) -> Resources {
        let function = &mut self.functions[usize::from(id.0)];
        let pages = std::mem::take(&mut function.pages);
        let mut objects = std::mem::take(&mut function.objects);
        function.objects.trackers = std::mem::take(&mut objects.trackers);
        function.objects.undestroyed = objects.undestroyed;
        Resources {
            pages,
            objects,
            ..self.resources(id)
        }
    }

    /// Gives a function what was taken out of it.
    pub fn give_back(&mut self, id: FunctionId, taken: Resources) {
        let function = &mut self.functions[usize::from(id.0)];
        let trackers = std::mem::take(&mut function.objects.trackers);
        function.pages = taken.pages;
        function.objects = Objects {
            trackers,
            ..taken.objects
        };
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
