// SPDX-License-Identifier: GPL-2.0

//! The VFs of the experiments, and what all of them need.

use crate::{
    address::{
        self,
        Address, //
    },
    bdf::Bdf,
    device::Device,
    error::{
        Context,
        Error, //
    },
    host::{
        binding,
        usage::Force,
        Host, //
    },
    state::State,
    stream, //
};
use std::time::Instant;

/// Largest state that is kept in memory, in bytes.
const MOST: u64 = 1 << 30;

/// Spare VFs, each with its driver.
pub struct Bench {
    vfs: Vec<(Bdf, String)>,
}

impl Bench {
    /// Takes VFs that have a VFIO driver and that nobody uses.
    pub fn new(host: &Host, vfs: &[Bdf]) -> Result<Self, Error> {
        address::require_each_once(vfs)?;
        let mut with_drivers = Vec::new();
        for vf in vfs {
            binding::require_vf(host, *vf)?;
            with_drivers.push((*vf, Device::look_up((*vf).into())?));
            host.check_free(*vf, Force::No)?;
        }
        Ok(Self { vfs: with_drivers })
    }

    /// Their addresses.
    pub fn addresses(&self) -> Vec<Address> {
        self.vfs.iter().map(|(vf, _)| Address::Pci(*vf)).collect()
    }

    /// Opens the VF whose state is saved. It is reset by that.
    pub fn source(&self) -> Result<Device, Error> {
        Device::open(self.vfs[0].0)
    }

    /// Opens the VF that the state is loaded into: the second one, or else the first.
    pub fn destination(&self) -> Result<Device, Error> {
        Device::open(self.vfs.get(1).unwrap_or(&self.vfs[0]).0)
    }

    /// Opens all of them. They must have the driver that they had.
    pub fn all(&self) -> Result<Vec<Device>, Error> {
        let opened = self.vfs.iter().map(|(vf, driver)| {
            let device = Device::open(*vf)?;
            match device.driver() == driver {
                true => Ok(device),
                false => Err(Error::Unexpected(format!(
                    "{vf}: bound to {}, and not to {driver} any more",
                    device.driver()
                ))),
            }
        });
        opened.collect()
    }
}

/// Milliseconds since then.
pub fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Saves the state of a device that runs, which then runs again.
pub fn save(device: &Device) -> Result<Vec<u8>, Error> {
    let size = device.data_size()?;
    if size > MOST {
        let what = format!("{}: a state of {size} bytes", device.address());
        return Err(std::io::Error::from_raw_os_error(libc::EFBIG)).context(what);
    }
    let mut state = Vec::new();
    let mut file = device.begin(State::STOP_COPY)?;
    stream::copy(&mut file, &mut state, |_| ())?;
    device.step_back()?;
    Ok(state)
}

/// Loads a state into a device, which then runs.
pub fn load(device: &Device, state: &[u8]) -> Result<(), Error> {
    let mut file = device.begin(State::RESUMING)?;
    stream::write_all(&mut file, state, 0)?;
    device.set_state(State::RUNNING)?;
    Ok(())
}
