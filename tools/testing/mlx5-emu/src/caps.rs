// SPDX-License-Identifier: GPL-2.0

//! Capabilities, as QUERY_HCA_CAP tells them.

mod eswitch;
mod ethernet;

use crate::{
    config::{
        Config,
        LOG_MESSAGE, //
    },
    cq,
    encoded::BYTE,
    eq,
    host::FunctionId,
    ifc::{
        event,
        field,
        Field,
        Status, //
    },
    state::Digest,
    track::limits, //
};
use serde::{
    Deserialize,
    Serialize, //
};

/// Bytes of a capability page.
pub const LEN: usize = 0x1000;

// Limits of a ConnectX-4.
/// Largest number of a PD, as a shift.
pub const LOG_MAX_PD: u32 = 24;
/// Largest index of an mkey, as a shift.
pub const LOG_MAX_MKEY: u32 = 24;
/// Largest number of a CQ, as a shift.
pub const LOG_MAX_CQ: u32 = 24;
/// Most that a driver can choose for the numbers of QPs, as a shift.
pub const LOG_MAX_QP: u8 = 23;
/// Largest number of a QP, as a shift, before a driver chooses.
const LOG_QP: u8 = 14;

/// What a driver has chosen with SET_HCA_CAP.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Chosen {
    /// `log_max_qp`: largest number of a QP, as a shift.
    pub log_max_qp: u8,
}

impl Chosen {
    /// Most bytes in a record.
    pub const MAX_LEN: usize = BYTE;

    /// Whether one that was loaded is one that [`choose`] could have made.
    pub fn is_sound(&self) -> bool {
        self.log_max_qp <= LOG_MAX_QP
    }
}

impl Default for Chosen {
    fn default() -> Self {
        Self { log_max_qp: LOG_QP }
    }
}

/// Which values a capability page has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Values {
    /// HCA_CAP_OPMOD_GET_MAX: what a driver can choose.
    Max,
    /// HCA_CAP_OPMOD_GET_CUR: what holds.
    Current,
}

/// Type of the page of general capabilities, MLX5_CAP_GENERAL.
const GENERAL: u16 = 0x0;

/// MLX5_CAP_GENERAL, cmd_hca_cap.
mod general {
    use super::{
        field,
        Field, //
    };

    pub const HCA_CAP_2: Field = field(0x4, 0, 1);
    pub const VHCA_ID: Field = field(0x6, 0, 16);
    pub const LOG_MAX_QP_SZ: Field = field(0x11, 0, 8);
    pub const EVENT_CAP: Field = field(0x12, 0, 1);
    pub const LOG_MAX_QP: Field = field(0x13, 3, 5);
    pub const LOG_MAX_CQ_SZ: Field = field(0x19, 0, 8);
    pub const LOG_MAX_CQ: Field = field(0x1b, 3, 5);
    pub const LOG_MAX_EQ_SZ: Field = field(0x1c, 0, 8);
    pub const LOG_MAX_MKEY: Field = field(0x1d, 2, 6);
    pub const LOG_MAX_EQ: Field = field(0x1f, 4, 4);
    pub const VHCA_GROUP_MANAGER: Field = field(0x34, 1, 1);
    pub const LOCAL_CA_ACK_DELAY: Field = field(0x35, 3, 5);
    pub const PORT_TYPE: Field = field(0x36, 6, 2);
    pub const NUM_PORTS: Field = field(0x37, 0, 8);
    pub const LOG_MAX_MSG: Field = field(0x38, 3, 5);
    pub const UAR_SZ: Field = field(0x49, 2, 6);
    pub const LOG_PG_SZ: Field = field(0x4b, 0, 8);
    pub const LOG_MAX_PD: Field = field(0x65, 3, 5);
    pub const DEVICE_FREQUENCY_KHZ: Field = field(0x9c, 0, 32);
    pub const DEVICE_FREQUENCY_MHZ: Field = field(0x98, 0, 32);
    pub const ADV_VIRTUALIZATION: Field = field(0xaf, 1, 1);
    pub const MIGRATION: Field = field(0xd1, 5, 1);
}

/// MLX5_CAP_GENERAL_2, cmd_hca_cap_2.
mod general_2 {
    use super::{
        field,
        Field, //
    };

    pub const MIGRATABLE: Field = field(0x10, 0, 1);
    pub const MIGRATION_MULTI_LOAD: Field = field(0x19, 0, 1);
    pub const MIGRATION_TRACKING_STATE: Field = field(0x19, 1, 1);
    pub const MIGRATION_IN_CHUNKS: Field = field(0x1a, 0, 1);
    pub const MIGRATION_STATE: Field = field(0x1b, 1, 1);
}

/// MLX5_CAP_DEV_EVENT, device_event_cap: `user_affiliated_events`, events 0 to
/// 63. What is in it mlx5_core has told to its asynchronous EQ, too.
const USER_AFFILIATED_EVENTS: Field = field(0x0, 0, 64);

/// MLX5_CAP_ADV_VIRTUALIZATION, adv_virtualization_cap: `pg_track_*`.
mod adv_virtualization {
    use super::{
        field,
        Field, //
    };

    pub const LOG_MAX_NUM: Field = field(0x0, 3, 5);
    pub const MAX_NUM_RANGE: Field = field(0x1, 0, 8);
    pub const LOG_MIN_ADDR_SPACE: Field = field(0x2, 0, 8);
    pub const LOG_MAX_ADDR_SPACE: Field = field(0x3, 0, 8);
    pub const LOG_MIN_MSG_SIZE: Field = field(0x4, 3, 5);
    pub const LOG_MAX_MSG_SIZE: Field = field(0x5, 3, 5);
    pub const LOG_MIN_PAGE_SIZE: Field = field(0x6, 3, 5);
    pub const LOG_MAX_PAGE_SIZE: Field = field(0x7, 3, 5);
}

