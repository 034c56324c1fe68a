// SPDX-License-Identifier: GPL-2.0

//! Multi-physical function switch: the unicast addresses that frames from the wire
//! must have to get to the e-switch.

use crate::{
    ifc::Status,
    vport::Mac, //
};
use std::collections::BTreeMap;

/// Entries of the table, as a shift (`log_max_l2_table`): those of a ConnectX-4.
pub const LOG_MAX_ENTRIES: u64 = 16;

/// The L2 table.
#[derive(Clone, Default, Debug)]
pub struct Mpfs {
    entries: BTreeMap<u32, Mac>,
}

impl Mpfs {
    /// SET_L2_TABLE_ENTRY.
    pub fn set(&mut self, index: u32, mac: Mac) -> Result<(), Status> {
        if index >= 1 << LOG_MAX_ENTRIES {
            return Err(Status::Index);
        }
        self.entries.insert(index, mac);
        Ok(())
    }

    /// DELETE_L2_TABLE_ENTRY.
    pub fn delete(&mut self, index: u32) -> Result<(), Status> {
        let entry = self.entries.remove(&index);
        entry.map(drop).ok_or(Status::BadRes)
    }

    /// Whether a frame gets through: one for a group does.
    pub fn accepts(&self, frame: &[u8]) -> bool {
        let Some(to) = frame.first_chunk::<6>() else {
            return false;
        };
        to[0] & 1 == 1 || self.entries.values().any(|mac| mac == to)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_addresses_and_groups_get_through() {
        let mut mpfs = Mpfs::default();
        let (mac, other) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        mpfs.set(5, mac).unwrap();
        assert!(mpfs.accepts(&mac) && !mpfs.accepts(&other));
        assert!(mpfs.accepts(&[0xff; 6]) && mpfs.accepts(&[1, 0, 0x5e, 0, 0, 1]));
        assert!(!mpfs.accepts(&mac[1..]));
        mpfs.set(5, other).unwrap();
        assert!(!mpfs.accepts(&mac) && mpfs.accepts(&other));
        mpfs.delete(5).unwrap();
        assert!(!mpfs.accepts(&other));
        assert_eq!(mpfs.delete(5), Err(Status::BadRes));
        assert_eq!(mpfs.set(1 << LOG_MAX_ENTRIES, mac), Err(Status::Index));
        assert_eq!(mpfs.len(), 0);
    }
}
