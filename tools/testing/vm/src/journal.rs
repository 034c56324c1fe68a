// SPDX-License-Identifier: GPL-2.0

//! What a campaign has done so far, or another command that takes hours, in a file: a line for
//! each piece of it, after one that says of which code. What is interrupted goes on from it.

use anyhow::{
    Context,
    Result, //
};
use serde::{
    de::DeserializeOwned,
    Serialize, //
};
use serde_json::{
    json,
    Value, //
};
use std::{
    fs::{
        self,
        File,
        OpenOptions, //
    },
    io::Write,
    path::Path, //
};

/// The file, open for the next line.
pub struct Journal<T> {
    file: File,
    /// The seed from which all that is random comes.
    pub seed: u64,
    /// All pieces so far.
    pub done: Vec<T>,
}

/// The seed and the pieces of a text, if they are of this code. A line that was cut off is
/// left out.
fn parse<T: DeserializeOwned>(text: &str, code: &str) -> Option<(u64, Vec<T>)> {
    let mut lines = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    let head: Value = serde_json::from_str(lines.next()?).ok()?;
    let seed = head["seed"].as_u64().filter(|_| head["code"] == code)?;
    let done = lines.filter_map(|line| serde_json::from_str(line).ok());
    Some((seed, done.collect()))
}

impl<T: Serialize + DeserializeOwned> Journal<T> {
    /// Goes on with the file, or begins a new one with `seed` if it is of other code. What was
    /// there then is kept beside it.
    pub fn open(path: &Path, code: &str, seed: u64) -> Result<Self> {
        let text = fs::read_to_string(path).unwrap_or_default();
        let known = parse(&text, code);
        if known.is_none() && !text.is_empty() {
            fs::rename(path, path.with_extension("old"))
                .with_context(|| path.display().to_string())?;
        }
        let (seed, done) = known.unwrap_or((seed, Vec::new()));
        // Written anew, without what was cut off.
        let new = path.with_extension("new");
        let mut file = File::create(&new).with_context(|| new.display().to_string())?;
        writeln!(file, "{}", json!({ "code": code, "seed": seed }))?;
        for one in &done {
            writeln!(file, "{}", serde_json::to_string(one)?)?;
        }
        fs::rename(&new, path)?;
        let file = OpenOptions::new().append(true).open(path)?;
        Ok(Self { file, seed, done })
    }

    /// Adds a piece.
    pub fn add(&mut self, done: T) -> Result<()> {
        writeln!(self.file, "{}", serde_json::to_string(&done)?)?;
        self.done.push(done);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_interrupted_goes_on() {
        let dir = std::env::temp_dir().join(format!("vm-test-journal-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("journal");
        let mut journal = Journal::<String>::open(&path, "a", 7).unwrap();
        journal.add("x:7".to_string()).unwrap();
        // It was killed while it wrote.
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text + "\"x:").unwrap();
        let mut journal = Journal::<String>::open(&path, "a", 8).unwrap();
        assert_eq!((journal.seed, journal.done.len()), (7, 1));
        journal.add("x:8".to_string()).unwrap();
        assert_eq!(
            Journal::<String>::open(&path, "a", 8).unwrap().done,
            ["x:7", "x:8"]
        );
        // Other code: from the beginning.
        let journal = Journal::<String>::open(&path, "b", 9).unwrap();
        assert_eq!((journal.seed, journal.done.len()), (9, 0));
        assert!(path.with_extension("old").exists());
        fs::remove_dir_all(dir).unwrap();
    }
}
