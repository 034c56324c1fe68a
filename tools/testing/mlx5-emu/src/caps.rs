// SPDX-License-Identifier: GPL-2.0

//! Capabilities, as QUERY_HCA_CAP tells them.

use crate::{
    config::{
        Config,
        LOG_MESSAGE, //
    },
    host::FunctionId,
    ifc::{
        event,
        field,
        Field,
        Status, //
    },
    track::limits, //
};

/// Bytes of a capability page.
pub const LEN: usize = 0x1000;

/// MLX5_CAP_GENERAL, cmd_hca_cap.
mod general {
    use super::{
        field,
        Field, //
    };

    pub const HCA_CAP_2: Field = field(0x4, 0, 1);
    pub const VHCA_ID: Field = field(0x6, 0, 16);
    pub const EVENT_CAP: Field = field(0x12, 0, 1);
    pub const LOG_MAX_EQ_SZ: Field = field(0x1c, 0, 8);
    pub const LOG_MAX_MKEY: Field = field(0x1d, 2, 6);
    pub const LOG_MAX_EQ: Field = field(0x1f, 4, 4);
    pub const PORT_TYPE: Field = field(0x36, 6, 2);
    pub const NUM_PORTS: Field = field(0x37, 0, 8);
    pub const LOG_MAX_MSG: Field = field(0x38, 3, 5);
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

/// The capability page of type `kind` of a function.
pub fn page(kind: u16, function: FunctionId, config: &Config) -> Result<Vec<u8>, Status> {
    let mut cap = vec![0; LEN];
    match kind {
        0x0 => {
            for (field, value) in [
                (general::HCA_CAP_2, 1),
                (general::VHCA_ID, function.0.into()),
                (general::EVENT_CAP, 1),
                (general::LOG_MAX_EQ_SZ, 22),
                (general::LOG_MAX_MKEY, 20),
                (general::LOG_MAX_EQ, 6),
                // Ethernet.
                (general::PORT_TYPE, 1),
                (general::NUM_PORTS, 1),
                (general::LOG_MAX_MSG, 30),
                (general::LOG_PG_SZ, 31),
                (general::LOG_MAX_PD, 16),
                (general::DEVICE_FREQUENCY_MHZ, 1000),
                (general::DEVICE_FREQUENCY_KHZ, 1_000_000),
                (general::MIGRATION, 1),
                (general::ADV_VIRTUALIZATION, 1),
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
    Ok(cap)
}
