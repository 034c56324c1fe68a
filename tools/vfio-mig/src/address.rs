// SPDX-License-Identifier: GPL-2.0

//! Which device: a PCI function, or a mediated device.

use crate::{
    bdf::Bdf,
    error::Error, //
};
use serde::{
    Serialize,
    Serializer, //
};
use std::{
    fmt,
    str::FromStr, //
};
use uuid::Uuid;

/// The address of a device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Address {
    /// A PCI function.
    Pci(Bdf),
    /// A mediated device.
    Mdev(Uuid),
}

impl From<Bdf> for Address {
    fn from(bdf: Bdf) -> Self {
        Self::Pci(bdf)
    }
}

/// Fails if a second device is the first one.
pub fn require_distinct(first: Address, second: Option<Address>) -> Result<(), Error> {
    match second {
        Some(second) if second == first => Err(Error::GivenTwice(first)),
        _ => Ok(()),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(bdf) => bdf.fmt(f),
            Self::Mdev(uuid) => uuid.fmt(f),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What an address looks like.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a PCI address, such as 0000:01:00.2 or 01:00.2, nor the UUID of a mediated device")]
pub struct NotAnAddress;

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        if let Ok(bdf) = text.parse() {
            return Ok(Self::Pci(bdf));
        }
        // As sysfs names them, and no other form of a UUID.
        match Uuid::try_parse(text) {
            Ok(uuid) if uuid.to_string() == text.to_ascii_lowercase() => Ok(Self::Mdev(uuid)),
            _ => Err(NotAnAddress),
        }
    }
}

/// Fails if a device is given twice.
pub fn require_each_once(devices: &[Bdf]) -> Result<(), Error> {
    let twice = |(i, device): &(usize, &Bdf)| devices[..*i].contains(device);
    match devices.iter().enumerate().find(twice) {
        Some((_, device)) => Err(Error::GivenTwice((*device).into())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_told_apart() {
        assert!(matches!("01:00.2".parse(), Ok(Address::Pci(_))));
        let uuid = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
        let address: Address = uuid.parse().unwrap();
        assert!(matches!(address, Address::Mdev(_)));
        assert_eq!(address.to_string(), uuid);
    }

    #[test]
    fn a_device_is_not_its_own_second() {
        let [first, same, other] = ["01:00.2", "0000:01:00.2", "01:00.3"].map(|text| text.parse());
        let first = first.unwrap();
        assert!(require_distinct(first, same.ok()).is_err());
        assert!(require_distinct(first, other.ok()).is_ok());
        assert!(require_distinct(first, None).is_ok());
    }

    #[test]
    fn everything_else_is_refused() {
        for text in ["", "../..", "83b8f4f2509f382f3c1ee6bfe0fa1001", "{0}"] {
            assert_eq!(text.parse::<Address>(), Err(NotAnAddress), "{text}");
        }
    }
}
