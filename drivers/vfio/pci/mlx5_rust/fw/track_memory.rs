// SPDX-License-Identifier: GPL-2.0

//! Memory for the messages of a page tracker.

use super::{
    bindings,
    device::{
        Device,
        PfGuard, //
    },
    track_limits::{
        Ring,
        TrackLimits, //
    }, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};
use vfio_rust::kernel::{
    error,
    page::runs::{
        Fill,
        Pages, //
    }, //
};

/// Memory for the messages of a tracker that is to be made, within the limits of the device.
pub(crate) struct TrackMemory {
    pub(super) limits: TrackLimits,
    /// Largest number of ranges of a tracker.
    pub(super) max_ranges: u32,
    pub(super) ring: Ring,
    pub(super) pages: Arc<Pages>,
}

impl TrackMemory {
    /// Allocates the memory, which may wait until other memory is reclaimed. So no guard is held,
    /// since a PF that goes waits for guards, and the caller should hold no lock.
    ///
    /// Returns `EOPNOTSUPP` if the device needs more memory than a tracker may ever have.
    pub(crate) fn new(device: &Arc<Device>) -> Result<Self> {
        let capabilities = capabilities(&Device::enter(device)?);
        let limits = TrackLimits::from(&capabilities);
        let ring = limits.ring().ok_or_else(error::eopnotsupp)?;
        // Zeroed, since a message may be longer than the part of it that the device has written.
        let pages = Pages::with_len(ring.len(), Fill::Zero)?;
        Ok(Self {
            limits,
            max_ranges: capabilities.max_num_range.into(),
            ring,
            pages: Arc::new(pages, GFP_KERNEL_ACCOUNT)?,
        })
    }
}

/// Returns the values of the `pg_track_*` capabilities.
fn capabilities(pf: &PfGuard<'_>) -> bindings::mlx5_rust_track_limits {
    let mut limits: bindings::mlx5_rust_track_limits = pin_init::zeroed();
    // SAFETY: `mdev` is valid: `pf` is a guard of it. `limits` is a local variable.
    unsafe { bindings::mlx5_rust_track_limits_of(pf.mdev(), &mut limits) };
    limits
}

impl From<&bindings::mlx5_rust_track_limits> for TrackLimits {
    fn from(limits: &bindings::mlx5_rust_track_limits) -> Self {
        let pair = |min: u8, max: u8| (u32::from(min), u32::from(max));
        Self {
            log_message: pair(limits.log_min_msg_size, limits.log_max_msg_size),
            log_page: pair(limits.log_min_page_size, limits.log_max_page_size),
            log_space: pair(limits.log_min_addr_space, limits.log_max_addr_space),
        }
    }
}
