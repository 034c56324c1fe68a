// SPDX-License-Identifier: GPL-2.0

//! The ioctls of `include/uapi/linux/vfio.h` and `iommufd.h`, and what files do beside them.

use std::{
    io,
    os::fd::{
        AsRawFd,
        BorrowedFd,
        FromRawFd,
        OwnedFd, //
    },
};

/// `_IO(';', nr)`, which vfio.h and iommufd.h use whatever an ioctl transfers.
const fn io_number(nr: u32) -> libc::c_ulong {
    (((b';' as u32) << 8) | nr) as libc::c_ulong
}

macro_rules! ioctls {
    ($($(#[$doc:meta])* $name:ident = $nr:expr;)*) => {
        $($(#[$doc])* pub const $name: libc::c_ulong = io_number($nr);)*
    };
}

ioctls! {
    /// Takes the type of an IOMMU.
    VFIO_SET_IOMMU = 102;
    /// [`GroupStatus`].
    VFIO_GROUP_GET_STATUS = 103;
    /// Takes the fd of a container.
    VFIO_GROUP_SET_CONTAINER = 104;
    /// Takes the name of a device.
    VFIO_GROUP_GET_DEVICE_FD = 106;
    /// [`DeviceInfo`].
    VFIO_DEVICE_GET_INFO = 107;
    /// [`RegionInfo`].
    VFIO_DEVICE_GET_REGION_INFO = 108;
    /// [`IrqSet`].
    VFIO_DEVICE_SET_IRQS = 110;
    /// Resets the device.
    VFIO_DEVICE_RESET = 111;
    /// [`Type1Map`].
    VFIO_IOMMU_MAP_DMA = 113;
    /// [`Feature`].
    VFIO_DEVICE_FEATURE = 117;
    /// [`BindIommufd`].
    VFIO_DEVICE_BIND_IOMMUFD = 118;
    /// [`AttachPt`].
    VFIO_DEVICE_ATTACH_IOMMUFD_PT = 119;
    /// [`PrecopyInfo`].
    VFIO_MIG_GET_PRECOPY_INFO = 121;
    /// [`IoasAlloc`].
    IOMMU_IOAS_ALLOC = 0x81;
    /// [`IoasMap`].
    IOMMU_IOAS_MAP = 0x85;
}

/// `VFIO_TYPE1v2_IOMMU`.
pub const VFIO_TYPE1V2_IOMMU: i32 = 3;
/// `VFIO_GROUP_FLAGS_VIABLE`.
pub const GROUP_VIABLE: u32 = 1;
/// `VFIO_DEVICE_FEATURE_GET`.
pub const FEATURE_GET: u32 = 1 << 16;
/// `VFIO_DEVICE_FEATURE_SET`.
pub const FEATURE_SET: u32 = 1 << 17;
/// `VFIO_DEVICE_FEATURE_PROBE`.
pub const FEATURE_PROBE: u32 = 1 << 18;
/// `VFIO_DEVICE_FEATURE_MIGRATION`.
pub const FEATURE_MIGRATION: u32 = 1;
/// `VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE`.
pub const FEATURE_MIG_DEVICE_STATE: u32 = 2;
/// `VFIO_DEVICE_FEATURE_DMA_LOGGING_START`.
pub const FEATURE_DMA_LOGGING_START: u32 = 6;
/// `VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP`.
pub const FEATURE_DMA_LOGGING_STOP: u32 = 7;
/// `VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT`.
pub const FEATURE_DMA_LOGGING_REPORT: u32 = 8;
/// `VFIO_DEVICE_FEATURE_MIG_DATA_SIZE`.
pub const FEATURE_MIG_DATA_SIZE: u32 = 9;
/// `VFIO_DEVICE_FEATURE_DMA_BUF`.
pub const FEATURE_DMA_BUF: u32 = 11;
/// `VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2`.
pub const FEATURE_MIG_PRECOPY_INFO_V2: u32 = 12;
/// `VFIO_PRECOPY_INFO_REINIT`.
pub const PRECOPY_INFO_REINIT: u32 = 1;
/// `VFIO_PCI_CONFIG_REGION_INDEX`.
pub const CONFIG_REGION: u32 = 7;
/// `VFIO_PCI_MSIX_IRQ_INDEX`.
pub const MSIX_IRQ: u32 = 2;
/// `VFIO_PCI_ERR_IRQ_INDEX`.
pub const ERROR_IRQ: u32 = 3;
/// `VFIO_PCI_REQ_IRQ_INDEX`.
pub const REQUEST_IRQ: u32 = 4;

/// `struct vfio_group_status`.
#[repr(C)]
#[derive(Default, Debug)]
pub struct GroupStatus {
    /// Size of this.
    pub argsz: u32,
    /// [`GROUP_VIABLE`].
    pub flags: u32,
}

/// `VFIO_DEVICE_FLAGS_RESET`.
pub const DEVICE_RESET: u32 = 1;

/// `struct vfio_device_info`, without what came later.
#[repr(C)]
#[derive(Default, Debug)]
pub struct DeviceInfo {
    /// Size of this.
    pub argsz: u32,
    /// [`DEVICE_RESET`], and others.
    pub flags: u32,
    /// Number of regions.
    pub num_regions: u32,
    /// Number of kinds of interrupts.
    pub num_irqs: u32,
}

/// `struct vfio_region_info`.
#[repr(C)]
#[derive(Default, Debug)]
pub struct RegionInfo {
    /// Size of this.
    pub argsz: u32,
    /// Readable, writable, mappable.
    pub flags: u32,
    /// Which region.
    pub index: u32,
    /// Where capabilities are.
    pub cap_offset: u32,
    /// Bytes of it.
    pub size: u64,
    /// Where it begins in the device's file.
    pub offset: u64,
}

/// `struct vfio_irq_set` with up to eight eventfds.
#[repr(C)]
#[derive(Default, Debug)]
pub struct IrqSet {
    /// Size of this.
    pub argsz: u32,
    /// Kind of data, and what to do.
    pub flags: u32,
    /// Which kind of interrupt.
    pub index: u32,
    /// First vector.
    pub start: u32,
    /// Number of vectors.
    pub count: u32,
    /// Eventfds.
    pub fds: [i32; 8],
}

/// `VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER`.
pub const IRQ_SET_EVENTFD_TRIGGER: u32 = (1 << 2) | (1 << 5);

/// `struct vfio_iommu_type1_dma_map`.
#[repr(C)]
#[derive(Debug)]
pub struct Type1Map {
    /// Size of this.
    pub argsz: u32,
    /// Readable, writable.
    pub flags: u32,
    /// Address in this process.
    pub vaddr: u64,
    /// Address for the device.
    pub iova: u64,
    /// Bytes.
    pub size: u64,
}

/// `struct vfio_device_bind_iommufd`.
#[repr(C)]
#[derive(Debug)]
pub struct BindIommufd {
    /// Size of this.
    pub argsz: u32,
    /// None.
    pub flags: u32,
    /// /dev/iommu.
    pub iommufd: i32,
    /// The device, for iommufd.
    pub out_devid: u32,
}

/// `struct vfio_device_attach_iommufd_pt`.
#[repr(C)]
#[derive(Debug)]
pub struct AttachPt {
    /// Size of this.
    pub argsz: u32,
    /// `VFIO_DEVICE_ATTACH_PASID`.
    pub flags: u32,
    /// An IOAS.
    pub pt_id: u32,
    /// A PASID, if the flag says so.
    pub pasid: u32,
}

/// Only what the device does with a PASID goes to the IOAS.
pub const VFIO_DEVICE_ATTACH_PASID: u32 = 1;

/// `struct iommu_ioas_alloc`.
#[repr(C)]
#[derive(Default, Debug)]
pub struct IoasAlloc {
    /// Size of this.
    pub size: u32,
    /// None.
    pub flags: u32,
    /// The IOAS.
    pub out_ioas_id: u32,
}

/// `struct iommu_ioas_map`.
#[repr(C)]
#[derive(Debug)]
pub struct IoasMap {
    /// Size of this.
    pub size: u32,
    /// Fixed, writable, readable.
    pub flags: u32,
    /// The IOAS.
    pub ioas_id: u32,
    /// Zero.
    pub reserved: u32,
    /// Address in this process.
    pub user_va: u64,
    /// Bytes.
    pub length: u64,
    /// Address for the device.
    pub iova: u64,
}

/// `struct vfio_device_feature` with up to 16 bytes of data.
#[repr(C)]
#[derive(Default, Debug)]
pub struct Feature {
    /// Size of this.
    pub argsz: u32,
    /// Which feature, and what to do.
    pub flags: u32,
    /// Depends on the feature.
    pub data: [u32; 4],
}

/// `struct vfio_device_feature_dma_logging_range`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoggingRange {
    /// Where it begins.
    pub iova: u64,
    /// Bytes.
    pub length: u64,
}

/// `struct vfio_device_feature_dma_logging_control`, with its header.
#[repr(C)]
#[derive(Debug)]
struct LoggingControl {
    argsz: u32,
    flags: u32,
    page_size: u64,
    num_ranges: u32,
    reserved: u32,
    ranges: u64,
}

/// `struct vfio_device_feature_dma_logging_report`, with its header.
#[repr(C)]
#[derive(Debug)]
struct LoggingReport {
    argsz: u32,
    flags: u32,
    iova: u64,
    length: u64,
    page_size: u64,
    bitmap: u64,
}

/// VFIO_DEVICE_FEATURE_DMA_LOGGING_START. Returns the page size that the device
/// tracks with, for which `page_size` is a hint.
pub fn logging_start(
    device: BorrowedFd<'_>,
    page_size: u64,
    ranges: &[LoggingRange],
) -> io::Result<u64> {
    let mut control = LoggingControl {
        argsz: size_of::<LoggingControl>() as u32,
        flags: FEATURE_SET | FEATURE_DMA_LOGGING_START,
        page_size,
        num_ranges: ranges.len() as u32,
        reserved: 0,
        ranges: ranges.as_ptr() as u64,
    };
    with_struct(device, VFIO_DEVICE_FEATURE, &mut control)?;
    Ok(control.page_size)
}

/// VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT: a bit for each page of the range, the
/// first one in the lowest bit of the first word.
pub fn logging_report(
    device: BorrowedFd<'_>,
    range: LoggingRange,
    page_size: u64,
) -> io::Result<Vec<u64>> {
    logging_report_onto(device, range, page_size, 0)
}

/// Words of a page.
const PAGE_WORDS: usize = 512;

/// A page of a bitmap. A kernel that sets bits beyond the end of a bitmap does that in pages in
/// which the bitmap is: of whole pages, none has anything else.
#[derive(Clone)]
#[repr(C, align(4096))]
struct BitmapPage([u64; PAGE_WORDS]);

/// As [`logging_report`], with a bitmap whose words are `before` to begin with. Returns an
/// `InvalidData` error if the kernel has set bits beyond its end.
pub fn logging_report_onto(
    device: BorrowedFd<'_>,
    range: LoggingRange,
    page_size: u64,
    before: u64,
) -> io::Result<Vec<u64>> {
    let bits = range.length.div_ceil(page_size.max(1));
    let words = bits.div_ceil(64).max(1) as usize;
    let mut pages = vec![BitmapPage([before; PAGE_WORDS]); words.div_ceil(PAGE_WORDS)];
    logging_report_at(device, range, page_size, pages.as_mut_ptr() as u64)?;
    let mut bitmap: Vec<u64> = pages.into_iter().flat_map(|page| page.0).collect();
    if bitmap[words..].iter().any(|word| *word != before) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "bits beyond the end of the bitmap were set",
        ));
    }
    bitmap.truncate(words);
    Ok(bitmap)
}

