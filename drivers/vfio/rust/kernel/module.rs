// SPDX-License-Identifier: GPL-2.0

//! The module of a driver, which its open files keep loaded.
//!
//! The kernel crate's `this_module()` is not in every kernel, and needs a type that `module!`
//! makes.

use kernel::bindings;

/// The module that a crate is, or is a part of.
///
/// A driver names its own: whether it is a module at all is not what this crate is, which may
/// be built in while the driver is not.
///
/// # Invariants
///
/// It is the module in which code is that has named it, or null if that is a part of the
/// kernel.
#[derive(Clone, Copy)]
pub struct Owner(*mut bindings::module);

impl Owner {
    /// For [`this_module!`](crate::this_module) only.
    ///
    /// # Safety
    ///
    /// `module` must be the module in which the caller's code is, or null if that is a
    /// part of the kernel.
    #[doc(hidden)]
    pub const unsafe fn from_raw(module: *mut bindings::module) -> Self {
        // INVARIANT: By the requirements of this function.
        Self(module)
    }

    /// Returns the module, or null.
    pub(crate) const fn as_raw(self) -> *mut bindings::module {
        self.0
    }
}

/// The [`Owner`] of the code that this stands in.
#[macro_export]
macro_rules! this_module {
    () => {{
        #[allow(unsafe_code)]
        const THIS: $crate::kernel::module::Owner = {
            #[cfg(MODULE)]
            {
                let module = &raw mut ::kernel::bindings::__this_module;
                // SAFETY: The linker gives each module its own `__this_module`.
                unsafe { $crate::kernel::module::Owner::from_raw(module) }
            }
            #[cfg(not(MODULE))]
            // SAFETY: This code is a part of the kernel.
            unsafe {
                $crate::kernel::module::Owner::from_raw(::core::ptr::null_mut())
            }
        };
        THIS
    }};
}
