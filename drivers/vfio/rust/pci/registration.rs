// SPDX-License-Identifier: GPL-2.0

//! `struct pci_driver` and `struct pci_error_handlers` of a driver, and its module.
//!
//! The kernel crate's registration has no error handlers, by which the PCI core announces resets,
//! and cannot set `driver_managed_dma`.

use super::{
    Device,
    Driver, //
};
use crate::bindings;
use core::marker::PhantomData;
use kernel::{
    error::{
        from_err_ptr,
        from_result,
        to_result, //
    },
    prelude::*,
    sync::atomic::{
        Atomic,
        Full, //
    },
    types::Opaque,
    ThisModule, //
};

/// Declares the module of one [`Driver`], whose type is `type`. `name`, `authors`, `description`,
/// `license` and `params` are those of `module!`.
///
/// The module imports the namespace `IOMMUFD`, for iova_bitmap_set(): the generic code that reports
/// dirty pages is compiled into the driver.
#[macro_export]
macro_rules! module_vfio_pci_driver {
    (
        type: $driver:ty,
        name: $name:tt,
        authors: $authors:tt,
        description: $description:tt,
        license: $license:tt,
        $(params: $params:tt,)?
    ) => {
        #[::kernel::prelude::pin_data]
        struct DriverModule {
            #[pin]
            _registration: $crate::pci::Registration<$driver>,
        }

        #[allow(unsafe_code)]
        impl ::kernel::InPlaceModule for DriverModule {
            fn init(
                module: &'static ::kernel::ThisModule,
            ) -> impl ::pin_init::PinInit<Self, ::kernel::error::Error> {
                static CALLED: $crate::pci::FirstCall = $crate::pci::FirstCall::new();
                ::kernel::try_pin_init!(Self {
                    _: {
                        CALLED.check()?;
                    },
                    // SAFETY: `module` is the module that contains this code. This is the first
                    // call, so `module!` below makes it: no other code of the module runs earlier.
                    // `module!` drops the registration when the module is unloaded.
                    _registration <- unsafe { $crate::pci::Registration::new(module) },
                })
            }
        }

        ::kernel::prelude::module! {
            type: DriverModule,
            name: $name,
            authors: $authors,
            description: $description,
            license: $license,
            imports_ns: ["IOMMUFD"],
            $(params: $params,)?
        }
    };
}

/// Makes all calls of a function but the first fail. For [`module_vfio_pci_driver!`] only: safe
/// code can name the type of its own module, so it could register the driver once more, forget that
/// registration, and be unloaded.
///
/// # Examples
///
/// ```
/// use vfio_rust::pci::FirstCall;
///
/// let called = FirstCall::new();
/// assert!(called.check().is_ok());
/// assert!(called.check().is_err());
/// ```
///
/// [`module_vfio_pci_driver!`]: crate::module_vfio_pci_driver
#[doc(hidden)]
pub struct FirstCall(Atomic<i32>);

impl FirstCall {
    /// Makes a value for a function that was not called yet.
    pub const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Returns `EBUSY` in all calls but the first.
    pub fn check(&self) -> Result {
        match self.0.xchg(1, Full) {
            0 => Ok(()),
            _ => Err(EBUSY),
        }
    }
}

/// The registration of a driver, as long as its module is loaded.
///
/// # Invariants
///
/// `driver` is registered with the PCI core, and pinned.
#[pin_data(PinnedDrop)]
pub struct Registration<T: Driver> {
    #[pin]
    driver: Opaque<kernel::bindings::pci_driver>,
    _driver: PhantomData<T>,
}

// SAFETY: A driver may be unregistered on another thread than the one that
// registered it.
unsafe impl<T: Driver> Send for Registration<T> {}

// SAFETY: `&Registration` has no methods.
unsafe impl<T: Driver> Sync for Registration<T> {}

impl<T: Driver> Registration<T> {
    const ERROR_HANDLERS: kernel::bindings::pci_error_handlers =
        kernel::bindings::pci_error_handlers {
            error_detected: Some(bindings::vfio_pci_core_aer_err_detected),
            reset_prepare: Some(Self::reset_prepare),
            reset_done: Some(Self::reset_done),
            ..pin_init::zeroed()
        };

