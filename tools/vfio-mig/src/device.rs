// SPDX-License-Identifier: GPL-2.0

//! An open VFIO device.

use crate::{
    address::Address,
    error::{
        Context,
        Error, //
    },
    holders,
    host::{
        binding,
        Host, //
    },
    interrupt,
    iommu::AddressSpace,
    migratable::Facts,
    state::{
        Features,
        State, //
    },
    sysfs,
    uapi, //
};
use std::{
    ffi::CString,
    fs::{
        File,
        OpenOptions, //
    },
    io,
    os::{
        fd::{
            AsFd,
            AsRawFd,
            BorrowedFd,
            OwnedFd, //
        },
        unix::fs::FileExt, //
    },
    path::{
        Path,
        PathBuf, //
    },
    slice, //
};

/// The command register in configuration space, and its bits for memory and
/// bus mastering.
const PCI_COMMAND: u64 = 4;
const PCI_COMMAND_MEMORY_MASTER: u16 = 0b110;

/// A device, open for this process alone.
#[derive(Debug)]
pub struct Device {
    address: Address,
    driver: String,
    access: String,
    file: File,
    space: AddressSpace,
    /// Keeps a legacy group with its container.
    _group: Option<OwnedFd>,
}

fn open(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .context_with_hint(
            format!("opening {}", path.display()),
            libc::ENOENT,
            "it comes with a VFIO driver, if devtmpfs is mounted on /dev",
        )
}

/// Names the process that has a device open, if that is the reason for `err`. EINVAL
/// means that the device is bound to another iommufd, among other things. The caller
/// must have closed its own files of the device.
fn in_use(device: Address, err: Error) -> Error {
    let group = sysfs::iommu_group(device).ok();
    let nodes: Vec<PathBuf> = sysfs::cdev(device)
        .into_iter()
        .chain(group.map(|group| Path::new("/dev/vfio").join(group)))
        .collect();
    match err {
        Error::Io { source, what }
            if matches!(source.raw_os_error(), Some(libc::EBUSY | libc::EINVAL)) =>
        {
            let busy = source.raw_os_error() == Some(libc::EBUSY);
            let unseen = || busy.then(|| "a process that cannot be seen from here".to_string());
            match holders::find(&device.to_string(), &nodes).or_else(unseen) {
                Some(by) => Error::InUse { device, by, source },
                None => Error::Io { source, what },
            }
        }
        err => err,
    }
}

/// How often a step that a signal has interrupted is tried again.
const MAX_INTERRUPTIONS: usize = 8;

/// Does a step that undoes something, again if a signal interrupts it.
pub(crate) fn uninterrupted(mut step: impl FnMut() -> Result<(), Error>) -> Result<(), Error> {
    interrupt::undo(|| {
        let mut done = step();
        for _ in 0..MAX_INTERRUPTIONS {
            match &done {
                Err(err) if err.errno() == Some(libc::EINTR) => done = step(),
                _ => break,
            }
        }
        done
    })
}

impl Device {
    /// Looks a device up, and returns its driver, which is one of VFIO's. Opens nothing,
    /// so the device is not reset.
    pub fn look_up(device: Address) -> Result<String, Error> {
        let driver = sysfs::driver(device)?;
        match sysfs::is_vfio(device) {
            true => Ok(driver),
            false => Err(Error::NotVfio {
                device,
                driver,
                how: binding::command(&Host::this(), device),
                vfio: sysfs::vfio_devices(),
            }),
        }
    }

    /// Opens a device: through iommufd where the kernel has it.
    pub fn open(device: impl Into<Address>) -> Result<Self, Error> {
        let device = device.into();
        let driver = Self::look_up(device)?;
        let opened = match sysfs::cdev(device) {
            Some(node) if Self::kernel_has_iommufd() => Self::open_cdev(device, driver, &node),
            _ => Self::open_group(device, driver),
        };
        opened.map_err(|err| in_use(device, err))
    }

    /// Whether the kernel has iommufd, without which there are no reports of dirty pages.
    pub fn kernel_has_iommufd() -> bool {
        Path::new("/dev/iommu").exists()
    }

