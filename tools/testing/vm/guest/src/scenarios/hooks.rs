// SPDX-License-Identifier: GPL-2.0

//! What a driver may hook: `samples/vfio-rust/skeletons/hooks_main.rs` does so with two
//! ivshmem-plain.

use super::{
    conformance::bind_ivshmem,
    dmabuf::{
        export,
        part, //
    },
    NamedRun, //
};
use crate::{
    kmsg,
    sys,
    tap::Results, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    ffi::CString,
    fs::{
        File,
        OpenOptions, //
    },
    io,
    os::fd::{
        AsFd,
        AsRawFd, //
    },
    ptr, //
};
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    sysfs,
    uapi, //
};
use vm_common::drivers::HOOKS;

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("hooks", run)];

/// Regions.
const OWN: u32 = 0;
const MEMORY: u32 = 2;

/// Offsets of the words in the driver's own region.
const OPENS: u64 = 0;
const RESETS: u64 = 4;
const IOCTLS: u64 = 8;
const KEPT: u64 = 12;
const LEN: u64 = 16;

/// The value that makes the next open fail.
const REFUSE: u32 = 0xdead;
/// The value with which the driver does not write to the device's memory.
const UNWRITTEN: u32 = 0xbad;
/// The revision that configuration space shows.
const REVISION: u8 = 0x5a;
/// A bit of the command register.
const DECODES_MEMORY: u8 = 0x2;
/// An ioctl that returns its argument.
const ECHO: u64 = 0x3bff;
/// VFIO_DEVICE_IOEVENTFD.
const IOEVENTFD: u64 = 0x3b74;
/// `VFIO_REGION_INFO_FLAG_*`: read and write; map; capabilities.
const READ_WRITE: u32 = 0b11;
const MMAP: u32 = 0b100;
const CAPS: u32 = 0b1000;

const PAGE: usize = 4096;

type Test = fn(&Device) -> Result<()>;

