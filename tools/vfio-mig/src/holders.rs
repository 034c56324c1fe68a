// SPDX-License-Identifier: GPL-2.0

//! Which process has a file open.

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
fn device(path: &Path) -> Option<u64> {
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
        target == self.path || (is_named && self.device.is_some() && device(fd) == self.device)
    }
}

/// Whether the process whose folder in /proc is `process` has one of `files` open.
fn holds(process: &Path, files: &[Wanted<'_>]) -> bool {
    let Ok(open) = fs::read_dir(process.join("fd")) else {
        // We may not see its files, or it has just ended.
        return false;
    };
    open.flatten()
        .filter_map(|fd| Some((fd.path(), fs::read_link(fd.path()).ok()?)))
        .any(|(fd, target)| files.iter().any(|file| file.is(&fd, &target)))
}

/// A process that has one of `files` open: its name and id. `None` if there is
/// none, or none that may be seen.
pub fn find(files: &[PathBuf]) -> Option<String> {
    find_in(Path::new("/"), files)
}

/// As [`find`], of a host whose files are below `root`.
pub fn find_in(root: &Path, files: &[PathBuf]) -> Option<String> {
    let at = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    let files: Vec<Wanted<'_>> = files
        .iter()
        .map(|path| Wanted {
            path,
            device: device(&at(path)),
        })
        .collect();
    let processes = fs::read_dir(root.join("proc")).ok()?.flatten();
    for process in processes {
        let name = process.file_name();
        let Some(id) = name.to_str().and_then(|id| id.parse::<u32>().ok()) else {
            continue;
        };
        if !holds(&process.path(), &files) {
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
            find(slice::from_ref(&path)).as_deref(),
            Some("this process")
        );
        drop(file);
        fs::remove_file(&path).unwrap();
        assert_eq!(find(&[path]), None);
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
        let found = find(slice::from_ref(&path));
        let id = child.id();
        // It has read to the end of its input.
        child.wait().unwrap();
        fs::remove_file(&path).unwrap();
        let name = "\u{fffd}]0;x\u{fffd}\u{fffd}\u{fffd}\u{fffd}ok";
        assert_eq!(found, Some(format!("{name} (process {id})")));
    }
}
