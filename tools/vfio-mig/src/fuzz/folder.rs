// SPDX-License-Identifier: GPL-2.0

//! A folder of kept inputs: a file for each, whose name is a digest of its contents.
//!
//! A file is written under another name and renamed when it is complete; until then, it is locked.
//! One that is not locked was left by a run that was killed, and is removed. Any other file is left
//! alone, and said.

use super::input::name;
use crate::{
    error::{
        Context,
        Error, //
    },
    text, //
};
use nix::fcntl::{
    Flock,
    FlockArg, //
};
use std::{
    ffi::OsStr,
    fs::{
        self,
        File, //
    },
    io::{
        self,
        Read,
        Write, //
    },
    path::{
        Path,
        PathBuf, //
    },
    process, //
};

/// What the name of a file ends with that is not complete.
const INCOMPLETE: &str = "tmp";
/// Hexadecimal digits of a digest.
const DIGITS: usize = 64;

/// A folder.
pub(super) struct Folder(PathBuf);

/// Names the file that an error is about.
fn of(path: &Path) -> String {
    text::shown_path(path)
}

/// Reads a regular file of at most `most` bytes, whose name is right. Returns what is wrong
/// with any other.
fn read(path: &Path, most: usize) -> Result<Vec<u8>, String> {
    let said = |err: io::Error| err.to_string();
    // What would have to be waited for is not opened.
    if !fs::metadata(path).map_err(said)?.is_file() {
        return Err("not a regular file".to_string());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(said)?;
    let limit = most as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(said)?;
    if bytes.len() > most {
        return Err(format!("more than {most} bytes"));
    }
    match path.file_name().is_some_and(|file| *file == *name(&bytes)) {
        true => Ok(bytes),
        false => Err("its name is not the digest of its contents".to_string()),
    }
}

/// Whether a file has a name that [`Folder::write`] gives it until it is complete.
fn is_incomplete(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let parts: Vec<&str> = name.split('.').collect();
    let [digest, process, INCOMPLETE] = parts[..] else {
        return false;
    };
    let is_digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    digest.len() == DIGITS && digest.chars().all(is_digit) && process.parse::<u32>().is_ok()
}

/// Locks a file, if nobody else has.
fn lock(file: File) -> io::Result<Flock<File>> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.into())
}

/// Removes a file that was not completed, unless somebody is at it.
fn remove_stale(path: &Path) -> io::Result<()> {
    // A FIFO would have to be waited for; what a link leads to is of others.
    if !fs::symlink_metadata(path)?.is_file() {
        return Ok(());
    }
    match lock(File::open(path)?) {
        // The lock is held until it is gone.
        Ok(_lock) => fs::remove_file(path),
        Err(err) if err.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(err) => Err(err),
    }
}

impl Folder {
    /// Opens a folder, and makes it if there is none. Removes what runs that were killed have
    /// left.
    pub(super) fn open(path: PathBuf) -> Result<Self, Error> {
        fs::create_dir_all(&path).context(of(&path))?;
        let entries = fs::read_dir(&path).context(of(&path))?.flatten();
        let stale = entries
            .map(|entry| entry.path())
            .filter(|path| is_incomplete(path));
        for path in stale {
            match remove_stale(&path) {
                // Somebody else has completed or removed it.
                Err(err) if err.kind() == io::ErrorKind::NotFound => (),
                removed => removed.context(of(&path))?,
            }
        }
        Ok(Self(path))
    }

    /// Reads all files, in the order of their names, each of which may have `most` bytes. `take`
    /// gets the contents of each file, and returns what is wrong with them if anything is.
    /// Returns a line for each file that is skipped.
    pub(super) fn read(
        &self,
        most: usize,
        mut take: impl FnMut(Vec<u8>) -> Result<(), String>,
    ) -> Result<Vec<String>, Error> {
        let entries = fs::read_dir(&self.0).context(of(&self.0))?;
        let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
        let mut paths = paths.context(of(&self.0))?;
        paths.sort();
        let skipped = paths.iter().filter_map(|path| {
            let why = read(path, most).and_then(&mut take).err()?;
            Some(format!("{}: skipped: {why}", of(path)))
        });
        Ok(skipped.collect())
    }

