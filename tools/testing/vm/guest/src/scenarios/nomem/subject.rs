// SPDX-License-Identifier: GPL-2.0

//! What requests are made of: two devices of a driver, of which one is open or not.

use crate::{
    hca::Driver,
    kmsg::KernelLog,
    scenarios::{
        compare::Site,
        conformance::SAMPLE,
        streams, //
    },
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    fs::File,
    io::{
        self,
        Write, //
    },
    os::fd::OwnedFd,
};
use vfio_mig::{
    device::Device,
    state::{
        Features,
        State, //
    },
    uapi,
    workload, //
};

/// Bytes that a read asks for at most.
const READ: usize = 64 << 10;
/// Words of a bitmap of 1 GiB.
const WORDS: usize = (1 << 30) / 4096 / 64;

/// A driver that is tried.
pub(super) struct Subject {
    /// Its name in reports.
    pub(super) name: &'static str,
    /// Its module, and its name in sysfs.
    pub(super) driver: &'static str,
    /// Two devices.
    pub(super) site: Site,
    /// The features of each.
    pub(super) features: Features,
    /// Whether they can log what they write.
    pub(super) logs: bool,
    /// Whether they have registers that make them work.
    pub(super) works: bool,
}

impl Subject {
    fn new(name: &'static str, driver: &'static str, site: Site) -> Result<Self> {
        let device = Device::open(site.vf)?;
        Ok(Self {
            name,
            driver,
            features: device.features()?,
            logs: device.has_feature(uapi::FEATURE_DMA_LOGGING_START, uapi::FEATURE_SET),
            works: workload::is_available(&device),
            site,
        })
    }

    /// A driver of VFs.
    pub(super) fn of_vfs(driver: Driver, site: Site) -> Result<Self> {
        Self::new(driver.name(), driver.sysfs_name(), site)
    }

    /// The sample.
    pub(super) fn sample(site: Site) -> Result<Self> {
        Self::new(SAMPLE, SAMPLE, site)
    }

    /// Whether it is the kernel's own driver.
    pub(super) fn is_c(&self) -> bool {
        self.name == Driver::C.name()
    }

    /// A good state of the second device.
    pub(super) fn stream(&self) -> Result<Vec<u8>> {
        match self.works {
            true => Ok(streams::save(self.site.other, 2)?.0),
            false => streams::saved(&Device::open(self.site.other)?),
        }
    }

    /// A good migration.
    pub(super) fn migrates(&self) -> Result<()> {
        if self.works {
            return streams::migrate(self.site.other, self.site.vf, 2);
        }
        let stream = self.stream()?;
        let device = Device::open(self.site.vf)?;
        device.begin(State::RESUMING)?.write_all(&stream)?;
        device.set_state(State::RUNNING)?;
        streams::same(&stream, &streams::saved(&device)?)
    }
}

/// A device that is ready for a request, and what the request needs.
pub(super) struct Ready<'a> {
    pub(super) subject: &'a Subject,
    /// The device, if it is open.
    pub(super) device: Option<Device>,
    /// Its data file.
    pub(super) file: Option<File>,
    /// Files that opening it takes.
    pub(super) node: Option<File>,
    pub(super) iommufd: Option<OwnedFd>,
    /// A file of sysfs.
    pub(super) attribute: Option<File>,
    /// A state that can be loaded.
    pub(super) stream: Vec<u8>,
    /// Memory for what is read: a request that allocated it would have that fail.
    pub(super) bytes: Vec<u8>,
    pub(super) bitmap: Vec<u64>,
    pub(super) log: KernelLog,
}

impl<'a> Ready<'a> {
    pub(super) fn new(subject: &'a Subject) -> Result<Self> {
        Ok(Self {
            subject,
            device: None,
            file: None,
            node: None,
            iommufd: None,
            attribute: None,
            stream: subject.stream()?,
            // Not zero, so that the pages are there.
            bytes: vec![1; READ],
            bitmap: vec![1; WORDS],
            log: KernelLog::new()?,
        })
    }

    /// The open device.
    pub(super) fn device(&self) -> Result<&Device> {
        self.device.as_ref().context("the device is not open")
    }

    /// Opens the device unless it is open. It runs then.
    pub(super) fn open(&mut self) -> Result<&Device> {
        if self.device.is_none() {
            let device = Device::open(self.subject.site.vf)?;
            let state = device.state()?;
            ensure!(state == State::RUNNING, "opened in {state}");
            self.device = Some(device);
        }
        self.device()
    }

    /// Closes all files.
    pub(super) fn close(&mut self) {
        self.file = None;
        self.device = None;
        self.node = None;
        self.iommufd = None;
        self.attribute = None;
    }

    /// Gets to a state. The data file is kept if one comes with it.
    pub(super) fn set_state(&mut self, to: State) -> io::Result<()> {
        let device = self.device.as_ref().ok_or_else(closed)?;
        let file = uapi::set_state(device.fd(), to.0)?;
        self.file = file.map(File::from).or(self.file.take());
        Ok(())
    }

    /// The data file.
    pub(super) fn file(&mut self) -> io::Result<&mut File> {
        self.file.as_mut().ok_or_else(closed)
    }
}

/// The error if a file is not there that a request needs.
pub(super) fn closed() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}
