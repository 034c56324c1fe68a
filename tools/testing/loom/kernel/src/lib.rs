// SPDX-License-Identifier: GPL-2.0

//! The names of the kernel crate and of `vfio_rust` that the gate and the turns use, made of
//! loom's types.

pub mod prelude {
    //! What each kernel file imports.
    pub use pinned_init::{
        pin_data,
        pin_init,
        PinInit, //
    };
}

pub mod sync {
    //! Locks and atomics.
    pub use std::sync::Arc;

    use loom::sync::{
        Mutex,
        MutexGuard, //
    };
    use pinned_init::PinInit;
    use std::{
        convert::Infallible,
        pin::Pin, //
    };

    /// Makes an object in its place, as the kernel's `Arc::pin_init()`.
    pub fn pin_arc<T>(init: impl PinInit<T, Infallible>) -> Pin<Arc<T>> {
        let mut place = Arc::<T>::new_uninit();
        let slot = Arc::get_mut(&mut place).expect("there is one reference");
        // SAFETY: `slot` has the length of a `T`, nobody else has it, and it does not move: it
        // is in an `Arc` that is pinned below.
        let Ok(()) = unsafe { init.__pinned_init(slot.as_mut_ptr()) };
        // SAFETY: It was initialised just now, and is not moved out of the `Arc`.
        unsafe { Pin::new_unchecked(place.assume_init()) }
    }

    /// A spinlock. loom's threads may sleep for it.
    pub struct SpinLock<T>(Mutex<T>);

    impl<T> SpinLock<T> {
        /// Makes one that nobody holds.
        pub fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        /// Waits for the lock.
        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }

    /// A spinlock with a name for lockdep.
    #[macro_export]
    macro_rules! new_spinlock {
        ($value:expr, $name:literal) => {
            $crate::sync::SpinLock::new($value)
        };
    }

    pub mod atomic {
        //! Atomics, with the kernel's names for orders.
        pub use loom::sync::atomic::Ordering::{
            AcqRel as Full,
            Acquire,
            Relaxed,
            Release, //
        };
        use loom::sync::atomic::{
            AtomicU32,
            AtomicU64,
            Ordering, //
        };

        /// A number that has an atomic type.
        pub trait AtomicType {
            /// loom's type.
            type Atomic;

            /// Makes one.
            fn into_atomic(self) -> Self::Atomic;
        }

        impl AtomicType for u32 {
            type Atomic = AtomicU32;

            fn into_atomic(self) -> AtomicU32 {
                AtomicU32::new(self)
            }
        }

        impl AtomicType for u64 {
            type Atomic = AtomicU64;

            fn into_atomic(self) -> AtomicU64 {
                AtomicU64::new(self)
            }
        }

        /// An atomic number.
        pub struct Atomic<T: AtomicType>(T::Atomic);

        impl<T: AtomicType> Atomic<T> {
            /// Makes one.
            pub fn new(value: T) -> Self {
                Self(value.into_atomic())
            }
        }

        impl Atomic<u64> {
            /// Reads it.
            pub fn load(&self, order: Ordering) -> u64 {
                self.0.load(order)
            }

            /// Writes it.
            pub fn store(&self, value: u64, order: Ordering) {
                self.0.store(value, order);
            }
        }

        impl Atomic<u32> {
            /// Reads it.
            pub fn load(&self, order: Ordering) -> u32 {
                self.0.load(order)
            }

            /// Changes it from `old` to `new`, or returns what it is. As with the kernel's, one
            /// that fails has no order.
            pub fn cmpxchg(&self, old: u32, new: u32, order: Ordering) -> Result<u32, u32> {
                self.0.compare_exchange(old, new, order, Ordering::Relaxed)
            }
        }
    }
}

pub mod kernel {
    //! What `vfio_rust` has.
    pub mod sync {
        //! Synchronisation.

        pub mod changes {
            //! Waiting for a change. The order of a kernel wait queue is taken for granted.
            use loom::sync::{
                Condvar,
                Mutex, //
            };

            /// A count of changes, and those who wait for the next one.
            pub struct Changes {
                count: Mutex<u32>,
                changed: Condvar,
            }

            /// The changes that a caller knows of.
            #[derive(Clone, Copy)]
            pub struct Seen(u32);

            impl Changes {
                /// Makes one that nobody waits on.
                #[allow(clippy::new_without_default)]
                pub fn new() -> Self {
                    Self {
                        count: Mutex::new(0),
                        changed: Condvar::new(),
                    }
                }

                /// There was a change.
                pub fn notify_all(&self) {
                    *self.count.lock().unwrap() += 1;
                    self.changed.notify_all();
                }

                /// Returns what to give to [`Self::wait_uninterruptible`].
                pub fn seen(&self) -> Seen {
                    Seen(*self.count.lock().unwrap())
                }

                /// Waits until there was a change since `seen`.
                pub fn wait_uninterruptible(&self, seen: Seen) {
                    let mut count = self.count.lock().unwrap();
                    while *count == seen.0 {
                        count = self.changed.wait(count).unwrap();
                    }
                }
            }
        }
    }
}
