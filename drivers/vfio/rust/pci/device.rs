// SPDX-License-Identifier: GPL-2.0

//! `struct vfio_device_ops` of a driver.

use super::{
    Driver,
    Pasids,
    Token, //
};
use crate::{
    bindings,
    dirty_log,
    ioctl,
    migration::{
        self,
        VfioDevice, //
    },
    region, //
};
use core::{
    marker::PhantomPinned,
    mem::{
        offset_of,
        MaybeUninit, //
    },
};
use kernel::{
    device::Bound,
    error::{
        from_result,
        to_result, //
    },
    prelude::*,
    types::Opaque, //
};

/// A device as VFIO allocates it: VFIO's part, then the driver's.
///
/// # Invariants
///
/// `core` begins with the `vfio_device`. `data` is initialised from a successful `init` to
/// the end of the binding, which calls `drop_data`; the device itself stays until
/// `release`.
#[repr(C)]
pub(crate) struct Device<T: Driver> {
    core: Opaque<bindings::vfio_pci_core_device>,
    data: MaybeUninit<T>,
    _pin: PhantomPinned,
}

impl<T: Driver> Device<T> {
    pub(super) const OPS: bindings::vfio_device_ops = bindings::vfio_device_ops {
        name: T::NAME.to_bytes_with_nul().as_ptr().cast_mut(),
        init: Some(Self::init),
        release: Some(Self::release),
        open_device: Some(Self::open_device),
        close_device: Some(Self::close_device),
        ioctl: ioctl::Operations::<T>::IOCTL,
        get_region_info_caps: region::Operations::<T>::INFO,
        device_feature: Some(bindings::vfio_pci_core_ioctl_feature),
        read: region::Operations::<T>::READ,
        write: region::Operations::<T>::WRITE,
        mmap: region::Operations::<T>::MMAP,
        request: Some(bindings::vfio_pci_core_request),
        match_: Some(bindings::vfio_pci_core_match),
        match_token_uuid: match T::HAS_MATCH_TOKEN {
            true => Some(Self::match_token_uuid),
            false => Some(bindings::vfio_pci_core_match_token_uuid),
        },
        #[cfg(CONFIG_IOMMUFD)]
        bind_iommufd: Some(bindings::vfio_iommufd_physical_bind),
        #[cfg(CONFIG_IOMMUFD)]
        unbind_iommufd: Some(bindings::vfio_iommufd_physical_unbind),
        #[cfg(CONFIG_IOMMUFD)]
        attach_ioas: Some(bindings::vfio_iommufd_physical_attach_ioas),
        #[cfg(CONFIG_IOMMUFD)]
        detach_ioas: Some(bindings::vfio_iommufd_physical_detach_ioas),
        #[cfg(CONFIG_IOMMUFD)]
        pasid_attach_ioas: match T::PASIDS {
            Pasids::Supported => Some(bindings::vfio_iommufd_physical_pasid_attach_ioas),
            Pasids::Unsupported => None,
        },
        #[cfg(CONFIG_IOMMUFD)]
        pasid_detach_ioas: match T::PASIDS {
            Pasids::Supported => Some(bindings::vfio_iommufd_physical_pasid_detach_ioas),
            Pasids::Unsupported => None,
        },
        ..pin_init::zeroed()
    };

    /// Operations that `vfio_pci_core` calls for an optional feature. As with vfio-pci, BARs can be
    /// exported as dma-bufs, except for what [`Driver::mmap`] refuses. `vfio_pci_core` revokes the
    /// dma-bufs for resets, and before `close_device` disables the device.
    const PCI_OPS: bindings::vfio_pci_device_ops = bindings::vfio_pci_device_ops {
        #[cfg(CONFIG_VFIO_PCI_DMABUF)]
        get_dmabuf_phys: region::Operations::<T>::DMABUF,
        #[cfg(not(CONFIG_VFIO_PCI_DMABUF))]
        get_dmabuf_phys: None,
    };

    /// # Safety
    ///
    /// `vdev` must belong to a `Device<T>` that was initialised, and whose binding does
    /// not end during `'a`.
    pub(crate) unsafe fn data<'a>(vdev: *mut bindings::vfio_device) -> &'a T {
        // SAFETY: `vdev` belongs to a `Device<T>`, of which it is the first member
        // of the first member, and whose `data` is initialised and not dropped
        // during `'a` (requirements of this function, type invariant).
        unsafe { (*vdev.cast::<Self>()).data.assume_init_ref() }
    }

    /// Drops the driver's part, at the end of the binding.
    ///
    /// # Safety
    ///
    /// `vdev` must belong to a `Device<T>` that was initialised. It must not be registered
    /// any more, and neither [`Self::data`] nor this function may be called for it again.
    pub(super) unsafe fn drop_data(vdev: *mut bindings::vfio_device) {
        // SAFETY: `vdev` belongs to a `Device<T>`, whose `data` is initialised (type invariant),
        // and which is not used after this: VFIO calls only `release` for a device that is not
        // registered (requirements of this function).
        unsafe { (*vdev.cast::<Self>()).data.assume_init_drop() };
    }

    /// Returns the `vfio_pci_core_device` that begins with `vdev`.
    pub(super) fn core_of(vdev: *mut bindings::vfio_device) -> *mut bindings::vfio_pci_core_device {
        const { assert!(offset_of!(bindings::vfio_pci_core_device, vdev) == 0) };
        vdev.cast()
    }

