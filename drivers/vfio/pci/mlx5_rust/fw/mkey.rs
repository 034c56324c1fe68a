// SPDX-License-Identifier: GPL-2.0

//! Host memory that firmware can reach through an mkey.

use super::{
    bindings::{
        self,
        mlx5_ifc_create_mkey_in_bits,
        MLX5_MKC_ACCESS_MODE_MTT, //
    },
    device::PfGuard,
    ifc::{
        constant,
        field,
        LargeMailbox, //
    },
    pd::Pd,
    registry::{
        Key,
        Owned,
        Resource, //
    }, //
};
use crate::module_parameters;
use core::borrow::Borrow;
use kernel::{
    dma::DataDirection,
    error::to_result,
    new_mutex,
    page::PAGE_SHIFT,
    prelude::*,
    sizes::SZ_2M,
    sync::{
        Arc,
        Mutex, //
    }, //
};
use vfio_rust::kernel::{
    dma::streaming::DmaMapping,
    page::runs::Pages, //
};

/// Returns the largest page size, as a shift, that an mkey may have. Pages of a buffer have at most
/// 2 MiB.
fn max_page_shift() -> u32 {
    // `value()` returns a reference in Linux 7.2, and a copy in 7.3.
    fn copied(value: impl Borrow<u8>) -> u8 {
        *value.borrow()
    }
    let shift = copied(module_parameters::mkey_page_shift.value());
    u32::from(shift).clamp(PAGE_SHIFT as u32, SZ_2M.ilog2())
}

/// Size of an MTT, the address of one page, in bytes.
const MTT_BYTES: usize = 8;

/// Memory that is mapped for DMA of the PF.
pub(super) trait Mapped: Send + 'static {
    /// Returns the length in bytes.
    fn len(&self) -> usize;

    /// Returns the largest page size, as a shift, that all of it can be cut into.
    fn page_shift(&self) -> u32;

    /// Returns the address of each page of `1 << shift` bytes. `shift` is at most
    /// [`page_shift`](Self::page_shift).
    fn addresses(&self, shift: u32) -> impl Iterator<Item = u64>;
}

impl Mapped for DmaMapping<Arc<Pages>> {
    fn len(&self) -> usize {
        self.len()
    }

    fn page_shift(&self) -> u32 {
        self.page_shift()
    }

    fn addresses(&self, shift: u32) -> impl Iterator<Item = u64> {
        self.addresses(shift)
    }
}

/// An mkey and the memory that it translates to.
///
/// The memory stays mapped until firmware has destroyed the mkey.
#[pin_data]
pub(super) struct Mkey<M: Mapped> {
    key: u32,
    pd: Key,
    #[pin]
    memory: Mutex<Option<KBox<M>>>,
}

