// SPDX-License-Identifier: GPL-2.0

//! What only the driver of a VF knows. To ask it, the VF must be opened, which resets the VF.

use crate::{
    bdf::Bdf,
    device::Device,
    error::Error,
    uapi, //
};

/// What a driver says of a VF.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The VF can be migrated.
    Migratable {
        /// With these features.
        features: Vec<String>,
        /// Whether the VF can log what it writes to.
        logs: bool,
    },
    /// It cannot.
    NotMigratable,
}

/// Asks the driver of a VF.
pub type Ask = dyn Fn(Bdf) -> Result<Answer, Error>;

/// Opens the VF, which resets it.
pub fn open(vf: Bdf) -> Result<Answer, Error> {
    let device = Device::open(vf)?;
    match device.features() {
        Ok(features) => Ok(Answer::Migratable {
            features: features.names(),
            logs: device.has_feature(uapi::FEATURE_DMA_LOGGING_START, uapi::FEATURE_SET),
        }),
        Err(Error::NotMigratable { .. }) => Ok(Answer::NotMigratable),
        Err(err) => Err(err),
    }
}
