// SPDX-License-Identifier: GPL-2.0

//! Host memory that firmware can reach through an mkey.

use super::{
    bindings::{self, MLX5_MKC_ACCESS_MODE_MTT},
    core_dev::CoreDev,
    ifc::{constant, field, LargeMailbox},
    pd::Pd,
};
use crate::vfio::{
    dma::{Direction, DmaMapping},
    pages::Pages,
};
use core::ops::Deref;
use kernel::{error::to_result, prelude::*, sync::Arc};

/// Largest page size, as a shift, that an mkey is given: 2 MiB is what the
/// buffers are made of at most.
const MAX_PAGE_SHIFT: u32 = 21;

/// Bytes of an MTT, the address of one page.
const MTT_BYTES: usize = 8;

/// An mkey; destroyed on drop.
pub(super) struct Mkey {
    core: Arc<CoreDev>,
    key: u32,
}

impl Mkey {
    /// An mkey over a whole mapping, addressed from 0.
    fn new<P: Deref<Target = Pages>>(
        core: &Arc<CoreDev>,
        pd: &Pd,
        mapping: &DmaMapping<P>,
    ) -> Result<Self> {
        let shift = mapping.page_shift().min(MAX_PAGE_SHIFT);
        Self::of_pages(core, pd, shift, mapping.len(), mapping.addresses(shift))
    }

    /// CREATE_MKEY over `len` bytes in pages of `1 << shift`, addressed from 0.
    pub(super) fn of_pages(
        core: &Arc<CoreDev>,
        pd: &Pd,
        shift: u32,
        len: usize,
        pages: impl Iterator<Item = u64>,
    ) -> Result<Self> {
        core.check_attached()?;
        let mtts = len >> shift;
        // MTTs come in units of two: an octword, in mlx5's use of the word.
        let octwords: u32 = mtts.div_ceil(2).try_into()?;
        let mut input = LargeMailbox::new(octwords as usize * 2 * MTT_BYTES)?;
        for right in [
            field!(mlx5_ifc_create_mkey_in_bits, memory_key_mkey_entry.lr),
            field!(mlx5_ifc_create_mkey_in_bits, memory_key_mkey_entry.lw),
            field!(mlx5_ifc_create_mkey_in_bits, memory_key_mkey_entry.rr),
            field!(mlx5_ifc_create_mkey_in_bits, memory_key_mkey_entry.rw),
        ] {
            input.set(right, true);
        }
        input.set(
            field!(
                mlx5_ifc_create_mkey_in_bits,
                memory_key_mkey_entry.access_mode_1_0
            ),
            constant!(MLX5_MKC_ACCESS_MODE_MTT),
        );
        input.try_set(
            field!(mlx5_ifc_create_mkey_in_bits, memory_key_mkey_entry.pd),
            pd.number,
        )?;
        // No QP: all ones.
        input.set(
            field!(mlx5_ifc_create_mkey_in_bits, memory_key_mkey_entry.qpn),
            constant!(0xff_ffff),
        );
        input.try_set(
            field!(
                mlx5_ifc_create_mkey_in_bits,
                memory_key_mkey_entry.log_page_size
            ),
            shift,
        )?;
        input.set(
            field!(
                mlx5_ifc_create_mkey_in_bits,
                memory_key_mkey_entry.translations_octword_size
            ),
            octwords,
        );
        input.set(
            field!(mlx5_ifc_create_mkey_in_bits, memory_key_mkey_entry.len),
            len as u64,
        );
        input.set(
            field!(
                mlx5_ifc_create_mkey_in_bits,
                translations_octword_actual_size
            ),
            octwords,
        );
        input.set_addresses(pages);

        let mut key = 0;
        // SAFETY: `mdev` is valid by the invariant of `CoreDev`; the input is
        // as long as it says, and aligned as kvmalloc() memory is.
        to_result(unsafe {
            bindings::mlx5_core_create_mkey(
                core.mdev.as_ptr(),
                &mut key,
                input.bytes.as_mut_ptr().cast(),
                input.bytes.len().try_into()?,
            )
        })?;
        Ok(Self {
            core: core.clone(),
            key,
        })
    }
}

impl Mkey {
    /// What firmware calls it.
    pub(super) fn number(&self) -> u32 {
        self.key
    }
}

impl Drop for Mkey {
    fn drop(&mut self) {
        if self.core.check_attached().is_ok() {
            // SAFETY: As in `new`; it was created there.
            unsafe { bindings::mlx5_core_destroy_mkey(self.core.mdev.as_ptr(), self.key) };
        }
    }
}

/// Pages that are mapped for the PF and have an mkey.
///
/// Fields drop in order: the mkey goes before what it translates to.
pub(crate) struct DmaBuffer<P: Deref<Target = Pages>> {
    mkey: Mkey,
    mapping: DmaMapping<P>,
}

impl<P: Deref<Target = Pages>> DmaBuffer<P> {
    /// Makes `pages` reachable, as many as hold `len` bytes. `EINVAL` where
    /// there are none.
    pub(crate) fn new(
        core: &Arc<CoreDev>,
        pd: &Pd,
        pages: P,
        len: usize,
        dir: Direction,
    ) -> Result<Self> {
        if len == 0 || len > pages.len() {
            return Err(EINVAL);
        }
        let mapping = DmaMapping::new(&core.dma_device()?, pages, len, dir)?;
        Ok(Self {
            mkey: Mkey::new(core, pd, &mapping)?,
            mapping,
        })
    }

    pub(super) fn mkey(&self) -> u32 {
        self.mkey.number()
    }

    /// The pages behind it.
    pub(crate) fn pages(&self) -> &P {
        self.mapping.pages()
    }

    /// Makes what firmware has written visible to the CPU.
    pub(crate) fn sync_for_cpu(&self) {
        self.mapping.sync_for_cpu();
    }
}
