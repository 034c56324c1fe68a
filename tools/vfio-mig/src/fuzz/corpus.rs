// SPDX-License-Identifier: GPL-2.0

//! Inputs that got to code which no input had got to before. Others are made from them.

use super::{
    folder::Folder,
    input::{
        name,
        Input, //
    },
};
use crate::error::Error;
use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc, //
};

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Most inputs.
    pub(super) inputs: usize,
    /// Most bytes of all of them.
    pub(super) bytes: usize,
    /// Most bytes of an input.
    pub(super) each: usize,
}

/// An input, and how many program counters it was the first to get to.
pub(super) struct Found<T> {
    pub(super) input: T,
    pub(super) gained: u64,
}

/// An input that is kept.
struct Kept<T> {
    input: Arc<T>,
    len: usize,
    /// As in [`Found`]. `None` of one that was read, and was not run since.
    gained: Option<u64>,
}

/// Inputs that are kept: in memory, and in a folder if there is one. Both have the same.
pub(super) struct Corpus<T> {
    /// By the names of their files.
    kept: BTreeMap<String, Kept<T>>,
    /// Bytes of all of them.
    bytes: usize,
    bounds: Bounds,
    folder: Option<Folder>,
}

impl<T: Input> Corpus<T> {
    /// Reads what the folder of such inputs in `folder` has. `said` gets a line for each file
    /// that is skipped.
    pub(super) fn open(
        folder: Option<&Path>,
        bounds: Bounds,
        said: &mut Vec<String>,
    ) -> Result<Self, Error> {
        let mut corpus = Self {
            kept: BTreeMap::new(),
            bytes: 0,
            bounds,
            folder: None,
        };
        let Some(path) = folder.map(|folder| folder.join(T::FOLDER)) else {
            return Ok(corpus);
        };
        let folder = Folder::open(path)?;
        let mut beyond = 0;
        said.extend(folder.read(bounds.each, |bytes| {
            let (name, len) = (name(&bytes), bytes.len());
            let input = T::decode(bytes).ok_or("no such input")?;
            match corpus.has_room_for(len) {
                true => corpus.insert(name, input, len, None),
                false => beyond += 1,
            }
            Ok(())
        })?);
        if beyond > 0 {
            said.push(format!(
                "{beyond} more {} than are kept were not read",
                T::FOLDER
            ));
        }
        corpus.folder = Some(folder);
        Ok(corpus)
    }

    fn has_room_for(&self, len: usize) -> bool {
        self.kept.len() < self.bounds.inputs && self.bytes + len <= self.bounds.bytes
    }

    fn insert(&mut self, name: String, input: T, len: usize, gained: Option<u64>) {
        self.bytes += len;
        let input = Arc::new(input);
        self.kept.insert(name, Kept { input, len, gained });
    }

    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// All inputs, in the order of their names.
    pub(super) fn inputs(&self) -> Vec<Arc<T>> {
        self.kept.values().map(|kept| kept.input.clone()).collect()
    }

    /// The next input that was read and not run, with its name. [`Self::set_gained`] says what
    /// came of it.
    pub(super) fn next_read(&mut self) -> Option<(String, Arc<T>)> {
        let (name, kept) = self
            .kept
            .iter_mut()
            .find(|(_, kept)| kept.gained.is_none())?;
        kept.gained = Some(0);
        Some((name.clone(), kept.input.clone()))
    }

    /// Notes what an input has gained that was read.
    pub(super) fn set_gained(&mut self, name: &str, gained: u64) {
        if let Some(kept) = self.kept.get_mut(name) {
            kept.gained = Some(gained);
        }
    }

    /// The input that is missed least: it gained least. Those that were not run come last.
    fn least(&self) -> Option<&String> {
        let least = self
            .kept
            .iter()
            .min_by_key(|(_, kept)| kept.gained.unwrap_or(u64::MAX));
        least.map(|(name, _)| name)
    }

