// SPDX-License-Identifier: GPL-2.0

//! The VFIO migration state machine (`enum vfio_device_mig_state`).

use crate::{
    bindings::{
        self,
        vfio_device_mig_state as RawState, //
    },
    file::Reinit,
    kernel::fs::anon_inode::OpenFile,
    migratable::Migratable,
    pci::Driver,
    walk, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    device::Device,
    error::{
        from_result,
        to_result, //
    },
    prelude::*, //
};

pub use crate::walk::{
    State,
    StateArc, //
};

const _: () = {
    use State::{
        Error,
        PreCopy,
        PreCopyP2p,
        Resuming,
        Running,
        RunningP2p,
        Stop,
        StopCopy, //
    };
    assert!(Error as u32 == RawState::VFIO_DEVICE_STATE_ERROR.0);
    assert!(Stop as u32 == RawState::VFIO_DEVICE_STATE_STOP.0);
    assert!(Running as u32 == RawState::VFIO_DEVICE_STATE_RUNNING.0);
    assert!(StopCopy as u32 == RawState::VFIO_DEVICE_STATE_STOP_COPY.0);
    assert!(Resuming as u32 == RawState::VFIO_DEVICE_STATE_RESUMING.0);
    assert!(RunningP2p as u32 == RawState::VFIO_DEVICE_STATE_RUNNING_P2P.0);
    assert!(PreCopy as u32 == RawState::VFIO_DEVICE_STATE_PRE_COPY.0);
    assert!(PreCopyP2p as u32 == RawState::VFIO_DEVICE_STATE_PRE_COPY_P2P.0);
};

/// Optional parts of the state machine that a driver has, in any combination.
///
/// # Examples
///
/// ```
/// use vfio_rust::migration::Features;
///
/// // A device that can be saved while it runs, and stops all of its DMA at once.
/// const FEATURES: Features = Features::STOP_COPY.with_pre_copy();
///
/// assert!(FEATURES != Features::STOP_COPY);
/// // The order of the calls does not matter.
/// assert!(FEATURES.with_p2p() == Features::STOP_COPY.with_p2p().with_pre_copy());
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Features(u32);

impl Features {
    /// Only the states that every driver has.
    pub const STOP_COPY: Self = Self(bindings::VFIO_MIGRATION_STOP_COPY);

    /// Adds [`State::RunningP2p`], and [`State::PreCopyP2p`] if there is pre-copy.
    pub const fn with_p2p(self) -> Self {
        Self(self.0 | bindings::VFIO_MIGRATION_P2P)
    }

    /// Adds [`State::PreCopy`], and [`State::PreCopyP2p`] if there is peer-to-peer.
    pub const fn with_pre_copy(self) -> Self {
        Self(self.0 | bindings::VFIO_MIGRATION_PRE_COPY)
    }

    #[inline]
    pub(super) fn as_raw(self) -> u32 {
        self.0
    }
}

/// How a step failed.
pub type StepError = walk::StepError<Error>;

impl From<Error> for StepError {
    #[inline]
    fn from(err: Error) -> Self {
        Self::Unchanged(err)
    }
}

