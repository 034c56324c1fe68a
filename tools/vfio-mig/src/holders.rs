// SPDX-License-Identifier: GPL-2.0

//! Which process has a device open.

use crate::text;
use std::{
    fs,
    os::unix::fs::{
        FileTypeExt,
        MetadataExt, //
    },
    path::{
        Path,
        PathBuf, //
    },
};

/// A file that is looked for.
struct Wanted<'a> {
    path: &'a Path,
    /// Its device number, if it is a device node.
    device: Option<u64>,
}

/// The device number of a node.
fn number(path: &Path) -> Option<u64> {
    let metadata = fs::metadata(path).ok()?;
    let is_node = metadata.file_type().is_char_device();
    is_node.then(|| metadata.rdev())
}

impl Wanted<'_> {
    /// Whether it is what a process has open as `fd`, which leads to `target`. In a container or
    /// after chroot() another path leads to another node of the same device. Only what has the
    /// same name is looked at: the server of any other file may not answer.
    fn is(&self, fd: &Path, target: &Path) -> bool {
        let is_named = target.file_name() == self.path.file_name();
        target == self.path || (is_named && self.device.is_some() && number(fd) == self.device)
    }
}

/// What the kernel tells of a file descriptor before the device that it is of: VFIO does that, in
/// newer kernels.
const VFIO_DEVICE: &str = "vfio-device-syspath:";

/// Whether VFIO says that `fd` of a process, which leads to `target`, is of this device. Whoever
/// has opened it by its group may have closed the group's node.
fn is_of_device(process: &Path, fd: &Path, target: &Path, device: &str) -> bool {
    let is_vfio = target.to_string_lossy().contains("vfio");
    let Some(number) = fd.file_name().filter(|_| is_vfio) else {
        return false;
    };
    let info = fs::read_to_string(process.join("fdinfo").join(number)).unwrap_or_default();
    let mut paths = info
        .lines()
        .filter_map(|line| line.strip_prefix(VFIO_DEVICE));
    paths.any(|path| {
        Path::new(path.trim())
            .file_name()
            .is_some_and(|name| name == device)
    })
}

/// Whether the process whose folder in /proc is `process` has one of `files` or `device` open.
fn holds(process: &Path, files: &[Wanted<'_>], device: &str) -> bool {
    let Ok(open) = fs::read_dir(process.join("fd")) else {
        // We may not see its files, or it has just ended.
        return false;
    };
    open.flatten()
        .filter_map(|fd| Some((fd.path(), fs::read_link(fd.path()).ok()?)))
        .any(|(fd, target)| {
            files.iter().any(|file| file.is(&fd, &target))
                || is_of_device(process, &fd, &target, device)
        })
}

/// A process that has a device open, of which sysfs has this name, or one of the files that stand
/// for it: its name and id. `None` if there is none, or none that may be seen.
pub fn find(device: &str, files: &[PathBuf]) -> Option<String> {
    find_in(Path::new("/"), device, files)
}

/// As [`find`], of a host whose files are below `root`.
pub fn find_in(root: &Path, device: &str, files: &[PathBuf]) -> Option<String> {
    let at = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    let files: Vec<Wanted<'_>> = files
        .iter()
        .map(|path| Wanted {
            path,
            device: number(&at(path)),
        })
        .collect();
    let processes = fs::read_dir(root.join("proc")).ok()?.flatten();
    for process in processes {
        let name = process.file_name();
        let Some(id) = name.to_str().and_then(|id| id.parse::<u32>().ok()) else {
            continue;
        };
        if !holds(&process.path(), &files, device) {
            continue;
        }
        if id == std::process::id() {
            return Some("this process".to_string());
        }
        // Whoever may open a device chooses it, of any bytes.
        let name = fs::read(process.path().join("comm")).unwrap_or_default();
        let name = text::shown(String::from_utf8_lossy(&name).trim_end());
        return Some(format!("{name} (process {id})"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{
            BufRead,
            BufReader, //
        },
        process::{
            Command,
            Stdio, //
        },
        slice, //
    };

    #[test]
    fn this_process_is_found() {
        let path = std::env::temp_dir().join(format!("vfio-mig-held-{}", std::process::id()));
        let file = fs::File::create(&path).unwrap();
        let path = fs::canonicalize(path).unwrap();
        assert_eq!(
            find("none", slice::from_ref(&path)).as_deref(),
            Some("this process")
        );
        drop(file);
        fs::remove_file(&path).unwrap();
        assert_eq!(find("none", &[path]), None);
    }

    #[test]
    fn the_name_of_a_process_commands_no_terminal() {
        let path = std::env::temp_dir().join(format!("vfio-mig-named-{}", std::process::id()));
        fs::write(&path, "").unwrap();
        let path = fs::canonicalize(path).unwrap();
        let name = r"\033]0;x\007\n\342\200\256\377ok";
        let script = format!("printf '{name}' > /proc/$$/comm; exec 3< \"$0\"; echo; read -r end");
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        let found = find("none", slice::from_ref(&path));
        let id = child.id();
        // It has read to the end of its input.
        child.wait().unwrap();
        fs::remove_file(&path).unwrap();
        let name = "\u{fffd}]0;x\u{fffd}\u{fffd}\u{fffd}\u{fffd}ok";
        assert_eq!(found, Some(format!("{name} (process {id})")));
    }
}
