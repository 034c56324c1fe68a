// SPDX-License-Identifier: GPL-2.0

//! Parsers for the values of options: numbers in a range, sizes, addresses.

use clap::builder::RangedU64ValueParser;
use std::{
    num::ParseIntError,
    time::Duration, //
};

/// Longest pause between two looks at a device, in seconds: a day.
const MAX_INTERVAL: f64 = 86400.0;

/// A number of repetitions, or of seconds, without which nothing would be done.
pub fn at_least_one<T: TryFrom<u64> + Clone + Send + Sync>() -> RangedU64ValueParser<T> {
    RangedU64ValueParser::new().range(1..)
}

/// Seconds between two looks at a device, with a fraction; 0 for no pause.
pub fn parse_interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_string())?;
    // NaN is in no range.
    if !(0.0..=MAX_INTERVAL).contains(&seconds) {
        return Err(format!("not from 0 to {MAX_INTERVAL} seconds"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// "4096", "16M", "1GiB": powers of 1024.
pub fn parse_bytes(text: &str) -> Result<u64, parse_size::Error> {
    parse_size::Config::new().with_binary().parse_size(text)
}

/// An address in hexadecimal, with or without "0x" or "0X".
pub fn parse_hex(text: &str) -> Result<u64, ParseIntError> {
    let digits = text.strip_prefix("0x").or(text.strip_prefix("0X"));
    u64::from_str_radix(digits.unwrap_or(text), 16)
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