/// Migration of a device: the part that a driver implements.
///
/// [`Migratable`] has the other part: the state itself, the state lock and resets. It calls these
/// methods.
///
/// # Examples
///
/// ```
/// use kernel::prelude::*;
/// use vfio_rust::{
///     kernel::fs::anon_inode::OpenFile,
///     migratable::Migratable,
///     migration::{
///         Migration,
///         State,
///         StateArc,
///         StepError,
///         VfioDevice, //
///     },
///     session::Session, //
/// };
/// # use kernel::ThisModule;
/// # use vfio_rust::{
/// #     kernel::uaccess::cursor::{
/// #         UserReader,
/// #         UserWriter, //
/// #     },
/// #     session::Stream,
/// #     this_module, //
/// # };
///
/// /// The state of a device, as a [`Stream`](vfio_rust::session::Stream).
/// struct Image;
/// #
/// # impl Stream for Image {
/// #     const OWNER: &'static ThisModule = this_module!();
/// #     const NAME: &'static CStr = c"image_mig";
/// #
/// #     fn read(&mut self, _out: &mut UserWriter) -> Result<usize> {
/// #         Ok(0)
/// #     }
/// #
/// #     fn write(&mut self, _from: &mut UserReader) -> Result<usize> {
/// #         Err(EINVAL)
/// #     }
/// # }
/// #
/// # impl Image {
/// #     fn save(_vdev: &VfioDevice<'_>) -> Result<Self> {
/// #         Ok(Self)
/// #     }
/// #
/// #     fn load(&self, _vdev: &VfioDevice<'_>) -> Result {
/// #         Ok(())
/// #     }
/// # }
///
/// struct Example;
///
/// impl Migration for Example {
///     type Sessions = Option<Session<Image>>;
///     type Epoch = ();
///
///     fn epoch(&self) {}
///
///     fn step(
///         &self,
///         vdev: &VfioDevice<'_>,
///         session: &mut Option<Session<Image>>,
///         arc: StateArc,
///         _epoch: (),
///     ) -> Result<Option<OpenFile>, StepError> {
///         use State::{
///             Resuming,
///             Running,
///             Stop,
///             StopCopy, //
///         };
///         let begun = match (arc.from, arc.to) {
///             (Running, Stop) | (Stop, Running) | (StopCopy, Stop) => None,
///             (Stop, StopCopy) => Some(Session::saving(vdev, Image::save(vdev)?)?),
///             (Stop, Resuming) => Some(Session::resuming(vdev, Image)?),
///             (Resuming, Stop) => {
///                 let written = session.as_ref().ok_or(EINVAL)?;
///                 written.finish(|image| image.load(vdev))?;
///                 None
///             }
///             // Arcs of features that the driver does not have.
///             _ => return Err(EINVAL.into()),
///         };
///         let (begun, file) = begun.unzip();
///         // A session belongs to one state: the old one ends here.
///         *session = begun;
///         Ok(file)
///     }
///
///     fn end_sessions(&self, session: &mut Option<Session<Image>>) {
///         *session = None;
///     }
///
///     fn data_size(&self, _vdev: &VfioDevice<'_>) -> Result<u64> {
///         Ok(0)
///     }
/// }
///
/// let device = KBox::pin_init(Migratable::new(Example, None), GFP_KERNEL)?;
/// assert_eq!(device.state(), State::Running);
/// assert!(device.lock().is_none());
/// # Ok::<(), Error>(())
/// ```
pub trait Migration: Send + Sync + Sized + 'static {
    /// The sessions of the device, which the state lock protects.
    type Sessions: Send + Unpin;

    /// Proves, when commands are sent to the device, that it was not reset since the epoch was
    /// taken. It is `()` for a driver whose steps send no commands.
    type Epoch: Copy;

    /// Returns the current epoch, which changes in
    /// [`reset_prepare`](Self::reset_prepare) and again in
    /// [`reset_done`](Self::reset_done). Called with the state lock held.
    fn epoch(&self) -> Self::Epoch;

    /// Carries out one arc. Returns the data file of the session that the arc begins, if it begins
    /// one.
    ///
    /// Called with the state lock held, which this must not take again. `epoch` is that of the
    /// whole walk: no command may be sent to a device that was reset since then.
    fn step(
        &self,
        vdev: &VfioDevice<'_>,
        sessions: &mut Self::Sessions,
        arc: StateArc,
        epoch: Self::Epoch,
    ) -> Result<Option<OpenFile>, StepError>;

    /// Ends all sessions: the device was reset or is being closed, or a step opened a data file for
    /// an arc that begins no session, or none for an arc that begins one. Called with the state
    /// lock held.
    ///
    /// For a reset, this is called with locks of `vfio_pci_core` and the PCI core held. May wait
    /// for commands that are under way, and must not access user memory.
    fn end_sessions(&self, sessions: &mut Self::Sessions);

    /// VFIO_DEVICE_FEATURE_MIG_DATA_SIZE: returns an estimate, in bytes, of the
    /// data that STOP_COPY would stream now. Called without the state lock.
    fn data_size(&self, vdev: &VfioDevice<'_>) -> Result<u64>;

    /// The device is about to be reset: no command may reach it once this has
    /// returned.
    ///
    /// Called with locks of `vfio_pci_core` and the PCI core held. May wait for
    /// commands that are under way, and must not wait for the state lock.
    fn reset_prepare(&self) {}

    /// The device has been reset, and its state reads `RUNNING`: commands may
    /// reach it again.
    ///
    /// Called with the locks that [`reset_prepare`](Self::reset_prepare) is called with, and must
    /// not wait for the state lock either. The sessions end before the state lock is next taken, or
    /// when its present holder releases it.
    fn reset_done(&self) {}
}

/// The [`Migration`] of a driver whose devices cannot be migrated.
pub enum NoMigration {}

impl Migration for NoMigration {
    type Sessions = ();
    type Epoch = ();

    fn epoch(&self) {
        match *self {}
    }

