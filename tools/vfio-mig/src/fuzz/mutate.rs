// SPDX-License-Identifier: GPL-2.0

//! Changes to streams: of records, where a stream has some, and of bytes.

use super::{
    records::{
        self,
        ImageFormat,
        Record,
        IMAGE,
        OPTIONAL,
        SIZE, //
    },
    samples::Samples, //
};
use fastrand::Rng;

/// Most bytes that are added at once.
const MAX_ADDED: usize = 1 << 13;

/// A number that may be at the edge of something.
fn any_number(rng: &mut Rng, near: u64) -> u64 {
    match rng.u32(..9) {
        0 => 0,
        1 => u64::MAX,
        2 => u64::from(u32::MAX),
        3 => 1 << 32,
        4 => near.wrapping_add(rng.u64(1..17)),
        5 => near.wrapping_sub(rng.u64(1..17)),
        6 => near ^ (1 << rng.u32(..64)),
        7 => rng.u64(..1 << 20),
        _ => rng.u64(..),
    }
}

fn junk(rng: &mut Rng, most: usize) -> Vec<u8> {
    let byte = rng.u8(..);
    let mut bytes = vec![byte; rng.usize(0..most)];
    for _ in 0..rng.usize(0..8) {
        if let Some(byte) = rng.choice(&mut bytes) {
            *byte ^= 0x81;
        }
    }
    bytes
}

/// Changes bytes, whatever they are.
pub(super) fn bytes(rng: &mut Rng, stream: &mut Vec<u8>) {
    for _ in 0..rng.u32(1..5) {
        if stream.is_empty() {
            return;
        }
        // Most of what a driver looks at is at the beginning of a record.
        let near = stream.len().min(64);
        let at = match rng.bool() {
            true => rng.usize(..near),
            false => rng.usize(..stream.len()),
        };
        match rng.u32(..6) {
            0 => stream[at] ^= 1 << rng.u32(..8),
            1 => stream.truncate(at),
            2 => {
                let end = stream.len().min(at + 8);
                let value = any_number(rng, 1 << 16).to_le_bytes();
                stream[at..end].copy_from_slice(&value[..end - at]);
            }
            3 => {
                let end = stream.len().min(at + rng.usize(1..4096));
                stream.drain(at..end);
            }
            4 => {
                let end = stream.len().min(at + rng.usize(1..4096));
                let again = stream[at..end].to_vec();
                stream.splice(at..at, again);
            }
            _ => {
                let junk = junk(rng, 256);
                stream.splice(at..at, junk);
            }
        }
    }
}