/// A function whose capabilities are told or chosen.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The function.
    pub function: FunctionId,
    /// What its driver has chosen.
    pub chosen: &'a Chosen,
    /// What the HCA's user has chosen.
    pub config: &'a Config,
}

/// Returns what a driver chooses with the page that SET_HCA_CAP sends. That is the current
/// page, and only what can be chosen may differ.
pub fn choose(kind: u16, asked: Asked<'_>, wanted: &[u8]) -> Result<Chosen, Status> {
    if wanted.len() != LEN {
        return Err(Status::BadInputLen);
    }
    let mut chosen = asked.chosen.clone();
    if kind == GENERAL {
        chosen.log_max_qp = general::LOG_MAX_QP.get(wanted) as u8;
    }
    let after = Asked {
        chosen: &chosen,
        ..asked
    };
    if chosen.log_max_qp > LOG_MAX_QP || page(kind, Values::Current, after) != wanted {
        return Err(Status::BadParam);
    }
    Ok(chosen)
}

/// A digest of what there must be where a VF goes on: what its driver is told of a NIC, if it is
/// one, and what its EQs and mkeys can have.
pub fn of_image(config: &Config, function: FunctionId) -> u64 {
    let mut digest = Digest::default();
    digest.word(match config.network {
        Some(_) => ethernet::digest(function),
        None => 0,
    });
    digest.word(config.vf_vectors.into());
    digest.word(config.log_max_mkey_page.into());
    digest.value()
}

/// The capability page of type `kind` of a function.
pub fn page(kind: u16, values: Values, asked: Asked<'_>) -> Vec<u8> {
    let Asked {
        function,
        chosen,
        config,
    } = asked;
    let mut cap = vec![0; LEN];
    match kind {
        GENERAL => {
            let log_max_qp = match values {
                Values::Max => LOG_MAX_QP,
                Values::Current => chosen.log_max_qp,
            };
            for (field, value) in [
                (general::HCA_CAP_2, 1),
                (general::VHCA_ID, function.0.into()),
                (general::EVENT_CAP, 1),
                // As many as CREATE_QP has bits for.
                (general::LOG_MAX_QP_SZ, 15),
                (general::LOG_MAX_QP, log_max_qp.into()),
                (general::LOG_MAX_CQ_SZ, cq::MAX_LOG_SIZE),
                (general::LOG_MAX_CQ, LOG_MAX_CQ.into()),
                (general::LOG_MAX_EQ_SZ, eq::MAX_LOG_SIZE),
                (general::LOG_MAX_MKEY, LOG_MAX_MKEY.into()),
                (general::LOG_MAX_EQ, u8::BITS.into()),
                // The PF may ask for the capabilities of others.
                (
                    general::VHCA_GROUP_MANAGER,
                    u64::from(function == FunctionId::PF),
                ),
                (general::LOCAL_CA_ACK_DELAY, 16),
                // Ethernet.
                (general::PORT_TYPE, 1),
                (general::NUM_PORTS, 1),
                (general::LOG_MAX_MSG, 30),
                // A BAR of 32 MiB, or of one.
                (
                    general::UAR_SZ,
                    match function {
                        FunctionId::PF => 5,
                        _ => 0,
                    },
                ),
                (general::LOG_PG_SZ, 12),
                (general::LOG_MAX_PD, LOG_MAX_PD.into()),
                (general::DEVICE_FREQUENCY_MHZ, 1000),
                (general::DEVICE_FREQUENCY_KHZ, 1_000_000),
                (general::MIGRATION, 1),
                (
                    general::ADV_VIRTUALIZATION,
                    u64::from(function == FunctionId::PF),
                ),
            ] {
                field.set(&mut cap, value);
            }
        }
        0x14 => USER_AFFILIATED_EVENTS.set(&mut cap, 1 << event::OBJECT_CHANGE),
        0x20 => {
            for field in [
                general_2::MIGRATABLE,
                general_2::MIGRATION_MULTI_LOAD,
                general_2::MIGRATION_TRACKING_STATE,
            ] {
                field.set(&mut cap, 1);
            }
            general_2::MIGRATION_IN_CHUNKS.set(&mut cap, u64::from(config.chunk_size > 0));
            general_2::MIGRATION_STATE.set(&mut cap, u64::from(config.migration_state));
        }
        0x26 => {
            for (field, value) in [
                // At least as many as there are.
                (
                    adv_virtualization::LOG_MAX_NUM,
                    config.trackers.max(1).next_power_of_two().ilog2().into(),
                ),
                (adv_virtualization::MAX_NUM_RANGE, limits::MAX_RANGES),
                (
                    adv_virtualization::LOG_MIN_ADDR_SPACE,
                    limits::LOG_MIN_SPACE,
                ),
                (
                    adv_virtualization::LOG_MAX_ADDR_SPACE,
                    limits::LOG_MAX_SPACE,
                ),
                (
                    adv_virtualization::LOG_MIN_MSG_SIZE,
                    (*LOG_MESSAGE.start()).into(),
                ),
                (
                    adv_virtualization::LOG_MAX_MSG_SIZE,
                    config.log_max_message.into(),
                ),
                (
                    adv_virtualization::LOG_MIN_PAGE_SIZE,
                    *limits::LOG_PAGE.start(),
                ),
                (
                    adv_virtualization::LOG_MAX_PAGE_SIZE,
                    *limits::LOG_PAGE.end(),
                ),
            ] {
                field.set(&mut cap, value);
            }
        }
        _ => (),
    }
    if config.network.is_some() {
        ethernet::add(kind, function, &mut cap);
        if function == FunctionId::PF {
            eswitch::add(kind, &mut cap);
        }
    }
    cap
}
