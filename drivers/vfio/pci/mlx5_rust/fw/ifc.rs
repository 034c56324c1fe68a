// SPDX-License-Identifier: GPL-2.0

//! Typed command mailboxes over `include/linux/mlx5/mlx5_ifc.h`.
//!
//! That header describes a command as a C structure in which one byte stands for one bit. bindgen
//! makes Rust structures of these, so offset and width of a field are computed by the compiler and
//! never typed by hand.

use super::{
    bindings::__BindgenUnionField,
    bits::{
        Field,
        Part,
        Value, //
    },
};
use core::marker::PhantomData;
use kernel::prelude::*;

/// The [`Constant`](super::bits::Constant) of a constant expression.
macro_rules! constant {
    ($number:expr) => {
        $crate::fw::bits::Constant::<{ $number as u64 }>
    };
}
pub(super) use constant;

/// Returns the width in bits of the field that `get` picks.
pub(super) const fn width_of<L, F>(_get: fn(&L) -> &F) -> usize {
    size_of::<F>()
}

/// Returns the part at `offset`, with the layout of the field that `get` picks.
pub(super) const fn part_at<L, I>(offset: usize, _get: fn(&L) -> &I) -> Part<L, I> {
    Part::new(offset)
}

/// Returns the part at `offset`, with the layout of the variant of a union that `get` picks.
pub(super) const fn variant_at<L, I>(
    offset: usize,
    _get: fn(&L) -> &__BindgenUnionField<I>,
) -> Part<L, I> {
    Part::new(offset)
}

/// The [`Field`] of a structure `mlx5_ifc_$layout_bits`, or of one in it.
macro_rules! field {
    ($layout:ident, $($name:ident).+) => {
        const {
            $crate::fw::bits::Field::<
                $crate::fw::bindings::$layout,
                {
                    $crate::fw::ifc::width_of(
                        |layout: &$crate::fw::bindings::$layout| &layout.$($name).+
                    )
                },
            >::new(::core::mem::offset_of!($crate::fw::bindings::$layout, $($name).+))
        }
    };
}
pub(super) use field;

/// The [`Part`] of `$layout` that is a structure in it.
macro_rules! part {
    ($layout:ident, $($name:ident).+) => {
        const {
            $crate::fw::ifc::part_at(
                ::core::mem::offset_of!($crate::fw::bindings::$layout, $($name).+),
                |layout: &$crate::fw::bindings::$layout| &layout.$($name).+,
            )
        }
    };
}
pub(super) use part;

/// The [`Part`] of `$layout` that is a variant of a union in it.
macro_rules! variant {
    ($layout:ident, $($name:ident).+) => {
        const {
            $crate::fw::ifc::variant_at(
                ::core::mem::offset_of!($crate::fw::bindings::$layout, $($name).+),
                |layout: &$crate::fw::bindings::$layout| &layout.$($name).+,
            )
        }
    };
}
pub(super) use variant;

/// A command's input or output of fixed size, with the layout `L`.
///
/// Aligned for mlx5_core, which reads and writes 32-bit words of it.
#[repr(C, align(8))]
pub(super) struct Mailbox<L, const BYTES: usize> {
    pub(super) bytes: [u8; BYTES],
    layout: PhantomData<L>,
}

impl<L, const BYTES: usize> Mailbox<L, BYTES> {
    /// Makes a mailbox of zeroes.
    pub(super) fn new() -> Self {
        const { assert!(size_of::<L>() == BYTES * 8) };
        Self {
            bytes: [0; BYTES],
            layout: PhantomData,
        }
    }

    /// Sets one field to a value whose type always fits.
    pub(super) fn set<V: Value, const WIDTH: usize>(
        mut self,
        field: Field<L, WIDTH>,
        value: V,
    ) -> Self {
        field.set(&mut self.bytes, value);
        self
    }

    /// Sets one field. Returns `EOVERFLOW` if the value does not fit.
    pub(super) fn try_set<V: Value, const WIDTH: usize>(
        mut self,
        field: Field<L, WIDTH>,
        value: V,
    ) -> Result<Self> {
        field
            .try_set(&mut self.bytes, value)
            .map_err(|_| EOVERFLOW)?;
        Ok(self)
    }

