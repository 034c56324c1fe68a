// SPDX-License-Identifier: GPL-2.0

//! The VFIO migration state machine (`enum vfio_device_mig_state`).

use super::{
    bindings,
    file::OpenFile,
    pci::Driver,
    trace::{self, Since},
};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    error::{from_result, to_result},
    prelude::*,
};

/// A state that a device can be in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum State {
    /// The device has failed and must be reset.
    Error = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_ERROR,
    /// It does not change its state.
    Stop = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_STOP,
    /// It is running normally.
    Running = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_RUNNING,
    /// Stopped, and its state can be read out.
    StopCopy = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_STOP_COPY,
    /// Stopped, and a new state can be written.
    Resuming = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_RESUMING,
    /// Running, except that it does no peer-to-peer DMA.
    RunningP2p = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_RUNNING_P2P,
    /// Running, with its state changes tracked.
    PreCopy = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_PRE_COPY,
    /// Both of the above.
    PreCopyP2p = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_PRE_COPY_P2P,
}

impl State {
    fn from_raw(raw: bindings::vfio_device_mig_state) -> Option<Self> {
        [
            Self::Error,
            Self::Stop,
            Self::Running,
            Self::StopCopy,
            Self::Resuming,
            Self::RunningP2p,
            Self::PreCopy,
            Self::PreCopyP2p,
        ]
        .into_iter()
        .find(|state| *state as u32 == raw)
    }
}

/// Optional parts of the state machine that a driver implements.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Features(u32);

impl Features {
    /// None of them: the states that every driver has.
    pub(crate) const STOP_COPY: Self = Self(bindings::VFIO_MIGRATION_STOP_COPY);

    /// All of them: [`State::RunningP2p`], [`State::PreCopy`] and
    /// [`State::PreCopyP2p`].
    pub(crate) const STOP_COPY_P2P_PRE_COPY: Self =
        Self(Self::STOP_COPY.0 | bindings::VFIO_MIGRATION_P2P | bindings::VFIO_MIGRATION_PRE_COPY);

    pub(super) fn as_raw(self) -> u32 {
        self.0
    }
}

/// One arc of the state machine: a step that a driver carries out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StateArc {
    /// State at the beginning.
    pub(crate) from: State,
    /// State at the end.
    pub(crate) to: State,
}

/// The state machine of one device, as its state lock guards it.
pub(crate) trait Machine {
    /// The state it is in.
    fn state(&self) -> State;

    /// Carries one arc out and, where that went well, is in `arc.to`.
    ///
    /// Returns the data file of the session that the arc began, if it did.
    /// After an error the state is `arc.from`, or [`State::Error`] where the
    /// device is lost.
    fn step(&mut self, arc: StateArc) -> Result<Option<OpenFile>>;
}

/// A VFIO device whose arcs can be looked up.
///
/// # Invariants
///
/// Valid, open, and the first member of a `vfio_pci_core_device` while this
/// object lives.
pub(crate) struct VfioDevice<'a>(NonNull<bindings::vfio_device>, PhantomData<&'a ()>);

impl VfioDevice<'_> {
    /// A reference that can be kept.
    pub(crate) fn to_ref(&self) -> DeviceRef {
        // SAFETY: The device is valid by the type invariant.
        unsafe { kernel::bindings::get_device(&raw mut (*self.0.as_ptr()).device) };
        // INVARIANT: Got just now.
        DeviceRef(self.0)
    }

    /// The device that it is about.
    pub(super) fn parent(&self) -> *mut kernel::bindings::device {
        // SAFETY: Valid by the type invariant; `dev` never changes.
        unsafe { (*self.0.as_ptr()).dev }
    }

    /// As `vfio_pci_core` knows it.
    pub(super) fn as_core(&self) -> NonNull<bindings::vfio_pci_core_device> {
        self.0.cast()
    }

    /// The next arc on the way from one state to another.
    fn next_arc(&self, from: State, to: bindings::vfio_device_mig_state) -> Result<StateArc> {
        let mut next = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_ERROR;
        // SAFETY: The device is valid by the type invariant; the states may be
        // any value.
        to_result(unsafe {
            bindings::vfio_mig_get_next_state(self.0.as_ptr(), from as u32, to, &mut next)
        })?;
        Ok(StateArc {
            from,
            to: State::from_raw(next).ok_or(EINVAL)?,
        })
    }

    /// Walks the arcs from the state that `machine` is in to `target`.
    ///
    /// Only the last arc of a path opens a data file: a path has no saving or
    /// resuming state inside.
    pub(crate) fn walk(
        &self,
        machine: &mut impl Machine,
        target: TargetState,
    ) -> Result<Option<OpenFile>> {
        // "ERROR cannot be specified as a device state", not even in ERROR.
        if target.0 == State::Error as u32 {
            return Err(EINVAL);
        }
        let mut file = None;
        while machine.state() as u32 != target.0 {
            if machine.state() == State::Error {
                // Only a reset leads out of it; vfio_mig_get_next_state() must
                // not be asked.
                return Err(EINVAL);
            }
            let arc = self.next_arc(machine.state(), target.0)?;
            let since = Since::now();
            let done = machine.step(arc);
            trace::arc(self, arc, &done, since);
            file = done?;
        }
        Ok(file)
    }
}

