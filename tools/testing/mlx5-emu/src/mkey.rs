// SPDX-License-Identifier: GPL-2.0

//! Memory keys: host memory as a range of addresses, or as it is.

use crate::{
    config::Config,
    encoded::{
        self,
        list_len,
        BYTE,
        U32,
        U64, //
    },
    host::{
        DmaFault,
        FunctionId,
        Host, //
    },
    ifc::{
        self,
        ethernet,
        Status, //
    },
    pool::Listed,
    resources::Saved, //
};
use serde::{
    Deserialize,
    Serialize, //
};

/// Most MTTs of an mkey: 4 GiB in pages of 4 KiB.
const MAX_MTTS: u64 = 1 << 20;

/// Pages of an mkey, as shifts: what `log_page_size` has bits for.
const LOG_PAGES: std::ops::RangeInclusive<u32> = 12..=63;

/// Of an MTT, if the mkey has `pg_access`: the page is there, to be read and to be written
/// (MLX5_IB_MTT_PRESENT).
const PRESENT: u64 = 0b11;

/// MLX5_MKC_ACCESS_MODE_PA
const ACCESS_MODE_PA: u64 = 0;

/// What the addresses of an mkey are.
#[derive(Clone, Debug, Deserialize, Serialize)]
enum Translation {
    /// Places in pages: those that `start` has in its page, and what follows.
    Pages {
        start: u64,
        len: u64,
        log_page_size: u32,
        #[serde(deserialize_with = "encoded::list::<_, _, { MAX_MTTS as usize }>")]
        mtts: Vec<u64>,
    },
    /// Those of the bus.
    Physical,
}

/// What an HCA has mkeys for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest page of a list, as a shift.
    pub log_max_page: u32,
    /// Whether they can be of all memory.
    pub physical: bool,
}

impl Limits {
    /// Those of an HCA with these properties.
    pub fn of(config: &Config) -> Self {
        Self {
            log_max_page: config.log_max_mkey_page.into(),
            physical: config.network.is_some(),
        }
    }
}

/// An mkey.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Mkey {
    /// Whose memory it is.
    #[serde(skip)]
    pub owner: FunctionId,
    /// The low byte of the key, which its user chose.
    pub variant: u8,
    /// Its protection domain.
    pub pd: u32,
    translation: Translation,
    local_read: bool,
    local_write: bool,
}

/// Why an access through an mkey fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessError {
    /// Not within the mkey.
    Range,
    /// The mkey does not allow it.
    Rights,
    /// The memory is not there.
    Fault,
}

impl From<DmaFault> for AccessError {
    fn from(_: DmaFault) -> Self {
        Self::Fault
    }
}

/// How many pages there are for `len` bytes from `start` on. `None` if they are 2^64 bytes.
fn count_pages(start: u64, len: u64, log_page_size: u32) -> Option<u64> {
    let page = 1 << log_page_size;
    Some((start & (page - 1)).checked_add(len)?.div_ceil(page))
}

impl Saved for Mkey {
    const MAX_LEN: usize =
        BYTE + U32 + (BYTE + 2 * U64 + U32 + list_len(MAX_MTTS as usize, U64)) + 2 * BYTE;

    fn is_sound(&self) -> bool {
        match &self.translation {
            Translation::Pages {
                start,
                len,
                log_page_size,
                mtts,
            } => {
                LOG_PAGES.contains(log_page_size)
                    && mtts.len() as u64 <= MAX_MTTS
                    && count_pages(*start, *len, *log_page_size) == Some(mtts.len() as u64)
                    && mtts.iter().all(|mtt| mtt & ((1 << log_page_size) - 1) == 0)
            }
            Translation::Physical => true,
        }
    }

    fn is_possible(&self, config: &Config) -> bool {
        let limits = Limits::of(config);
        match &self.translation {
            Translation::Pages { log_page_size, .. } => *log_page_size <= limits.log_max_page,
            Translation::Physical => limits.physical,
        }
    }

    fn belong(&mut self, id: FunctionId) {
        self.owner = id;
    }
}

impl Listed for Mkey {
    fn pages(&self) -> usize {
        match &self.translation {
            Translation::Pages { mtts, .. } => mtts.len(),
            Translation::Physical => 0,
        }
    }
}

impl Mkey {
    /// CREATE_MKEY.
    pub fn parse(owner: FunctionId, input: &[u8], limits: Limits) -> Result<Self, Status> {
        let translation = match ifc::MKC_ACCESS_MODE.get(input) {
            _ if ifc::MKC_FREE.get(input) != 0 => return Err(Status::BadParam),
            ifc::ACCESS_MODE_MTT => Translation::pages(input, limits.log_max_page)?,
            ACCESS_MODE_PA if limits.physical && ethernet::MKC_LENGTH64.get(input) == 1 => {
                Translation::Physical
            }
            _ => return Err(Status::BadParam),
        };
        Ok(Self {
            owner,
            variant: ifc::MKC_KEY.get(input) as u8,
            pd: ifc::MKC_PD.get(input) as u32,
            translation,
            local_read: ifc::MKC_LR.get(input) == 1,
            local_write: ifc::MKC_LW.get(input) == 1,
        })
    }

