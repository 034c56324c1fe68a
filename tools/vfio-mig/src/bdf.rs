// SPDX-License-Identifier: GPL-2.0

//! PCI addresses.

use std::{
    fmt,
    str::FromStr, //
};

/// The address of a PCI function: domain, bus, device, function.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Bdf {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

/// What a PCI address looks like.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a PCI address, such as 0000:01:00.2 or 01:00.2")]
pub struct NotABdf;

impl Bdf {
    /// The function whose routing id is `by` more: a VF's, from that of its PF. `None` if that is
    /// beyond the last bus.
    pub fn later_by(self, by: u32) -> Option<Self> {
        let [bus, device] = [self.bus, self.device].map(u32::from);
        let id = (bus << 8) | (device << 3) | u32::from(self.function);
        let id = u16::try_from(id + by).ok()?;
        Some(Self {
            domain: self.domain,
            bus: (id >> 8) as u8,
            device: (id >> 3) as u8 & 0x1f,
            function: id as u8 & 7,
        })
    }
}

fn hex(text: &str, max_digits: usize) -> Result<u32, NotABdf> {
    if text.is_empty() || text.len() > max_digits || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(NotABdf);
    }
    u32::from_str_radix(text, 16).map_err(|_| NotABdf)
}

impl FromStr for Bdf {
    type Err = NotABdf;

    fn from_str(text: &str) -> Result<Self, NotABdf> {
        let (rest, function) = text.rsplit_once('.').ok_or(NotABdf)?;
        let (rest, device) = rest.rsplit_once(':').ok_or(NotABdf)?;
        let (domain, bus) = rest.split_once(':').unwrap_or(("0", rest));
        let device = hex(device, 2)?;
        let function = hex(function, 1)?;
        if device > 0x1f || function > 7 {
            return Err(NotABdf);
        }
        Ok(Self {
            domain: hex(domain, 8)?,
            bus: hex(bus, 2)? as u8,
            device: device as u8,
            function: function as u8,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_in_full() {
        for (text, shown) in [
            ("0000:01:00.2", "0000:01:00.2"),
            ("01:1f.7", "0000:01:1f.7"),
            ("10000:E1:00.0", "10000:e1:00.0"),
        ] {
            assert_eq!(text.parse::<Bdf>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn routing_ids_go_on_behind_the_last_function() {
        let first: Bdf = "01:1f.6".parse().unwrap();
        let later = |by| first.later_by(by).map(|one| one.to_string());
        assert_eq!(later(1).as_deref(), Some("0000:01:1f.7"));
        assert_eq!(later(2).as_deref(), Some("0000:02:00.0"));
        assert_eq!(later(0x10000), None);
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "1",
            "01:00",
            "01:00.8",
            "01:20.0",
            "0000:01:00.+1",
            "xx:00.0",
            "a:b:c:0.0",
            "0000:01:00.2 ",
            "/etc:00.0",
        ] {
            assert_eq!(text.parse::<Bdf>(), Err(NotABdf), "{text}");
        }
    }
}
