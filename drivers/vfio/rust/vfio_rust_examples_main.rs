// SPDX-License-Identifier: GPL-2.0

//! The examples in the documentation of `vfio_rust`, as KUnit tests.
//!
//! `examples.awk` extracts the examples when the module is built. They run when it is loaded; it
//! does nothing else.

#![deny(unsafe_code)]

use kernel::prelude::*;

include!(env!("VFIO_RUST_EXAMPLES"));

module! {
    type: Examples,
    name: "vfio_rust_examples",
    authors: ["The mlx5_vfio_pci_rust developers"],
    description: "KUnit tests of the examples in the documentation of vfio_rust",
    license: "GPL",
}

struct Examples;

impl kernel::Module for Examples {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self)
    }
}
