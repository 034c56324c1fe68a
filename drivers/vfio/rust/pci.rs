// SPDX-License-Identifier: GPL-2.0

//! A VFIO PCI variant driver, and the devices it is bound to.

use super::{
    bindings,
    dirty_log::{self, DirtyLog},
    migratable::Migratable,
    migration::{self, Features, Migration},
};
use core::{
    marker::{PhantomData, PhantomPinned},
    mem::{offset_of, MaybeUninit},
    ptr::NonNull,
};
use kernel::{
    error::{from_err_ptr, from_result, to_result},
    prelude::*,
    types::Opaque,
    ThisModule,
};

/// One match of a driver's table: vendor and device.
#[derive(Clone, Copy)]
pub(crate) struct Id {
    /// Vendor.
    pub(crate) vendor: u16,
    /// Device.
    pub(crate) device: u16,
}

/// A table of devices, which a driver takes only where it is named in
/// `driver_override`: a device is for VFIO because its owner says so.
#[repr(C)]
pub(crate) struct IdTable<const N: usize> {
    ids: [kernel::bindings::pci_device_id; N],
    end: kernel::bindings::pci_device_id,
}

// SAFETY: Never written.
unsafe impl<const N: usize> Sync for IdTable<N> {}

impl<const N: usize> IdTable<N> {
    /// The table of `ids`.
    pub(crate) const fn new(ids: [Id; N]) -> Self {
        const EMPTY: kernel::bindings::pci_device_id = pin_init::zeroed();
        let mut table = Self {
            ids: [EMPTY; N],
            end: EMPTY,
        };
        let mut i = 0;
        while i < N {
            table.ids[i].vendor = ids[i].vendor as u32;
            table.ids[i].device = ids[i].device as u32;
            table.ids[i].subvendor = u32::MAX;
            table.ids[i].subdevice = u32::MAX;
            table.ids[i].override_only = bindings::PCI_ID_F_VFIO_DRIVER_OVERRIDE;
            i += 1;
        }
        table
    }

    /// The table as the PCI core wants it.
    pub(crate) const fn as_ids(&'static self) -> Ids {
        // INVARIANT: `end` terminates it.
        Ids(self.ids.as_ptr())
    }
}

/// A terminated table of ids.
///
/// # Invariants
///
/// Static, and ends with an entry of zeroes.
pub(crate) struct Ids(*const kernel::bindings::pci_device_id);

/// Defines `static $name`, an [`IdTable`], and what modpost reads it by.
#[macro_export]
macro_rules! vfio_pci_id_table {
    ($name:ident, $alias:ident, $count:literal, $ids:expr) => {
        static $name: $crate::vfio::pci::IdTable<$count> = $crate::vfio::pci::IdTable::new($ids);

        #[allow(unsafe_code)]
        #[export_name = concat!("__mod_device_table__", line!(), "__kmod_",
                                                module_path!(), "__pci__", stringify!($name))]
        static $alias: $crate::vfio::pci::IdTable<$count> = $crate::vfio::pci::IdTable::new($ids);
    };
}

/// A device while its driver probes it.
///
/// # Invariants
///
/// Valid while this object lives, and bound.
pub(crate) struct BoundDevice<'a>(NonNull<kernel::bindings::pci_dev>, PhantomData<&'a ()>);

impl BoundDevice<'_> {
    /// Whether it is a virtual function.
    pub(crate) fn is_virtfn(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::vfio_rust_is_virtfn(self.0.as_ptr()) }
    }

    /// For calls into C.
    pub(crate) fn as_raw(&self) -> *mut kernel::bindings::pci_dev {
        self.0.as_ptr()
    }
}

impl AsRef<kernel::device::Device> for BoundDevice<'_> {
    fn as_ref(&self) -> &kernel::device::Device {
        // SAFETY: By the type invariant, for as long as `self` is borrowed.
        unsafe { kernel::device::Device::from_raw(&raw mut (*self.0.as_ptr()).dev) }
    }
}

/// A counted reference to the device behind a function, which stays valid when the
/// function is gone: for its name in messages.
///
/// # Invariants
///
/// The pointer is valid; one reference to the device is owned.
pub(super) struct DeviceName(NonNull<kernel::bindings::device>);

// SAFETY: References to devices may be used, and dropped, on any thread.
unsafe impl Send for DeviceName {}
// SAFETY: As above.
unsafe impl Sync for DeviceName {}