    fn step(
        &self,
        _vdev: &VfioDevice<'_>,
        _sessions: &mut (),
        _arc: StateArc,
        _epoch: (),
    ) -> Result<Option<OpenFile>, StepError> {
        match *self {}
    }

    fn end_sessions(&self, _sessions: &mut ()) {
        match *self {}
    }

    fn data_size(&self, _vdev: &VfioDevice<'_>) -> Result<u64> {
        match *self {}
    }
}

/// A VFIO device that user space has open.
///
/// # Invariants
///
/// During `'a`, the device is valid, enabled by vfio_pci_core_enable(), and the first
/// member of a `vfio_pci_core_device`.
pub struct VfioDevice<'a>(NonNull<bindings::vfio_device>, PhantomData<&'a ()>);

impl VfioDevice<'_> {
    /// # Safety
    ///
    /// During the lifetime of the result, `raw` must be valid, enabled by
    /// vfio_pci_core_enable(), and begin a `pci::Device<T>`.
    #[inline]
    pub(super) unsafe fn from_raw(raw: *mut bindings::vfio_device) -> Self {
        // INVARIANT: By the requirements of this function.
        //
        // SAFETY: `raw` points to a valid device, so it is not null.
        Self(unsafe { NonNull::new_unchecked(raw) }, PhantomData)
    }

    /// Returns the device for calls into C. Valid and enabled as long as `self`.
    #[inline]
    pub(super) fn as_raw(&self) -> *mut bindings::vfio_device {
        self.0.as_ptr()
    }

    /// Returns a counted reference to the device.
    #[inline]
    pub(super) fn to_ref(&self) -> DeviceRef {
        // SAFETY: The device is valid as long as `self` (type invariant), and so is
        // its `device`, which is a part of it.
        unsafe { kernel::bindings::get_device(&raw mut (*self.0.as_ptr()).device) };
        // SAFETY: The device is open, or being opened (type invariant): its driver is bound,
        // and VFIO has a reference to the driver's module.
        let driver = unsafe { bindings::vfio_rust_get_driver(self.0.as_ptr()) };
        // INVARIANT: The two calls took the references.
        DeviceRef {
            vdev: self.0,
            driver,
        }
    }

    /// Returns the device of the PCI function.
    #[inline]
    pub(super) fn parent(&self) -> &Device {
        // SAFETY: The device is valid as long as `self` (type invariant), and keeps its
        // `dev`, which never changes, for as long.
        unsafe { Device::from_raw((*self.0.as_ptr()).dev) }
    }

    /// Returns the `vfio_pci_core_device` that begins with this device. Valid and open as long as
    /// `self`.
    #[inline]
    pub(super) fn as_core(&self) -> NonNull<bindings::vfio_pci_core_device> {
        self.0.cast()
    }

    /// Returns the state after `from` on the way to `target`, as `enum vfio_device_mig_state`.
    /// Returns `EINVAL` if there is none.
    ///
    /// `from` must be a state that the driver's [`Features`] have, and not
    /// [`State::Error`].
    #[inline]
    pub(super) fn next_state(&self, from: State, target: u32) -> Result<u32> {
        let mut next = RawState::VFIO_DEVICE_STATE_ERROR;
        // SAFETY: The device is valid by the type invariant, and its
        // `migration_flags` do not change. `from` and `target` may have any
        // value: the function checks both. `next` is a local variable.
        to_result(unsafe {
            bindings::vfio_mig_get_next_state(
                self.0.as_ptr(),
                RawState(from as u32),
                RawState(target),
                &mut next,
            )
        })?;
        Ok(next.0)
    }
}

/// A counted reference to a VFIO device, which each of its data files keeps. A data file may
/// outlive the binding of the driver; the driver's part of the device is gone then.
///
/// # Invariants
///
/// The device is valid, and this object owns one reference to it, and one to the module of its
/// driver, which is null if that is built in: the last reference to the device calls
/// `release` of `pci::Device`, which is in that module.
pub(super) struct DeviceRef {
    vdev: NonNull<bindings::vfio_device>,
    driver: *mut kernel::bindings::module,
}

// SAFETY: put_device() and module_put() may be called on any thread, and so may `release`
// of `pci::Device`, which the former may call.
unsafe impl Send for DeviceRef {}
// SAFETY: `&DeviceRef` only reads a byte of the device, which several threads may do.
unsafe impl Sync for DeviceRef {}

