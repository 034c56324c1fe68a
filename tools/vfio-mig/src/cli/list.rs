// SPDX-License-Identifier: GPL-2.0

//! `list`: which devices there are.

use super::{
    out::{
        errln,
        outln, //
    },
    show, //
};
use serde::Serialize;
use vfio_mig::{
    address::Address,
    error::Error,
    sysfs, //
};

#[derive(Serialize)]
struct Bound {
    device: Address,
    driver: String,
}

pub fn run(json: bool) -> Result<(), Error> {
    let devices: Vec<Bound> = sysfs::vfio_devices()
        .into_iter()
        .filter_map(|device| {
            // A device whose driver was unbound in the meantime is left out.
            let driver = sysfs::driver(device).ok()?;
            Some(Bound { device, driver })
        })
        .collect();
    if json {
        return show::json(&serde_json::json!({ "devices": devices }));
    }
    for Bound { device, driver } in &devices {
        outln!("{device}  {driver}")?;
    }
    match devices.is_empty() {
        true => errln!("no device of this host is bound to a VFIO driver"),
        false => Ok(()),
    }
}
