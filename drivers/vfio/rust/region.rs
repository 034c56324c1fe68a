// SPDX-License-Identifier: GPL-2.0

//! Regions of a device: what user space reads, writes, maps, and asks for the layout of.
//!
//! `vfio_pci_core` handles all requests for a driver that has none of these hooks:
//! [`read`](Driver::read), [`write`](Driver::write), [`mmap`](Driver::mmap) and
//! [`region_info`](Driver::region_info) of [`Driver`]. A hook looks at the request, and either
//! answers it or has `vfio_pci_core` answer it, with `forward()`.

use crate::{
    bindings,
    migration::VfioDevice,
    pci::{
        Device,
        Driver, //
    },
};
use core::{
    marker::PhantomData,
    ops::{
        BitOr,
        Range, //
    },
    ptr::NonNull, //
};
use kernel::{
    error::{
        from_result,
        to_result, //
    },
    mm::virt::VmaRef,
    page::PAGE_SHIFT,
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

/// A region of a device: `VFIO_PCI_*_REGION_INDEX`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Region {
    /// The BAR of this index, 0 to 5.
    Bar(u32),
    /// The expansion ROM.
    Rom,
    /// Configuration space.
    Config,
    /// Legacy VGA.
    Vga,
    /// A region that `vfio_pci_core` has added, or an index without a region.
    Other(u32),
}

impl Region {
    /// Returns the region of this index.
    fn of_index(index: u32) -> Self {
        match index {
            bindings::vfio_rust_region_bar0..=bindings::vfio_rust_region_bar5 => {
                Self::Bar(index - bindings::vfio_rust_region_bar0)
            }
            bindings::vfio_rust_region_rom => Self::Rom,
            bindings::vfio_rust_region_config => Self::Config,
            bindings::vfio_rust_region_vga => Self::Vga,
            _ => Self::Other(index),
        }
    }

    /// Returns the region of a position in the device's file, and the offset in it.
    fn of_position(pos: u64) -> (Self, u64) {
        let shift = bindings::VFIO_PCI_OFFSET_SHIFT;
        // CAST: The shift leaves 24 bits.
        (
            Self::of_index((pos >> shift) as u32),
            pos & ((1 << shift) - 1),
        )
    }
}

/// Marks a piece that user space reads, with a read() of the device's file.
pub enum Read {}

/// Marks a piece that user space writes, with a write() to the device's file.
pub enum Write {}

/// The piece of a region that is read or written: `D` is [`Read`] or [`Write`].
pub struct Piece<'a, D> {
    vdev: &'a VfioDevice<'a>,
    /// Address of user memory, not checked.
    buffer: UserPtr,
    len: usize,
    /// Position in the device's file. Not negative.
    pos: bindings::loff_t,
    _direction: PhantomData<D>,
}

/// The piece that a read() of the device's file asks for.
pub type RegionRead<'a> = Piece<'a, Read>;

/// The piece that a write() to the device's file writes.
pub type RegionWrite<'a> = Piece<'a, Write>;

impl<'a, D> Piece<'a, D> {
    /// Makes a piece from the arguments of read() or write(). Returns `EINVAL` if `pos` is
    /// negative.
    fn new(
        vdev: &'a VfioDevice<'a>,
        buffer: UserPtr,
        len: usize,
        pos: bindings::loff_t,
    ) -> Result<Self> {
        if pos < 0 {
            return Err(EINVAL);
        }
        Ok(Self {
            vdev,
            buffer,
            len,
            pos,
            _direction: PhantomData,
        })
    }

    /// Returns the region.
    #[inline]
    pub fn region(&self) -> Region {
        // CAST: `pos` is not negative.
        Region::of_position(self.pos as u64).0
    }

    /// Returns where the piece begins in the region, in bytes.
    #[inline]
    pub fn offset(&self) -> u64 {
        // CAST: `pos` is not negative.
        Region::of_position(self.pos as u64).1
    }

    /// Returns the length of the piece, in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Shortens the piece to the part before `end`, an offset in the region. Returns `EINVAL` if
    /// the piece does not begin before `end`.
    pub fn clip(&mut self, end: u64) -> Result {
        let room = end.checked_sub(self.offset()).filter(|room| *room > 0);
        let room = room.ok_or(EINVAL)?;
        self.len = self.len.min(usize::try_from(room).unwrap_or(usize::MAX));
        Ok(())
    }