impl DeviceRef {
    /// Checks that an ioctl is VFIO_MIG_GET_PRECOPY_INFO, as the C drivers do, and reads its
    /// argument. All fields but `argsz` are output. But if user space has not opted in to
    /// `VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2`, `flags` keeps the value from user space: "the
    /// flags field of struct vfio_precopy_info is reserved for bug-compatibility reasons".
    #[inline]
    pub(super) fn check_precopy(
        &self,
        command: c_uint,
        argument: c_ulong,
    ) -> Result<(bindings::vfio_precopy_info, Reinit)> {
        let mut info = pin_init::zeroed();
        let mut reinit = false;
        // SAFETY: The device is valid as long as `self` (type invariant). `info` and
        // `reinit` are local variables; `info` is made of integers, which may have any
        // value. `argument` may be any address: the function checks that it is that of
        // user memory.
        to_result(unsafe {
            let vdev = self.vdev.as_ptr();
            bindings::vfio_rust_check_precopy(vdev, command, argument, &mut info, &mut reinit)
        })?;
        let reinit = match reinit {
            true => Reinit::Allowed,
            false => Reinit::Never,
        };
        Ok((info, reinit))
    }
}

impl Drop for DeviceRef {
    fn drop(&mut self) {
        // SAFETY: This object owns a reference to the device (type invariant), and
        // does not use it after this.
        unsafe { kernel::bindings::put_device(&raw mut (*self.vdev.as_ptr()).device) };
        // SAFETY: This object owns a reference to the module (type invariant), of whose code
        // nothing runs for this object any more.
        unsafe { bindings::vfio_rust_put_driver(self.driver) };
    }
}

/// `struct vfio_migration_ops` of a driver.
pub(super) struct Operations<T: Driver>(PhantomData<T>);

impl<T: Driver> Operations<T> {
    pub(super) const TABLE: bindings::vfio_migration_ops = bindings::vfio_migration_ops {
        migration_set_state: Some(Self::set_state),
        migration_get_state: Some(Self::get_state),
        migration_get_data_size: Some(Self::get_data_size),
    };

    /// # Safety
    ///
    /// `vdev` must be a device that VFIO passes to a function of
    /// [`Self::TABLE`], and that function must not return during `'a`.
    unsafe fn migration<'a>(
        vdev: *mut bindings::vfio_device,
    ) -> Result<&'a Migratable<T::Migration>> {
        // SAFETY: `TABLE` is only set for the `vfio_device` of a
        // `pci::Device<T>` that is initialised, and VFIO keeps it registered
        // until the function that it calls has returned.
        unsafe { super::pci::Device::<T>::data(vdev) }
            .migration()
            .ok_or(ENOTTY)
    }

    /// # Safety
    ///
    /// Must only be called by VFIO, through [`Self::TABLE`], for a device that stays open until
    /// this returns.
    unsafe extern "C" fn set_state(
        raw: *mut bindings::vfio_device,
        target: RawState,
    ) -> *mut kernel::bindings::file {
        // SAFETY: `raw` is VFIO's argument to this function.
        let result = unsafe { Self::migration(raw) }.and_then(|migration| {
            // SAFETY: VFIO keeps the device open until this returns. It begins a
            // `Device<T>`.
            let vdev = unsafe { VfioDevice::from_raw(raw) };
            migration.set_target(&vdev, target.0)
        });
        match result {
            Ok(Some(file)) => file.into_raw(),
            Ok(None) => core::ptr::null_mut(),
            Err(err) => err.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// Must only be called by VFIO, through [`Self::TABLE`], with a valid `state` that nobody else
    /// accesses until this returns.
    unsafe extern "C" fn get_state(
        vdev: *mut bindings::vfio_device,
        state: *mut RawState,
    ) -> c_int {
        from_result(|| {
            // SAFETY: `vdev` is VFIO's argument to this function.
            let now = unsafe { Self::migration(vdev) }?.state();
            // SAFETY: `state` is valid, and nobody else accesses it (requirements
            // of this function).
            unsafe { *state = RawState(now as u32) };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Must only be called by VFIO, through [`Self::TABLE`], for a device that stays open until
    /// this returns, with a valid `length` that nobody else accesses until then.
    unsafe extern "C" fn get_data_size(
        vdev: *mut bindings::vfio_device,
        length: *mut c_ulong,
    ) -> c_int {
        from_result(|| {
            // SAFETY: `vdev` is VFIO's argument to this function.
            let migration = unsafe { Self::migration(vdev) }?;
            // SAFETY: VFIO keeps the device open until this returns. It begins a
            // `Device<T>`.
            let vdev = unsafe { VfioDevice::from_raw(vdev) };
            let size = migration.data_size(&vdev)?;
            // SAFETY: `length` is valid, and nobody else accesses it (requirements
            // of this function).
            unsafe { *length = size.try_into()? };
            Ok(0)
        })
    }
}
