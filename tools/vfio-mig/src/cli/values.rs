// SPDX-License-Identifier: GPL-2.0

//! Parsers for the values of options: numbers in a range, sizes, addresses.

use std::time::Duration;

/// Longest pause between two looks at a device, in seconds: a day.
const MAX_INTERVAL: f64 = 86400.0;

/// A whole number from `least` to the most that a `T` can be.
fn parse_whole<T: TryFrom<u64>>(text: &str, least: u64) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| *number >= least);
    number
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| {
            let most = u64::MAX >> (64 - 8 * size_of::<T>());
            format!("not a whole number from {least} to {most}")
        })
}

/// A number of repetitions, or of seconds, without which nothing would be done.
pub fn at_least_one<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    parse_whole(text, 1)
}

/// A number that may be 0.
pub fn parse_number(text: &str) -> Result<u64, String> {
    parse_whole(text, 0)
}

/// Seconds between two looks at a device, with a fraction; 0 for no pause.
pub fn parse_interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok();
    // NaN is in no range.
    let seconds = seconds.filter(|seconds| (0.0..=MAX_INTERVAL).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("not a number of seconds from 0 to {MAX_INTERVAL}"))
}

/// "4096", "16M", "1GiB": powers of 1024.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let bytes = parse_size::Config::new().with_binary().parse_size(text);
    bytes.map_err(|_| {
        "not a number of bytes below 16 EiB, such as 4096, 16M or 1GiB; a unit is K, M, G, T, P \
         or E, also as KB or KiB: a power of 1024"
            .to_string()
    })
}

/// An address in hexadecimal, with or without "0x" or "0X".
pub fn parse_hex(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").or(text.strip_prefix("0X"));
    u64::from_str_radix(digits.unwrap_or(text), 16).map_err(|_| {
        "not an address of 64 bits in hexadecimal, such as 0x100000000 or 100000000".to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_bytes("4096").unwrap(), 4096);
        assert_eq!(parse_bytes("768M").unwrap(), 768 << 20);
        assert_eq!(parse_bytes("1GiB").unwrap(), 1 << 30);
        assert!(parse_bytes("much").is_err());
        for text in ["0x1000", "0X1000", "1000"] {
            assert_eq!(parse_hex(text).unwrap(), 4096);
        }
        for text in ["0xz", "0x0x1", ""] {
            assert!(parse_hex(text).is_err(), "{text}");
        }
    }

    #[test]
    fn intervals_are_finite_and_not_negative() {
        for (text, ms) in [("0", 0), ("0.01", 10), ("1", 1000), ("86400", 86_400_000)] {
            assert_eq!(parse_interval(text), Ok(Duration::from_millis(ms)));
        }
        for text in [
            "nan", "-nan", "inf", "-1", "-0.1", "1e300", "86401", "", "1 s",
        ] {
            assert!(parse_interval(text).is_err(), "{text}");
        }
    }
}