    /// Returns the user memory of the whole piece.
    pub fn buffer(&self) -> UserSlice {
        UserSlice::new(self.buffer, self.len)
    }

    /// Returns the part of a register that the piece covers: its offset in the piece, and its range
    /// in the register. The register is `len` bytes long, at offset `at` of the region.
    fn overlap(&self, at: u64, len: usize) -> Option<(usize, Range<usize>)> {
        // Regions end before that.
        if at >> bindings::VFIO_PCI_OFFSET_SHIFT != 0 {
            return None;
        }
        let (mut in_piece, mut count, mut in_register) = (0, 0, 0);
        // SAFETY: The last three arguments point to local variables. The function only calculates
        // with the others. Nothing overflows: offsets have 40 bits, and the lengths are those of a
        // slice and of a call of VFS.
        let overlaps = unsafe {
            bindings::vfio_pci_core_range_intersect_range(
                // CAST: An offset has 40 bits.
                self.offset() as bindings::loff_t,
                self.len,
                bindings::loff_t::try_from(at).ok()?,
                len,
                &mut in_piece,
                &mut count,
                &mut in_register,
            )
        };
        let part = in_register..in_register.checked_add(count)?;
        overlaps.then_some((usize::try_from(in_piece).ok()?, part))
    }

    /// Returns `n` bytes of user memory, from offset `at` of the piece on.
    fn user(&self, at: usize, n: usize) -> UserSlice {
        UserSlice::new(self.buffer.wrapping_byte_add(at), n)
    }
}

impl RegionRead<'_> {
    /// Has `vfio_pci_core` read the piece. Returns the number of bytes.
    pub fn forward(&mut self) -> Result<usize> {
        let mut pos = self.pos;
        // SAFETY: The device is valid and open (invariant of `VfioDevice`). `pos` is a local
        // variable. `buffer` may be any address: the function checks it.
        count_of(unsafe {
            bindings::vfio_pci_core_read(
                self.vdev.as_raw(),
                self.buffer.as_mut_ptr().cast(),
                self.len,
                &mut pos,
            )
        })
    }

    /// Copies `bytes`, which are at offset `at` of the region, to the user, as far as the piece
    /// covers them. If [`forward`](Self::forward) is called, too, it must be called first, since it
    /// fills the whole piece.
    pub fn put(&mut self, at: u64, bytes: &[u8]) -> Result {
        match self.overlap(at, bytes.len()) {
            Some((in_piece, part)) => {
                let bytes = bytes.get(part).ok_or(EINVAL)?;
                let to = self.user(in_piece, bytes.len());
                to.writer().write_slice(bytes)
            }
            None => Ok(()),
        }
    }
}