    fn open_cdev(address: Address, driver: String, node: &Path) -> Result<Self, Error> {
        let iommufd = OwnedFd::from(open(Path::new("/dev/iommu"))?);
        let file = open(node)?;
        uapi::with_struct(
            file.as_fd(),
            uapi::VFIO_DEVICE_BIND_IOMMUFD,
            &mut uapi::BindIommufd {
                argsz: size_of::<uapi::BindIommufd>() as u32,
                flags: 0,
                iommufd: iommufd.as_raw_fd(),
                out_devid: 0,
            },
        )
        .context(format!("{address}: binding to iommufd"))?;
        let mut alloc = uapi::IoasAlloc {
            size: size_of::<uapi::IoasAlloc>() as u32,
            ..Default::default()
        };
        uapi::with_struct(iommufd.as_fd(), uapi::IOMMU_IOAS_ALLOC, &mut alloc)
            .context("allocating an IOAS")?;
        uapi::with_struct(
            file.as_fd(),
            uapi::VFIO_DEVICE_ATTACH_IOMMUFD_PT,
            &mut uapi::AttachPt {
                argsz: size_of::<uapi::AttachPt>() as u32 - 4,
                flags: 0,
                pt_id: alloc.out_ioas_id,
                pasid: 0,
            },
        )
        .context(format!("{address}: attaching to an IOAS"))?;
        Ok(Self {
            address,
            driver,
            access: format!("{} and /dev/iommu", node.display()),
            file,
            space: AddressSpace::Ioas {
                iommufd,
                id: alloc.out_ioas_id,
            },
            _group: None,
        })
    }

    fn open_group(address: Address, driver: String) -> Result<Self, Error> {
        let path = format!("/dev/vfio/{}", sysfs::iommu_group(address)?);
        let group = OwnedFd::from(open(Path::new(&path))?);
        let mut status = uapi::GroupStatus {
            argsz: size_of::<uapi::GroupStatus>() as u32,
            flags: 0,
        };
        uapi::with_struct(group.as_fd(), uapi::VFIO_GROUP_GET_STATUS, &mut status)
            .context(format!("{path}: status"))?;
        if status.flags & uapi::GROUP_VIABLE == 0 {
            return Err(Error::GroupNotViable(address));
        }
        let container = OwnedFd::from(open(Path::new("/dev/vfio/vfio"))?);
        uapi::with_value_in_memory(
            group.as_fd(),
            uapi::VFIO_GROUP_SET_CONTAINER,
            container.as_raw_fd(),
        )
        .context(format!("{path}: setting its container"))?;
        uapi::with_value(
            container.as_fd(),
            uapi::VFIO_SET_IOMMU,
            uapi::VFIO_TYPE1V2_IOMMU,
        )
        .context_with_hint(
            "/dev/vfio/vfio: setting a type 1 IOMMU",
            libc::ENODEV,
            "load its module: `modprobe vfio_iommu_type1`",
        )?;
        let name = CString::new(address.to_string()).unwrap_or_default();
        let file = uapi::device_fd(group.as_fd(), &name)
            .context(format!("{path}: getting {address}"))?
            .into();
        Ok(Self {
            address,
            driver,
            access: format!("{path} and a type 1 container"),
            file,
            space: AddressSpace::Container(container),
            _group: Some(group),
        })
    }

    /// Its address.
    pub fn address(&self) -> Address {
        self.address
    }

    /// The driver that it is bound to.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// How it was opened.
    pub fn access(&self) -> &str {
        &self.access
    }

    /// Its file.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Where its DMA goes.
    pub fn space(&self) -> &AddressSpace {
        &self.space
    }

    /// Whether VFIO_DEVICE_RESET can reset it.
    pub fn can_reset(&self) -> Result<bool, Error> {
        let mut info = uapi::DeviceInfo {
            argsz: size_of::<uapi::DeviceInfo>() as u32,
            ..Default::default()
        };
        uapi::with_struct(self.fd(), uapi::VFIO_DEVICE_GET_INFO, &mut info)
            .context(format!("{}: device info", self.address))?;
        Ok(info.flags & uapi::DEVICE_RESET != 0)
    }

    /// VFIO_DEVICE_RESET.
    pub fn reset(&self) -> Result<(), Error> {
        uapi::with_value(self.fd(), uapi::VFIO_DEVICE_RESET, 0)
            .context(format!("{}: reset", self.address))?;
        Ok(())
    }

    /// Puts the device back to RUNNING, after something was done with it. A signal does
    /// not stop this.
    pub fn step_back(&self) -> Result<(), Error> {
        self.put_back("put back to RUNNING", || {
            self.set_state(State::RUNNING).map(drop)
        })
    }

