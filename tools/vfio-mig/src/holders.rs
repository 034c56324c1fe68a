// SPDX-License-Identifier: GPL-2.0

//! Which process has a file open.

use crate::text;
use std::{
    fs,
    path::{
        Path,
        PathBuf, //
    },
};

/// Whether the process whose folder in /proc is `process` has one of `files` open.
fn holds(process: &Path, files: &[PathBuf]) -> bool {
    let Ok(open) = fs::read_dir(process.join("fd")) else {
        // We may not see its files, or it has just ended.
        return false;
    };
    open.flatten()
        .filter_map(|fd| fs::read_link(fd.path()).ok())
        .any(|file| files.contains(&file))
}

/// A process that has one of `files` open: its name and id. `None` if there is
/// none, or none that may be seen.
pub fn find(files: &[PathBuf]) -> Option<String> {
    find_in(Path::new("/proc"), files)
}

/// As [`find`], where `proc` has the processes.
pub fn find_in(proc: &Path, files: &[PathBuf]) -> Option<String> {
    let processes = fs::read_dir(proc).ok()?.flatten();
    for process in processes {
        let name = process.file_name();
        let Some(id) = name.to_str().and_then(|id| id.parse::<u32>().ok()) else {
            continue;
        };
        if !holds(&process.path(), files) {
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
