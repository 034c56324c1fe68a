// SPDX-License-Identifier: GPL-2.0

//! Objects of one kind that have lists of pages, by their numbers. How many pages all of them
//! have is known without a look at each: a driver can have tens of thousands.

use crate::{
    numbers::Lowest,
    objects::MAX_OBJECTS, //
};
use std::{
    collections::{
        btree_map,
        BTreeMap, //
    },
    ops::{
        Deref,
        Range, //
    },
};

/// What has a list of pages, as long as it exists.
pub trait Listed {
    /// Pages of its list.
    fn pages(&self) -> usize;
}

/// Objects of any kind by their numbers.
pub trait Numbered<K, T> {
    /// Has this object take the place of the one with this number, or none. Returns that one.
    fn put(&mut self, number: K, object: Option<T>) -> Option<T>;
}

impl<K: Ord, T> Numbered<K, T> for BTreeMap<K, T> {
    fn put(&mut self, number: K, object: Option<T>) -> Option<T> {
        match object {
            Some(object) => self.insert(number, object),
            None => self.remove(&number),
        }
    }
}

impl<K: Copy + Ord + Into<u32> + TryFrom<u32>, T: Listed> Numbered<K, T> for Pool<K, T> {
    fn put(&mut self, number: K, object: Option<T>) -> Option<T> {
        match object {
            Some(object) => self.insert(number, object),
            None => self.remove(&number),
        }
    }
}

/// Objects that have lists by their numbers.
#[derive(Clone, Debug)]
pub struct Pool<K, T> {
    objects: BTreeMap<K, T>,
    lowest: Lowest,
    /// Of all lists.
    pages: usize,
}

impl<K, T> Default for Pool<K, T> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            lowest: Lowest::default(),
            pages: 0,
        }
    }
}

impl<K, T> Deref for Pool<K, T> {
    type Target = BTreeMap<K, T>;

    fn deref(&self) -> &Self::Target {
        &self.objects
    }
}

impl<'a, K, T> IntoIterator for &'a mut Pool<K, T> {
    type Item = (&'a K, &'a mut T);
    type IntoIter = btree_map::IterMut<'a, K, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.objects.iter_mut()
    }
}

impl<K: Copy + Ord + Into<u32> + TryFrom<u32>, T: Listed> Pool<K, T> {
    /// Pages of all lists.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Inserts an object with the lowest free number of `range`.
    pub fn create(&mut self, range: Range<u32>, object: T) -> Option<K> {
        if self.objects.len() >= MAX_OBJECTS {
            return None;
        }
        let objects = &self.objects;
        let is_taken = |number| K::try_from(number).is_ok_and(|key| objects.contains_key(&key));
        let number = self.lowest.find(range, is_taken)?;
        let number = K::try_from(number).ok()?;
        self.insert(number, object);
        Some(number)
    }

    /// Inserts an object with this number. Returns the one that has had it.
    pub fn insert(&mut self, number: K, object: T) -> Option<T> {
        self.pages += object.pages();
        self.lowest.taken(number.into());
        let before = self.objects.insert(number, object);
        self.pages -= before.as_ref().map_or(0, T::pages);
        before
    }

    /// Removes the object with this number.
    pub fn remove(&mut self, number: &K) -> Option<T> {
        let object = self.objects.remove(number)?;
        self.pages -= object.pages();
        self.lowest.freed((*number).into());
        Some(object)
    }

    /// The object with this number. Its list stays.
    pub fn get_mut(&mut self, number: &K) -> Option<&mut T> {
        self.objects.get_mut(number)
    }

    /// All objects with their numbers.
    pub fn iter_mut(&mut self) -> btree_map::IterMut<'_, K, T> {
        self.objects.iter_mut()
    }

    /// All objects.
    pub fn values_mut(&mut self) -> btree_map::ValuesMut<'_, K, T> {
        self.objects.values_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local!(static LOOKS: Cell<usize> = const { Cell::new(0) });

    struct List(usize);

    impl Listed for List {
        fn pages(&self) -> usize {
            LOOKS.set(LOOKS.get() + 1);
            self.0
        }
    }

    #[test]
    fn pages_are_known_without_a_look_at_each_list() {
        let mut pool: Pool<u8, List> = Pool::default();
        for pages in 0..200 {
            pool.create(10..255, List(pages)).unwrap();
            assert_eq!(pool.pages(), (0..=pages).sum::<usize>());
        }
        assert_eq!(LOOKS.get(), 200);
        let all = pool.pages();
        assert_eq!(pool.insert(17, List(100)).unwrap().0, 7);
        assert_eq!(pool.pages(), all + 93);
        pool.remove(&17).unwrap();
        assert_eq!(pool.pages(), all - 7);
        assert!(pool.remove(&17).is_none());
        assert_eq!(pool.create(10..255, List(0)), Some(17));
        assert_eq!(pool.create(10..210, List(0)), None);
    }
}
