// SPDX-License-Identifier: GPL-2.0

//! Receive queue tables: what a hash chooses from.

use crate::{
    encoded::{
        list_len,
        U32,
        U64, //
    },
    ifc::{
        ethernet::{
            rqtc,
            CONTEXT, //
        },
        Status, //
    },
    resources::Saved, //
};
use serde::{
    Deserialize,
    Serialize, //
};

/// Most entries of a table, as a shift.
pub const LOG_MAX_SIZE: u64 = 8;

/// An RQT.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Rqt {
    max: usize,
    rqs: Vec<u32>,
}

/// The list of a context, of at most `max` entries.
fn list(input: &[u8], max: usize) -> Result<Vec<u32>, Status> {
    let context = input.get(CONTEXT..).unwrap_or_default();
    let size = rqtc::ACTUAL_SIZE.get(context) as usize;
    if !(1..=max).contains(&size) {
        return Err(Status::BadParam);
    }
    let bytes = context.get(rqtc::LIST..rqtc::LIST + size * 4);
    let entries = bytes.ok_or(Status::BadInputLen)?.chunks_exact(4);
    Ok(entries
        .map(|entry| u32::from_be_bytes([0, entry[1], entry[2], entry[3]]))
        .collect())
}

impl Saved for Rqt {
    const MAX_LEN: usize = U64 + list_len(1 << LOG_MAX_SIZE, U32);

    fn is_sound(&self) -> bool {
        self.max <= 1 << LOG_MAX_SIZE && (1..=self.max).contains(&self.rqs.len())
    }
}

impl Rqt {
    /// CREATE_RQT.
    pub fn parse(input: &[u8]) -> Result<Self, Status> {
        let context = input.get(CONTEXT..).unwrap_or_default();
        let max = rqtc::MAX_SIZE.get(context) as usize;
        if max > 1 << LOG_MAX_SIZE {
            return Err(Status::BadParam);
        }
        Ok(Self {
            max,
            rqs: list(input, max)?,
        })
    }

    /// What MODIFY_RQT makes of it.
    pub fn modified(&self, input: &[u8]) -> Result<Self, Status> {
        Ok(Self {
            max: self.max,
            rqs: list(input, self.max)?,
        })
    }

    /// Its receive queues, each at least once.
    pub fn rqs(&self) -> &[u32] {
        &self.rqs
    }

    /// The receive queue for a hash.
    pub fn choose(&self, hash: u32) -> Option<u32> {
        let index = hash as usize % self.rqs.len().max(1);
        self.rqs.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(max: u64, rqs: &[u8]) -> Vec<u8> {
        let mut input = vec![0; CONTEXT + rqtc::LIST];
        rqtc::MAX_SIZE.set(&mut input[CONTEXT..], max);
        rqtc::ACTUAL_SIZE.set(&mut input[CONTEXT..], rqs.len() as u64);
        input.extend(rqs.iter().flat_map(|rq| [0, 0, 0, *rq]));
        input
    }

    #[test]
    fn a_hash_chooses_an_entry() {
        let rqt = Rqt::parse(&input(4, &[7, 8, 9])).unwrap();
        assert_eq!(rqt.choose(4), Some(8));
        assert_eq!(rqt.choose(u32::MAX), Some(7));
        let rqt = rqt.modified(&input(0, &[5])).unwrap();
        assert_eq!(rqt.choose(3), Some(5));
    }

    #[test]
    fn a_list_has_its_size() {
        assert!(Rqt::parse(&input(4, &[])).is_err());
        assert!(Rqt::parse(&input(2, &[1, 2, 3])).is_err());
        assert!(Rqt::parse(&input(512, &[1])).is_err());
        let mut short = input(4, &[1, 2]);
        short.pop();
        assert_eq!(Rqt::parse(&short).unwrap_err(), Status::BadInputLen);
        assert!(Rqt::parse(&[]).is_err());
        let rqt = Rqt::parse(&input(2, &[1])).unwrap();
        assert!(rqt.modified(&input(4, &[1, 2, 3])).is_err());
    }
}
