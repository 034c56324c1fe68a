// SPDX-License-Identifier: GPL-2.0

//! Which process has a file open.

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
    let processes = fs::read_dir("/proc").ok()?.flatten();
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
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        return Some(format!("{} (process {id})", name.trim_end()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice;

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
}