    /// Has the device forget a state that was not loaded. A signal does not stop this.
    pub fn forget(&self) -> Result<(), Error> {
        self.put_back("reset", || self.reset())
    }

    fn put_back(
        &self,
        wanted: &'static str,
        step: impl FnMut() -> Result<(), Error>,
    ) -> Result<(), Error> {
        uninterrupted(step).map_err(|source| Error::NotPutBack {
            device: self.address,
            wanted,
            left: self.state().ok(),
            source: Box::new(source),
        })
    }

    /// The migration features that the driver offers.
    pub fn features(&self) -> Result<Features, Error> {
        let mut data = [0; 4];
        match uapi::feature(
            self.fd(),
            uapi::FEATURE_GET | uapi::FEATURE_MIGRATION,
            &mut data,
        ) {
            Ok(()) => Ok(Features(u64::from(data[0]) | (u64::from(data[1]) << 32))),
            Err(err) if err.raw_os_error() == Some(libc::ENOTTY) => {
                let dir = sysfs::device_dir(self.address);
                Err(Error::NotMigratable {
                    device: self.address,
                    why: Facts::of(&self.driver, &dir).why(),
                })
            }
            Err(err) => Err(err).context(format!("{}: migration features", self.address)),
        }
    }

    /// Whether the driver has a feature, and both or one of get and set.
    pub fn has_feature(&self, feature: u32, get_or_set: u32) -> bool {
        let flags = uapi::FEATURE_PROBE | get_or_set | feature;
        uapi::feature(self.fd(), flags, &mut [0; 4]).is_ok()
    }

    /// Opts in to version 2 of PRECOPY_INFO, for as long as the device is open.
    pub fn opt_in_precopy_info_v2(&self) -> Result<(), Error> {
        uapi::feature(
            self.fd(),
            uapi::FEATURE_SET | uapi::FEATURE_MIG_PRECOPY_INFO_V2,
            &mut [0; 4],
        )
        .context_with_hint(
            format!("{}: opting in to PRECOPY_INFOv2", self.address),
            libc::ENOTTY,
            "the kernel or the driver does not have it; --precopy-info v1 does without",
        )
    }

    /// Its migration state.
    pub fn state(&self) -> Result<State, Error> {
        let mut data = [0; 4];
        uapi::feature(
            self.fd(),
            uapi::FEATURE_GET | uapi::FEATURE_MIG_DEVICE_STATE,
            &mut data,
        )
        .context(format!("{}: migration state", self.address))?;
        Ok(State(data[0]))
    }

    /// Asks for another migration state. Returns the data file that comes with
    /// it, if one does.
    pub fn set_state(&self, to: State) -> Result<Option<OwnedFd>, Error> {
        let from = self.state()?;
        uapi::set_state(self.fd(), to.0).map_err(|source| Error::State {
            device: self.address,
            from,
            to,
            now: self.state().ok(),
            source,
        })
    }

    /// As [`Self::set_state`], to a state that comes with a data file.
    pub fn begin(&self, to: State) -> Result<File, Error> {
        let file = self.set_state(to)?;
        let missing = || io::Error::other("the kernel returned no data fd");
        file.map(File::from)
            .ok_or_else(missing)
            .context(format!("{}: {to}", self.address))
    }

    /// An estimate of the bytes that STOP_COPY would stream.
    pub fn data_size(&self) -> Result<u64, Error> {
        let mut data = [0; 4];
        uapi::feature(
            self.fd(),
            uapi::FEATURE_GET | uapi::FEATURE_MIG_DATA_SIZE,
            &mut data,
        )
        .context(format!("{}: migration data size", self.address))?;
        Ok(u64::from(data[0]) | (u64::from(data[1]) << 32))
    }

    /// Begins to log where the device writes. Returns the size of the pages that
    /// it tells apart.
    pub fn start_logging(
        &self,
        page_size: u64,
        ranges: &[uapi::LoggingRange],
    ) -> Result<u64, Error> {
        uapi::logging_start(self.fd(), page_size, ranges).context_with_hint(
            format!("{}: starting DMA logging", self.address),
            libc::ENOMEM,
            "an adapter can log for a few devices at a time, and this one may be at its limit: \
             end logging for another device of it",
        )
    }

