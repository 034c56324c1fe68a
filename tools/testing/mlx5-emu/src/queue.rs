// SPDX-License-Identifier: GPL-2.0

//! What queues in host memory have in common.

use crate::{
    encoded::{
        self,
        list_len,
        U32,
        U64, //
    },
    host::{
        DmaFault,
        FunctionId,
        Host, //
    },
    ifc::Status, //
};
use serde::{
    Deserialize,
    Serialize, //
};
use std::ops::RangeInclusive;

/// Bytes of the pages of a list, as shifts.
const LOG_MIN_PAGE: u32 = 12;
const LOG_MAX_PAGE: u32 = 31;

/// Most pages of a ring: those of 4 MiB entries of 64 bytes, the most that an EQ or a CQ has.
const MAX_PAGES: usize = 1 << 16;

/// Entries of one size on a list of pages, around.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Ring {
    #[serde(deserialize_with = "encoded::list::<_, _, MAX_PAGES>")]
    pages: Vec<u64>,
    log_page: u32,
    log_count: u32,
    log_entry: u32,
}

/// How many pages a ring has.
const fn pages(log_page: u32, log_count: u32, log_entry: u32) -> usize {
    (1usize << (log_count + log_entry)).div_ceil(1 << log_page)
}

impl Ring {
    /// Most bytes that the record of a ring has whose entries have 1 << `log_len` bytes in all.
    pub const fn max_len(log_len: u32) -> usize {
        list_len(pages(LOG_MIN_PAGE, log_len, 0), U64) + 3 * U32
    }

    /// From a command's `log_page_size` and `pas`.
    pub fn parse(
        pas: &[u8],
        log_page_size: u32,
        log_count: u32,
        log_entry: u32,
    ) -> Result<Self, Status> {
        let log_page = LOG_MIN_PAGE + log_page_size;
        if log_page > LOG_MAX_PAGE {
            return Err(Status::BadParam);
        }
        let count = pages(log_page, log_count, log_entry);
        let pages: Vec<u64> = pas
            .chunks_exact(8)
            .take(count)
            .map(|pa| u64::from_be_bytes(pa.try_into().unwrap_or_default()))
            .collect();
        if pages.len() != count {
            return Err(Status::BadInputLen);
        }
        Ok(Self {
            pages,
            log_page,
            log_count,
            log_entry,
        })
    }

    /// Whether one that was loaded is one that [`Self::parse`] could have made, with up to
    /// `1 << log_max_count` entries of these sizes.
    pub fn is_sound(&self, log_max_count: u64, log_entries: RangeInclusive<u32>) -> bool {
        (LOG_MIN_PAGE..=LOG_MAX_PAGE).contains(&self.log_page)
            && u64::from(self.log_count) <= log_max_count
            && log_entries.contains(&self.log_entry)
            && self.pages.len() == pages(self.log_page, self.log_count, self.log_entry)
    }

    /// Whether it has pages and entries as the fields of a command say.
    pub fn is_as(&self, log_page_size: u64, log_count: u64) -> bool {
        u64::from(self.log_page - LOG_MIN_PAGE) == log_page_size
            && u64::from(self.log_count) == log_count
    }

    /// Number of pages.
    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// Number of entries.
    pub fn count(&self) -> u32 {
        1 << self.log_count
    }

    /// What the owner bit of entry `index` is: it changes each time around.
    pub fn lap(&self, index: u32) -> u8 {
        ((index >> self.log_count) & 1) as u8
    }

    /// Where entry `index` is, around the end.
    pub fn address(&self, index: u32) -> u64 {
        let offset = u64::from(index & (self.count() - 1)) << self.log_entry;
        let page = self.pages[(offset >> self.log_page) as usize];
        page.wrapping_add(offset & ((1 << self.log_page) - 1))
    }

    /// Whether `is_good` is true of each entry. They are read a page of [`LOG_MIN_PAGE`] at a
    /// time: a ring can have millions.
    pub fn all(
        &self,
        host: &mut dyn Host,
        function: FunctionId,
        is_good: impl Fn(&[u8]) -> bool,
    ) -> bool {
        let log_piece = LOG_MIN_PAGE.min(self.log_count + self.log_entry);
        let log_entries = log_piece - self.log_entry;
        let mut piece = vec![0; 1 << log_piece];
        (0..self.count() >> log_entries).all(|number| {
            let at = self.address(number << log_entries);
            host.dma_read(function, at, &mut piece).is_ok()
                && piece.chunks_exact(1 << self.log_entry).all(&is_good)
        })
    }
}

/// Reads a big endian word.
pub fn read_be32(host: &mut dyn Host, function: FunctionId, at: u64) -> Result<u32, DmaFault> {
    let mut bytes = [0; 4];
    host.dma_read(function, at, &mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}