impl RegionWrite<'_> {
    /// Has `vfio_pci_core` write the piece. Returns the number of bytes.
    pub fn forward(&mut self) -> Result<usize> {
        let mut pos = self.pos;
        // SAFETY: The device is valid and open (invariant of `VfioDevice`). `pos` is a local
        // variable. `buffer` may be any address: the function checks it.
        count_of(unsafe {
            bindings::vfio_pci_core_write(
                self.vdev.as_raw(),
                self.buffer.as_const_ptr().cast(),
                self.len,
                &mut pos,
            )
        })
    }

    /// Copies from the user to `bytes`, a register at offset `at` of the region, as far as the
    /// piece covers it. Returns whether the piece covers any of it.
    ///
    /// The user may change the memory before [`forward`](Self::forward) reads it again.
    pub fn get(&self, at: u64, bytes: &mut [u8]) -> Result<bool> {
        match self.overlap(at, bytes.len()) {
            Some((in_piece, part)) => {
                let bytes = bytes.get_mut(part).ok_or(EINVAL)?;
                let from = self.user(in_piece, bytes.len());
                from.reader().read_slice(bytes)?;
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

/// Converts the return value of read() or write() to a result.
fn count_of(done: isize) -> Result<usize> {
    usize::try_from(done).map_err(|_| {
        // CAST: A negative value is an error code.
        Error::from_errno(done as c_int)
    })
}

/// Ways in which user space may access a region: `VFIO_REGION_INFO_FLAG_*`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Access(u32);

impl Access {
    /// Read it.
    pub const READ: Self = Self(bindings::VFIO_REGION_INFO_FLAG_READ);
    /// Write to it.
    pub const WRITE: Self = Self(bindings::VFIO_REGION_INFO_FLAG_WRITE);
    /// Map it.
    pub const MMAP: Self = Self(bindings::VFIO_REGION_INFO_FLAG_MMAP);
}

impl BitOr for Access {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A part of a region.
#[derive(Clone, Copy)]
pub struct Area {
    /// Offset in the region, in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
}

/// The answer to VFIO_DEVICE_GET_REGION_INFO.
///
/// # Invariants
///
/// `caps` is VFIO's chain of capabilities for this answer, which nobody else uses during
/// `'a`.
pub struct RegionInfo<'a> {
    vdev: &'a VfioDevice<'a>,
    info: &'a mut bindings::vfio_region_info,
    caps: NonNull<bindings::vfio_info_cap>,
}

impl RegionInfo<'_> {
    /// Returns the region that user space asks about.
    pub fn region(&self) -> Region {
        Region::of_index(self.info.index)
    }

    /// Has `vfio_pci_core` answer.
    pub fn forward(&mut self) -> Result {
        // SAFETY: The device is valid and open (invariant of `VfioDevice`). `info` is
        // borrowed, and `caps` is valid and nobody else's (type invariant).
        to_result(unsafe {
            bindings::vfio_pci_ioctl_get_region_info(
                self.vdev.as_raw(),
                self.info,
                self.caps.as_ptr(),
            )
        })
    }

    /// Returns the size in the answer, in bytes.
    pub fn size(&self) -> u64 {
        self.info.size
    }

    /// Changes the size in the answer.
    pub fn set_size(&mut self, size: u64) {
        self.info.size = size;
    }

    /// Answers for a region of the driver's own: its size in bytes, and what user space
    /// may do with it.
    pub fn describe(&mut self, size: u64, access: Access) {
        self.info.offset = u64::from(self.info.index) << bindings::VFIO_PCI_OFFSET_SHIFT;
        self.info.size = size;
        self.info.flags = access.0;
    }

    /// Tells user space that it may only map these areas of the region.
    pub fn only_mappable(&mut self, areas: &[Area]) -> Result {
        let mut sparse = KVec::with_capacity(areas.len(), GFP_KERNEL)?;
        for area in areas {
            let area = bindings::vfio_region_sparse_mmap_area {
                offset: area.offset,
                size: area.len,
            };
            sparse.push(area, GFP_KERNEL)?;
        }
        let count = sparse.len().try_into()?;
        // SAFETY: `caps` is valid and nobody else's (type invariant). `sparse` has `count`
        // areas, and is only read.
        to_result(unsafe {
            bindings::vfio_rust_add_sparse_mmap(self.caps.as_ptr(), sparse.as_ptr(), count)
        })
    }
}

/// A request to map a piece of a region into the memory of user space, or to export it as a
/// part of a dma-buf.
pub struct Mapping {
    /// Position in the device's file.
    pos: u64,
    len: u64,
}

impl Mapping {
    /// Returns the region.
    pub fn region(&self) -> Region {
        Region::of_position(self.pos).0
    }

    /// Returns where the piece begins in the region, in bytes.
    pub fn offset(&self) -> u64 {
        Region::of_position(self.pos).1
    }

    /// Returns the length of the piece, in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns `EINVAL` if the piece goes beyond `end`, an offset in the region.
    pub fn check_end(&self, end: u64) -> Result {
        match self.offset().checked_add(self.len) {
            Some(to) if to <= end => Ok(()),
            _ => Err(EINVAL),
        }
    }
}

/// The part of `struct vfio_device_ops` that is about regions.
pub(super) struct Operations<T: Driver>(PhantomData<T>);

type ReadFn = unsafe extern "C" fn(
    *mut bindings::vfio_device,
    *mut c_char,
    usize,
    *mut bindings::loff_t,
) -> isize;
type WriteFn = unsafe extern "C" fn(
    *mut bindings::vfio_device,
    *const c_char,
    usize,
    *mut bindings::loff_t,
) -> isize;
type MmapFn =
    unsafe extern "C" fn(*mut bindings::vfio_device, *mut bindings::vm_area_struct) -> c_int;
#[cfg(CONFIG_VFIO_PCI_DMABUF)]
type DmabufFn = unsafe extern "C" fn(
    *mut bindings::vfio_pci_core_device,
    *mut *mut bindings::p2pdma_provider,
    c_uint,
    *mut bindings::phys_vec,
    *mut bindings::vfio_region_dma_range,
    usize,
) -> c_int;
type InfoFn = unsafe extern "C" fn(
    *mut bindings::vfio_device,
    *mut bindings::vfio_region_info,
    *mut bindings::vfio_info_cap,
) -> c_int;

impl<T: Driver> Operations<T> {
    pub(super) const READ: Option<ReadFn> = match T::HAS_READ {
        true => Some(Self::read),
        false => Some(bindings::vfio_pci_core_read),
    };
    pub(super) const WRITE: Option<WriteFn> = match T::HAS_WRITE {
        true => Some(Self::write),
        false => Some(bindings::vfio_pci_core_write),
    };
    pub(super) const MMAP: Option<MmapFn> = match T::HAS_MMAP {
        true => Some(Self::mmap),
        false => Some(bindings::vfio_pci_core_mmap),
    };
    pub(super) const INFO: Option<InfoFn> = match T::HAS_REGION_INFO {
        true => Some(Self::info),
        false => Some(bindings::vfio_pci_ioctl_get_region_info),
    };

    #[cfg(CONFIG_VFIO_PCI_DMABUF)]
    pub(super) const DMABUF: Option<DmabufFn> = match T::HAS_MMAP {
        true => Some(Self::dmabuf),
        false => Some(bindings::vfio_pci_core_get_dmabuf_phys),
    };

    /// Converts the driver's answer to a read() or write() of `len` bytes to a return value, and
    /// advances `*pos` by the bytes read or written.
    ///
    /// # Safety
    ///
    /// `pos` must be valid, and nobody else may access it until this returns.
    unsafe fn done(answer: Result<usize>, len: usize, pos: *mut bindings::loff_t) -> isize {
        match answer {
            Ok(n) => {
                // Limit the count to `len`: with more, user space would look for data beyond its
                // buffer.
                let n = n.min(len).min(isize::MAX as usize);
                // SAFETY: By the requirements of this function.
                unsafe { *pos = (*pos).saturating_add(n as bindings::loff_t) };
                n as isize
            }
            Err(err) => err.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// Must only be called by VFIO, for a device that stays open until this returns, and with a
    /// valid `pos` that nobody else accesses until then.
    unsafe extern "C" fn read(
        raw: *mut bindings::vfio_device,
        buffer: *mut c_char,
        len: usize,
        pos: *mut bindings::loff_t,
    ) -> isize {
        if len == 0 {
            return 0;
        }
        // SAFETY: `raw` stays open until this returns, and begins a `Device<T>`
        // (requirements of this function).
        let (driver, vdev) = unsafe { (Device::<T>::data(raw), VfioDevice::from_raw(raw)) };
        // SAFETY: `pos` is valid (requirements of this function).
        let at = unsafe { *pos };
        let piece = Piece::new(&vdev, UserPtr::from_ptr(buffer.cast()), len, at);
        let answer = piece.and_then(|mut piece| driver.read(&vdev, &mut piece));
        // SAFETY: `pos` is valid, and nobody else accesses it (requirements of this
        // function).
        unsafe { Self::done(answer, len, pos) }
    }

    /// # Safety
    ///
    /// Must only be called by VFIO, for a device that stays open until this returns, and with a
    /// valid `pos` that nobody else accesses until then.
    unsafe extern "C" fn write(
        raw: *mut bindings::vfio_device,
        buffer: *const c_char,
        len: usize,
        pos: *mut bindings::loff_t,
    ) -> isize {
        if len == 0 {
            return 0;
        }
        // SAFETY: `raw` stays open until this returns, and begins a `Device<T>`
        // (requirements of this function).
        let (driver, vdev) = unsafe { (Device::<T>::data(raw), VfioDevice::from_raw(raw)) };
        // SAFETY: `pos` is valid (requirements of this function).
        let at = unsafe { *pos };
        let buffer = UserPtr::from_ptr(buffer.cast_mut().cast());
        let piece = Piece::new(&vdev, buffer, len, at);
        let answer = piece.and_then(|mut piece| driver.write(&vdev, &mut piece));
        // SAFETY: `pos` is valid, and nobody else accesses it (requirements of this
        // function).
        unsafe { Self::done(answer, len, pos) }
    }

    /// # Safety
    ///
    /// Must only be called by VFIO, for a device that stays open until this returns, and with a
    /// `vma` that is being set up for the caller.
    unsafe extern "C" fn mmap(
        raw: *mut bindings::vfio_device,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        from_result(|| {
            // SAFETY: `raw` stays open until this returns, and begins a `Device<T>`
            // (requirements of this function).
            let (driver, vdev) = unsafe { (Device::<T>::data(raw), VfioDevice::from_raw(raw)) };
            // SAFETY: `vma` is valid, and its `mm` is locked for writing, while it is being set up
            // (requirements of this function).
            let (area, pgoff) = unsafe { (VmaRef::from_raw(vma), (*vma).vm_pgoff) };
            let len = area.end().checked_sub(area.start()).ok_or(EINVAL)?;
            let mapping = Mapping {
                pos: u64::try_from(pgoff)?
                    .checked_mul(1 << PAGE_SHIFT)
                    .ok_or(EINVAL)?,
                len: len as u64,
            };
            driver.mmap(&vdev, &mapping)?;
            // SAFETY: The device is open, and `vma` is being set up (requirements of this
            // function). vfio_pci_core_mmap() checks that the range is in a BAR that can be mapped.
            to_result(unsafe { bindings::vfio_pci_core_mmap(raw, vma) }).map(|()| 0)
        })
    }

    /// Calls [`Driver::mmap`] for each range of a dma-buf, since a holder of the dma-buf can access
    /// the range as if it were mapped.
    ///
    /// # Safety
    ///
    /// Must only be called by VFIO, for a device that stays open until this returns. `provider`
    /// must be valid, and `phys_vec` and `ranges` must have `count` elements; nobody else may
    /// access them until this returns.
    #[cfg(CONFIG_VFIO_PCI_DMABUF)]
    unsafe extern "C" fn dmabuf(
        core: *mut bindings::vfio_pci_core_device,
        provider: *mut *mut bindings::p2pdma_provider,
        index: c_uint,
        phys_vec: *mut bindings::phys_vec,
        ranges: *mut bindings::vfio_region_dma_range,
        count: usize,
    ) -> c_int {
        from_result(|| {
            let raw: *mut bindings::vfio_device = core.cast();
            // SAFETY: `core` stays open until this returns (requirements of this function). It
            // begins with its `vfio_device`, as `Device::core_of()` asserts, and the `vfio_device`
            // begins a `Device<T>`.
            let (driver, vdev) = unsafe { (Device::<T>::data(raw), VfioDevice::from_raw(raw)) };
            for i in 0..count {
                // SAFETY: `ranges` has `count` elements, which nobody else accesses
                // (requirements of this function).
                let range = unsafe { &*ranges.add(i) };
                if range.offset >> bindings::VFIO_PCI_OFFSET_SHIFT != 0 {
                    return Err(EINVAL);
                }
                let mapping = Mapping {
                    pos: u64::from(index) << bindings::VFIO_PCI_OFFSET_SHIFT | range.offset,
                    len: range.length,
                };
                driver.mmap(&vdev, &mapping)?;
            }
            // SAFETY: By the requirements of this function. vfio_pci_core_get_dmabuf_phys() checks
            // that the ranges are in the BAR.
            to_result(unsafe {
                bindings::vfio_pci_core_get_dmabuf_phys(
                    core, provider, index, phys_vec, ranges, count,
                )
            })
            .map(|()| 0)
        })
    }

    /// # Safety
    ///
    /// Must only be called by VFIO, for a device that stays open until this returns, and with valid
    /// `info` and `caps` that nobody else accesses until then.
    unsafe extern "C" fn info(
        raw: *mut bindings::vfio_device,
        info: *mut bindings::vfio_region_info,
        caps: *mut bindings::vfio_info_cap,
    ) -> c_int {
        from_result(|| {
            // SAFETY: `raw` stays open until this returns, and begins a `Device<T>`
            // (requirements of this function).
            let (driver, vdev) = unsafe { (Device::<T>::data(raw), VfioDevice::from_raw(raw)) };
            // INVARIANT: `caps` is VFIO's (requirements of this function).
            let mut answer = RegionInfo {
                vdev: &vdev,
                // SAFETY: `info` is valid and nobody else's (requirements of this
                // function).
                info: unsafe { &mut *info },
                caps: NonNull::new(caps).ok_or(EINVAL)?,
            };
            driver.region_info(&vdev, &mut answer).map(|()| 0)
        })
    }
}
