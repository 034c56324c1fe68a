// SPDX-License-Identifier: GPL-2.0

//! Binding a device to its driver, taking it from there, and loading the driver. An allocation
//! fails in the task that writes to sysfs, so that is this one.

use super::{
    attempts::{
        Outcome,
        Request, //
    },
    subject::{
        closed,
        Ready,
        Subject, //
    },
};
use crate::{
    hca,
    sys, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    fs::{
        self,
        File, //
    },
    io::{
        self,
        Write, //
    },
    path::Path, //
};
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    error::Error,
    sysfs, //
};

/// What our driver says if it takes a VF, but could not find out how to migrate it.
const NOT_MIGRATABLE: &str = "no migration support";

fn is_bound(subject: &Subject) -> bool {
    sysfs::driver(subject.site.vf).is_ok_and(|driver| driver == subject.driver)
}

fn to_write(path: &Path) -> Result<Option<File>> {
    let file = File::options().write(true).open(path);
    Ok(Some(file.with_context(|| path.display().to_string())?))
}

fn write_attribute(ready: &mut Ready<'_>, device: &str) -> io::Result<()> {
    let attribute = ready.attribute.as_mut().ok_or_else(closed)?;
    attribute.write(device.as_bytes()).map(drop)
}

/// A device that was bound can be migrated. A VF that was bound when there was no memory need not
/// be, but then its driver says so.
fn can_migrate(ready: &mut Ready<'_>, outcome: Outcome) -> Result<()> {
    let device = Device::open(ready.subject.site.vf)?;
    match device.features() {
        Ok(_) => Ok(()),
        Err(Error::NotMigratable { .. }) if outcome.failed && ready.subject.works => {
            let lines = ready.log.lines();
            let said = lines.iter().any(|line| line.contains(NOT_MIGRATABLE));
            // The C driver says nothing.
            ensure!(
                said || ready.subject.is_c(),
                "no migration, and no word of it"
            );
            Ok(())
        }
        Err(err) => Err(err.into()),
    }
}

fn probe(subject: &Subject) -> Request {
    let name = subject.site.vf.to_string();
    Request {
        name: "probe".to_string(),
        allocates: true,
        ready: Box::new(|ready| {
            ready.close();
            if is_bound(ready.subject) {
                hca::unbind(ready.subject.site.vf)?;
            }
            let drivers = Path::new("/sys/bus/pci/drivers");
            ready.attribute = to_write(&drivers.join(ready.subject.driver).join("bind"))?;
            ready.log.lines();
            Ok(())
        }),
        work: Box::new(move |ready| write_attribute(ready, &name)),
        after: Box::new(|ready, outcome| {
            ready.close();
            let vf = ready.subject.site.vf;
            if outcome.succeeded {
                ensure!(is_bound(ready.subject), "the device is not bound");
                return can_migrate(ready, outcome);
            }
            let driver = sysfs::driver(vf).ok();
            ensure!(driver.is_none(), "the device is bound to {driver:?}");
            ensure!(!sysfs::is_vfio(vf.into()), "VFIO has the device");
            // Migrations of the other requests need it.
            hca::bind_to(vf, ready.subject.driver).context("binding it then")
        }),
    }
}

fn remove(subject: &Subject) -> Request {
    let name = subject.site.vf.to_string();
    Request {
        name: "remove".to_string(),
        allocates: true,
        ready: Box::new(|ready| {
            ready.close();
            let vf = ready.subject.site.vf;
            hca::bind_to(vf, ready.subject.driver)?;
            ready.attribute = to_write(&sysfs::device_dir(vf).join("driver/unbind"))?;
            Ok(())
        }),
        work: Box::new(move |ready| write_attribute(ready, &name)),
        after: Box::new(|ready, outcome| {
            ready.close();
            let vf = ready.subject.site.vf;
            // The kernel copies what is written before anything else.
            ensure!(
                is_bound(ready.subject) != outcome.succeeded,
                "the device is bound, or not, against what the request says"
            );
            hca::bind_to(vf, ready.subject.driver).context("binding it again")
        }),
    }
}

fn devices(subject: &Subject) -> [Bdf; 2] {
    [subject.site.vf, subject.site.other]
}

fn is_loaded(module: &str) -> bool {
    Path::new("/sys/module").join(module).exists()
}

/// Unloads the driver, and has the kernel bind its devices to no driver when it is loaded.
fn unload(subject: &Subject) -> Result<()> {
    for device in devices(subject) {
        fs::write(sysfs::device_dir(device).join("driver_override"), "\n")?;
    }
    let module = subject.driver;
    if is_loaded(module) {
        sys::unload_module(module).with_context(|| format!("unloading {module}"))?;
    }
    Ok(())
}

fn load(subject: &Subject) -> Result<Request> {
    let parameters = sys::module_parameters(subject.driver)?;
    Ok(Request {
        name: "loading the driver".to_string(),
        allocates: true,
        ready: Box::new(|ready| {
            ready.close();
            unload(ready.subject)
        }),
        work: Box::new(move |ready| sys::load_module(ready.subject.driver, &parameters)),
        after: Box::new(|ready, outcome| {
            let module = ready.subject.driver;
            ensure!(
                is_loaded(module) == outcome.succeeded,
                "the module is loaded, or not, against what the request says"
            );
            if !outcome.succeeded {
                sys::load_module(module, &sys::module_parameters(module)?)
                    .context("loading it then")?;
            }
            for device in devices(ready.subject) {
                hca::bind_to(device, module)?;
            }
            Ok(())
        }),
    })
}

/// All of a driver. Loading it takes its time: it is for long runs.
pub(super) fn all(subject: &Subject) -> Result<Vec<Request>> {
    let mut all = vec![probe(subject), remove(subject)];
    if sys::is_long()? && sys::is_module(subject.driver)? {
        all.push(load(subject)?);
    }
    Ok(all)
}