    /// # Safety
    ///
    /// Must only be called by VFIO, through [`Self::OPS`], for a `vdev` that `probe` has VFIO
    /// allocate: it begins a whole `Device<T>`, its `dev` is set, and nobody else has it.
    unsafe extern "C" fn init(vdev: *mut bindings::vfio_device) -> c_int {
        from_result(|| {
            // SAFETY: `vdev` begins a `vfio_pci_core_device` of a PCI device that
            // is being bound, and has its `dev` set (requirements of this
            // function).
            to_result(unsafe { bindings::vfio_pci_core_init_dev(vdev) })?;
            // SAFETY: `vdev` begins a `vfio_pci_core_device`, which nobody else has
            // (requirements of this function).
            unsafe { (*Self::core_of(vdev)).pci_ops = &Self::PCI_OPS };
            // SAFETY: `vdev` has its `dev` set (requirements of this function). `probe` is
            // being called for it, so it is valid, and bound until this returns.
            let dev = unsafe { kernel::device::Device::<Bound>::from_raw((*vdev).dev) };
            let pdev = <&kernel::pci::Device<Bound>>::try_from(dev);
            let data = pdev.and_then(T::new).inspect_err(|_| {
                // SAFETY: vfio_pci_core_init_dev() succeeded for `vdev`, which is
                // not used after this.
                unsafe { bindings::vfio_pci_core_release_dev(vdev) };
            })?;
            let (has_migration, has_log) = {
                // SAFETY: `vdev` begins a whole `Device<T>`, which nobody else has
                // (requirements of this function).
                let slot = unsafe { &mut (*vdev.cast::<Self>()).data };
                // INVARIANT: `data` is initialised here, and `init` succeeds.
                let data = slot.write(data);
                // Reports have no PASID, so dirty pages of an address space with a PASID would be
                // lost.
                let has_log = T::PASIDS == Pasids::Unsupported && data.dirty_log().is_some();
                (data.migration().is_some(), has_log)
            };
            if has_log {
                // SAFETY: `vdev` is valid and not registered yet, so that nobody
                // else has it (requirements of this function).
                unsafe { (*vdev).log_ops = &dirty_log::Operations::<T>::TABLE };
            }
            if has_migration {
                // SAFETY: `vdev` is valid and not registered yet, so that nobody
                // else has it (requirements of this function).
                unsafe {
                    (*vdev).migration_flags = T::FEATURES.as_raw();
                    (*vdev).mig_ops = &migration::Operations::<T>::TABLE;
                }
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Must only be called by VFIO, through [`Self::OPS`], once after `init` succeeded, when nobody
    /// else has a reference to the device any more.
    unsafe extern "C" fn release(vdev: *mut bindings::vfio_device) {
        // SAFETY: vfio_pci_core_init_dev() succeeded for `vdev` in `init`, and the
        // device is not used after this.
        unsafe { bindings::vfio_pci_core_release_dev(vdev) };
    }

    /// # Safety
    ///
    /// Must only be called by VFIO, through [`Self::OPS`], for a registered `vdev` that stays
    /// registered until this returns.
    unsafe extern "C" fn open_device(vdev: *mut bindings::vfio_device) -> c_int {
        from_result(|| {
            let core = Self::core_of(vdev);
            // SAFETY: `vdev` is registered (requirements of this function), and begins
            // a `vfio_pci_core_device`.
            to_result(unsafe { bindings::vfio_pci_core_enable(core) })?;
            // SAFETY: `vdev` is registered until this returns (requirements of this
            // function), so it belongs to an initialised `Device<T>`; it is enabled.
            let (driver, opened) = unsafe { (Self::data(vdev), VfioDevice::from_raw(vdev)) };
            driver.open(&opened).inspect_err(|_| {
                // SAFETY: vfio_pci_core_enable() succeeded for this device.
                unsafe { bindings::vfio_pci_core_disable(core) };
            })?;
            if let Some(migration) = driver.migration() {
                migration.opened();
            }
            // SAFETY: vfio_pci_core_enable() succeeded for this device.
            unsafe { bindings::vfio_pci_core_finish_enable(core) };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Must only be called by VFIO, through [`Self::OPS`], for a `vdev` that stays registered until
    /// this returns, with a `uuid` that is null or valid until then.
    unsafe extern "C" fn match_token_uuid(
        vdev: *mut bindings::vfio_device,
        uuid: *const bindings::uuid_t,
    ) -> c_int {
        from_result(|| {
            // INVARIANT: `vdev` begins a `Device<T>`, and is registered until this returns
            // (requirements of this function).
            let token = Token {
                vdev,
                // SAFETY: `uuid` is null or valid (requirements of this function).
                uuid: unsafe { uuid.as_ref() },
            };
            // SAFETY: `vdev` is registered until this returns (requirements of this
            // function), so it belongs to an initialised `Device<T>`.
            unsafe { Self::data(vdev) }.match_token(&token).map(|()| 0)
        })
    }

    /// # Safety
    ///
    /// Must only be called by VFIO, through [`Self::OPS`], for a `vdev` for which `open_device`
    /// succeeded, and which stays registered until this returns.
    unsafe extern "C" fn close_device(vdev: *mut bindings::vfio_device) {
        // SAFETY: `vdev` is registered until this returns (requirements of this
        // function), so it belongs to an initialised `Device<T>`.
        let driver = unsafe { Self::data(vdev) };
        if let Some(migration) = driver.migration() {
            migration.closing();
        }
        driver.closing();
        // SAFETY: `open_device` enabled the device (requirements of this function).
        unsafe { bindings::vfio_pci_core_close_device(vdev) };
    }
}
