// SPDX-License-Identifier: GPL-2.0

//! What a user can choose.

use crate::vport::Mac;

/// Properties of an HCA.
#[derive(Clone, Debug)]
pub struct Config {
    /// Number of VFs.
    pub vfs: u16,
    /// MSI-X vectors of each VF.
    pub vf_vectors: u16,
    /// Pages that the PF wants before INIT_HCA, besides those at boot.
    pub init_pages: u32,
    /// The address of the PF's port, if that is connected to a network. Only then
    /// is the HCA a NIC.
    pub network: Option<Mac>,
    /// Bytes of each VF's state table; rounded up to whole pages.
    pub state_size: u64,
    /// Largest chunk of a stopped VF; 0 is for no chunks.
    pub chunk_size: u64,
    /// Each chunk of a stopped device may need twice the room of the one before.
    pub chunks_grow: bool,
    /// Bytes at the end of each image that a SAVE counts and does not write.
    pub save_unwritten: u32,
    /// Whether firmware tells of a new initial state.
    pub migration_state: bool,
    /// How long a driver is to wait for a command, in milliseconds; 0 to not say.
    pub command_timeout_ms: u32,
    /// Firmware time of any command, in nanoseconds.
    pub command_ns: u64,
    /// Whether commands take the time that an adapter was seen to take, and that of the
    /// other properties more.
    pub recorded_times: bool,
    /// Time from the request for a report of dirty pages to its beginning.
    pub report_ns: u64,
    /// Time between the messages of a report; 0 for all at once.
    pub message_ns: u64,
    /// How often a message for which nothing is posted is tried again at once, before the sender
    /// waits.
    pub rnr_retries: u32,
    /// How often a report has each page.
    pub page_repeats: u16,
    /// Most bytes of a message, as a shift.
    pub log_max_message: u8,
    /// Most page trackers.
    pub trackers: u16,
    /// Largest page of an mkey, as a shift.
    pub log_max_mkey_page: u8,
    /// More time for SUSPEND_VHCA.
    pub suspend_ns: u64,
    /// More time for RESUME_VHCA.
    pub resume_ns: u64,
    /// More time for each MiB of a SAVE_VHCA_STATE.
    pub save_ns_per_mib: u64,
    /// More time for each MiB of a LOAD_VHCA_STATE.
    pub load_ns_per_mib: u64,
}

/// Least bytes of a state table.
pub const MIN_STATE: u64 = 4 << 10;
/// Most bytes of a state table.
pub const MAX_STATE: u64 = 1 << 30;
/// Least bytes of a chunk: there must be progress.
pub const MIN_CHUNK: u64 = 16 << 10;
/// Most bytes that a SAVE does not write.
pub const MAX_UNWRITTEN: u32 = 16 << 20;
/// Most retries without a wait: the rest of the machine has to go on.
pub const MAX_RNR_RETRIES: u32 = 10_000;
/// Bytes of a page tracker's message, as a shift.
pub const LOG_MESSAGE: std::ops::RangeInclusive<u8> = 9..=22;
/// Most VFs.
pub const MAX_VFS: u16 = 64;

impl Default for Config {
    fn default() -> Self {
        Self {
            vfs: 8,
            vf_vectors: 12,
            init_pages: 12_868,
            network: None,
            state_size: 1 << 20,
            chunk_size: 0,
            chunks_grow: false,
            save_unwritten: 0,
            migration_state: true,
            command_timeout_ms: 0,
            command_ns: 0,
            recorded_times: false,
            report_ns: 0,
            message_ns: 0,
            rnr_retries: 0,
            page_repeats: 1,
            log_max_message: 12,
            trackers: 64,
            log_max_mkey_page: 31,
            suspend_ns: 0,
            resume_ns: 0,
            save_ns_per_mib: 0,
            load_ns_per_mib: 0,
        }
    }
}