impl DeviceName {
    /// Of `dev`.
    pub(super) fn of(dev: &BoundDevice<'_>) -> Result<Self> {
        // SAFETY: A bound device is valid.
        let dev = unsafe { kernel::bindings::get_device(&raw mut (*dev.as_raw()).dev) };
        // INVARIANT: get_device() returns its argument, with a reference.
        Ok(Self(NonNull::new(dev).ok_or(ENODEV)?))
    }

    /// For calls into C. Valid while `self` lives.
    pub(super) fn as_raw(&self) -> *mut kernel::bindings::device {
        self.0.as_ptr()
    }
}

impl Drop for DeviceName {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { kernel::bindings::put_device(self.0.as_ptr()) }
    }
}

/// A variant driver. One object of the type belongs to each bound device.
pub(crate) trait Driver: Send + Sync + Sized + 'static {
    /// Its name, in messages and sysfs.
    const NAME: &'static CStr;
    /// The devices it can drive.
    const IDS: Ids;
    /// The optional features that [`Self::migration`] offers.
    const FEATURES: Features;
    /// Its steps between migration states.
    type Migration: Migration;

    /// Takes a device, or refuses it.
    fn new(dev: &BoundDevice<'_>) -> Result<Self>;

    /// Returns the device's migration, if it has any. The answer does not
    /// change.
    fn migration(&self) -> Option<&Migratable<Self::Migration>>;

    /// Returns the device's DMA logging, if it has any. The answer does not
    /// change.
    fn dirty_log(&self) -> Option<&dyn DirtyLog> {
        None
    }

    /// User space is closing the device. Its sessions have ended.
    fn closing(&self) {}

    /// The driver is being unbound. Nobody has the device open.
    fn unbind(&self) {}
}

/// What VFIO allocates: its own part, then the driver's.
///
/// # Invariants
///
/// `data` is initialised between a successful `init` and `release`.
#[repr(C)]
pub(super) struct Device<T: Driver> {
    core: Opaque<bindings::vfio_pci_core_device>,
    data: MaybeUninit<T>,
    _pin: PhantomPinned,
}