/// As [`logging_report`], with a bitmap at an address.
pub fn logging_report_at(
    device: BorrowedFd<'_>,
    range: LoggingRange,
    page_size: u64,
    bitmap: u64,
) -> io::Result<()> {
    let mut report = LoggingReport {
        argsz: size_of::<LoggingReport>() as u32,
        flags: FEATURE_GET | FEATURE_DMA_LOGGING_REPORT,
        iova: range.iova,
        length: range.length,
        page_size,
        bitmap,
    };
    with_struct(device, VFIO_DEVICE_FEATURE, &mut report).map(drop)
}

/// `struct vfio_precopy_info`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PrecopyInfo {
    /// Size of this.
    pub argsz: u32,
    /// Output, after the opt-in for version 2.
    pub flags: u32,
    /// Bytes of initial data to come.
    pub initial_bytes: u64,
    /// Bytes that changed since.
    pub dirty_bytes: u64,
}

impl Default for PrecopyInfo {
    /// What to ask with.
    fn default() -> Self {
        Self {
            argsz: size_of::<Self>() as u32,
            flags: 0,
            initial_bytes: 0,
            dirty_bytes: 0,
        }
    }
}

/// VFIO_MIG_GET_PRECOPY_INFO on a data fd. `info` is what the structure has before the call.
pub fn precopy_info(data: BorrowedFd<'_>, mut info: PrecopyInfo) -> io::Result<PrecopyInfo> {
    with_struct(data, VFIO_MIG_GET_PRECOPY_INFO, &mut info)?;
    Ok(info)
}

