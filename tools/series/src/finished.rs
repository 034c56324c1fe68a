// SPDX-License-Identifier: GPL-2.0

//! Folders that have their names once all of them are finished: who ends the program in the middle
//! does not find a part of them.

use anyhow::{
    Context,
    Result, //
};
use std::{
    fs,
    path::Path, //
};

/// Where folders are until all of them are written.
const UNFINISHED: &str = "unfinished";

/// Removes a folder, if it is there.
pub fn remove(folder: &Path) -> Result<()> {
    match folder.exists() {
        true => fs::remove_dir_all(folder).with_context(|| folder.display().to_string()),
        false => Ok(()),
    }
}

/// Has `write` fill a folder for each of `names`, of which it gets the index, and puts all of them
/// to `out` then.
pub fn folders(
    out: &Path,
    names: &[&str],
    mut write: impl FnMut(usize, &Path) -> Result<()>,
) -> Result<()> {
    let unfinished = out.join(UNFINISHED);
    remove(&unfinished)?;
    for (i, name) in names.iter().enumerate() {
        let folder = unfinished.join(name);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        write(i, &folder)?;
    }
    for name in names {
        let to = out.join(name);
        remove(&to)?;
        fs::rename(unfinished.join(name), &to).with_context(|| to.display().to_string())?;
    }
    remove(&unfinished)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::ensure;

    /// What is in the folder after `one` and `two` were to be written to it, if `ok` with success.
    fn written(out: &Path, ok: bool) -> Vec<String> {
        let result = folders(out, &["one", "two"], |i, folder| {
            ensure!(ok || i == 0, "the second one fails");
            fs::write(folder.join("mail"), ["first", "second"][i]).map_err(Into::into)
        });
        assert_eq!(result.is_ok(), ok);
        let entries = fs::read_dir(out).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn no_folder_is_there_before_all_are() {
        let out = tempfile::tempdir().unwrap();
        assert_eq!(written(out.path(), false), [UNFINISHED]);
        assert_eq!(written(out.path(), true), ["one", "two"]);
        let mail = fs::read_to_string(out.path().join("two/mail")).unwrap();
        assert_eq!(mail, "second");
        // Those of a run before stay until then.
        assert_eq!(written(out.path(), false), ["one", "two", UNFINISHED]);
        assert_eq!(written(out.path(), true), ["one", "two"]);
    }
}
