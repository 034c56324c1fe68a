// SPDX-License-Identifier: GPL-2.0

//! The state of a device as a migration stream, without any header.

use kernel::{
    prelude::*,
    ThisModule, //
};
use vfio_rust::{
    file::{
        PrecopyInfo,
        Reinit, //
    },
    kernel::{
        error,
        uaccess::cursor::{
            UserReader,
            UserWriter, //
        }, //
    },
    session::Stream,
    this_module, //
};

/// Longest state that is accepted, in bytes.
const MAX: usize = 1 << 20;

/// A state, of which `at` bytes were read.
pub(crate) struct Image {
    bytes: KVVec<u8>,
    at: usize,
    /// The device runs, and more data will come.
    running: bool,
}

impl Image {
    /// Makes the image of a stopped device.
    pub(crate) fn stopped(state: KVVec<u8>) -> Self {
        Self {
            bytes: state,
            at: 0,
            running: false,
        }
    }

    /// Makes the image of a running device. Only the first `len` bytes of its state are used: they
    /// tell whether the destination can load the rest.
    pub(crate) fn running(mut state: KVVec<u8>, len: usize) -> Self {
        state.truncate(len);
        Self {
            bytes: state,
            at: 0,
            running: true,
        }
    }

    /// Replaces the state by that of the stopped device, of which the rest can be read.
    pub(crate) fn stop(&mut self, state: KVVec<u8>) {
        self.bytes = state;
        self.running = false;
    }

    /// Makes an image that is to be written.
    pub(crate) fn empty() -> Self {
        Self::stopped(KVVec::new())
    }

    /// Returns what was written.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Stream for Image {
    const OWNER: &'static ThisModule = this_module!();
    const NAME: &'static CStr = c"skeleton_mig";

    fn read(&mut self, out: &mut UserWriter) -> Result<usize> {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        if rest.is_empty() && self.running {
            return Err(error::enomsg());
        }
        let n = rest.len().min(out.left());
        out.write(&rest[..n])?;
        self.at += n;
        Ok(n)
    }

    fn write(&mut self, from: &mut UserReader) -> Result<usize> {
        let (old, n) = (self.bytes.len(), from.left());
        if n > MAX - old {
            return Err(EINVAL);
        }
        self.bytes.resize(old + n, 0, GFP_KERNEL_ACCOUNT)?;
        from.read(&mut self.bytes[old..])?;
        Ok(n)
    }

    fn precopy_info(&mut self, _reinit: Reinit) -> Result<PrecopyInfo> {
        if !self.running {
            return Err(EINVAL);
        }
        Ok(PrecopyInfo {
            initial_bytes: (self.bytes.len() - self.at) as u64,
            dirty_bytes: 0,
            reinit: false,
        })
    }
}
