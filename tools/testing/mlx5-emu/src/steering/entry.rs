// SPDX-License-Identifier: GPL-2.0

//! Entries of flow tables.

use super::{
    kind::{
        self,
        Kind, //
    },
    LOG_MAX_DESTINATIONS, //
};
use crate::{
    encoded::{
        self,
        list_len,
        BYTE,
        U32, //
    },
    ifc::{
        ethernet::flow,
        flow_counter,
        Status, //
    },
    packet::Key, //
};
use serde::{
    Deserialize,
    Serialize, //
};

/// Where an entry has packets go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
pub enum Destination {
    /// MLX5_IFC_FLOW_DESTINATION_TYPE_FLOW_TABLE
    Table(u32),
    /// MLX5_IFC_FLOW_DESTINATION_TYPE_TIR
    Tir(u32),
    /// MLX5_IFC_FLOW_DESTINATION_TYPE_VPORT
    Vport(u16),
}

/// An entry of a table.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Entry {
    #[serde(deserialize_with = "encoded::list::<_, _, { flow::DESTINATION }>")]
    pub(super) context: Vec<u8>,
    /// Where it has packets go.
    #[serde(deserialize_with = "encoded::list::<_, _, { 1 << LOG_MAX_DESTINATIONS }>")]
    pub destinations: Vec<Destination>,
    /// What counts them.
    #[serde(deserialize_with = "encoded::list::<_, _, { kind::MAX_COUNTERS as usize }>")]
    pub counters: Vec<u32>,
}

/// A fte_match_param of which there is only what tables look at.
pub fn key(param: &[u8]) -> Result<Key, Status> {
    let param = param.get(..flow::PARAM_LEN).ok_or(Status::BadInputLen)?;
    let (key, rest) = param.split_first_chunk().ok_or(Status::BadInputLen)?;
    if rest.iter().any(|byte| *byte != 0) {
        return Err(Status::BadParam);
    }
    Ok(*key)
}

impl Entry {
    /// Most bytes in a record.
    pub const MAX_LEN: usize = list_len(flow::DESTINATION, BYTE)
        + list_len(1 << LOG_MAX_DESTINATIONS, BYTE + U32)
        + list_len(kind::MAX_COUNTERS as usize, U32);

    /// Makes an entry of a flow_context. Its list has destinations, none if packets are
    /// dropped, allowed or only counted, and then counters.
    pub fn parse(kind: Kind, context: &[u8]) -> Result<Self, Status> {
        let counts = [flow::DESTINATIONS, flow::COUNTERS].map(|field| field.get(context));
        let expected = kind.lists(flow::ACTION.get(context), 1 << LOG_MAX_DESTINATIONS)?;
        let mut expected = expected.iter().zip(&counts);
        if !expected.all(|(expected, count)| expected.contains(count))
            || flow::EXTENDED.get(context) != 0
        {
            return Err(Status::BadParam);
        }
        let [destinations, counters] = counts.map(|count| count as usize);
        let list = context.get(flow::DESTINATION..).unwrap_or_default();
        let list: Vec<&[u8]> = list.chunks_exact(8).take(destinations + counters).collect();
        if list.len() != destinations + counters {
            return Err(Status::BadInputLen);
        }
        let (to, counters) = list.split_at(destinations);
        let parse = |one: &&[u8]| {
            let id = flow::DESTINATION_ID.get(one) as u32;
            let destination = match flow::DESTINATION_TYPE.get(one) {
                0 => u16::try_from(id).map(Destination::Vport).ok(),
                1 => Some(Destination::Table(id)),
                2 => Some(Destination::Tir(id)),
                _ => None,
            };
            let possible = destination.filter(|destination| kind.leads_to(*destination));
            possible.ok_or(Status::BadParam)
        };
        let destinations = to.iter().map(parse).collect::<Result<_, _>>()?;
        let counters = counters
            .iter()
            .map(|one| flow_counter::LISTED.get(one) as u32);
        let counters = counters.collect();
        Ok(Self {
            // Without the list, and whatever follows it.
            context: context[..flow::DESTINATION.min(context.len())].to_vec(),
            destinations,
            counters,
        })
    }

    /// Whether one that was loaded is one that [`Self::parse`] could have made.
    pub fn is_sound(&self, kind: Kind) -> bool {
        let counts = [self.destinations.len(), self.counters.len()].map(|count| count as u64);
        let fields = [flow::DESTINATIONS, flow::COUNTERS].map(|field| field.get(&self.context));
        let most = 1 << LOG_MAX_DESTINATIONS;
        let lists = kind.lists(flow::ACTION.get(&self.context), most);
        let mut destinations = self.destinations.iter();
        self.context.len() <= flow::DESTINATION
            && counts == fields
            && lists.is_ok_and(|lists| lists.iter().zip(&counts).all(|(list, n)| list.contains(n)))
            && flow::EXTENDED.get(&self.context) == 0
            && destinations.all(|destination| kind.leads_to(*destination))
            && key(self.context.get(flow::VALUE..).unwrap_or_default())
                .is_ok_and(|value| kind.check_value(&value).is_ok())
    }

    /// The group that it belongs to.
    pub fn group(&self) -> u32 {
        flow::CONTEXT_GROUP.get(&self.context) as u32
    }

    /// The tag that packets get.
    pub fn tag(&self) -> u32 {
        flow::TAG.get(&self.context) as u32
    }

    /// What packets have that match it, under the mask of its group.
    pub fn value(&self) -> Key {
        let value = self.context.get(flow::VALUE..).unwrap_or_default();
        std::array::from_fn(|at| value.get(at).copied().unwrap_or(0))
    }

    /// Whether it drops them.
    pub fn drops(&self) -> bool {
        flow::ACTION.get(&self.context) & kind::DROP != 0
    }
}
