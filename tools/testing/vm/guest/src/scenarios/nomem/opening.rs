// SPDX-License-Identifier: GPL-2.0

//! Opening a device and closing it: the steps by an iommufd, and all of them by a group.

use super::{
    attempts::Request,
    subject::{
        closed,
        Ready,
        Subject, //
    },
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    ffi::CString,
    fs::File,
    io,
    os::fd::{
        AsFd,
        AsRawFd,
        OwnedFd, //
    },
    path::{
        Path,
        PathBuf, //
    },
};
use vfio_mig::{
    address::Address,
    state::State,
    sysfs,
    uapi, //
};

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).open(path)
}

fn bind(ready: &Ready<'_>) -> io::Result<()> {
    let node = ready.node.as_ref().ok_or_else(closed)?;
    let iommufd = ready.iommufd.as_ref().ok_or_else(closed)?;
    let mut bind = uapi::BindIommufd {
        argsz: size_of::<uapi::BindIommufd>() as u32,
        flags: 0,
        iommufd: iommufd.as_raw_fd(),
        out_devid: 0,
    };
    uapi::with_struct(node.as_fd(), uapi::VFIO_DEVICE_BIND_IOMMUFD, &mut bind).map(drop)
}

/// Opens the files that binding needs.
fn open_files(ready: &mut Ready<'_>, node: &Path) -> Result<()> {
    ready.close();
    ready.iommufd = Some(open(Path::new("/dev/iommu"))?.into());
    ready.node = Some(open(node)?);
    Ok(())
}

/// The steps by an iommufd, if the device has a node for that.
fn by_iommufd(device: Address) -> Vec<Request> {
    let Some(path) = sysfs::cdev(device) else {
        return Vec::new();
    };
    let [to_open, to_bind, to_attach] = [path.clone(), path.clone(), path];
    let close = |ready: &mut Ready<'_>, _| {
        ready.close();
        Ok(())
    };
    vec![
        Request {
            name: "opening its node".to_string(),
            allocates: true,
            ready: Box::new(|_| Ok(())),
            work: Box::new(move |ready| {
                ready.node = Some(open(&to_open)?);
                Ok(())
            }),
            after: Box::new(close),
        },
        Request {
            name: "BIND_IOMMUFD".to_string(),
            allocates: true,
            ready: Box::new(move |ready| open_files(ready, &to_bind)),
            work: Box::new(|ready| bind(ready)),
            after: Box::new(close),
        },
        Request {
            name: "ATTACH_IOMMUFD_PT".to_string(),
            allocates: true,
            ready: Box::new(move |ready| {
                open_files(ready, &to_attach)?;
                Ok(bind(ready)?)
            }),
            work: Box::new(attach),
            after: Box::new(close),
        },
    ]
}

/// Attaches the device to a new address space.
fn attach(ready: &mut Ready<'_>) -> io::Result<()> {
    let node = ready.node.as_ref().ok_or_else(closed)?;
    let iommufd = ready.iommufd.as_ref().ok_or_else(closed)?;
    let mut alloc = uapi::IoasAlloc {
        size: size_of::<uapi::IoasAlloc>() as u32,
        ..Default::default()
    };
    uapi::with_struct(iommufd.as_fd(), uapi::IOMMU_IOAS_ALLOC, &mut alloc)?;
    let mut attach = uapi::AttachPt {
        argsz: size_of::<uapi::AttachPt>() as u32 - 4,
        flags: 0,
        pt_id: alloc.out_ioas_id,
        pasid: 0,
    };
    uapi::with_struct(
        node.as_fd(),
        uapi::VFIO_DEVICE_ATTACH_IOMMUFD_PT,
        &mut attach,
    )
    .map(drop)
}

/// Opens a device by its group, and closes all again.
fn open_by_group(group: &Path, name: &CString) -> io::Result<()> {
    let group = OwnedFd::from(open(group)?);
    let container = OwnedFd::from(open(Path::new("/dev/vfio/vfio"))?);
    uapi::with_value_in_memory(
        group.as_fd(),
        uapi::VFIO_GROUP_SET_CONTAINER,
        container.as_raw_fd(),
    )?;
    let iommu = uapi::VFIO_TYPE1V2_IOMMU;
    uapi::with_value(container.as_fd(), uapi::VFIO_SET_IOMMU, iommu)?;
    uapi::device_fd(group.as_fd(), name).map(drop)
}

fn by_group(device: Address) -> Result<Request> {
    let group: PathBuf = Path::new("/dev/vfio").join(sysfs::iommu_group(device)?);
    let name = CString::new(device.to_string())?;
    Ok(Request {
        name: "opening by its group, and closing".to_string(),
        allocates: true,
        ready: Box::new(|ready| {
            ready.close();
            Ok(())
        }),
        work: Box::new(move |_| open_by_group(&group, &name)),
        after: Box::new(|_, _| Ok(())),
    })
}

/// Closing the device in a state, with its data file open if `keeps` says so.
fn closing(state: State, allocates: bool) -> Request {
    Request {
        name: format!("closing, in {state}"),
        allocates,
        ready: Box::new(move |ready| {
            ready.file = None;
            let (subject, device) = (ready.subject, ready.open()?);
            if subject.logs {
                let range = uapi::LoggingRange {
                    iova: crate::vf::IOVA,
                    length: 1 << 30,
                };
                device.start_logging(mlx5_emu_regs::PAGE, &[range])?;
            }
            if state != State::RUNNING {
                ready.set_state(state)?;
            }
            Ok(())
        }),
        work: Box::new(|ready| {
            ready.device = None;
            Ok(())
        }),
        after: Box::new(|ready, _| {
            let file = ready.file.take();
            // The data file has no device any more, and keeps nothing from opening it anew.
            ready.open().context("opening it again")?;
            drop(file);
            Ok(())
        }),
    }
}

/// Closing a data file, whose session goes on without it.
fn closing_file(state: State) -> Request {
    Request {
        name: format!("closing the data file, in {state}"),
        allocates: false,
        ready: Box::new(move |ready| {
            ready.open()?;
            Ok(ready.set_state(state)?)
        }),
        work: Box::new(|ready| {
            ready.file = None;
            Ok(())
        }),
        after: Box::new(move |ready, _| {
            let device = ready.device()?;
            let now = device.state()?;
            ensure!(now == state, "the device is in {now}");
            device.reset()?;
            Ok(())
        }),
    }
}

/// All of a device that is closed before or after.
pub(super) fn all(subject: &Subject) -> Result<Vec<Request>> {
    let device: Address = subject.site.vf.into();
    let mut all = by_iommufd(device);
    all.push(by_group(device)?);
    let states = [
        State::RUNNING,
        State::STOP_COPY,
        State::RESUMING,
        State::PRE_COPY,
    ];
    let supported = |state: &State| subject.features.supports(*state);
    for state in states.into_iter().filter(supported) {
        all.push(closing(state, subject.logs));
        if state != State::RUNNING {
            all.push(closing_file(state));
        }
    }
    Ok(all)
}