impl<T: Driver> Device<T> {
    const OPS: bindings::vfio_device_ops = bindings::vfio_device_ops {
        name: T::NAME.to_bytes_with_nul().as_ptr().cast_mut(),
        init: Some(Self::init),
        release: Some(Self::release),
        open_device: Some(Self::open_device),
        close_device: Some(Self::close_device),
        ioctl: Some(bindings::vfio_pci_core_ioctl),
        get_region_info_caps: Some(bindings::vfio_pci_ioctl_get_region_info),
        device_feature: Some(bindings::vfio_pci_core_ioctl_feature),
        read: Some(bindings::vfio_pci_core_read),
        write: Some(bindings::vfio_pci_core_write),
        mmap: Some(bindings::vfio_pci_core_mmap),
        request: Some(bindings::vfio_pci_core_request),
        match_: Some(bindings::vfio_pci_core_match),
        match_token_uuid: Some(bindings::vfio_pci_core_match_token_uuid),
        #[cfg(CONFIG_IOMMUFD)]
        bind_iommufd: Some(bindings::vfio_iommufd_physical_bind),
        #[cfg(CONFIG_IOMMUFD)]
        unbind_iommufd: Some(bindings::vfio_iommufd_physical_unbind),
        #[cfg(CONFIG_IOMMUFD)]
        attach_ioas: Some(bindings::vfio_iommufd_physical_attach_ioas),
        #[cfg(CONFIG_IOMMUFD)]
        detach_ioas: Some(bindings::vfio_iommufd_physical_detach_ioas),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `vdev` must belong to a `Device<T>` that was initialised and not yet
    /// released, and stays so for `'a`.
    pub(super) unsafe fn data<'a>(vdev: *mut bindings::vfio_device) -> &'a T {
        // SAFETY: The vfio_device is the first member of the first member; the
        // rest is by the requirements of this function.
        unsafe { (*vdev.cast::<Self>()).data.assume_init_ref() }
    }

    fn core_of(vdev: *mut bindings::vfio_device) -> *mut bindings::vfio_pci_core_device {
        const { assert!(offset_of!(bindings::vfio_pci_core_device, vdev) == 0) };
        vdev.cast()
    }

    /// # Safety
    ///
    /// Only called by VFIO, through [`Self::OPS`].
    unsafe extern "C" fn init(vdev: *mut bindings::vfio_device) -> c_int {
        from_result(|| {
            // SAFETY: VFIO passes a new device, with `dev` set.
            to_result(unsafe { bindings::vfio_pci_core_init_dev(vdev) })?;
            // SAFETY: vfio_pci_core_init_dev() sets `pdev` to what `dev` is
            // part of; the driver is being bound to it.
            let pdev = unsafe { (*Self::core_of(vdev)).pdev };
            // INVARIANT: As above.
            let dev = BoundDevice(NonNull::new(pdev).ok_or(EINVAL)?, PhantomData);
            let data = T::new(&dev).inspect_err(|_| {
                // SAFETY: Undoes vfio_pci_core_init_dev().
                unsafe { bindings::vfio_pci_core_release_dev(vdev) };
            })?;
            let (has_migration, has_log) = {
                // SAFETY: VFIO allocated a whole `Device<T>`.
                let slot = unsafe { &mut (*vdev.cast::<Self>()).data };
                // INVARIANT: Initialised here.
                let data = slot.write(data);
                (data.migration().is_some(), data.dirty_log().is_some())
            };
            if has_log {
                // SAFETY: Not registered yet, so nobody else reads this.
                unsafe { (*vdev).log_ops = &dirty_log::Operations::<T>::TABLE };
            }
            if has_migration {
                // SAFETY: Not registered yet, so nobody else reads these.
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
    /// Only called by VFIO, through [`Self::OPS`], once after `init`.
    unsafe extern "C" fn release(vdev: *mut bindings::vfio_device) {
        // SAFETY: Initialised by the type invariant; last use.
        unsafe { (*vdev.cast::<Self>()).data.assume_init_drop() };
        // SAFETY: Undoes vfio_pci_core_init_dev().
        unsafe { bindings::vfio_pci_core_release_dev(vdev) };
    }

    /// # Safety
    ///
    /// Only called by VFIO, through [`Self::OPS`].
    unsafe extern "C" fn open_device(vdev: *mut bindings::vfio_device) -> c_int {
        // SAFETY: VFIO passes a registered device.
        let err = unsafe { bindings::vfio_pci_core_enable(Self::core_of(vdev)) };
        if err == 0 {
            // SAFETY: A registered device is initialised.
            if let Some(migration) = unsafe { Self::data(vdev) }.migration() {
                migration.opened();
            }
            // SAFETY: Enabled above.
            unsafe { bindings::vfio_pci_core_finish_enable(Self::core_of(vdev)) };
        }
        err
    }

    /// # Safety
    ///
    /// Only called by VFIO, through [`Self::OPS`].
    unsafe extern "C" fn close_device(vdev: *mut bindings::vfio_device) {
        // SAFETY: A registered device is initialised.
        let driver = unsafe { Self::data(vdev) };
        if let Some(migration) = driver.migration() {
            migration.closing();
        }
        driver.closing();
        // SAFETY: Undoes `open_device`.
        unsafe { bindings::vfio_pci_core_close_device(vdev) };
    }
}

/// The registration of a driver, for as long as its module is loaded.
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<T: Driver> {
    #[pin]
    driver: Opaque<kernel::bindings::pci_driver>,
    _driver: PhantomData<T>,
}

// SAFETY: The only thing done with a registration is dropping it.
unsafe impl<T: Driver> Send for Registration<T> {}
// SAFETY: As above.
unsafe impl<T: Driver> Sync for Registration<T> {}

impl<T: Driver> Registration<T> {
    const ERROR_HANDLERS: kernel::bindings::pci_error_handlers =
        kernel::bindings::pci_error_handlers {
            error_detected: Some(bindings::vfio_pci_core_aer_err_detected),
            reset_prepare: Some(Self::reset_prepare),
            reset_done: Some(Self::reset_done),
            ..pin_init::zeroed()
        };

    /// Registers the driver.
    pub(crate) fn new(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            driver <- Opaque::try_ffi_init(|slot: *mut kernel::bindings::pci_driver| {
                // SAFETY: `slot` is valid for writes.
                unsafe { slot.write(pin_init::zeroed()) };
                // SAFETY: Initialised above.
                let driver = unsafe { &mut *slot };
                driver.name = T::NAME.as_char_ptr();
                driver.id_table = T::IDS.0;
                driver.probe = Some(Self::probe);
                driver.remove = Some(Self::remove);
                driver.err_handler = &Self::ERROR_HANDLERS;
                // The IOMMU is user space's, not the DMA API's.
                driver.driver_managed_dma = true;
                // SAFETY: `slot` is pinned and lives until `drop`, which
                // unregisters it; all tables are static.
                to_result(unsafe {
                    kernel::bindings::__pci_register_driver(
                        slot,
                        module.as_ptr(),
                        T::NAME.as_char_ptr(),
                    )
                })
            }),
            _driver: PhantomData,
        })
    }

    /// The device that `probe` made.
    ///
    /// # Safety
    ///
    /// Must be called between a successful `probe` and the end of `remove`.
    unsafe fn bound(pdev: *mut kernel::bindings::pci_dev) -> *mut bindings::vfio_pci_core_device {
        // SAFETY: By the requirements of this function, `probe` has set it.
        unsafe { bindings::vfio_rust_get_drvdata(pdev) }.cast()
    }

    /// The driver's part of the device that `probe` made.
    ///
    /// # Safety
    ///
    /// Must be called between a successful `probe` and the end of `remove`, and
    /// `remove` must not run during `'a`.
    unsafe fn driver<'a>(pdev: *mut kernel::bindings::pci_dev) -> &'a T {
        // SAFETY: By the requirements of this function, `probe` has registered
        // the `Device<T>`, and `remove`, which puts its reference, does not run
        // during `'a`. The vfio_device is its first member.
        unsafe { Device::<T>::data(Self::bound(pdev).cast()) }
    }

    /// # Safety
    ///
    /// Only called by the PCI core, for a registered driver.
    unsafe extern "C" fn probe(
        pdev: *mut kernel::bindings::pci_dev,
        _id: *const kernel::bindings::pci_device_id,
    ) -> c_int {
        from_result(|| {
            // SAFETY: `pdev` is valid; the size is what `OPS` work on, with
            // the vfio_device at offset 0.
            let vdev = from_err_ptr(unsafe {
                bindings::_vfio_alloc_device(
                    size_of::<Device<T>>(),
                    &raw mut (*pdev).dev,
                    &Device::<T>::OPS,
                )
            })?;
            let core = Device::<T>::core_of(vdev);
            // SAFETY: `pdev` is valid and being bound.
            unsafe { bindings::vfio_rust_set_drvdata(pdev, core.cast()) };
            // SAFETY: Initialised by _vfio_alloc_device().
            to_result(unsafe { bindings::vfio_pci_core_register_device(core) }).inspect_err(
                |_| {
                    // SAFETY: Initialised, and not reachable any more.
                    unsafe { Device::<T>::data(vdev) }.unbind();
                    // SAFETY: Drops the only reference.
                    unsafe { kernel::bindings::put_device(&raw mut (*vdev).device) };
                },
            )?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Only called by the PCI core, for a device that `probe` took.
    unsafe extern "C" fn remove(pdev: *mut kernel::bindings::pci_dev) {
        // SAFETY: By the requirements of this function.
        let core = unsafe { Self::bound(pdev) };
        // SAFETY: Registered by `probe`. Waits until nobody has it open.
        unsafe { bindings::vfio_pci_core_unregister_device(core) };
        // SAFETY: Initialised, and not released before the reference is put.
        unsafe { Device::<T>::data(core.cast()) }.unbind();
        // SAFETY: Drops the reference that `probe` got.
        unsafe { kernel::bindings::put_device(&raw mut (*core).vdev.device) };
    }

    /// # Safety
    ///
    /// Only called by the PCI core, for a device that `probe` took, with the
    /// device lock of `pdev` held.
    unsafe extern "C" fn reset_prepare(pdev: *mut kernel::bindings::pci_dev) {
        // SAFETY: `probe` took the device, and the device lock keeps `remove`
        // from running until this returns.
        if let Some(migration) = unsafe { Self::driver(pdev) }.migration() {
            migration.reset_prepare();
        }
    }

    /// # Safety
    ///
    /// Only called by the PCI core, for a device that `probe` took, with the
    /// device lock of `pdev` held.
    unsafe extern "C" fn reset_done(pdev: *mut kernel::bindings::pci_dev) {
        // SAFETY: `probe` took the device, and the device lock keeps `remove`
        // from running until this returns.
        if let Some(migration) = unsafe { Self::driver(pdev) }.migration() {
            migration.reset_done();
        }
    }
}

#[pinned_drop]
impl<T: Driver> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Registered, or the object would not exist.
        unsafe { kernel::bindings::pci_unregister_driver(self.driver.get()) };
    }
}
