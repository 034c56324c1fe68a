// SPDX-License-Identifier: GPL-2.0

//! Tracepoints of the drivers: turns them on, and reads their events.

use crate::sys;
use anyhow::{
    Context,
    Result, //
};
use std::{
    fmt::Display,
    fs,
    path::Path, //
};

const TRACING: &str = "/sys/kernel/tracing";
const SYSTEM: &str = "vfio_migration";

fn write(file: &str, text: &str) -> Result<()> {
    let path = Path::new(TRACING).join(file);
    fs::write(&path, text).with_context(|| path.display().to_string())
}

/// Turns them on or off.
pub fn turn(on: bool) -> Result<()> {
    turn_events(SYSTEM, on)
}

/// Turns other events on or off: "system", or "system/event".
pub fn turn_events(events: &str, on: bool) -> Result<()> {
    if !fs::exists(Path::new(TRACING).join("events"))? {
        sys::mount("tracefs", TRACING)?;
    }
    write(
        &format!("events/{events}/enable"),
        if on { "1" } else { "0" },
    )
}

/// Returns the format of an event, for a program that decodes it.
pub fn format(event: &str) -> Result<String> {
    let path = Path::new(TRACING).join("events").join(SYSTEM);
    let path = path.join(format!("{SYSTEM}_{event}/format"));
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Turns on one event, and all others off.
pub fn turn_on_only(event: &str) -> Result<()> {
    turn(false)?;
    turn_events(&format!("{SYSTEM}/{SYSTEM}_{event}"), true)
}

/// The events since the last call, each as "event: fields".
pub fn taken() -> Result<Vec<String>> {
    taken_of("vfio_migration_")
}

/// As [`taken`], for events whose names begin with `name`.
pub fn taken_of(name: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(Path::new(TRACING).join("trace"))?;
    write("trace", "")?;
    let event = |line: &str| Some(line[line.find(name)?..].trim().to_string());
    Ok(text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(event)
        .collect())
}

/// The number behind `name=`.
pub fn number(event: &str, name: &str) -> Result<i64> {
    let field = event
        .split_whitespace()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let field = field.with_context(|| format!("no {name} in {event}"))?;
    Ok(field.parse()?)
}

/// All of an event about a device.
pub fn of<'a>(events: &'a [String], name: &str, device: impl Display) -> Vec<&'a str> {
    let begin = format!("vfio_migration_{name}: {device} ");
    let events = events.iter().map(String::as_str);
    events.filter(|event| event.starts_with(&begin)).collect()
}
