// SPDX-License-Identifier: GPL-2.0

//! What `--json` prints: objects of one shape, each in a line of its own, which `schema.json`
//! describes.

use serde::Serialize;
use std::sync::OnceLock;
use vfio_mig::JSON_VERSION;

/// Describes all objects.
pub const SCHEMA: &str = include_str!("../../schema.json");

/// The command that this process carries out.
static COMMAND: OnceLock<String> = OnceLock::new();

/// Says which command the objects are of. Only the first call has an effect.
pub fn set_command(name: &str) {
    COMMAND.get_or_init(|| name.to_string());
}

/// What has failed.
#[derive(Serialize)]
pub struct Failure<'a> {
    /// The message, as standard error has it.
    pub message: &'a str,
    /// Exit status of the tool.
    pub status: u8,
    /// The errno behind it, if a system call has failed.
    pub errno: Option<i32>,
    /// Its name. Numbers differ between architectures.
    errno_name: Option<String>,
}

impl<'a> Failure<'a> {
    /// An error that ends the tool with `status`.
    pub fn new(message: &'a str, status: u8, errno: Option<i32>) -> Self {
        let known = errno.map(nix::errno::Errno::from_raw);
        let known = known.filter(|errno| *errno != nix::errno::Errno::UnknownErrno);
        Self {
            message,
            status,
            errno,
            errno_name: known.map(|errno| format!("{errno:?}")),
        }
    }
}

/// How the command has ended, or a part of its result.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome<'a, T> {
    /// It has done this.
    Result(T),
    /// It has failed.
    Error(Failure<'a>),
}

#[derive(Serialize)]
struct Object<'a, T> {
    version: u32,
    command: Option<&'a str>,
    #[serde(flatten)]
    outcome: Outcome<'a, T>,
}

/// The object in one line.
pub fn object<T: Serialize>(outcome: Outcome<'_, T>) -> serde_json::Result<String> {
    serde_json::to_string(&Object {
        version: JSON_VERSION,
        command: COMMAND.get().map(String::as_str),
        outcome,
    })
}

/// As [`object`], of an error.
pub fn error(failure: Failure<'_>) -> serde_json::Result<String> {
    object::<()>(Outcome::Error(failure))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{
        json,
        Value, //
    };

    fn parsed(text: serde_json::Result<String>) -> Value {
        serde_json::from_str(&text.unwrap()).unwrap()
    }

    #[test]
    fn an_object_has_a_result_or_an_error() {
        let result = parsed(object(Outcome::Result(json!({ "bytes": 3 }))));
        assert_eq!(result["version"], JSON_VERSION);
        assert_eq!(result["result"], json!({ "bytes": 3 }));
        assert!(result.get("error").is_none() && result.get("command").is_some());
        let failed = parsed(error(Failure::new("no\nroom", 1, Some(libc::ENOSPC))));
        let expected = json!({
            "message": "no\nroom", "status": 1, "errno": 28, "errno_name": "ENOSPC",
        });
        assert_eq!(failed["error"], expected);
        assert!(failed.get("result").is_none());
    }

    #[test]
    fn an_errno_without_a_name_has_none() {
        for errno in [None, Some(0), Some(4096)] {
            let failed = parsed(error(Failure::new("", 1, errno)));
            assert_eq!(failed["error"]["errno_name"], Value::Null, "{errno:?}");
        }
    }
}
