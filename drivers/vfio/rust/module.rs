// SPDX-License-Identifier: GPL-2.0

//! The module of a driver, which its open files keep loaded.
//!
//! The kernel crate's function of this name is not in every kernel.

/// Returns the [`ThisModule`](kernel::ThisModule) of the code that uses the macro: that of a
/// driver, which may be a module even if this crate is built in.
#[macro_export]
macro_rules! this_module {
    () => {{
        #[allow(unsafe_code)]
        const THIS: ::kernel::ThisModule = {
            #[cfg(MODULE)]
            {
                let module = &raw mut ::kernel::bindings::__this_module;
                // SAFETY: The linker gives each module its own `__this_module`.
                unsafe { ::kernel::ThisModule::from_ptr(module) }
            }
            #[cfg(not(MODULE))]
            // SAFETY: This code is a part of the kernel, whose `THIS_MODULE` is null.
            unsafe {
                ::kernel::ThisModule::from_ptr(::core::ptr::null_mut())
            }
        };
        &THIS
    }};
}
