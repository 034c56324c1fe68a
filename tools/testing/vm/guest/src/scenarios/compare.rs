// SPDX-License-Identifier: GPL-2.0

//! Does the same with both drivers, and compares what user space sees.

use super::Vfs;
use crate::{
    hca::Driver,
    tap::Results, //
};
use anyhow::{
    bail,
    Result, //
};
use std::io;
use vfio_mig::{
    bdf::Bdf,
    error::Error, //
};

/// Two VFs of one driver.
pub struct Site {
    /// A VF.
    pub vf: Bdf,
    /// Another one.
    pub other: Bdf,
}

/// A test: its name, and what it does.
pub type Test = (&'static str, fn(&Site) -> Result<()>);

/// An observation: does something, and returns in words what user space sees.
pub type Observation = (&'static str, fn(&Site) -> Result<String>);

/// An intended difference between the drivers.
pub struct Difference {
    /// The observation.
    pub name: &'static str,
    /// What is seen of the C driver.
    pub c: &'static str,
    /// What is seen of the Rust driver.
    pub rust: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// Makes each observation with both drivers: one test each, which fails on a
/// difference that is not in `differences`, or not just as it is there.
pub fn both(
    results: &mut Results,
    vfs: &Vfs,
    observations: &[Observation],
    differences: &[Difference],
) {
    for (name, observe) in observations {
        results.test(name, |results| {
            let [c, rust] = Driver::BOTH.map(|driver| {
                let (vf, other) = vfs.of(driver);
                observe(&Site { vf, other })
            });
            let (c, rust) = (c?, rust?);
            match differences.iter().find(|d| d.name == *name) {
                None if c == rust => Ok(()),
                None => bail!("C:    {c}\nRust: {rust}"),
                Some(known) if (known.c, known.rust) == (&c, &rust) => {
                    results.progress(&format!("{name}: differs, {}", known.reason));
                    Ok(())
                }
                Some(known) => bail!(
                    "C:    {c}, expected {}\nRust: {rust}, expected {}",
                    known.c,
                    known.rust
                ),
            }
        });
    }
}

/// The name of an errno.
pub fn errno_name(errno: i32) -> String {
    let known = [
        (libc::E2BIG, "E2BIG"),
        (libc::EAGAIN, "EAGAIN"),
        (libc::EBADF, "EBADF"),
        (libc::EBUSY, "EBUSY"),
        (libc::ECANCELED, "ECANCELED"),
        (libc::EFAULT, "EFAULT"),
        (libc::EINTR, "EINTR"),
        (libc::EINVAL, "EINVAL"),
        (libc::EIO, "EIO"),
        (libc::EREMOTEIO, "EREMOTEIO"),
        (libc::ENODEV, "ENODEV"),
        (libc::ENOLINK, "ENOLINK"),
        (libc::ENOMEM, "ENOMEM"),
        (libc::ENOMSG, "ENOMSG"),
        (libc::ENOTCONN, "ENOTCONN"),
        (libc::ENOTTY, "ENOTTY"),
        (libc::EOPNOTSUPP, "EOPNOTSUPP"),
        (libc::EOVERFLOW, "EOVERFLOW"),
        (libc::ESPIPE, "ESPIPE"),
        (libc::ETIMEDOUT, "ETIMEDOUT"),
    ];
    known
        .iter()
        .find(|(number, _)| *number == errno)
        .map_or_else(|| format!("errno {errno}"), |(_, name)| (*name).to_string())
}

/// A result in words.
pub fn words<T: ToString>(result: io::Result<T>) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(err) => errno_name(err.raw_os_error().unwrap_or(0)),
    }
}

/// A result of the library in words.
pub fn outcome<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => "ok".to_string(),
        Err(err) => err.errno().map_or_else(|| err.to_string(), errno_name),
    }
}
