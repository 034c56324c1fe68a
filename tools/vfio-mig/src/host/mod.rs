// SPDX-License-Identifier: GPL-2.0

//! The host: its adapters, their VFs, and the drivers that these are given to.
//!
//! [`Host`] is where facts come from: files below a folder, which is `/` or that of a test,
//! and [`devlink`]. [`sriov`] looks functions up, [`drivers`] their drivers, and [`usage`] says
//! who uses one. [`setup`] and [`binding`] make a [`plan`] of what to change, which is shown before
//! it is carried out.

pub mod binding;
mod config_space;
pub mod devlink;
pub mod drivers;
#[cfg(test)]
pub mod fake;
mod lock;
pub mod netlink;
pub mod plan;
pub mod problem;
pub mod setup;
pub mod sriov;
pub mod usage;
mod waiting;

use crate::bdf::Bdf;
use devlink::Devlink;
use nix::ifaddrs::getifaddrs;
use std::{
    fs::{
        self,
        File, //
    },
    io::{
        self,
        Write, //
    },
    net::IpAddr,
    path::{
        Path,
        PathBuf, //
    },
};

/// Finds the addresses of a network interface.
type Addresses = dyn Fn(&str) -> Vec<IpAddr>;
/// Opens the node of an IOMMU group, and closes it again.
type OpenGroup = dyn Fn(&Path) -> io::Result<()>;

/// A host.
pub struct Host {
    root: PathBuf,
    devlink: Box<dyn Devlink>,
    addresses: Box<Addresses>,
    open_group: Box<OpenGroup>,
}

/// The addresses of an interface that the caller's network namespace has.
fn addresses_of(interface: &str) -> Vec<IpAddr> {
    let all = getifaddrs().into_iter().flatten();
    all.filter(|one| one.interface_name == interface)
        .filter_map(|one| {
            let address = one.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
            v4.or(address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
        })
        .collect()
}

fn open_group(node: &Path) -> io::Result<()> {
    File::options().read(true).write(true).open(node).map(drop)
}

impl Host {
    /// The host that the tool runs on.
    pub fn this() -> Self {
        Self::new(
            Path::new("/"),
            Box::new(devlink::Kernel),
            Box::new(addresses_of),
            Box::new(open_group),
        )
    }

    /// One whose files are below `root`.
    pub fn new(
        root: &Path,
        devlink: Box<dyn Devlink>,
        addresses: Box<Addresses>,
        open_group: Box<OpenGroup>,
    ) -> Self {
        Self {
            root: root.to_path_buf(),
            devlink,
            addresses,
            open_group,
        }
    }

    /// Its devlink.
    pub fn devlink(&self) -> &dyn Devlink {
        &*self.devlink
    }

    /// The addresses of a network interface.
    pub fn addresses(&self, interface: &str) -> Vec<IpAddr> {
        (self.addresses)(interface)
    }

    /// Where a file is that the host has at `path`, which is absolute.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether there is such a file.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.at(path).exists()
    }

    /// What is in a small file, without the space at its ends. `None` if it cannot be read.
    pub fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = fs::read(self.at(path)).ok()?;
        Some(String::from_utf8_lossy(&text).trim().to_string())
    }

    /// The name that a link points to.
    pub fn link_name(&self, path: impl AsRef<Path>) -> Option<String> {
        let target = fs::read_link(self.at(path)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// The names in a folder, in order.
    pub fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.at(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

/// Writes to a file of sysfs. Makes none: ENOENT says that a function has gone.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::options().write(true).truncate(true).open(path)?;
    file.write_all(text.as_bytes())
}

/// The folder of a PCI function, as the host names it.
pub fn pci_dir(function: Bdf) -> PathBuf {
    Path::new("/sys/bus/pci/devices").join(function.to_string())
}

/// The folder of a PCI driver.
pub fn driver_dir(driver: &str) -> PathBuf {
    Path::new("/sys/bus/pci/drivers").join(driver)
}
