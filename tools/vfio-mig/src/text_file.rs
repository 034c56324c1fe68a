// SPDX-License-Identifier: GPL-2.0

//! Text files that the user names. None is so long that it could take all memory: a wrong name may
//! be that of a device, which has no end.

use std::{
    fs::File,
    io::{
        self,
        Read, //
    },
    path::Path,
};

/// Longest file that is read, in bytes.
pub const MOST: u64 = 16 << 20;

/// Reads a file. Fails if it is longer than [`MOST`], or no text.
pub fn read(path: &Path) -> io::Result<String> {
    let mut text = Vec::new();
    File::open(path)?.take(MOST + 1).read_to_end(&mut text)?;
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    if text.len() as u64 > MOST {
        return Err(wrong(format!("it has more than {MOST} bytes")));
    }
    String::from_utf8(text).map_err(|err| wrong(format!("it is no text in UTF-8: {err}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_no_text_is_refused() {
        let path = std::env::temp_dir().join(format!("vfio-mig-text-{}", std::process::id()));
        for (bytes, text) in [(&b"text\n"[..], Some("text\n")), (b"\xff", None)] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(read(&path).ok().as_deref(), text);
        }
        for (size, fits) in [(MOST, true), (MOST + 1, false)] {
            File::create(&path).unwrap().set_len(size).unwrap();
            assert_eq!(read(&path).is_ok(), fits, "{size}");
        }
        fs::remove_file(&path).unwrap();
        let err = read(&path).unwrap_err();
        assert_eq!(err.raw_os_error(), Some(libc::ENOENT));
        let err = read(Path::new("/dev/zero")).unwrap_err().to_string();
        assert_eq!(err, "it has more than 16777216 bytes");
    }
}