    /// The pages that the device has written to since the last report.
    pub fn dirty_pages(
        &self,
        range: uapi::LoggingRange,
        page_size: u64,
    ) -> Result<Vec<u64>, Error> {
        uapi::logging_report(self.fd(), range, page_size).context_with_hint(
            format!("{}: reporting DMA", self.address),
            libc::EOPNOTSUPP,
            "the kernel has no dirty bitmaps: it needs CONFIG_IOMMUFD_DRIVER",
        )
    }

    /// Ends logging. A signal does not stop this.
    pub fn stop_logging(&self) -> Result<(), Error> {
        uninterrupted(|| {
            uapi::feature(
                self.fd(),
                uapi::FEATURE_SET | uapi::FEATURE_DMA_LOGGING_STOP,
                &mut [0; 4],
            )
            .context(format!("{}: stopping DMA logging", self.address))
        })
    }

    /// Where region `index` is in the device's file.
    pub fn region(&self, index: u32) -> Result<uapi::RegionInfo, Error> {
        let mut info = uapi::RegionInfo {
            argsz: size_of::<uapi::RegionInfo>() as u32,
            index,
            ..Default::default()
        };
        uapi::with_struct(self.fd(), uapi::VFIO_DEVICE_GET_REGION_INFO, &mut info)
            .context(format!("{}: region {index}", self.address))?;
        Ok(info)
    }

    /// Reads from the device's file.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        self.file
            .read_exact_at(bytes, offset)
            .context(format!("{}: reading a region", self.address))
    }

    /// Writes to the device's file.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.file
            .write_all_at(bytes, offset)
            .context(format!("{}: writing a region", self.address))
    }

    /// Lets the device decode memory accesses and do DMA.
    pub fn enable_bus_master(&self) -> Result<(), Error> {
        let command = self.region(uapi::CONFIG_REGION)?.offset + PCI_COMMAND;
        let mut bytes = [0; 2];
        self.read_at(command, &mut bytes)?;
        let value = u16::from_le_bytes(bytes) | PCI_COMMAND_MEMORY_MASTER;
        self.write_at(command, &value.to_le_bytes())
    }

    /// Has MSI-X vectors from 0 on signal `eventfds`, eight at most.
    pub fn set_msix(&self, eventfds: &[OwnedFd]) -> Result<(), Error> {
        self.set_irq(uapi::MSIX_IRQ, eventfds)
            .context(format!("{}: setting up MSI-X", self.address))
    }

    /// Has `eventfd` signalled, again and again, when the kernel wants the device back.
    pub fn set_request(&self, eventfd: &OwnedFd) -> Result<(), Error> {
        self.set_irq(uapi::REQUEST_IRQ, slice::from_ref(eventfd))
            .context(format!("{}: setting up the request", self.address))
    }

    /// Has `eventfd` signalled when an error of PCI Express was reported.
    pub fn set_error(&self, eventfd: &OwnedFd) -> Result<(), Error> {
        self.set_irq(uapi::ERROR_IRQ, slice::from_ref(eventfd))
            .context(format!("{}: setting up the error", self.address))
    }

    fn set_irq(&self, index: u32, eventfds: &[OwnedFd]) -> io::Result<()> {
        let mut fds = [-1; 8];
        for (slot, fd) in fds.iter_mut().zip(eventfds) {
            *slot = fd.as_raw_fd();
        }
        let count = eventfds.len().min(fds.len());
        uapi::with_struct(
            self.fd(),
            uapi::VFIO_DEVICE_SET_IRQS,
            &mut uapi::IrqSet {
                argsz: (20 + count * 4) as u32,
                flags: uapi::IRQ_SET_EVENTFD_TRIGGER,
                index,
                start: 0,
                count: count as u32,
                fds,
            },
        )
        .map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_does_not_stop_what_undoes() {
        let step = |left: &mut u32, errno| match *left {
            0 => Ok(()),
            _ => {
                *left -= 1;
                Err(io::Error::from_raw_os_error(errno)).context("a step")
            }
        };
        let mut left = 3;
        assert!(uninterrupted(|| step(&mut left, libc::EINTR)).is_ok());
        let mut left = 3;
        let err = uninterrupted(|| step(&mut left, libc::EIO)).unwrap_err();
        assert_eq!((err.errno(), left), (Some(libc::EIO), 2));
        // Interrupted for ever, the step is not repeated for ever.
        let mut left = u32::MAX;
        let err = uninterrupted(|| step(&mut left, libc::EINTR)).unwrap_err();
        assert_eq!(err.errno(), Some(libc::EINTR));
    }
}