impl<M: Mapped> Mkey<M> {
    /// Makes `memory` reachable at addresses from 0.
    pub(super) fn new(pf: &PfGuard<'_>, pd: &Pd, memory: M) -> Result<Owned<Self>> {
        let mut input = Self::input(pf, pd, &memory)?;
        let memory = KBox::new(memory, GFP_KERNEL_ACCOUNT)?;
        let mut key = move |pf: &PfGuard<'_>| {
            let mut key = 0;
            // SAFETY: `mdev` is valid: `pf` is a guard of it. `input` is as long as the argument
            // says, and aligned as kvmalloc() memory is.
            to_result(unsafe {
                bindings::mlx5_core_create_mkey(
                    pf.mdev(),
                    &mut key,
                    input.bytes.as_mut_ptr().cast(),
                    input.bytes.len().try_into()?,
                )
            })?;
            Ok::<u32, Error>(key)
        };
        Owned::pinned(
            pf,
            try_pin_init!(Self {
                key: key(pf)?,
                pd: pd.key(),
                memory <- new_mutex!(Some(memory), "mlx5_vfio_rust_mkey"),
            }),
        )
    }

    /// Returns the number that firmware has given the mkey.
    pub(super) fn number(&self) -> u32 {
        self.key
    }

    /// Calls `f` with the memory. Returns `ENODEV` if the mkey was destroyed.
    pub(super) fn with<R>(&self, f: impl FnOnce(&M) -> R) -> Result<R> {
        self.memory.lock().as_deref().map(f).ok_or(ENODEV)
    }

    /// The input of CREATE_MKEY.
    fn input(
        pf: &PfGuard<'_>,
        pd: &Pd,
        memory: &M,
    ) -> Result<LargeMailbox<mlx5_ifc_create_mkey_in_bits>> {
        let shift = memory.page_shift().min(max_page_shift());
        let mtts = memory.len() >> shift;
        // MTTs come in pairs, which mlx5 calls octwords.
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
            pd.number(pf)?,
        )?;
        // All ones stand for no QP.
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
            memory.len() as u64,
        );
        input.set(
            field!(
                mlx5_ifc_create_mkey_in_bits,
                translations_octword_actual_size
            ),
            octwords,
        );
        input.set_addresses(memory.addresses(shift));
        Ok(input)
    }
}

impl<M: Mapped> Resource for Mkey<M> {
    fn destroy(&self, pf: &PfGuard<'_>) -> Result {
        // SAFETY: `mdev` is valid: `pf` is a guard of it. The mkey was created there,
        // and was not destroyed yet (requirements of `destroy`).
        to_result(unsafe { bindings::mlx5_core_destroy_mkey(pf.mdev(), self.key) })
    }

    fn release(&self) {
        let memory = self.memory.lock().take();
        // Drop the memory without the lock, since unmapping takes a while.
        drop(memory);
    }

    fn uses(&self) -> Option<Key> {
        Some(self.pd)
    }
}

/// Pages that firmware can reach.
pub(crate) struct DmaBuffer {
    mkey: Owned<Mkey<DmaMapping<Arc<Pages>>>>,
    pages: Arc<Pages>,
}

impl DmaBuffer {
    /// Makes the first `len` bytes of `pages` reachable. Returns `EINVAL` if `len` is 0, or if
    /// `pages` are shorter.
    pub(crate) fn new(
        pf: &PfGuard<'_>,
        pd: &Pd,
        pages: Arc<Pages>,
        len: usize,
        dir: DataDirection,
    ) -> Result<Self> {
        if len == 0 || len > pages.len() {
            return Err(EINVAL);
        }
        // SAFETY: The mapping belongs to the mkey, whose `release` drops it; or it is
        // dropped before this returns.
        let dma = unsafe { pf.dma_device() }?;
        let mapping = DmaMapping::new(&dma, pages.clone(), len, dir)?;
        Ok(Self {
            mkey: Mkey::new(pf, pd, mapping)?,
            pages,
        })
    }

    /// Returns the number of the mkey, for a command to the PF of `pf`, or `ENODEV` if firmware
    /// cannot reach the pages there.
    pub(super) fn mkey(&self, pf: &PfGuard<'_>) -> Result<u32> {
        Ok(self.mkey.on(pf)?.number())
    }

    /// Returns the pages of the buffer.
    pub(crate) fn pages(&self) -> &Arc<Pages> {
        &self.pages
    }

    /// Makes visible to the CPU what firmware has written to the first `len` bytes. Returns
    /// `ENODEV` if firmware cannot reach the pages any more.
    pub(crate) fn sync_for_cpu(&self, len: usize) -> Result {
        self.mkey.with(|mapping| mapping.sync_for_cpu(len))
    }

    /// Makes visible to firmware what the CPU has written to the first `len` bytes. Returns
    /// `ENODEV` if firmware cannot reach the pages any more.
    pub(super) fn sync_for_device(&self, len: usize) -> Result {
        self.mkey.with(|mapping| mapping.sync_for_device(len))
    }
}