    /// Checks that `len` bytes from `addr` on are within the mkey.
    pub fn check(&self, addr: u64, len: u64) -> Result<u64, AccessError> {
        let (start, size) = match self.translation {
            Translation::Pages { start, len, .. } => (start, len),
            Translation::Physical => (0, u64::MAX),
        };
        let offset = addr.checked_sub(start).ok_or(AccessError::Range)?;
        match offset.checked_add(len) {
            Some(end) if end <= size => Ok(offset),
            _ => Err(AccessError::Range),
        }
    }

    /// Writes host memory.
    pub fn write(&self, host: &mut dyn Host, addr: u64, data: &[u8]) -> Result<(), AccessError> {
        if !self.local_write {
            return Err(AccessError::Rights);
        }
        let offset = self.check(addr, data.len() as u64)?;
        let mut at = 0;
        for (dma, n) in self.translation.pieces(offset, data.len()) {
            host.dma_write(self.owner, dma, &data[at..at + n])?;
            at += n;
        }
        Ok(())
    }

    /// Reads host memory.
    pub fn read(&self, host: &mut dyn Host, addr: u64, len: usize) -> Result<Vec<u8>, AccessError> {
        if !self.local_read {
            return Err(AccessError::Rights);
        }
        let offset = self.check(addr, len as u64)?;
        let mut data = vec![0; len];
        let mut at = 0;
        for (dma, n) in self.translation.pieces(offset, len) {
            host.dma_read(self.owner, dma, &mut data[at..at + n])?;
            at += n;
        }
        Ok(data)
    }
}

impl Translation {
    /// A list of pages of at most `1 << log_max_page` bytes.
    fn pages(input: &[u8], log_max_page: u32) -> Result<Self, Status> {
        let octwords = ifc::MKEY_ACTUAL_OCTWORDS.get(input);
        let log_page_size = ifc::MKC_LOG_PAGE_SIZE.get(input) as u32;
        let (start, len) = (ifc::MKC_START.get(input), ifc::MKC_LEN.get(input));
        if !(12..=log_max_page).contains(&log_page_size)
            || octwords * 2 > MAX_MTTS
            || ifc::MKC_OCTWORDS.get(input) < octwords
        {
            return Err(Status::BadParam);
        }
        let mtt = |i: u64| {
            let at = ifc::MKEY_MTT + i as usize * 8;
            let bytes = input.get(at..at + 8)?;
            Some(u64::from_be_bytes(bytes.try_into().ok()?))
        };
        let count = count_pages(start, len, log_page_size).ok_or(Status::BadParam)?;
        if count > octwords * 2 {
            return Err(Status::BadParam);
        }
        // No page is fetched when it is needed: all are there.
        let flags = match ifc::MKEY_PG_ACCESS.get(input) {
            0 => 0,
            _ => PRESENT,
        };
        let mtts: Vec<u64> = (0..count).map_while(mtt).map(|mtt| mtt ^ flags).collect();
        if mtts.len() as u64 != count {
            return Err(Status::BadInputLen);
        }
        // An address that is not one of a page of this size.
        if mtts.iter().any(|mtt| mtt & ((1 << log_page_size) - 1) != 0) {
            return Err(Status::BadParam);
        }
        Ok(Self::Pages {
            start,
            len,
            log_page_size,
            mtts,
        })
    }

    /// The pieces of `offset..offset + len`: device address and length.
    fn pieces(&self, offset: u64, len: usize) -> Vec<(u64, usize)> {
        let Self::Pages {
            start,
            log_page_size,
            mtts,
            ..
        } = self
        else {
            return vec![(offset, len)];
        };
        let page = 1u64 << log_page_size;
        // From the beginning of the first page on.
        let mut offset = offset + (start & (page - 1));
        let mut left = len as u64;
        let mut pieces = Vec::new();
        while left > 0 {
            let within = offset & (page - 1);
            let n = left.min(page - within);
            pieces.push((
                mtts[(offset >> log_page_size) as usize] + within,
                n as usize,
            ));
            offset += n;
            left -= n;
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mkey(translation: Translation) -> Mkey {
        Mkey {
            owner: FunctionId(1),
            variant: 0,
            pd: 1,
            translation,
            local_read: true,
            local_write: true,
        }
    }

    #[test]
    fn an_mkey_of_an_image_is_one_that_its_hca_has() {
        let nic = Config {
            network: Some([2; 6]),
            log_max_mkey_page: 20,
            ..Config::default()
        };
        let hca = Config {
            network: None,
            ..nic.clone()
        };
        let physical = mkey(Translation::Physical);
        assert!(physical.is_sound());
        assert!(physical.is_possible(&nic) && !physical.is_possible(&hca));
        for log_page_size in [12, 20, 21, 63] {
            let pages = mkey(Translation::Pages {
                start: 0,
                len: 1,
                log_page_size,
                mtts: vec![0],
            });
            assert!(pages.is_sound());
            assert_eq!(pages.is_possible(&hca), log_page_size <= 20);
        }
    }
}
