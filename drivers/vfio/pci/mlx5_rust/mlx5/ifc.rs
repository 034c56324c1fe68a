// SPDX-License-Identifier: GPL-2.0

//! Typed command mailboxes over `include/linux/mlx5/mlx5_ifc.h`.
//!
//! That header describes a command as a C structure in which one byte stands
//! for one bit. bindgen makes Rust structures of them, so offset and width of
//! a field are computed by the compiler and never typed by hand.

use super::bits::Field;
use core::marker::PhantomData;
use kernel::prelude::*;

/// Width in bits of the field that `get` picks.
pub(super) const fn width_of<T, F>(_get: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// The [`Field`] of a structure `mlx5_ifc_$layout_bits`.
macro_rules! field {
    ($layout:ident, $($name:ident).+) => {
        $crate::mlx5::bits::Field {
            offset: ::core::mem::offset_of!($crate::mlx5::bindings::$layout, $($name).+),
            width: const {
                $crate::mlx5::ifc::width_of(
                    |layout: &$crate::mlx5::bindings::$layout| &layout.$($name).+
                )
            },
        }
    };
}
pub(super) use field;

/// A command's input or output of fixed size, with the layout `L`.
///
/// Aligned for mlx5_core, which reads and writes 32-bit words of it.
#[repr(C, align(8))]
pub(super) struct Mailbox<L, const BYTES: usize> {
    pub(super) bytes: [u8; BYTES],
    layout: PhantomData<L>,
}

impl<L, const BYTES: usize> Mailbox<L, BYTES> {
    /// All zeroes.
    pub(super) fn new() -> Self {
        const { assert!(size_of::<L>() == BYTES * 8) };
        Self {
            bytes: [0; BYTES],
            layout: PhantomData,
        }
    }

    /// Sets one field.
    pub(super) fn set(mut self, field: Field, value: impl Into<u64>) -> Self {
        field.set(&mut self.bytes, value.into());
        self
    }

    /// Reads one field.
    pub(super) fn get(&self, field: Field) -> u64 {
        field.get(&self.bytes)
    }
}

/// An empty [`Mailbox`] with the layout of the given structure.
macro_rules! mailbox {
    ($layout:ident) => {
        $crate::mlx5::ifc::Mailbox::<
            $crate::mlx5::bindings::$layout,
            { size_of::<$crate::mlx5::bindings::$layout>() / 8 },
        >::new()
    };
}
pub(super) use mailbox;

/// An input or output whose size is only known at run time.
pub(super) struct LargeMailbox {
    pub(super) bytes: KVVec<u8>,
}

impl LargeMailbox {
    /// `len` zeroes.
    pub(super) fn new(len: usize) -> Result<Self> {
        Ok(Self {
            bytes: KVVec::from_elem(0, len, GFP_KERNEL_ACCOUNT)?,
        })
    }

    /// Sets one field.
    pub(super) fn set(&mut self, field: Field, value: impl Into<u64>) {
        field.set(&mut self.bytes, value.into());
    }

    /// Reads one field.
    pub(super) fn get(&self, field: Field) -> u64 {
        field.get(&self.bytes)
    }
}
