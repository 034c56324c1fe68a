// SPDX-License-Identifier: GPL-2.0

//! Types of flow tables: what their entries match, and what they do with packets.

use super::Destination;
use crate::{
    ifc::{
        eswitch::misc,
        ethernet::headers,
        Status, //
    },
    packet::Key, //
};

/// MLX5_MATCH_OUTER_HEADERS
const OUTER_HEADERS: u64 = 1;
/// MLX5_MATCH_MISC_PARAMETERS
const MISC_PARAMETERS: u64 = 1 << 1;
/// MLX5_FLOW_CONTEXT_ACTION_*
pub const ALLOW: u64 = 1;
pub const DROP: u64 = 1 << 1;
pub const FORWARD: u64 = 1 << 2;
pub const COUNT: u64 = 1 << 3;

/// Most counters of an entry (`log_max_flow_counter` is 0).
pub const MAX_COUNTERS: u64 = 1;

/// What tables are for (FS_FT_*).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// FS_FT_NIC_RX: what a function receives goes to TIRs.
    #[default]
    NicReceive = 0,
    /// FS_FT_ESW_EGRESS_ACL: what may leave the e-switch through a port.
    EgressAcl = 2,
    /// FS_FT_ESW_INGRESS_ACL: what may enter the e-switch through a port.
    IngressAcl = 3,
    /// FS_FT_FDB: the ports of the e-switch that packets go to.
    Fdb = 4,
}

impl Kind {
    /// The type that `table_type` names.
    pub fn from_number(number: u64) -> Option<Self> {
        [
            Self::NicReceive,
            Self::EgressAcl,
            Self::IngressAcl,
            Self::Fdb,
        ]
        .into_iter()
        .find(|kind| *kind as u64 == number)
    }

    fn is_acl(self) -> bool {
        matches!(self, Self::EgressAcl | Self::IngressAcl)
    }

    /// How many destinations an entry with these actions has, at least and at most,
    /// and how many counters. Of what a function receives, nothing becomes that an entry only
    /// counts: it is dropped.
    pub fn lists(
        self,
        actions: u64,
        most: u64,
    ) -> Result<[std::ops::RangeInclusive<u64>; 2], Status> {
        let counters = match actions & COUNT {
            0 => 0..=0,
            _ if self != Self::Fdb => 1..=MAX_COUNTERS,
            _ => return Err(Status::BadParam),
        };
        let destinations = match actions & !COUNT {
            DROP => 0..=0,
            0 if self == Self::NicReceive && actions == COUNT => 0..=0,
            ALLOW if self.is_acl() => 0..=0,
            FORWARD if !self.is_acl() => 1..=most,
            _ => return Err(Status::BadParam),
        };
        Ok([destinations, counters])
    }

    /// Whether an entry can have packets go there.
    pub fn leads_to(self, destination: Destination) -> bool {
        match destination {
            Destination::Table(_) => true,
            Destination::Tir(_) => self == Self::NicReceive,
            Destination::Vport(_) => self == Self::Fdb,
        }
    }

    /// The `match_criteria_enable` that a group can have.
    pub fn criteria(self) -> u64 {
        match self {
            Self::Fdb => OUTER_HEADERS | MISC_PARAMETERS,
            _ => OUTER_HEADERS,
        }
    }

    /// Checks that a group can have this mask.
    pub fn check_mask(self, criteria: u64, mask: &Key) -> Result<(), Status> {
        let mut known = [0; std::mem::size_of::<Key>()];
        if criteria & OUTER_HEADERS != 0 {
            for field in headers::MATCHED {
                field.set(&mut known, u64::MAX);
            }
            known[headers::SOURCE].fill(0xff);
            known[headers::DESTINATION].fill(0xff);
        }
        if criteria & MISC_PARAMETERS != 0 {
            misc::SOURCE_PORT.set(&mut known, u64::MAX);
        }
        let mut bytes = mask.iter().zip(known);
        match criteria & !self.criteria() {
            0 if bytes.all(|(mask, known)| mask & !known == 0) => Ok(()),
            _ => Err(Status::BadParam),
        }
    }

    /// Checks that an entry of such a table can have this value.
    pub fn check_value(self, value: &Key) -> Result<(), Status> {
        let unused = match self {
            Self::Fdb => &[],
            _ => &value[headers::LEN..],
        };
        match unused.iter().all(|byte| *byte == 0) {
            true => Ok(()),
            false => Err(Status::BadParam),
        }
    }
}
