// SPDX-License-Identifier: GPL-2.0

//! A VFIO PCI variant driver, and the devices it is bound to.

use crate::{
    bindings,
    dirty_log::{
        self,
        DirtyLog, //
    },
    ioctl::{
        self,
        Ioctl, //
    },
    migratable::Migratable,
    migration::{
        self,
        Features,
        Migration,
        VfioDevice, //
    },
    region::{
        self,
        Mapping,
        RegionInfo,
        RegionRead,
        RegionWrite, //
    },
};
use core::{
    marker::{
        PhantomData,
        PhantomPinned, //
    },
    mem::{
        offset_of,
        MaybeUninit, //
    },
};
use kernel::{
    device::Bound,
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

/// One match of a driver's table. What it does not name may be anything.
#[derive(Clone, Copy)]
pub struct Id(kernel::bindings::pci_device_id);

impl Id {
    const ANY: u32 = u32::MAX;

    /// Matches this vendor and device.
    pub const fn new(vendor: u16, device: u16) -> Self {
        let mut id = Self::any();
        id.0.vendor = vendor as u32;
        id.0.device = device as u32;
        id
    }

    /// Matches all devices of this vendor: to be narrowed by [`with_class`](Self::with_class).
    pub const fn of_vendor(vendor: u16) -> Self {
        let mut id = Self::any();
        id.0.vendor = vendor as u32;
        id
    }

    const fn any() -> Self {
        let mut id: kernel::bindings::pci_device_id = pin_init::zeroed();
        id.vendor = Self::ANY;
        id.device = Self::ANY;
        id.subvendor = Self::ANY;
        id.subdevice = Self::ANY;
        id.override_only = bindings::PCI_ID_F_VFIO_DRIVER_OVERRIDE;
        Self(id)
    }

    /// Matches only this subsystem.
    pub const fn with_subsystem(mut self, vendor: u16, device: u16) -> Self {
        self.0.subvendor = vendor as u32;
        self.0.subdevice = device as u32;
        self
    }

    /// Matches only this class: base class, subclass and interface, in 24 bits, of which
    /// those in `mask` count.
    pub const fn with_class(mut self, class: u32, mask: u32) -> Self {
        self.0.class = class;
        self.0.class_mask = mask;
        self
    }
}

/// A table of devices. The driver takes one of them only if `driver_override`
/// names the driver: a device is for VFIO because its owner says so.
#[repr(C)]
pub struct IdTable<const N: usize> {
    ids: [kernel::bindings::pci_device_id; N],
    end: kernel::bindings::pci_device_id,
}

// SAFETY: A table is never written: its fields are private, and no function takes it
// by `&mut`.
unsafe impl<const N: usize> Sync for IdTable<N> {}

impl<const N: usize> IdTable<N> {
    /// Makes a table of `ids`.
    pub const fn new(ids: [Id; N]) -> Self {
        const EMPTY: kernel::bindings::pci_device_id = pin_init::zeroed();
        let mut table = Self {
            ids: [EMPTY; N],
            end: EMPTY,
        };
        let mut i = 0;
        while i < N {
            table.ids[i] = ids[i].0;
            i += 1;
        }
        table
    }

    /// Returns the table in the form that the PCI core expects.
    pub const fn as_ids(&'static self) -> Ids {
        // INVARIANT: `self` is static. `end` is zero, and follows `ids` in memory:
        // the layout is that of C, and both are made of the same type.
        Ids(self.ids.as_ptr())
    }
}

/// A terminated table of ids.
///
/// # Invariants
///
/// The table is static, and ends with an entry of zeroes.
pub struct Ids(*const kernel::bindings::pci_device_id);

/// Defines `static $name`, an [`IdTable`], under the symbol that modpost reads it by.
#[macro_export]
macro_rules! vfio_pci_id_table {
    ($name:ident, $count:literal, $ids:expr) => {
        #[allow(unsafe_code)]
        #[export_name = concat!("__mod_device_table__", line!(), "__kmod_",
                                                module_path!(), "__pci__", stringify!($name))]
        static $name: $crate::pci::IdTable<$count> = $crate::pci::IdTable::new($ids);
    };
}