    /// Registers the driver. For [`module_vfio_pci_driver!`](crate::module_vfio_pci_driver)
    /// only.
    ///
    /// # Safety
    ///
    /// `module` must be the module that contains the code of `T`. The registration must be dropped
    /// before that module is unloaded.
    #[doc(hidden)]
    pub unsafe fn new(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            driver <- Opaque::try_ffi_init(|slot: *mut kernel::bindings::pci_driver| {
                // SAFETY: `slot` is valid for writes of a `pci_driver`.
                unsafe { slot.write(pin_init::zeroed()) };
                // SAFETY: `slot` is valid, was initialised just now, and nobody
                // else has it until it is registered.
                let driver = unsafe { &mut *slot };
                driver.name = T::NAME.as_char_ptr();
                driver.id_table = T::IDS.as_ptr();
                driver.probe = Some(Self::probe);
                driver.remove = Some(Self::remove);
                driver.err_handler = &Self::ERROR_HANDLERS;
                // User space manages the IOMMU mappings, not the DMA API.
                driver.driver_managed_dma = true;
                // INVARIANT: If this succeeds, `driver` is registered.
                //
                // SAFETY: `slot` is pinned and stays valid until `drop`, which unregisters it.
                // `id_table` and `err_handler` are static, the name ends with a NUL, and the
                // callbacks are those of `T`: their code stays loaded until `drop` (requirements of
                // this function).
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

    /// Returns the device that `probe` made.
    ///
    /// # Safety
    ///
    /// Must be called between a successful `probe` of `pdev` and the end of its
    /// `remove`.
    unsafe fn bound(pdev: *mut kernel::bindings::pci_dev) -> *mut bindings::vfio_pci_core_device {
        // SAFETY: `pdev` is valid: it is bound. `probe` has set its driver data
        // (requirements of this function).
        unsafe { bindings::dev_get_drvdata(&raw const (*pdev).dev) }.cast()
    }

    /// Returns the driver's part of the device that `probe` made.
    ///
    /// # Safety
    ///
    /// Must be called between a successful `probe` of `pdev` and its `remove`, which
    /// must not begin during `'a`.
    unsafe fn driver<'a>(pdev: *mut kernel::bindings::pci_dev) -> &'a T {
        // SAFETY: `probe` has made a `Device<T>`, whose `vfio_device` is its first
        // member. `remove`, which puts the reference to it, does not begin during
        // `'a` (requirements of this function).
        unsafe { Device::<T>::data(Self::bound(pdev).cast()) }
    }

    /// # Safety
    ///
    /// Must only be called by the PCI core, for a `pdev` that the driver is being bound to.
    unsafe extern "C" fn probe(
        pdev: *mut kernel::bindings::pci_dev,
        _id: *const kernel::bindings::pci_device_id,
    ) -> c_int {
        from_result(|| {
            // SAFETY: `pdev` is valid until this returns (requirements of this
            // function). `OPS` work on a `Device<T>`, which has this size and its
            // `vfio_device` at offset 0.
            let vdev = from_err_ptr(unsafe {
                bindings::_vfio_alloc_device(
                    size_of::<Device<T>>(),
                    &raw mut (*pdev).dev,
                    &Device::<T>::OPS,
                )
            })?;
            let core = Device::<T>::core_of(vdev);
            // SAFETY: `pdev` is valid, and being bound to this driver, which its
            // driver data belong to from now on.
            unsafe { bindings::dev_set_drvdata(&raw mut (*pdev).dev, core.cast()) };
            // SAFETY: _vfio_alloc_device() made `core`, with `init`, and `pdev`'s
            // driver data point to it.
            to_result(unsafe { bindings::vfio_pci_core_register_device(core) }).inspect_err(
                |_| {
                    // SAFETY: `vdev` belongs to an initialised `Device<T>`, which was not
                    // registered. The binding ends here: there is no `remove`.
                    unsafe { Device::<T>::drop_data(vdev) };
                    // SAFETY: _vfio_alloc_device() returned this reference, and
                    // `vdev` is not used after this.
                    unsafe { kernel::bindings::put_device(&raw mut (*vdev).device) };
                },
            )?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Must only be called by the PCI core, once for a `pdev` that `probe` took.
    unsafe extern "C" fn remove(pdev: *mut kernel::bindings::pci_dev) {
        // SAFETY: `probe` took `pdev`, and this is its `remove`.
        let core = unsafe { Self::bound(pdev) };
        // SAFETY: `probe` registered `core`. The call waits until nobody has the device open.
        unsafe { bindings::vfio_pci_core_unregister_device(core) };
        // SAFETY: `core` begins an initialised `Device<T>`, which is not registered any more. The
        // binding ends here: the PCI core holds the device lock, with which it makes all other
        // calls that access the device.
        unsafe { Device::<T>::drop_data(core.cast()) };
        // SAFETY: `probe` left this reference to this function, and `core` is not
        // used after this.
        unsafe { kernel::bindings::put_device(&raw mut (*core).vdev.device) };
    }

    /// # Safety
    ///
    /// Must only be called by the PCI core, for a device that `probe` took, with the device lock of
    /// `pdev` held.
    unsafe extern "C" fn reset_prepare(pdev: *mut kernel::bindings::pci_dev) {
        // SAFETY: `probe` took `pdev`, and its device lock, which `remove` is called
        // with, is held until this returns (requirements of this function).
        let driver = unsafe { Self::driver(pdev) };
        if let Some(migration) = driver.migration() {
            migration.reset_prepare();
        }
        driver.reset_prepare();
    }

    /// # Safety
    ///
    /// Must only be called by the PCI core, for a device that `probe` took, with the device lock of
    /// `pdev` held.
    unsafe extern "C" fn reset_done(pdev: *mut kernel::bindings::pci_dev) {
        // SAFETY: `probe` took `pdev`, and its device lock, which `remove` is called
        // with, is held until this returns (requirements of this function).
        let driver = unsafe { Self::driver(pdev) };
        driver.reset_done();
        if let Some(migration) = driver.migration() {
            migration.reset_done();
        }
    }
}

#[pinned_drop]
impl<T: Driver> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: `driver` is registered and pinned (type invariant), and not used
        // after this, which removes it from all devices.
        unsafe { kernel::bindings::pci_unregister_driver(self.driver.get()) };
    }
}