/// A counted reference to a VFIO device. A session may keep one: it ends before
/// the device does.
///
/// # Invariants
///
/// One reference is owned.
pub(crate) struct DeviceRef(NonNull<bindings::vfio_device>);

// SAFETY: References to devices may be used, and dropped, on any thread.
unsafe impl Send for DeviceRef {}
// SAFETY: As above.
unsafe impl Sync for DeviceRef {}

impl DeviceRef {
    /// Whether user space has opted in to
    /// `VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2`.
    pub(crate) fn precopy_info_v2(&self) -> bool {
        // SAFETY: Valid by the type invariant. VFIO may set it at any time.
        unsafe { (&raw const (*self.0.as_ptr()).precopy_info_v2).read_volatile() != 0 }
    }
}

impl Drop for DeviceRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { kernel::bindings::put_device(&raw mut (*self.0.as_ptr()).device) };
    }
}

/// The state that user space asked for; not known to be one.
#[derive(Clone, Copy)]
pub(crate) struct TargetState(bindings::vfio_device_mig_state);

/// The migration uAPI of a driver: `struct vfio_migration_ops`.
pub(crate) trait Migration: Send + Sync {
    /// VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, set.
    fn set_state(&self, vdev: &VfioDevice<'_>, target: TargetState) -> Result<Option<OpenFile>>;

    /// VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, get.
    fn state(&self) -> State;

    /// VFIO_DEVICE_FEATURE_MIG_DATA_SIZE: an estimate, in bytes, of what
    /// STOP_COPY would stream now.
    fn data_size(&self) -> Result<u64>;
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
    /// Only called by VFIO, through [`Self::TABLE`], which is set for devices
    /// that were initialised with migration.
    unsafe fn migration<'a>(vdev: *mut bindings::vfio_device) -> Result<&'a T::Migration> {
        // SAFETY: By the requirements of this function.
        unsafe { super::pci::Device::<T>::data(vdev) }
            .migration()
            .ok_or(ENOTTY)
    }

    /// # Safety
    ///
    /// Only called by VFIO, through [`Self::TABLE`].
    unsafe extern "C" fn set_state(
        raw: *mut bindings::vfio_device,
        target: bindings::vfio_device_mig_state,
    ) -> *mut kernel::bindings::file {
        let result = NonNull::new(raw).ok_or(EINVAL).and_then(|vdev| {
            // SAFETY: By the requirements of this function.
            let migration = unsafe { Self::migration(raw) }?;
            // INVARIANT: VFIO keeps the device open during the call, which comes
            // from an ioctl on it. It is the first member of a `Device<T>`, which
            // begins with the `vfio_pci_core_device`.
            let vdev = VfioDevice(vdev, PhantomData);
            migration.set_state(&vdev, TargetState(target))
        });
        match result {
            Ok(Some(file)) => file.into_raw(),
            Ok(None) => core::ptr::null_mut(),
            Err(err) => err.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// Only called by VFIO, through [`Self::TABLE`], with a valid `state`.
    unsafe extern "C" fn get_state(
        vdev: *mut bindings::vfio_device,
        state: *mut bindings::vfio_device_mig_state,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the requirements of this function.
            let now = unsafe { Self::migration(vdev) }?.state();
            // SAFETY: As above.
            unsafe { *state = now as u32 };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Only called by VFIO, through [`Self::TABLE`], with a valid `length`.
    unsafe extern "C" fn get_data_size(
        vdev: *mut bindings::vfio_device,
        length: *mut c_ulong,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the requirements of this function.
            let size = unsafe { Self::migration(vdev) }?.data_size()?;
            // SAFETY: As above.
            unsafe { *length = size.try_into()? };
            Ok(0)
        })
    }
}
