// SPDX-License-Identifier: GPL-2.0

//! The resources that exist on a PF for a VF, and how each of them is destroyed.
//!
//! A resource is destroyed once: by its [`Owned`] handle, or by the notification
//! that the PF goes, whichever comes first. Both need a guard of the gate, and both
//! take the resource out of the registry first; the one that finds it there
//! destroys it. So nothing that safe code does with a handle, or leaves undone,
//! makes a resource outlive its PF.

use super::device::{
    Device,
    PfGuard, //
};
use core::ops::Deref;
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::{
        Arc,
        Mutex,
        UniqueArc, //
    },
};
use vfio_rust::kernel::device::DeviceExt;

/// Warning about an object whose memory is not freed, since the device can still access it.
const UNDESTROYED: &CStr =
    c"firmware did not destroy an object: memory stays until it does, or the PF reloads";

/// The name of a resource in the registry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(u64);

/// Something that exists on the PF, with the memory that the device may access
/// because of it.
pub(super) trait Resource: Send + Sync + 'static {
    /// Destroys the resource. Called with a guard of its PF, and not again once it was successful.
    ///
    /// An error means that the device may still use it: [`release`](Self::release)
    /// is then not called before this is successful, or the HCA was torn down.
    fn destroy(&self, pf: &PfGuard<'_>) -> Result;

    /// Frees the memory that the device had access to. The device cannot access it any more.
    fn release(&self) {}

    /// Waits until the device executes no command of this resource.
    fn quiesce(&self) {}

    /// Returns the resource that firmware refuses to destroy as long as this one exists.
    fn uses(&self) -> Option<Key> {
        None
    }
}

/// A resource that could not be destroyed. The device may still access its memory.
struct Stuck {
    key: Key,
    resource: Arc<dyn Resource>,
    /// mlx5_core has stopped waiting for the command. Firmware may carry it out at any time, and
    /// give the number to an object of somebody else: the command must not be sent again.
    given_up: bool,
}

struct Entries {
    /// Ordered by age: the key of a new resource is larger than all others.
    live: RBTree<Key, Arc<dyn Resource>>,
    next: u64,
    stuck: KVec<Stuck>,
}

impl Entries {
    /// Returns whether a stuck resource uses `key`, so that firmware would refuse to destroy `key`.
    /// With `last`, those that were given up do not count: firmware may have destroyed them.
    fn is_used(&self, key: Key, last: bool) -> bool {
        let mut stuck = self.stuck.iter();
        stuck.any(|other| other.resource.uses() == Some(key) && !(last && other.given_up))
    }

    /// Takes the oldest of the stuck resources that firmware may be told again to
    /// destroy.
    fn take_stuck(&mut self, last: bool) -> Option<Stuck> {
        let oldest = self
            .stuck
            .iter()
            .position(|stuck| !stuck.given_up && !self.is_used(stuck.key, last))?;
        self.stuck.remove(oldest).ok()
    }
}

/// All resources of one VF.
#[pin_data]
pub(super) struct Registry {
    #[pin]
    entries: Mutex<Entries>,
}