    /// Reads one field.
    pub(super) fn get<const WIDTH: usize>(&self, field: Field<L, WIDTH>) -> u64 {
        field.get(&self.bytes)
    }
}

/// An empty [`Mailbox`] with the layout of the given structure.
macro_rules! mailbox {
    ($layout:ident) => {
        $crate::fw::ifc::Mailbox::<
            $crate::fw::bindings::$layout,
            { size_of::<$crate::fw::bindings::$layout>() / 8 },
        >::new()
    };
}
pub(super) use mailbox;

/// An input with the layout `L` and more data after it, or a large output.
pub(super) struct LargeMailbox<L> {
    /// As long as the layout, or longer.
    pub(super) bytes: KVVec<u8>,
    layout: PhantomData<L>,
}

impl<L> LargeMailbox<L> {
    /// Makes a mailbox of zeroes: the layout, and `tail` bytes after it.
    pub(super) fn new(tail: usize) -> Result<Self> {
        let len = Self::HEAD.checked_add(tail).ok_or(EOVERFLOW)?;
        Ok(Self {
            bytes: KVVec::from_elem(0, len, GFP_KERNEL_ACCOUNT)?,
            layout: PhantomData,
        })
    }

    /// Size of the layout, in bytes.
    const HEAD: usize = size_of::<L>() / 8;

    /// Sets one field to a value whose type always fits.
    pub(super) fn set<V: Value, const WIDTH: usize>(&mut self, field: Field<L, WIDTH>, value: V) {
        field.set(&mut self.bytes, value);
    }

    /// Sets one field. Returns `EOVERFLOW` if the value does not fit.
    pub(super) fn try_set<V: Value, const WIDTH: usize>(
        &mut self,
        field: Field<L, WIDTH>,
        value: V,
    ) -> Result {
        field.try_set(&mut self.bytes, value).map_err(|_| EOVERFLOW)
    }

    /// Reads one field.
    pub(super) fn get<const WIDTH: usize>(&self, field: Field<L, WIDTH>) -> u64 {
        field.get(&self.bytes)
    }

    /// Fills the bytes after the layout with addresses, as far as there is room.
    pub(super) fn set_addresses(&mut self, addresses: impl IntoIterator<Item = u64>) {
        let mut tail = self.bytes.get_mut(Self::HEAD..).unwrap_or_default();
        for address in addresses {
            let Some((slot, rest)) = tail.split_first_chunk_mut() else {
                return;
            };
            *slot = address.to_be_bytes();
            tail = rest;
        }
    }

    /// Returns the bytes after the layout as a list of entries with the layout `E`.
    pub(super) fn entries<E>(&mut self) -> Entries<'_, E> {
        Entries {
            left: self.bytes.get_mut(Self::HEAD..).unwrap_or_default(),
            layout: PhantomData,
        }
    }
}

/// An iterator over the entries after a layout.
pub(super) struct Entries<'a, E> {
    left: &'a mut [u8],
    layout: PhantomData<E>,
}

impl<'a, E> Iterator for Entries<'a, E> {
    type Item = Entry<'a, E>;

    fn next(&mut self) -> Option<Entry<'a, E>> {
        let (bytes, left) =
            core::mem::take(&mut self.left).split_at_mut_checked(size_of::<E>() / 8)?;
        self.left = left;
        Some(Entry {
            bytes,
            layout: PhantomData,
        })
    }
}

/// An entry with the layout `E`.
pub(super) struct Entry<'a, E> {
    /// As long as the layout.
    bytes: &'a mut [u8],
    layout: PhantomData<E>,
}

impl<E> Entry<'_, E> {
    /// Sets one field to a value whose type always fits.
    pub(super) fn set<V: Value, const WIDTH: usize>(&mut self, field: Field<E, WIDTH>, value: V) {
        field.set(self.bytes, value);
    }
}
