// SPDX-License-Identifier: GPL-2.0

//! Moving a migration stream.

use crate::error::Error;
use std::io::{self, Read, Write};

/// Bytes that are moved at a time.
const PIECE: usize = 1 << 20;

/// Copies until the end of `from`. `progress` gets the bytes so far.
pub fn copy(
    from: &mut impl Read,
    to: &mut impl Write,
    mut progress: impl FnMut(u64),
) -> Result<u64, Error> {
    let mut buf = vec![0; PIECE];
    let mut bytes = 0;
    loop {
        let n = match from.read(&mut buf) {
            Ok(0) => return Ok(bytes),
            Ok(n) => n,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => {
                return Err(Error::Stream {
                    what: "reading the device's state",
                    bytes,
                    source,
                })
            }
        };
        to.write_all(&buf[..n]).map_err(|source| Error::Stream {
            what: "writing the device's state",
            bytes,
            source,
        })?;
        bytes += n as u64;
        progress(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, and then fails.
    struct Trickle(u8);

    impl Read for Trickle {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            match self.0 {
                0 => Err(io::Error::from_raw_os_error(libc::ENODEV)),
                7 => {
                    self.0 -= 1;
                    Err(io::ErrorKind::Interrupted.into())
                }
                n => {
                    buf[0] = n;
                    self.0 -= 1;
                    Ok(1)
                }
            }
        }
    }

    #[test]
    fn everything_arrives() {
        let data: Vec<u8> = (0..3 * PIECE + 5).map(|i| i as u8).collect();
        let mut to = Vec::new();
        let mut seen = 0;
        let bytes = copy(&mut &data[..], &mut to, |n| seen = n).unwrap();
        assert_eq!((bytes, seen), (data.len() as u64, data.len() as u64));
        assert!(to == data);
    }

    #[test]
    fn an_error_says_how_far_it_got() {
        let err = copy(&mut Trickle(9), &mut io::sink(), |_| ()).unwrap_err();
        assert_eq!(err.errno(), Some(libc::ENODEV));
        assert!(err.to_string().contains("after 8 bytes"), "{err}");
    }

    #[test]
    fn a_full_disk_is_a_write_error() {
        let mut small = [0; 10];
        let err = copy(&mut &[1; 20][..], &mut &mut small[..], |_| ()).unwrap_err();
        assert!(err.to_string().starts_with("writing"), "{err}");
    }
}
