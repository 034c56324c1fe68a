// SPDX-License-Identifier: GPL-2.0

//! Pages that a driver lends to the firmware.

use crate::{
    encoded::{
        self,
        list_len,
        U64, //
    },
    ifc::Status,
    resources::Saved, //
};
use serde::{
    Deserialize,
    Serialize, //
};
use std::collections::BTreeSet;

/// Pages that a function wants at boot: as the PF of a ConnectX-4.
pub const BOOT: u32 = 6;
/// Pages that a VF wants before INIT_HCA, besides those; assumed. The PF's are
/// a property.
pub const VF_INIT: u32 = 32;
/// Pages that a VF needs from when the PF enables it; assumed.
pub const VF: u32 = 16;
/// Most pages that a driver can lend for a function.
pub const MAX: u32 = 1 << 20;
const PAGE: u64 = 4096;

/// The pages that firmware has for one function.
#[derive(Clone, Default, Debug, Deserialize, Serialize)]
pub struct LentPages {
    #[serde(deserialize_with = "encoded::set::<_, _, { MAX as usize }>")]
    pages: BTreeSet<u64>,
}

impl Saved for LentPages {
    const MAX_LEN: usize = list_len(MAX as usize, U64);

    fn is_sound(&self) -> bool {
        self.count() <= MAX && self.pages.iter().all(|page| page % PAGE == 0)
    }
}

impl LentPages {
    /// How many there are.
    pub fn count(&self) -> u32 {
        self.pages.len() as u32
    }

    /// How many more are needed to have `want`.
    pub fn missing(&self, want: u32) -> u32 {
        want.saturating_sub(self.count())
    }

    /// MANAGE_PAGES, giving. All or none are taken.
    pub fn give(&mut self, pages: &[u64]) -> Result<(), Status> {
        let new: BTreeSet<u64> = pages.iter().copied().collect();
        let bad = |page: &u64| page % PAGE != 0 || self.pages.contains(page);
        if new.len() != pages.len() || new.iter().any(bad) {
            return Err(Status::BadParam);
        }
        if self.pages.len() + new.len() > MAX as usize {
            return Err(Status::Lim);
        }
        self.pages.extend(new);
        Ok(())
    }

    /// MANAGE_PAGES, taking: up to `count` go back.
    pub fn take(&mut self, count: u32) -> Vec<u64> {
        let back: Vec<u64> = self.pages.iter().copied().take(count as usize).collect();
        for page in &back {
            self.pages.remove(page);
        }
        back
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        hca::Hca, //
    };

    #[test]
    fn a_driver_can_lend_what_is_wanted() {
        let hca = Hca::new(Config {
            init_pages: u32::MAX,
            ..Config::default()
        });
        assert_eq!(BOOT + hca.config.init_pages, MAX);
    }

    #[test]
    fn a_driver_lends_no_more_than_there_can_be() {
        let mut lent = LentPages {
            pages: (1..u64::from(MAX)).map(|page| page * PAGE).collect(),
        };
        let one = [u64::from(MAX) * PAGE];
        assert_eq!(lent.give(&[0, one[0]]), Err(Status::Lim));
        assert_eq!(lent.give(&[0]), Ok(()));
        assert_eq!(lent.give(&one), Err(Status::Lim));
        assert!(lent.is_sound());
        assert_eq!(lent.take(1), [0]);
        assert_eq!(lent.give(&one), Ok(()));
        lent.pages.insert(0);
        assert!(!lent.is_sound());
    }
}
