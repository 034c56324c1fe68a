// SPDX-License-Identifier: GPL-2.0

//! A file that a state is written to. The tool runs as root, so it must not destroy files of
//! others. A regular file is written beside its final name and renamed when it is complete:
//! an older file stays if the save fails. A FIFO or a character device is written to as it
//! is, and never removed. A block device is refused: the state would have no end there, and
//! a disk given by mistake would be lost.

use crate::interrupt;
use std::{
    ffi::{
        OsStr,
        OsString, //
    },
    fs::{
        self,
        File,
        Metadata,
        OpenOptions,
        Permissions, //
    },
    io::{
        self,
        Write, //
    },
    os::unix::{
        ffi::OsStrExt,
        fs::{
            fchown,
            FileTypeExt,
            MetadataExt,
            OpenOptionsExt,
            PermissionsExt, //
        },
    },
    path::{
        Path,
        PathBuf, //
    },
    process, //
};

/// Number of names that are tried for the temporary file. Each killed tool with the
/// same process id has taken one.
const MAX_NAMES: u32 = 100;

/// A file that is being written.
pub struct Output {
    file: File,
    /// The name that it has or will get.
    path: PathBuf,
    /// The name that it has until it is complete, if it is a regular file.
    temporary: Option<PathBuf>,
    /// The folder of both, if it is a regular file.
    folder: Option<File>,
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// The temporary file's name: the `n`th choice.
fn beside(name: &OsStr, n: u32) -> OsString {
    let mut beside = name.to_os_string();
    beside.push(match n {
        0 => format!(".{}.tmp", process::id()),
        n => format!(".{}.{n}.tmp", process::id()),
    });
    beside
}

/// Creates a file beside `path` that did not exist, with these permissions at most.
fn create_beside(path: &Path, mode: u32) -> io::Result<(File, PathBuf)> {
    let name = path
        .file_name()
        .filter(|_| !path.as_os_str().as_bytes().ends_with(b"/"))
        .ok_or_else(|| invalid("not the name of a file"))?;
    for n in 0..MAX_NAMES {
        let beside = path.with_file_name(beside(name, n));
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside);
        match created {
            Ok(file) => return Ok((file, beside)),
            // Another tool has made that file.
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => (),
            Err(err) => return Err(err),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Gives `file`, which only its owner can open, the owner, group and permissions of
/// `older`.
fn take_after(file: &File, older: &Metadata) -> io::Result<()> {
    let mut mode = older.mode() & 0o777;
    let kept = fchown(file, Some(older.uid()), Some(older.gid()))
        // Only root can give a file away, but others have groups, too.
        .or_else(|_| fchown(file, None, Some(older.gid())));
    if kept.is_err() {
        // These permissions were meant for another group.
        mode &= !0o070;
    }
    // At last, since the file is as open as the older one from here on.
    file.set_permissions(Permissions::from_mode(mode))
}

/// What is at `path`, if anything, and its name without symbolic links.
fn look_up(path: &Path) -> io::Result<(PathBuf, Option<Metadata>)> {
    // What /dev/stdout and /dev/fd/N lead to may have no name, as a pipe has none.
    let nameless = fs::metadata(path).ok().filter(|older| !older.is_file());
    if let Some(older) = nameless {
        return Ok((path.to_path_buf(), Some(older)));
    }
    match fs::canonicalize(path) {
        Ok(target) => {
            let older = fs::metadata(&target)?;
            Ok((target, Some(older)))
        }
        // A link that leads nowhere would be replaced by the file.
        Err(err) if err.kind() != io::ErrorKind::NotFound || path.is_symlink() => Err(err),
        Err(_) => Ok((path.to_path_buf(), None)),
    }
}

impl Output {
    /// Opens a file for `path`. If `path` is a symbolic link, the link stays and
    /// its target is replaced; a link without a target is an error.
    ///
    /// If there will be a temporary file, signals are caught from now on.
    pub fn create(path: &Path) -> io::Result<Self> {
        let (path, older) = look_up(path)?;
        match &older {
            Some(older) if older.file_type().is_block_device() => Err(invalid(
                "a block device, on which the end of the state would be lost; save to a file",
            )),
            Some(older) if !older.is_file() => Ok(Self {
                // Fails for a folder, with EISDIR.
                file: OpenOptions::new().write(true).open(&path)?,
                path,
                temporary: None,
                folder: None,
            }),
            _ => Self::create_or_replace(path, older),
        }
    }

    /// As [`Self::create`], but fails if `path` is there and no regular file: what is
    /// written to anything else cannot be read back.
    pub fn create_regular(path: &Path) -> io::Result<Self> {
        match look_up(path)? {
            (_, Some(older)) if !older.is_file() => Err(invalid(
                "not a regular file, so the state could not be read back from it",
            )),
            (path, older) => Self::create_or_replace(path, older),
        }
    }

    /// Opens a temporary file, for a new file or for `older`, a regular one.
    fn create_or_replace(path: PathBuf, older: Option<Metadata>) -> io::Result<Self> {
        interrupt::catch().map_err(io::Error::other)?;
        let mode = match &older {
            Some(older) => older.mode() & 0o600,
            None => 0o666,
        };
        let folder = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        // A folder that may not be read cannot be synced: fail now, before the state is
        // saved.
        let folder = File::open(folder.unwrap_or(Path::new(".")))?;
        let (file, beside) = create_beside(&path, mode)?;
        let this = Self {
            file,
            path,
            temporary: Some(beside),
            folder: Some(folder),
        };
        if let Some(older) = older {
            take_after(&this.file, &older)?;
        }
        Ok(this)
    }

    /// Its final name, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs the file and gives it its final name.
    pub fn commit(mut self) -> io::Result<()> {
        let (Some(temporary), Some(folder)) = (&self.temporary, &self.folder) else {
            return self.file.flush();
        };
        self.file.sync_all()?;
        fs::rename(temporary, &self.path)?;
        self.temporary = None;
        match folder.sync_all() {
            // Not every file system can sync a folder.
            Err(err) if err.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            Err(err) => Err(io::Error::new(
                err.kind(),
                format!("the file is there, but may not survive a power cut: {err}"),
            )),
            Ok(()) => Ok(()),
        }
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
        if let Some(temporary) = &self.temporary {
            let _ = fs::remove_file(temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Read,
        os::fd::AsRawFd, //
    };

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
    fn a_temporary_file_of_another_tool_stays() {
        let dir = folder("taken");
        let path = dir.join("state");
        let taken = dir.join(beside(OsStr::new("state"), 0));
        fs::write(&taken, "not ours").unwrap();
        let mut output = Output::create(&path).unwrap();
        output.write_all(b"new").unwrap();
        output.commit().unwrap();
        drop(Output::create(&path).unwrap());
        assert_eq!(fs::read(&taken).unwrap(), b"not ours");
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn owner_and_permissions_stay() {
        let dir = folder("owner");
        let path = dir.join("state");
        fs::write(&path, "old").unwrap();
        // Fails unless root runs the test.
        let _ = std::os::unix::fs::chown(&path, Some(1234), Some(5678));
        for mode in [0o600, 0o640, 0o400, 0o666] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let older = fs::metadata(&path).unwrap();
            let mut output = Output::create(&path).unwrap();
            output.write_all(b"new").unwrap();
            output.commit().unwrap();
            let newer = fs::metadata(&path).unwrap();
            assert_ne!(newer.ino(), older.ino());
            assert_eq!(newer.mode(), older.mode());
            assert_eq!((newer.uid(), newer.gid()), (older.uid(), older.gid()));
        }
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_new_file_is_no_more_open_than_the_older_one() {
        let dir = folder("open");
        let path = dir.join("state");
        let (file, _) = create_beside(&path, 0o600).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o077, 0);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_cannot_be_read_back_is_refused() {
        let dir = folder("fifo");
        let fifo = dir.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [&fifo, Path::new("/dev/null"), &dir] {
            let err = Output::create_regular(path).err().unwrap();
            assert!(err.to_string().contains("read back"), "{err}");
        }
        drop(Output::create_regular(&dir.join("new")).unwrap());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_pipe_without_a_name_is_written_to() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", writer.as_raw_fd()));
        let mut output = Output::create(&path).unwrap();
        drop(writer);
        output.write_all(b"state").unwrap();
        output.commit().unwrap();
        let mut read = Vec::new();
        File::from(reader).read_to_end(&mut read).unwrap();
        assert_eq!(read, b"state");
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
        let dir = folder("folder");
        for path in [
            &dir,
            &dir.join(".."),
            &dir.join("new/"),
            &dir.join("new/.."),
        ] {
            assert!(Output::create(path).is_err(), "{}", path.display());
        }
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        fs::remove_dir_all(dir).unwrap();
    }
}