impl Registry {
    /// Makes an empty registry.
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            entries <- new_mutex!(
                Entries {
                    live: RBTree::new(),
                    next: 0,
                    stuck: KVec::new(),
                },
                "mlx5_vfio_rust_registry"
            ),
        })
    }

    fn insert(
        &self,
        node: RBTreeNodeReservation<Key, Arc<dyn Resource>>,
        resource: Arc<dyn Resource>,
    ) -> Key {
        let mut entries = self.entries.lock();
        let key = Key(entries.next);
        entries.next += 1;
        entries.live.insert(node.into_node(key, resource));
        key
    }

    /// Returns whether the resource `key` was not destroyed yet.
    fn has(&self, key: Key) -> bool {
        self.entries.lock().live.get(&key).is_some()
    }

    /// Destroys the resource `key`, if nobody else has done so.
    fn retire(&self, key: Key, pf: &PfGuard<'_>) {
        let found = self.entries.lock().live.get(&key).cloned();
        let Some(resource) = found else { return };
        // Wait while the resource is in the registry, so that a reset finds it, and waits for its
        // command, too.
        resource.quiesce();
        if self.entries.lock().live.remove(&key).is_some() {
            self.destroy(key, resource, pf, false);
        }
    }

    fn destroy(&self, key: Key, resource: Arc<dyn Resource>, pf: &PfGuard<'_>, last: bool) {
        if self.entries.lock().is_used(key, last) {
            self.keep(Stuck {
                key,
                resource,
                given_up: false,
            });
            return;
        }
        match resource.destroy(pf) {
            Ok(()) => {
                resource.release();
                self.retry(pf, last);
            }
            Err(err) => {
                pf.device().dev.warn_ratelimited(UNDESTROYED);
                self.keep(Stuck {
                    key,
                    resource,
                    given_up: err == ETIMEDOUT,
                });
            }
        }
    }

    /// Tries to destroy the oldest of the resources that could not be destroyed: a SAVE that uses
    /// it may have ended by now, or mlx5_core may have memory again.
    fn retry(&self, pf: &PfGuard<'_>, last: bool) {
        let oldest = self.entries.lock().take_stuck(last);
        if let Some(stuck) = oldest {
            match stuck.resource.destroy(pf) {
                Ok(()) => stuck.resource.release(),
                Err(err) => self.keep(Stuck {
                    given_up: err == ETIMEDOUT,
                    ..stuck
                }),
            }
        }
    }

    /// Keeps a resource that the device may still use.
    fn keep(&self, stuck: Stuck) {
        let kept = stuck.resource.clone();
        let mut entries = self.entries.lock();
        if entries.stuck.push(stuck, GFP_KERNEL).is_err() {
            // Leak its memory: the device may access it as long as it is powered.
            core::mem::forget(kept);
        }
    }

    /// Waits until the device executes no command of any resource.
    pub(super) fn quiesce(&self) {
        let mut from = Key(0);
        while let Some((key, resource)) = self.first_after(from) {
            // Wait without the lock, since that may take as long as a command.
            resource.quiesce();
            from = Key(key.0 + 1);
        }
    }

    fn first_after(&self, key: Key) -> Option<(Key, Arc<dyn Resource>)> {
        let entries = self.entries.lock();
        let cursor = entries.live.cursor_lower_bound(&key)?;
        let (key, resource) = cursor.current();
        Some((*key, resource.clone()))
    }

    /// Destroys all resources, the youngest first. No other guard may be out.
    pub(super) fn destroy_all(&self, pf: &PfGuard<'_>) {
        while let Some((key, resource)) = self.pop_last() {
            self.destroy(key, resource, pf, true);
        }
        let stuck = self.entries.lock().stuck.len();
        for _ in 0..stuck {
            self.retry(pf, true);
        }
    }

    fn pop_last(&self) -> Option<(Key, Arc<dyn Resource>)> {
        let mut entries = self.entries.lock();
        let cursor = entries.live.cursor_back_mut()?;
        let (_, node) = cursor.remove_current();
        Some(node.to_key_value())
    }

    /// The HCA was torn down: frees the memory of resources that could not be
    /// destroyed before.
    pub(super) fn hca_torn_down(&self) {
        let stuck = core::mem::take(&mut self.entries.lock().stuck);
        for stuck in &stuck {
            stuck.resource.release();
        }
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        // Leak the memory, since nothing tells when the device stops using it.
        for stuck in core::mem::take(&mut self.stuck) {
            core::mem::forget(stuck.resource);
        }
    }
}

/// A handle of a resource, which is destroyed with it.
pub(super) struct Owned<R: Resource> {
    device: Arc<Device>,
    key: Key,
    resource: Arc<R>,
}

impl<R: Resource> Owned<R> {
    /// Creates a resource on the PF of `pf` with `make`.
    ///
    /// `make` is called last, so that nothing has to undo it.
    pub(super) fn new(
        pf: &PfGuard<'_>,
        make: impl FnOnce(&PfGuard<'_>) -> Result<R>,
    ) -> Result<Self> {
        let node = RBTreeNodeReservation::new(GFP_KERNEL)?;
        let memory = UniqueArc::<R>::new_uninit(GFP_KERNEL)?;
        let resource: Arc<R> = memory.write(make(pf)?).into();
        Ok(Self::register(pf.device(), node, resource))
    }

    /// Creates a resource on the PF of `pf` that must not be moved.
    pub(super) fn pinned(pf: &PfGuard<'_>, make: impl PinInit<R, Error>) -> Result<Self> {
        let node = RBTreeNodeReservation::new(GFP_KERNEL)?;
        let memory = UniqueArc::<R>::new_uninit(GFP_KERNEL)?;
        let resource: Arc<R> = memory.pin_init_with(make)?.into();
        Ok(Self::register(pf.device(), node, resource))
    }

    fn register(
        device: &Arc<Device>,
        node: RBTreeNodeReservation<Key, Arc<dyn Resource>>,
        resource: Arc<R>,
    ) -> Self {
        let key = device.registry.insert(node, resource.clone());
        Self {
            device: device.clone(),
            key,
            resource,
        }
    }

    /// Returns the device that the resource is for.
    pub(super) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Returns the key of the resource in the registry.
    pub(super) fn key(&self) -> Key {
        self.key
    }

    /// Returns the resource, for a command to the PF of `pf`. Returns `ENODEV` if the resource is
    /// not there: it was destroyed, or could not be destroyed, or is on another PF. Its number may
    /// be that of another object by now.
    pub(super) fn on(&self, pf: &PfGuard<'_>) -> Result<&R> {
        if self.is_for(pf) && self.device.registry.has(self.key) {
            Ok(&self.resource)
        } else {
            Err(ENODEV)
        }
    }

    /// Returns whether the resource is, or was, on the PF of `pf`.
    pub(super) fn is_for(&self, pf: &PfGuard<'_>) -> bool {
        Arc::ptr_eq(&self.device, pf.device())
    }

    /// Destroys the resource, if it was not destroyed yet.
    pub(super) fn end(&self) {
        // If the gate is closed, the thread that closed it destroys all resources.
        if let Ok(pf) = Device::enter(&self.device) {
            self.device.registry.retire(self.key, &pf);
        }
    }
}

impl<R: Resource> Deref for Owned<R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.resource
    }
}

impl<R: Resource> Drop for Owned<R> {
    fn drop(&mut self) {
        self.end();
    }
}
