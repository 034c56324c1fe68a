// SPDX-License-Identifier: GPL-2.0

//! What `postcard` makes of numbers and lists, and lists that an image may have: none is longer
//! than there can be, so that what is read of it does not take more memory than that.

use serde::de::{
    Deserialize,
    Deserializer,
    Error,
    MapAccess,
    SeqAccess,
    Visitor, //
};
use std::{
    collections::{
        BTreeMap,
        BTreeSet, //
    },
    fmt,
    marker::PhantomData, //
};

/// Bytes of a `bool`, of a `u8`, and of the number of a variant.
pub const BYTE: usize = 1;
/// Most bytes of a `u16`.
pub const U16: usize = 3;
/// Most bytes of a `u32`.
pub const U32: usize = 5;
/// Most bytes of a `u64`, and of a `usize`.
pub const U64: usize = 10;

/// Most bytes of a list of `most` elements of `each` bytes.
pub const fn list_len(most: usize, each: usize) -> usize {
    U64 + most * each
}

/// Reads a list of at most `N` elements.
pub fn list<'de, D, T, const N: usize>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    from.deserialize_seq(List::<T, N>(PhantomData))
}

/// Reads a set of at most `N` elements, in order and each once.
pub fn set<'de, D, T, const N: usize>(from: D) -> Result<BTreeSet<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Ord,
{
    let list: Vec<T> = list::<D, T, N>(from)?;
    match list.is_sorted_by(|one, next| one < next) {
        // Such a list becomes a set without a search for each element.
        true => Ok(list.into_iter().collect()),
        false => Err(D::Error::custom("elements out of order")),
    }
}

/// Reads a map of at most `N` elements, in order and each once.
pub fn map<'de, D, K, V, const N: usize>(from: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
{
    from.deserialize_map(Map::<K, V, N>(PhantomData))
}

/// Fails if a list says that it has more than `N` elements.
fn check_len<E: Error, const N: usize>(len: Option<usize>) -> Result<(), E> {
    match len {
        Some(len) if len <= N => Ok(()),
        _ => Err(E::custom("too many elements")),
    }
}

struct List<T, const N: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for List<T, N> {
    type Value = Vec<T>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "a list of at most {N} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        check_len::<A::Error, N>(from.size_hint())?;
        let mut list = Vec::new();
        while let Some(element) = from.next_element()? {
            list.push(element);
        }
        Ok(list)
    }
}

struct Map<K, V, const N: usize>(PhantomData<(K, V)>);

impl<'de, K, V, const N: usize> Visitor<'de> for Map<K, V, N>
where
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
{
    type Value = BTreeMap<K, V>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "a map of at most {N} elements")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        check_len::<A::Error, N>(from.size_hint())?;
        let mut list: Vec<(K, V)> = Vec::new();
        while let Some((key, value)) = from.next_entry()? {
            if list.last().is_some_and(|(last, _)| *last >= key) {
                return Err(A::Error::custom("keys out of order"));
            }
            list.push((key, value));
        }
        Ok(list.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local!(static READ: Cell<usize> = const { Cell::new(0) });

    /// A number; that it is read is counted.
    #[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
    struct Counted(u32);

    impl<'de> Deserialize<'de> for Counted {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            READ.set(READ.get() + 1);
            u32::deserialize(from).map(Self)
        }
    }

    #[derive(serde::Deserialize)]
    struct Lists {
        #[serde(deserialize_with = "list::<_, _, 3>")]
        list: Vec<Counted>,
        #[serde(deserialize_with = "set::<_, _, 3>")]
        set: BTreeSet<Counted>,
        #[serde(deserialize_with = "map::<_, _, _, 3>")]
        map: BTreeMap<Counted, u8>,
    }

    /// How many elements are read of this before it is refused.
    fn refused(bytes: &[u8]) -> usize {
        READ.set(0);
        assert!(postcard::from_bytes::<Lists>(bytes).is_err());
        READ.get()
    }

    #[test]
    fn nothing_is_read_of_a_list_that_is_too_long() {
        let good = [3, 7, 7, 7, 2, 5, 6, 1, 9, 1];
        let lists: Lists = postcard::from_bytes(&good).unwrap();
        assert_eq!(lists.list, [Counted(7), Counted(7), Counted(7)]);
        assert_eq!(lists.set, [Counted(5), Counted(6)].into());
        assert_eq!(lists.map, [(Counted(9), 1)].into());
        assert_eq!(refused(&[4, 7, 7, 7, 7, 0, 0]), 0);
        assert_eq!(refused(&[0, 4, 1, 2, 3, 4, 0]), 0);
        assert_eq!(refused(&[0, 0, 4, 1, 0, 2, 0, 3, 0, 4, 0]), 0);
    }

    #[test]
    fn what_is_in_a_set_or_a_map_is_in_order() {
        refused(&[0, 2, 6, 5, 0]);
        refused(&[0, 2, 5, 5, 0]);
        assert_eq!(refused(&[0, 0, 3, 5, 0, 5, 0, 6, 0]), 2);
        assert_eq!(refused(&[0, 0, 3, 5, 0, 4, 0, 6, 0]), 2);
    }
}