    /// Keeps an input, and gives up others if there are too many. Returns whether it is kept.
    pub(super) fn add(&mut self, Found { input, gained }: Found<T>) -> Result<bool, Error> {
        let bytes = input.encode().into_owned();
        let name = name(&bytes);
        if bytes.len() > self.bounds.each || self.kept.contains_key(&name) {
            return Ok(false);
        }
        self.insert(name.clone(), input, bytes.len(), Some(gained));
        while self.kept.len() > self.bounds.inputs || self.bytes > self.bounds.bytes {
            let Some(least) = self.least().cloned() else {
                break;
            };
            if let Some(kept) = self.kept.remove(&least) {
                self.bytes -= kept.len;
            }
            // The new one has no file yet.
            if let Some(folder) = self.folder.as_ref().filter(|_| least != name) {
                folder.remove(&least)?;
            }
        }
        let is_kept = self.kept.contains_key(&name);
        if let Some(folder) = self.folder.as_ref().filter(|_| is_kept) {
            folder.write(&name, &bytes)?;
        }
        Ok(is_kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{
        folder::tests::empty,
        input::Stream, //
    };
    use std::fs;

    const BOUNDS: Bounds = Bounds {
        inputs: 3,
        bytes: 20,
        each: 10,
    };

    fn open(path: &Path) -> (Corpus<Stream>, Vec<String>) {
        let mut said = Vec::new();
        let corpus = Corpus::open(Some(path), BOUNDS, &mut said).unwrap();
        (corpus, said)
    }

    fn add(corpus: &mut Corpus<Stream>, bytes: &str, gained: u64) -> bool {
        let input = Stream(bytes.into());
        corpus.add(Found { input, gained }).unwrap()
    }

    /// The inputs, and those of them that have files.
    fn has(corpus: &Corpus<Stream>, path: &Path) -> Vec<String> {
        let text = |input: Arc<Stream>| String::from_utf8(input.0.clone()).unwrap();
        let mut all: Vec<String> = corpus.inputs().into_iter().map(text).collect();
        all.sort();
        let files = fs::read_dir(path.join(Stream::FOLDER)).unwrap();
        let read = |entry: fs::DirEntry| fs::read_to_string(entry.path()).unwrap();
        let mut files: Vec<String> = files.map(|entry| read(entry.unwrap())).collect();
        files.sort();
        assert_eq!(all, files);
        assert_eq!(corpus.bytes, all.iter().map(String::len).sum::<usize>());
        all
    }

    #[test]
    fn what_gained_least_is_given_up() {
        let path = empty("corpus-bounds");
        let (mut corpus, _) = open(&path);
        for (bytes, gained) in [("a", 5), ("b", 2), ("c", 7)] {
            assert!(add(&mut corpus, bytes, gained));
        }
        // It is kept already; it is too long; it gained least itself.
        assert!(!add(&mut corpus, "a", 9));
        assert!(!add(&mut corpus, "more than ten", 9));
        assert!(!add(&mut corpus, "d", 1));
        assert_eq!(has(&corpus, &path), ["a", "b", "c"]);
        assert!(add(&mut corpus, "d", 3));
        assert_eq!(has(&corpus, &path), ["a", "c", "d"]);
        // Of bytes there may be as many as with two of ten.
        assert!(add(&mut corpus, "0123456789", 8));
        assert!(add(&mut corpus, "9876543210", 8));
        assert_eq!(has(&corpus, &path), ["0123456789", "9876543210"]);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn what_was_kept_is_run_again() {
        let path = empty("corpus-again");
        let (mut corpus, _) = open(&path);
        for bytes in ["a", "b", "c"] {
            assert!(add(&mut corpus, bytes, 5));
            assert!(corpus.next_read().is_none(), "it was run already");
        }
        let (mut corpus, said) = open(&path);
        assert_eq!((has(&corpus, &path).len(), said.len()), (3, 0));
        let (name, first) = corpus.next_read().unwrap();
        corpus.set_gained(&name, 0);
        // Those that were not run are not given up.
        assert!(add(&mut corpus, "d", 1));
        assert!(!has(&corpus, &path).contains(&String::from_utf8(first.0.clone()).unwrap()));
        assert!(corpus.next_read().is_some() && corpus.next_read().is_some());
        assert!(corpus.next_read().is_none());
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_folder_with_too_much_is_read_in_part() {
        let path = empty("corpus-beyond");
        let (mut corpus, _) = open(&path);
        corpus.bounds.inputs = 9;
        for bytes in ["a", "b", "c", "d", "e"] {
            assert!(add(&mut corpus, bytes, 5));
        }
        fs::write(path.join(Stream::FOLDER).join("x"), "damaged").unwrap();
        let (corpus, said) = open(&path);
        assert_eq!((corpus.len(), said.len()), (3, 2), "{said:?}");
        assert!(said[1].starts_with("2 more streams"), "{said:?}");
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn without_a_folder_inputs_are_in_memory() {
        let mut corpus = Corpus::open(None, BOUNDS, &mut Vec::new()).unwrap();
        assert!(add(&mut corpus, "a", 1));
        assert_eq!(corpus.inputs(), [Arc::new(Stream(b"a".into()))]);
    }
}