/// Declares the module of one [`Driver`], the type of which is in `type`. `name`, `authors`,
/// `description`, `license` and `params` are as with `module!`.
///
/// The module imports `IOMMUFD`: what reports dirty pages is compiled into the driver, and
/// calls iova_bitmap_set().
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
                    // SAFETY: `module` is the module that this is a part of. This is the first
                    // call, which is that of `module!` below: no other code of the module
                    // runs before it. `module!` drops what this makes when the module is
                    // unloaded.
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

/// Tells the first call of a function from others. For [`module_vfio_pci_driver!`] only:
/// safe code can name the type of its own module, and could have it register the driver once
/// more, forget what registers it, and be unloaded.
///
/// [`module_vfio_pci_driver!`]: crate::module_vfio_pci_driver
#[doc(hidden)]
pub struct FirstCall(Atomic<i32>);

impl FirstCall {
    /// Nothing was called yet.
    pub const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Is an error in all calls but the first.
    pub fn check(&self) -> Result {
        match self.0.xchg(1, Full) {
            0 => Ok(()),
            _ => Err(EBUSY),
        }
    }
}

/// Whether user space may attach the device to several address spaces at once, by process
/// address space ids. Needs iommufd.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pasids {
    /// It may not.
    Unsupported,
    /// It may, as with vfio-pci.
    ///
    /// DMA logging would have to tell the address spaces apart, and VFIO has no way to say
    /// so: a device with this has none.
    Supported,
}

/// A variant driver. One object of the type belongs to each bound device.
///
/// It is dropped when the driver is unbound, once nobody has the device open. A data file
/// may still be open then, and keep memory of the driver, but nothing that needs the
/// device: mappings for DMA and notifications of other drivers must have ended.
///
/// Methods with a default are optional. [`ioctl`](Self::ioctl), [`read`](Self::read),
/// [`write`](Self::write), [`mmap`](Self::mmap), [`region_info`](Self::region_info) and
/// [`match_token`](Self::match_token) cost nothing if a driver does not have them: VFIO
/// calls the function of `vfio_pci_core` itself. It serialises none of these calls.
#[vtable]
pub trait Driver: Send + Sync + Sized + 'static {
    /// Name of the driver, in messages and sysfs.
    const NAME: &'static CStr;
    /// Devices that the driver can be bound to.
    const IDS: Ids;
    /// Optional parts of the migration state machine that the driver has.
    const FEATURES: Features = Features::STOP_COPY;
    /// Whether process address space ids can be used.
    const PASIDS: Pasids = Pasids::Unsupported;
    /// Steps between migration states. [`NoMigration`](migration::NoMigration) if there
    /// are none.
    type Migration: Migration;

    /// Takes a device, or refuses it.
    fn new(dev: &kernel::pci::Device<Bound>) -> Result<Self>;

    /// Returns the device's migration, if it has any. The answer does not
    /// change.
    fn migration(&self) -> Option<&Migratable<Self::Migration>>;

    /// Returns the device's DMA logging, if it has any. The answer does not
    /// change.
    fn dirty_log(&self) -> Option<&dyn DirtyLog> {
        None
    }

    /// User space is opening the device, which decodes its BARs by now: the last step that
    /// may fail. [`closing`](Self::closing) is called if it has not.
    fn open(&self, _vdev: &VfioDevice<'_>) -> Result {
        Ok(())
    }

    /// User space is closing the device. Its sessions have ended.
    ///
    /// `vfio_pci_core` resets the function after this, without a call of
    /// [`Migration::reset_prepare`] or [`Migration::reset_done`]: no command may
    /// reach the device once this has returned.
    fn closing(&self) {}

    /// The device is about to be reset, for what is not the migration's: called after
    /// [`Migration::reset_prepare`], with the same locks held.
    fn reset_prepare(&self) {}

    /// The device has been reset, for what is not the migration's: called before
    /// [`Migration::reset_done`], with the same locks held.
    fn reset_done(&self) {}

    /// Carries out an ioctl that VFIO leaves to its drivers. Returns what the call returns,
    /// which is not negative.
    fn ioctl(&self, _vdev: &VfioDevice<'_>, request: &Ioctl<'_>) -> Result<isize> {
        request.forward()
    }

    /// Reads from a region. Returns the number of bytes.
    fn read(&self, _vdev: &VfioDevice<'_>, read: &mut RegionRead<'_>) -> Result<usize> {
        read.forward()
    }

    /// Writes to a region. Returns the number of bytes.
    fn write(&self, _vdev: &VfioDevice<'_>, write: &mut RegionWrite<'_>) -> Result<usize> {
        write.forward()
    }

    /// Refuses to map a piece of a region. If it does not, `vfio_pci_core` maps the piece,
    /// if that is in a BAR that can be mapped.
    ///
    /// Called with the lock of the caller's memory map held, so this must not access
    /// user memory, nor wait for somebody who does.
    fn mmap(&self, _vdev: &VfioDevice<'_>, _mapping: &Mapping) -> Result {
        Ok(())
    }

    /// Tells what a region is.
    fn region_info(&self, _vdev: &VfioDevice<'_>, info: &mut RegionInfo<'_>) -> Result {
        info.forward()
    }

    /// Judges the VF token that a user names who is about to open the device.
    fn match_token(&self, token: &Token<'_>) -> Result {
        token.forward()
    }
}