fn word(device: &Device, at: u64) -> Result<u32> {
    let mut bytes = [0; 4];
    device.read_at(device.region(OWN)?.offset + at, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn set_kept(device: &Device, value: u32) -> Result<()> {
    let at = device.region(OWN)?.offset + KEPT;
    Ok(device.write_at(at, &value.to_le_bytes())?)
}

/// Calls pread().
fn pread(device: &Device, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `bytes` is valid for its length.
    let n = unsafe {
        libc::pread(
            device.fd().as_raw_fd(),
            bytes.as_mut_ptr().cast(),
            bytes.len(),
            at as i64,
        )
    };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Calls pwrite().
fn pwrite(device: &Device, at: u64, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: `bytes` is valid for its length.
    let n = unsafe {
        libc::pwrite(
            device.fd().as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            at as i64,
        )
    };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

fn ioctl(device: &Device, command: u64, argument: u64) -> io::Result<i32> {
    // SAFETY: The commands of this file take numbers, or an address that may be null.
    match unsafe { libc::ioctl(device.fd().as_raw_fd(), command, argument) } {
        -1 => Err(io::Error::last_os_error()),
        done => Ok(done),
    }
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|err| err.raw_os_error())
}

/// Maps a part of a region, and returns its first word.
fn mapped(device: &Device, at: u64, len: usize) -> io::Result<u32> {
    // SAFETY: A new mapping, which is unmapped again below.
    let memory = unsafe {
        libc::mmap(
            ptr::null_mut(),
            len,
            libc::PROT_READ,
            libc::MAP_SHARED,
            device.fd().as_raw_fd(),
            at as i64,
        )
    };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: At least a page is mapped there.
    let first = unsafe { memory.cast::<u32>().read_volatile() };
    // SAFETY: It was mapped just now, and nobody uses it.
    unsafe { libc::munmap(memory, len) };
    Ok(first)
}

fn own_region(device: &Device) -> Result<()> {
    let own = device.region(OWN)?;
    ensure!(own.size == LEN, "{own:?}");
    ensure!(own.flags == READ_WRITE, "{own:?}");
    set_kept(device, 0x1234_5678)?;
    ensure!(word(device, KEPT)? == 0x1234_5678);
    // Two bytes in the middle of it.
    ensure!(pwrite(device, own.offset + KEPT + 1, &[0xab, 0xcd])? == 2);
    ensure!(word(device, KEPT)? == 0x12cd_ab78);
    // To the end, and no further.
    let mut bytes = [0; 8];
    ensure!(pread(device, own.offset + KEPT, &mut bytes)? == 4);
    ensure!(bytes == [0x78, 0xab, 0xcd, 0x12, 0, 0, 0, 0], "{bytes:x?}");
    let behind = pread(device, own.offset + LEN, &mut bytes);
    ensure!(errno(behind) == Some(libc::EINVAL));
    // SAFETY: The address may be anything.
    let fault = unsafe {
        let to = ptr::without_provenance_mut(8);
        libc::pread(device.fd().as_raw_fd(), to, 4, own.offset as i64)
    };
    ensure!(fault == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT));
    Ok(())
}

fn part_of_a_bar(device: &Device) -> Result<()> {
    let memory = device.region(MEMORY)?;
    ensure!(memory.size == 512 << 10, "{memory:?}");
    ensure!(memory.flags == READ_WRITE | MMAP | CAPS, "{memory:?}");
    let end = memory.offset + memory.size;
    ensure!(pwrite(device, end - 4, &[1, 2, 3, 4, 5, 6, 7, 8])? == 4);
    let mut bytes = [0; 8];
    ensure!(pread(device, end - 4, &mut bytes)? == 4);
    ensure!(bytes == [1, 2, 3, 4, 0, 0, 0, 0], "{bytes:x?}");
    ensure!(errno(pread(device, end, &mut bytes)) == Some(libc::EINVAL));
    // The driver looks at the first word, and writes the second.
    ensure!(pwrite(device, memory.offset, &[9, 8, 7, 6])? == 4);
    ensure!(pread(device, memory.offset, &mut bytes)? == 8);
    ensure!(bytes == [9, 8, 7, 6, 9, 8, 7, 6], "{bytes:x?}");
    // It writes if two things are true while nobody can change the second: that it may, and
    // that the device decodes addresses.
    let write = || errno(pwrite(device, memory.offset, &[1, 2, 3, 4]));
    set_kept(device, UNWRITTEN)?;
    let refused = write();
    set_kept(device, 0)?;
    ensure!(refused == Some(libc::EPERM), "{refused:?}");
    let command = device.region(uapi::CONFIG_REGION)?.offset + 4;
    let mut usual = [0; 2];
    ensure!(pread(device, command, &mut usual)? == 2);
    pwrite(device, command, &[usual[0] & !DECODES_MEMORY, usual[1]])?;
    let refused = write();
    pwrite(device, command, &usual)?;
    ensure!(refused == Some(libc::EIO), "{refused:?}");
    let mut now = [0; 8];
    ensure!(pread(device, memory.offset, &mut now)? == 8);
    ensure!(now == bytes, "{now:x?}");
    ensure!(mapped(device, memory.offset, PAGE)? == u32::from_le_bytes([9, 8, 7, 6]));
    let refused = mapped(device, memory.offset, 2 * PAGE);
    ensure!(errno(refused) == Some(libc::EINVAL));
    let own = device.region(OWN)?.offset;
    ensure!(errno(mapped(device, own, PAGE)) == Some(libc::EPERM));
    Ok(())
}

/// What may not be mapped is not exported, either.
fn dma_bufs(device: &Device) -> Result<()> {
    let page = PAGE as u64;
    let try_export = |region, offset, length| errno(export(device, part(region, offset, length)));
    let exported = try_export(MEMORY, 0, page);
    ensure!(exported.is_none(), "the page: {exported:?}");
    let half = 512 << 10;
    for (offset, length) in [
        (0, 2 * page),
        (0, 2 * half),
        (page, page),
        (half, page),
        (2 * half - page, page),
        (1 << 40, page),
        (page.wrapping_neg(), page),
    ] {
        let refused = try_export(MEMORY, offset, length);
        ensure!(
            refused == Some(libc::EINVAL),
            "{length:#x} bytes from {offset:#x} on: {refused:?}"
        );
    }
    let refused = try_export(OWN, 0, page);
    ensure!(refused == Some(libc::EPERM), "{refused:?}");
    Ok(())
}

fn sparse_capability(device: &Device) -> Result<()> {
    /// `struct vfio_region_info` with room for capabilities.
    #[repr(C)]
    struct WithCaps {
        info: uapi::RegionInfo,
        caps: [u32; 16],
    }
    let mut asked = WithCaps {
        info: uapi::RegionInfo {
            argsz: size_of::<WithCaps>() as u32,
            index: MEMORY,
            ..Default::default()
        },
        caps: [0; 16],
    };
    ioctl(
        device,
        uapi::VFIO_DEVICE_GET_REGION_INFO,
        ptr::from_mut(&mut asked).expose_provenance() as u64,
    )?;
    ensure!(asked.info.cap_offset == 32, "{:?}", asked.info);
    // Id 1, version 1, the last; one area: 0, a page.
    let wanted = [0x0001_0001, 0, 1, 0, 0, 0, PAGE as u32, 0];
    ensure!(asked.caps[..8] == wanted, "{:x?}", asked.caps);
    Ok(())
}

fn configuration_space(device: &Device) -> Result<()> {
    let at = device.region(uapi::CONFIG_REGION)?.offset;
    let mut bytes = [0; 16];
    ensure!(pread(device, at, &mut bytes)? == 16);
    ensure!(bytes[..4] == [0xf4, 0x1a, 0x10, 0x11], "{bytes:x?}");
    ensure!(bytes[8] == REVISION, "{bytes:x?}");
    Ok(())
}

fn ioctls(device: &Device) -> Result<()> {
    let before = word(device, IOCTLS)?;
    ensure!(ioctl(device, ECHO, 77)? == 77);
    for wrong in [u64::MAX, 1 << 31, 1 << 32] {
        let refused = kmsg::require("driver bug: the result of an ioctl", || {
            Ok(errno(ioctl(device, ECHO, wrong)))
        })?;
        ensure!(refused == Some(libc::EIO), "{wrong:#x}: {refused:?}");
    }
    ensure!(errno(ioctl(device, IOEVENTFD, 0)) == Some(libc::ENOTTY));
    ensure!(errno(ioctl(device, ECHO + 1, 0)) == Some(libc::ENOTTY));
    ensure!(word(device, IOCTLS)? == before + 6);
    Ok(())
}

fn resets(device: &Device) -> Result<()> {
    let before = word(device, RESETS)?;
    set_kept(device, 7)?;
    device.reset()?;
    ensure!(word(device, RESETS)? == before + 1);
    ensure!(
        word(device, KEPT)? == 1,
        "the driver has not seen the ioctl"
    );
    Ok(())
}

fn open_fails(bdf: Bdf) -> Result<()> {
    let device = Device::open(bdf)?;
    let opens = word(&device, OPENS)?;
    set_kept(&device, REFUSE)?;
    drop(device);
    let refused = Device::open(bdf).err().context("it is open")?;
    ensure!(refused.errno() == Some(libc::EDOM), "{refused}");
    let device = Device::open(bdf)?;
    ensure!(word(&device, OPENS)? == opens + 1);
    Ok(())
}

/// Asks for a page table that does not exist for a PASID.
pub(super) fn attach_pasid(device: &Device) -> io::Result<i32> {
    let mut attach = uapi::AttachPt {
        argsz: size_of::<uapi::AttachPt>() as u32,
        flags: uapi::VFIO_DEVICE_ATTACH_PASID,
        pt_id: u32::MAX,
        pasid: 1,
    };
    uapi::with_struct(
        device.fd(),
        uapi::VFIO_DEVICE_ATTACH_IOMMUFD_PT,
        &mut attach,
    )
}

/// The driver says that its devices have PASIDs, so iommufd is asked.
fn pasids(device: &Device) -> Result<()> {
    let refused = attach_pasid(device);
    ensure!(errno(refused) == Some(libc::ENOENT));
    Ok(())
}

/// Names a VF token, which the driver takes from nobody.
fn token(bdf: Bdf) -> Result<()> {
    let open = |path: &str| -> Result<File> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        file.with_context(|| path.to_string())
    };
    let group = open(&format!("/dev/vfio/{}", sysfs::iommu_group(bdf)?))?;
    let container = open("/dev/vfio/vfio")?;
    uapi::with_value_in_memory(
        group.as_fd(),
        uapi::VFIO_GROUP_SET_CONTAINER,
        container.as_raw_fd(),
    )?;
    uapi::with_value(
        container.as_fd(),
        uapi::VFIO_SET_IOMMU,
        uapi::VFIO_TYPE1V2_IOMMU,
    )?;
    let get = |what: &str| -> Result<io::Result<_>> {
        let name = CString::new(format!("{bdf}{what}"))?;
        Ok(uapi::device_fd(group.as_fd(), &name))
    };
    let refused = get(" vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3")?;
    ensure!(errno(refused) == Some(libc::EPERM));
    get("")??;
    Ok(())
}

pub fn run(results: &mut Results) -> Result<()> {
    sys::load_module(HOOKS, "").context(HOOKS)?;
    let [bdf, _] = bind_ivshmem(HOOKS)?;
    let tests: [(&str, Test); 7] = [
        ("a region of the driver's own", own_region),
        ("a part of a BAR", part_of_a_bar),
        ("dma-bufs of what can be mapped", dma_bufs),
        ("parts that can be mapped are named", sparse_capability),
        ("registers of configuration space", configuration_space),
        ("ioctls", ioctls),
        ("resets", resets),
    ];
    for (name, test) in tests {
        results.test(name, |_| test(&Device::open(bdf)?));
    }
    match Device::kernel_has_iommufd() {
        true => results.test("PASIDs", |_| pasids(&Device::open(bdf)?)),
        false => results.skip("PASIDs", "the kernel has no iommufd"),
    }
    results.test("opening the device may fail", |_| open_fails(bdf));
    results.test("a VF token", |_| token(bdf));
    results.test("the driver unloads", |_| {
        sys::unload_module(HOOKS).context(HOOKS)
    });
    Ok(())
}
