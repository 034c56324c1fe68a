// SPDX-License-Identifier: GPL-2.0

//! Address spaces of devices.

use crate::{
    error::{
        Context,
        Error, //
    },
    memory::DeviceMemory,
    uapi, //
};
use std::os::fd::{
    AsFd,
    OwnedFd, //
};

/// Where a device's DMA goes.
#[derive(Debug)]
pub enum AddressSpace {
    /// A container with a type 1 IOMMU.
    Container(OwnedFd),
    /// An IOAS of an iommufd.
    Ioas {
        /// /dev/iommu.
        iommufd: OwnedFd,
        /// The IOAS.
        id: u32,
    },
}

impl AddressSpace {
    /// Lets devices access `memory`, from `iova` on. `memory` must outlive the address
    /// space.
    pub fn map(&self, memory: &DeviceMemory, iova: u64) -> Result<(), Error> {
        match self {
            Self::Container(container) => uapi::with_struct(
                container.as_fd(),
                uapi::VFIO_IOMMU_MAP_DMA,
                &mut uapi::Type1Map {
                    argsz: size_of::<uapi::Type1Map>() as u32,
                    flags: 0b11,
                    vaddr: memory.addr(),
                    iova,
                    size: memory.len() as u64,
                },
            ),
            Self::Ioas { iommufd, id } => uapi::with_struct(
                iommufd.as_fd(),
                uapi::IOMMU_IOAS_MAP,
                &mut uapi::IoasMap {
                    size: size_of::<uapi::IoasMap>() as u32,
                    flags: 0b111,
                    ioas_id: *id,
                    reserved: 0,
                    user_va: memory.addr(),
                    length: memory.len() as u64,
                    iova,
                },
            ),
        }
        .context(format!("mapping {} bytes at IOVA {iova:#x}", memory.len()))?;
        Ok(())
    }
}