/// Changes the data of an image, and perhaps makes its digest right again.
fn image(rng: &mut Rng, data: &mut Vec<u8>, format: Option<ImageFormat>) {
    let words = format.map_or(8, |format| format.words);
    let len = data.len();
    if len < words * 8 {
        return bytes(rng, data);
    }
    for _ in 0..rng.u32(1..3) {
        let at = match rng.u32(..4) {
            // What the words are about.
            0 => rng.usize(..len / 8),
            _ => rng.usize(..words),
        } * 8;
        let mut word = [0; 8];
        word.copy_from_slice(&data[at..at + 8]);
        let value = any_number(rng, u64::from_le_bytes(word));
        data[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    match rng.u32(..8) {
        0 => data.truncate(rng.usize(words * 8..=len)),
        1 => data.extend(junk(rng, MAX_ADDED)),
        _ => (),
    }
    if let Some(format) = format.filter(|_| rng.u32(..4) > 0) {
        (format.seal)(data);
    }
}

/// A record that is not in any stream.
fn strange(rng: &mut Rng) -> Record {
    let data = junk(rng, MAX_ADDED);
    Record {
        size: data.len() as u64,
        flags: match rng.u32(..4) {
            0 => any_number(rng, 0) as u32,
            _ => OPTIONAL,
        },
        tag: any_number(rng, 2) as u32,
        data,
    }
}

/// Changes that leave the images as they are, in their order.
fn harmless(rng: &mut Rng, records: &mut Vec<Record>) {
    let at = rng.usize(..=records.len());
    match records.get_mut(at) {
        Some(record) if record.tag == SIZE && rng.bool() => {
            record.data = any_number(rng, 1 << 16).to_le_bytes().to_vec();
            record.data.extend(junk(rng, 64));
            record.size = record.data.len() as u64;
        }
        Some(record) if rng.bool() => record.flags |= rng.u32(..) & !OPTIONAL,
        _ => {
            let data = junk(rng, MAX_ADDED);
            let record = Record {
                size: data.len() as u64,
                flags: OPTIONAL | (rng.u32(..) << 1),
                tag: rng.u32(2..),
                data,
            };
            records.insert(at, record);
        }
    }
}

/// Changes one thing about records.
fn one(
    rng: &mut Rng,
    records: &mut Vec<Record>,
    other: Option<Vec<Record>>,
    format: Option<ImageFormat>,
) {
    if records.is_empty() {
        return records.push(strange(rng));
    }
    let at = rng.usize(..records.len());
    let elsewhere = rng.usize(..records.len());
    match rng.u32(..12) {
        0 => drop(records.remove(at)),
        1 => records.insert(elsewhere, records[at].clone()),
        2 => records.swap(at, elsewhere),
        3 => {
            if let Some(other) = other {
                let from = rng.usize(..other.len());
                records.truncate(at);
                records.extend_from_slice(&other[from..]);
            }
        }
        4 => records.insert(at, strange(rng)),
        5 => records[at].tag = any_number(rng, records[at].tag.into()) as u32,
        6 => records[at].flags = any_number(rng, records[at].flags.into()) as u32,
        7 => records[at].size = any_number(rng, records[at].size),
        8 => {
            let record = &mut records[at];
            match rng.bool() {
                true => record.data.truncate(rng.usize(..=record.data.len())),
                false => record.data.extend(junk(rng, MAX_ADDED)),
            }
            record.size = record.data.len() as u64;
        }
        _ => {
            let record = &mut records[at];
            match record.tag {
                IMAGE => image(rng, &mut record.data, format),
                _ => bytes(rng, &mut record.data),
            }
            record.size = record.data.len() as u64;
        }
    }
}

/// Makes another stream from one.
pub(super) fn stream(
    rng: &mut Rng,
    samples: &Samples,
    from: &[u8],
    format: Option<ImageFormat>,
) -> Vec<u8> {
    let Some(mut records) = records::parse(from) else {
        let mut stream = from.to_vec();
        bytes(rng, &mut stream);
        return stream;
    };
    match rng.u32(..16) {
        0 | 1 => (0..rng.u32(1..4)).for_each(|_| harmless(rng, &mut records)),
        2 => {
            let mut stream = from.to_vec();
            bytes(rng, &mut stream);
            return stream;
        }
        _ => {
            for _ in 0..rng.u32(1..4) {
                let other = rng.choice(&samples.0);
                let other = other.and_then(|other| records::parse(&other.stream));
                one(rng, &mut records, other, format);
            }
        }
    }
    let mut stream = records::emit(&records);
    if rng.u32(..12) == 0 && !stream.is_empty() {
        stream.truncate(rng.usize(..stream.len()));
    }
    stream
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{
        records::judge,
        samples::Sample, //
    };

    fn samples() -> Samples {
        let sample = |stream| Sample {
            stream,
            digest: None,
        };
        let mut other = records::tests::sample();
        other.extend(records::tests::sample());
        Samples(vec![sample(records::tests::sample()), sample(other)])
    }

    fn made(seed: u64) -> Vec<u8> {
        let samples = samples();
        let format = ImageFormat {
            words: 4,
            seal: |image| image[8] = 0xee,
        };
        let mut rng = Rng::with_seed(seed);
        stream(&mut rng, &samples, &samples.0[0].stream, Some(format))
    }

    #[test]
    fn a_stream_is_in_its_seed() {
        for seed in 0..200 {
            assert_eq!(made(seed), made(seed));
        }
        assert!((0..20).any(|seed| made(seed) != made(seed + 1)));
        let mut nothing = Vec::new();
        bytes(&mut Rng::with_seed(1), &mut nothing);
        assert!(nothing.is_empty());
    }

    /// There are enough streams of each sort: those that a driver must take, those that firmware
    /// has to judge, and those that are not whole.
    #[test]
    fn streams_are_of_all_sorts() {
        let original = records::tests::sample();
        let original = judge(&original).images;
        let (mut good, mut whole, mut with_image, mut sealed) = (0, 0, 0, 0);
        for seed in 0..2000 {
            let stream = made(seed);
            let verdict = judge(&stream);
            whole += u32::from(verdict.whole);
            good += u32::from(verdict.whole && verdict.images == original);
            with_image += u32::from(!verdict.images.is_empty());
            let is_sealed = |image: &&[u8]| image.get(8) == Some(&0xee);
            sealed += u32::from(verdict.images.iter().any(is_sealed));
        }
        assert!((100..1000).contains(&good), "{good}");
        assert!((500..1500).contains(&whole), "{whole}");
        assert!(with_image > 800, "{with_image}");
        assert!(sealed > 200, "{sealed}");
    }

    #[test]
    fn harmless_changes_leave_the_images() {
        let stream = records::tests::sample();
        let images = judge(&stream).images;
        for seed in 0..500 {
            let mut rng = Rng::with_seed(seed);
            let mut changed = records::parse(&stream).unwrap();
            harmless(&mut rng, &mut changed);
            let changed = records::emit(&changed);
            let verdict = judge(&changed);
            assert!(verdict.whole, "{seed}");
            assert_eq!(verdict.images, images, "{seed}");
        }
    }
}
