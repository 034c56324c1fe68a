// SPDX-License-Identifier: GPL-2.0

//! A file that a state is written to.
//!
//! The tool runs as root, so it must not lose what it did not make. A regular
//! file is written beside its final name and renamed when it is complete: an
//! older file stays if the save fails. Anything else that has the name already,
//! such as a device node, is written to as it is, and never removed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// A file that is being written.
pub struct Output {
    file: File,
    /// The name to give up, and the name to get; `None` if there is nothing to
    /// rename.
    rename: Option<(PathBuf, PathBuf)>,
}

impl Output {
    /// Opens a file for `path`. If `path` is a symbolic link, the link stays and
    /// its target is replaced; a link without a target is an error.
    pub fn create(path: &Path) -> io::Result<Self> {
        let (path, older) = match fs::canonicalize(path) {
            Ok(target) => {
                let older = fs::metadata(&target)?;
                (target, Some(older))
            }
            // A link that leads nowhere would be replaced by the file.
            Err(err) if err.kind() != io::ErrorKind::NotFound || path.is_symlink() => {
                return Err(err)
            }
            Err(_) => (path.to_path_buf(), None),
        };
        if older.as_ref().is_some_and(|older| !older.is_file()) {
            // Fails for a folder, with EISDIR.
            let file = OpenOptions::new().write(true).open(&path)?;
            return Ok(Self { file, rename: None });
        }
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut beside = name.to_os_string();
        beside.push(format!(".{}.tmp", std::process::id()));
        let beside = path.with_file_name(beside);
        // Fails if the name is taken: what is there is not ours.
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&beside)?;
        let this = Self {
            file,
            rename: Some((beside, path)),
        };
        if let Some(older) = older {
            this.file.set_permissions(older.permissions())?;
        }
        Ok(this)
    }

    /// Syncs the file and gives it its final name.
    pub fn commit(mut self) -> io::Result<()> {
        let Some((from, to)) = &self.rename else {
            return self.file.flush();
        };
        self.file.sync_all()?;
        fs::rename(from, to)?;
        let folder = to.parent().filter(|dir| !dir.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new(".")))?;
        self.rename = None;
        folder.sync_all()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Output {
    /// Removes what was written, unless it was committed.
    fn drop(&mut self) {
        if let Some((beside, _)) = &self.rename {
            let _ = fs::remove_file(beside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("vfio-mig-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_failed_save_leaves_the_older_file() {
        let dir = folder("older");
        let path = dir.join("state");
        fs::write(&path, "old").unwrap();
        let mut output = Output::create(&path).unwrap();
        output.write_all(b"half").unwrap();
        drop(output);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_complete_save_replaces_the_older_file() {
        let dir = folder("newer");
        let path = dir.join("state");
        let link = dir.join("link");
        fs::write(&path, "old").unwrap();
        std::os::unix::fs::symlink("state", &link).unwrap();
        let mut output = Output::create(&link).unwrap();
        output.write_all(b"new").unwrap();
        output.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_link_that_leads_nowhere_stays() {
        let dir = folder("dangling");
        let link = dir.join("link");
        std::os::unix::fs::symlink("nothing", &link).unwrap();
        assert!(Output::create(&link).is_err());
        assert!(link.is_symlink());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_device_node_stays() {
        let mut output = Output::create(Path::new("/dev/full")).unwrap();
        assert!(output.write_all(b"state").is_err());
        drop(output);
        assert!(fs::metadata("/dev/full").is_ok());
        Output::create(Path::new("/dev/null"))
            .unwrap()
            .commit()
            .unwrap();
        assert!(fs::metadata("/dev/null").is_ok());
    }

    #[test]
    fn a_folder_is_refused() {
        assert!(Output::create(&std::env::temp_dir()).is_err());
    }
}
