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
