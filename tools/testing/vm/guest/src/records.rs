// SPDX-License-Identifier: GPL-2.0

//! The records of a stream of either mlx5 driver.
//!
//! Images are found by their tag, so that other records may come before them.

use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    fs::File,
    io::Read,
    os::fd::AsFd, //
};
use vfio_mig::uapi;

/// Bytes of a record's header.
pub const HEADER: usize = 16;
/// The tag of an image.
const IMAGE: u32 = 0;
/// The tags that the C driver knows, too.
const SHARED: [u32; 2] = [IMAGE, 1];
/// The flag of a record that may be skipped.
const OPTIONAL: u32 = 1 << 0;

/// The header of a record with `size` bytes of data.
pub fn header(size: u64, flags: u32, tag: u32) -> Vec<u8> {
    let mut bytes = size.to_le_bytes().to_vec();
    bytes.extend(flags.to_le_bytes());
    bytes.extend(tag.to_le_bytes());
    bytes
}

/// A record of a stream, or its header.
struct Record<'a>(&'a [u8]);

impl Record<'_> {
    fn word(&self, at: usize) -> Result<u32> {
        let word = self.0.get(at..at + 4).context("half a header")?;
        Ok(u32::from_le_bytes(word.try_into()?))
    }

    /// Bytes of its data.
    fn size(&self) -> Result<usize> {
        ensure!(self.word(4)? == 0, "a record of 4 GiB or more");
        Ok(self.word(0)? as usize)
    }

    fn is_optional(&self) -> Result<bool> {
        Ok(self.word(8)? & OPTIONAL != 0)
    }

    fn tag(&self) -> Result<u32> {
        self.word(12)
    }

    fn is_image(&self) -> Result<bool> {
        Ok(self.tag()? == IMAGE)
    }
}

/// The records of a stream, each with its header.
pub fn all(mut stream: &[u8]) -> Result<Vec<&[u8]>> {
    let mut records = Vec::new();
    while !stream.is_empty() {
        let len = HEADER + Record(stream).size()?;
        let (record, rest) = stream.split_at_checked(len).context("half a record")?;
        records.push(record);
        stream = rest;
    }
    Ok(records)
}

/// The images of a stream, each with its header.
pub fn images(stream: &[u8]) -> Result<Vec<&[u8]>> {
    let mut images = Vec::new();
    for record in all(stream)? {
        if Record(record).is_image()? {
            images.push(record);
        }
    }
    Ok(images)
}

/// Bytes of a stream before its first image.
pub fn head(stream: &[u8]) -> Result<usize> {
    let mut len = 0;
    for record in all(stream)? {
        if Record(record).is_image()? {
            break;
        }
        len += record.len();
    }
    Ok(len)
}

/// The records of a stream that both drivers make, which are those that the C driver knows.
/// The other records must be optional, so that the C driver skips them.
pub fn shared(stream: &[u8]) -> Result<Vec<u8>> {
    let mut shared = Vec::new();
    for bytes in all(stream)? {
        let record = Record(bytes);
        if SHARED.contains(&record.tag()?) {
            shared.extend(bytes);
        } else {
            let tag = record.tag()?;
            ensure!(
                record.is_optional()?,
                "a record with tag {tag} is mandatory"
            );
        }
    }
    Ok(shared)
}

/// Reads a header, and the data behind it if that is no image. Adds what was read to `bytes`,
/// and returns whether it is an image.
fn read_record(file: &mut File, bytes: &mut Vec<u8>) -> Result<bool> {
    let at = bytes.len();
    bytes.resize(at + HEADER, 0);
    file.read_exact(&mut bytes[at..])?;
    let header = Record(&bytes[at..]);
    if header.is_image()? {
        return Ok(true);
    }
    let data = at + HEADER;
    let end = data + header.size()?;
    bytes.resize(end, 0);
    file.read_exact(&mut bytes[data..])?;
    Ok(false)
}

/// Reads what a stream begins with before firmware has saved anything, and returns it.
pub fn read_head(file: &mut File) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    while uapi::poll(file.as_fd(), libc::POLLIN, 0)? == libc::POLLIN {
        ensure!(!read_record(file, &mut head)?, "there is an image already");
    }
    ensure!(!head.is_empty(), "there is nothing yet");
    Ok(head)
}

/// Reads a stream until the first byte that is an image's, behind its header.
pub fn read_to_image(file: &mut File) -> Result<()> {
    let mut before = Vec::new();
    while !read_record(file, &mut before)? {}
    Ok(())
}