    /// Writes a file, unless it is there.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.0.join(name);
        if path.exists() {
            return Ok(());
        }
        let incomplete = path.with_extension(format!("{}.{INCOMPLETE}", process::id()));
        let written = File::create(&incomplete)
            .and_then(lock)
            .and_then(|mut file| {
                file.write_all(bytes)?;
                fs::rename(&incomplete, &path)
            });
        if written.is_err() {
            let _ = fs::remove_file(&incomplete);
        }
        written.context(of(&path))
    }

    /// Removes a file. Somebody else may have done so.
    pub(super) fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.0.join(name);
        match fs::remove_file(&path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.context(of(&path)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use nix::{
        sys::stat::Mode,
        unistd::mkfifo, //
    };

    /// An empty folder.
    pub(in crate::fuzz) fn empty(test: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("vfio-mig-{test}-{}", process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn read_all(folder: &Folder, most: usize) -> (Vec<Vec<u8>>, Vec<String>) {
        let mut all = Vec::new();
        let take = |bytes| {
            all.push(bytes);
            Ok(())
        };
        let skipped = folder.read(most, take).unwrap();
        (all, skipped)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let path = empty("folder-again");
        let folder = Folder::open(path.join("new/below")).unwrap();
        let inputs = [&b"one"[..], b"", b"two"];
        for bytes in inputs.iter().chain(&inputs) {
            folder.write(&name(bytes), bytes).unwrap();
        }
        let (mut all, skipped) = read_all(&folder, 3);
        all.sort();
        assert_eq!(
            (all, skipped.len()),
            (vec![vec![], b"one".into(), b"two".into()], 0)
        );
        folder.remove(&name(b"one")).unwrap();
        folder.remove(&name(b"one")).unwrap();
        assert_eq!(read_all(&folder, 3).0.len(), 2);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn damaged_files_are_said_and_skipped() {
        let path = empty("folder-damaged");
        let folder = Folder::open(path.clone()).unwrap();
        for bytes in [&b"good"[..], b"changed", b"cut", b"too long"] {
            folder.write(&name(bytes), bytes).unwrap();
        }
        fs::write(path.join(name(b"changed")), "Changed").unwrap();
        fs::write(path.join(name(b"cut")), "cu").unwrap();
        fs::write(
            path.join(name(b"incomplete")).with_extension("7.tmp"),
            "inc",
        )
        .unwrap();
        fs::create_dir(path.join("folder")).unwrap();
        mkfifo(&path.join("fifo"), Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("nowhere", path.join("a\nlink")).unwrap();
        let (all, skipped) = read_all(&folder, 7);
        assert_eq!(all, [b"good"]);
        assert_eq!(skipped.len(), 7, "{skipped:?}");
        assert!(skipped.iter().all(|line| !line.contains('\n')));
        let says = |text: &str| skipped.iter().filter(|line| line.contains(text)).count();
        assert_eq!(says("not the digest"), 3);
        assert_eq!(says("not a regular file"), 2);
        assert_eq!(says("more than 7 bytes"), 1);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn what_a_killed_run_has_left_is_removed() {
        let path = empty("folder-stale");
        let named = |extension: &str| path.join(name(b"an input")).with_extension(extension);
        let stale = named("7.tmp");
        let others = [
            named("tmp"),
            named("x.tmp"),
            named("7.8.tmp"),
            path.join("notes.7.tmp"),
            path.join(format!("{}.7.tmp", "X".repeat(DIGITS))),
        ];
        let (busy, folder, link) = (named("8.tmp"), named("9.tmp"), named("10.tmp"));
        for file in others.iter().chain([&stale, &busy]) {
            fs::write(file, "half").unwrap();
        }
        fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(&others[0], &link).unwrap();
        let writes = lock(File::open(&busy).unwrap()).unwrap();
        Folder::open(path.clone()).unwrap();
        assert!(!stale.exists());
        let kept = others.iter().chain([&busy, &folder, &link]);
        assert!(kept.clone().all(|file| file.exists()), "{kept:?}");
        drop(writes);
        Folder::open(path.clone()).unwrap();
        assert!(!busy.exists());
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error() {
        let path = empty("folder-gone");
        let folder = Folder::open(path.clone()).unwrap();
        fs::remove_dir_all(&path).unwrap();
        assert!(folder.write("name", b"bytes").is_err());
        assert!(folder.read(1, |_| Ok(())).is_err());
        fs::write(&path, "a file").unwrap();
        assert!(Folder::open(path.clone()).is_err());
        fs::remove_file(path).unwrap();
    }
}
