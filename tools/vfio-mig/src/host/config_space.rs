// SPDX-License-Identifier: GPL-2.0

//! The PCI configuration space of a function, of which root sees all.

use super::{
    pci_dir,
    Host, //
};
use crate::bdf::Bdf;
use std::fs;

// include/uapi/linux/pci_regs.h
const STATUS: usize = 0x06;
const STATUS_CAP_LIST: u16 = 0x10;
const CAPABILITY_LIST: usize = 0x34;
const CAP_ID_MSIX: u8 = 0x11;
const MSIX_FLAGS: usize = 2;
const MSIX_FLAGS_QSIZE: u16 = 0x7ff;
/// Where the first capability can be.
const FIRST: usize = 0x40;
/// Most capabilities that there is room for: a list that is longer is a ring.
const MOST: usize = (256 - FIRST) / 4;

/// The number of MSI-X vectors that a configuration space has. `None` if it has none, or was cut.
fn msix_vectors(space: &[u8]) -> Option<u16> {
    let word = |at: usize| Some(u16::from_le_bytes(space.get(at..at + 2)?.try_into().ok()?));
    let pointer = |at: usize| Some(usize::from(*space.get(at)? & !3));
    if word(STATUS)? & STATUS_CAP_LIST == 0 {
        return None;
    }
    let mut at = pointer(CAPABILITY_LIST)?;
    for _ in 0..MOST {
        if at < FIRST {
            return None;
        }
        if *space.get(at)? == CAP_ID_MSIX {
            return Some((word(at + MSIX_FLAGS)? & MSIX_FLAGS_QSIZE) + 1);
        }
        at = pointer(at + 1)?;
    }
    None
}

impl Host {
    /// The number of MSI-X vectors of a function. `None` if that is not known.
    pub fn msix_vectors(&self, function: Bdf) -> Option<u16> {
        let space = fs::read(self.at(pci_dir(function).join("config"))).ok()?;
        msix_vectors(&space)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With PCI Express at 0x60, and then MSI-X at 0x9c, of 12 vectors.
    fn space() -> Vec<u8> {
        let mut space = vec![0; 256];
        space[STATUS] = 0x10;
        space[CAPABILITY_LIST] = 0x60;
        space[0x60..0x62].copy_from_slice(&[0x10, 0x9c]);
        // Enabled.
        space[0x9c..0xa0].copy_from_slice(&[0x11, 0, 11, 0x80]);
        space
    }

    #[test]
    fn vectors_are_found_in_the_list_of_capabilities() {
        assert_eq!(msix_vectors(&space()), Some(12));
        // What others than root see.
        assert_eq!(msix_vectors(&space()[..64]), None);
        assert_eq!(msix_vectors(&space()[..0x9e]), None);
        assert_eq!(msix_vectors(&[]), None);
        for (at, byte) in [
            // No list, one without MSI-X, one that ends below the first, and a ring.
            (STATUS, 0),
            (0x61, 0),
            (CAPABILITY_LIST, 0x3c),
            (0x61, 0x60),
        ] {
            let mut other = space();
            other[at] = byte;
            assert_eq!(msix_vectors(&other), None, "{at:#x}");
        }
    }
}
