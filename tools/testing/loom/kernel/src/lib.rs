// SPDX-License-Identifier: GPL-2.0

//! The names of the kernel crate and of `vfio_rust` that the gate, the turns and the tracker's
//! events use, made of loom's types.

pub mod prelude {
    //! What each kernel file imports.
    pub use pinned_init::{
        pin_data,
        pin_init,
        PinInit, //
    };

    /// An error, by its number.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Error(i32);

    /// The kernel's `Result`.
    pub type Result<T = (), E = Error> = core::result::Result<T, E>;

    /// `ETIMEDOUT`.
    pub const ETIMEDOUT: Error = Error(110);
}

pub mod time {
    //! Time, which does not pass.
    use std::marker::PhantomData;

    /// A clock.
    pub struct Monotonic;

    /// A time.
    pub struct Instant<C>(PhantomData<C>);

    /// The time between two of them.
    pub struct Delta;

    impl Instant<Monotonic> {
        /// Returns the time.
        pub fn now() -> Self {
            Self(PhantomData)
        }

        /// Returns the time that has passed since.
        pub fn elapsed(&self) -> Delta {
            Delta
        }
    }

    impl Delta {
        /// Returns it in milliseconds.
        pub fn as_millis(self) -> i64 {
            0
        }
    }
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
            AtomicBool,
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

        /// An atomic boolean.
        pub struct AtomicFlag(AtomicBool);

        impl AtomicFlag {
            /// Makes one.
            pub fn new(value: bool) -> Self {
                Self(AtomicBool::new(value))
            }

            /// Reads it.
            pub fn load(&self, order: Ordering) -> bool {
                self.0.load(order)
            }

            /// Writes it. If a thread's first store was read by an xchg, its second one is after
            /// what the xchg has written. loom only knows that of swaps.
            pub fn store(&self, value: bool, order: Ordering) {
                self.0.swap(value, order);
            }

            /// Writes it, and returns what it was.
            pub fn xchg(&self, new: bool, order: Ordering) -> bool {
                self.0.swap(new, order)
            }
        }
    }
}

pub mod kernel {
    //! What `vfio_rust` has.
    pub mod task {
        //! The current process.
        use crate::prelude::Result;

        /// Returns an error if it was killed. Nobody kills it.
        pub fn check_killed() -> Result {
            Ok(())
        }
    }

    pub mod sync {
        //! Synchronisation.

        pub mod completion {
            //! Waiting for an event. A kernel completion has a lock as well.
            use crate::prelude::Result;
            use loom::sync::{
                Condvar,
                Mutex, //
            };

            /// A count of events that nobody has waited for yet.
            pub struct Completion {
                done: Mutex<u32>,
                completed: Condvar,
            }

            impl Completion {
                /// Makes one that is not complete.
                #[allow(clippy::new_without_default)]
                pub fn new() -> Self {
                    Self {
                        done: Mutex::new(0),
                        completed: Condvar::new(),
                    }
                }

                /// Lets one waiter go on.
                pub fn complete(&self) {
                    *self.done.lock().unwrap() += 1;
                    self.completed.notify_one();
                }

                /// Waits for an event. Time does not pass, so it may wait for ever: loom says so.
                pub fn wait_killable_timeout(&self, _ms: u32) -> Result {
                    let mut done = self.done.lock().unwrap();
                    while *done == 0 {
                        done = self.completed.wait(done).unwrap();
                    }
                    *done -= 1;
                    Ok(())
                }
            }
        }

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