/// A VF token that a user has named, or not.
///
/// # Invariants
///
/// During `'a`, `vdev` begins a registered `vfio_pci_core_device`.
pub struct Token<'a> {
    vdev: *mut bindings::vfio_device,
    uuid: Option<&'a bindings::uuid_t>,
}

impl Token<'_> {
    /// Returns the token, if there is one.
    pub fn uuid(&self) -> Option<&[u8; 16]> {
        self.uuid.map(|uuid| &uuid.b)
    }

    /// Has `vfio_pci_core` judge it: whether it is that of the PF, if the PF belongs to a
    /// user as well.
    pub fn forward(&self) -> Result {
        let uuid = self.uuid.map_or(core::ptr::null(), core::ptr::from_ref);
        // SAFETY: `vdev` begins a registered `vfio_pci_core_device` (type invariant).
        // `uuid` is null, or borrowed.
        to_result(unsafe { bindings::vfio_pci_core_match_token_uuid(self.vdev, uuid) })
    }
}

/// A device as VFIO allocates it: VFIO's part, then the driver's.
///
/// # Invariants
///
/// `core` begins with the `vfio_device`. `data` is initialised from a successful `init` to
/// the end of the binding, which calls `drop_data`; the device itself stays until
/// `release`.
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

    /// What `vfio_pci_core` asks only some drivers. Ours answer what vfio-pci does:
    /// BARs can be exported as dma-bufs. `vfio_pci_core` revokes those for resets, and
    /// before `close_device` disables the device.
    const PCI_OPS: bindings::vfio_pci_device_ops = bindings::vfio_pci_device_ops {
        #[cfg(CONFIG_VFIO_PCI_DMABUF)]
        get_dmabuf_phys: Some(bindings::vfio_pci_core_get_dmabuf_phys),
        #[cfg(not(CONFIG_VFIO_PCI_DMABUF))]
        get_dmabuf_phys: None,
    };

    /// # Safety
    ///
    /// `vdev` must belong to a `Device<T>` that was initialised, and whose binding does
    /// not end during `'a`.
    pub(super) unsafe fn data<'a>(vdev: *mut bindings::vfio_device) -> &'a T {
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
    unsafe fn drop_data(vdev: *mut bindings::vfio_device) {
        // SAFETY: `vdev` belongs to a `Device<T>`, whose `data` is initialised (type
        // invariant), and which is not used after this: VFIO calls nothing for a device
        // that is not registered but `release` (requirements of this function).
        unsafe { (*vdev.cast::<Self>()).data.assume_init_drop() };
    }

    /// Returns the `vfio_pci_core_device` that begins with `vdev`.
    fn core_of(vdev: *mut bindings::vfio_device) -> *mut bindings::vfio_pci_core_device {
        const { assert!(offset_of!(bindings::vfio_pci_core_device, vdev) == 0) };
        vdev.cast()
    }

    /// # Safety
    ///
    /// Only called by VFIO, through [`Self::OPS`], for a `vdev` that `probe` has
    /// VFIO allocate: it begins a whole `Device<T>`, its `dev` is set, and nobody
    /// else has it.
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
                // What a tracker reports has no PASID, so pages would be lost.
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
    /// Only called by VFIO, through [`Self::OPS`], once after `init` succeeded,
    /// when nobody else has a reference to the device any more.
    unsafe extern "C" fn release(vdev: *mut bindings::vfio_device) {
        // SAFETY: vfio_pci_core_init_dev() succeeded for `vdev` in `init`, and the
        // device is not used after this.
        unsafe { bindings::vfio_pci_core_release_dev(vdev) };
    }

    /// # Safety
    ///
    /// Only called by VFIO, through [`Self::OPS`], for a registered `vdev` that
    /// stays registered until this returns.
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
    /// Only called by VFIO, through [`Self::OPS`], for a `vdev` that stays registered
    /// until this returns, with a `uuid` that is null or valid until then.
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
    /// Only called by VFIO, through [`Self::OPS`], for a `vdev` for which
    /// `open_device` succeeded, and which stays registered until this returns.
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
    /// `module` must be the module in which the code of `T` is. What this initialises must
    /// be dropped before that is unloaded.
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
                driver.id_table = T::IDS.0;
                driver.probe = Some(Self::probe);
                driver.remove = Some(Self::remove);
                driver.err_handler = &Self::ERROR_HANDLERS;
                // The IOMMU is user space's, not the DMA API's.
                driver.driver_managed_dma = true;
                // INVARIANT: If this succeeds, it is registered.
                //
                // SAFETY: `slot` is pinned and stays valid until `drop`, which
                // unregisters it. `id_table` and `err_handler` are static, the name
                // ends with a NUL, and the callbacks are those of `T`: their code is there
                // until `drop` (requirements of this function).
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
    /// Only called by the PCI core, for a `pdev` that the driver is being bound to.
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
    /// Only called by the PCI core, once for a `pdev` that `probe` took.
    unsafe extern "C" fn remove(pdev: *mut kernel::bindings::pci_dev) {
        // SAFETY: `probe` took `pdev`, and this is its `remove`.
        let core = unsafe { Self::bound(pdev) };
        // SAFETY: `probe` registered `core`. Waits until nobody has it open.
        unsafe { bindings::vfio_pci_core_unregister_device(core) };
        // SAFETY: `core` begins an initialised `Device<T>`, which is not registered any
        // more. The binding ends here: the PCI core holds the device lock, with which it
        // calls everything else that looks at the device.
        unsafe { Device::<T>::drop_data(core.cast()) };
        // SAFETY: `probe` left this reference to this function, and `core` is not
        // used after this.
        unsafe { kernel::bindings::put_device(&raw mut (*core).vdev.device) };
    }

    /// # Safety
    ///
    /// Only called by the PCI core, for a device that `probe` took, with the
    /// device lock of `pdev` held.
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
    /// Only called by the PCI core, for a device that `probe` took, with the
    /// device lock of `pdev` held.
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