fn check(ret: libc::c_int) -> io::Result<i32> {
    if ret < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(ret)
    }
}

/// An ioctl that reads and writes the structure `argument`.
///
/// `number` must be one whose structure is a `T`.
pub fn with_struct<T>(
    fd: BorrowedFd<'_>,
    number: libc::c_ulong,
    argument: &mut T,
) -> io::Result<i32> {
    // SAFETY: `argument` is valid for reads and writes, and as long as the
    // ioctl's structure says: each of those begins with its size.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), number, argument as *mut T) })
}

/// An ioctl that takes a number.
pub fn with_value(fd: BorrowedFd<'_>, number: libc::c_ulong, value: i32) -> io::Result<i32> {
    // SAFETY: No memory is involved.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), number, libc::c_ulong::from(value as u32)) })
}

/// An ioctl that takes a number in memory.
pub fn with_value_in_memory(
    fd: BorrowedFd<'_>,
    number: libc::c_ulong,
    value: i32,
) -> io::Result<i32> {
    // SAFETY: The pointer is valid during the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), number, &value as *const i32) })
}

/// VFIO_GROUP_GET_DEVICE_FD.
pub fn device_fd(group: BorrowedFd<'_>, name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    // SAFETY: The name is a C string.
    let fd =
        check(unsafe { libc::ioctl(group.as_raw_fd(), VFIO_GROUP_GET_DEVICE_FD, name.as_ptr()) })?;
    // SAFETY: The kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// VFIO_DEVICE_FEATURE; what comes back is in `data`.
pub fn feature(device: BorrowedFd<'_>, flags: u32, data: &mut [u32; 4]) -> io::Result<()> {
    let mut feature = Feature {
        argsz: size_of::<Feature>() as u32,
        flags,
        data: *data,
    };
    with_struct(device, VFIO_DEVICE_FEATURE, &mut feature)?;
    *data = feature.data;
    Ok(())
}

/// VFIO_DEVICE_FEATURE with any `argsz`, for requests that a correct program does not make.
pub fn feature_with_argsz(
    device: BorrowedFd<'_>,
    argsz: u32,
    flags: u32,
    data: &mut [u32; 4],
) -> io::Result<()> {
    let mut feature = Feature {
        // No larger than the buffer: the kernel may use all of it.
        argsz: argsz.min(size_of::<Feature>() as u32),
        flags,
        data: *data,
    };
    with_struct(device, VFIO_DEVICE_FEATURE, &mut feature)?;
    *data = feature.data;
    Ok(())
}

/// Ioctls of devices that have no pointer in their argument, and change nothing but the device:
/// from VFIO_DEVICE_GET_INFO on, and without VFIO_DEVICE_RESET and VFIO_DEVICE_PCI_HOT_RESET;
/// PRECOPY_INFO, which is for data files; and one that does not exist.
pub const HARMLESS: [u32; 9] = [107, 108, 109, 110, 112, 114, 116, 121, 250];
/// Words of their argument, which is larger than that of any of them.
pub const HARMLESS_WORDS: usize = 64;

/// One of [`HARMLESS`], with any argument.
pub fn harmless_ioctl(
    device: BorrowedFd<'_>,
    which: usize,
    argument: &mut [u32; HARMLESS_WORDS],
) -> io::Result<i32> {
    // No larger than the argument: the kernel may use all of it.
    argument[0] = argument[0].min(size_of_val(argument) as u32);
    with_struct(device, io_number(HARMLESS[which]), argument)
}

/// VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE: sets, and returns the data fd if
/// there is one.
pub fn set_state(device: BorrowedFd<'_>, state: u32) -> io::Result<Option<OwnedFd>> {
    let mut data = [state, u32::MAX, 0, 0];
    feature(device, FEATURE_SET | FEATURE_MIG_DEVICE_STATE, &mut data)?;
    let fd = data[1] as i32;
    // SAFETY: A data fd is made for the caller.
    Ok((fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// A new eventfd, which never blocks.
pub fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: Just a system call.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: The kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits for events on a file; 0 where none came in time.
pub fn poll(fd: BorrowedFd<'_>, events: i16, timeout_ms: i32) -> io::Result<i16> {
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events,
        revents: 0,
    };
    // SAFETY: One valid pollfd.
    check(unsafe { libc::poll(&mut poll, 1, timeout_ms) })?;
    Ok(poll.revents)
}

/// Sets an option of a socket, whose value is an int.
pub fn set_socket_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: `value` is valid for its length.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// Sets or clears O_NONBLOCK.
pub fn set_nonblocking(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    // SAFETY: F_GETFL takes no argument.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    let flags = if on {
        flags | libc::O_NONBLOCK
    } else {
        flags & !libc::O_NONBLOCK
    };
    // SAFETY: F_SETFL takes an int, and no pointer.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_size_of_the_headers() {
        assert_eq!(size_of::<DeviceInfo>(), 16);
        assert_eq!(size_of::<RegionInfo>(), 32);
        assert_eq!(size_of::<Type1Map>(), 32);
        assert_eq!(size_of::<IoasMap>(), 40);
        assert_eq!(size_of::<PrecopyInfo>(), 24);
        assert_eq!(VFIO_DEVICE_FEATURE, 0x3b75);
        assert_eq!(IOMMU_IOAS_ALLOC, 0x3b81);
    }
}
