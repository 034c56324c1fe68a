// SPDX-License-Identifier: GPL-2.0

//! Streams that promise much and send little: they must not pin what they promise.

use super::expect_refusals;
use crate::{
    cgroup::{
        Group,
        Peak, //
    },
    records::{
        self,
        header, //
    },
    scenarios::streams,
    sys,
    tap::Results, //
};
use anyhow::{
    ensure,
    Result, //
};
use fastrand::Rng;
use std::{
    fs::File,
    io::Write, //
};
use vfio_mig::{
    bdf::Bdf,
    device::Device,
    state::State, //
};

/// Beyond the bytes that were sent, what a VF may have its user charged for: 4 MiB of pages
/// ahead of an image, and what a control group charges ahead. (Of the bytes, a 64th more.)
const MOST: u64 = 5 << 20;
/// The group of this process.
const GROUP: &str = "hostile";
/// VFs that promise at the same time.
const AT_ONCE: usize = 4;
/// Streams of random sizes.
const RANDOM: u32 = 40;
/// The largest record that a stream can promise.
const PROMISED: u64 = u32::MAX as u64;

/// A stream that promises more than it has.
#[derive(Clone, Debug)]
struct Promise {
    /// Bytes that are sent.
    sent: Vec<u8>,
    /// Bytes that a last write claims to have, which cannot be read.
    claimed: usize,
}

/// `before`, and then a record with `len` of the bytes that it promises.
fn promise(before: &[u8], size: u64, len: usize) -> Promise {
    let mut sent = before.to_vec();
    sent.extend(header(size, 0, 0));
    sent.resize(sent.len() + len, 0x5a);
    Promise { sent, claimed: 0 }
}

/// Streams that promise much, of which `state` is one that is good.
fn promises(state: &[u8], rng: &mut Rng) -> Result<Vec<(String, Promise)>> {
    let mut all = Vec::new();
    for len in [0, 1, 4096, 100_000, 3 << 20] {
        all.push((format!("4 GiB, {len} bytes"), promise(&[], PROMISED, len)));
    }
    let mut skipped = header(PROMISED, 1, 99);
    skipped.resize(skipped.len() + 100_000, 0);
    let mut announced = header(8, 1, 1);
    announced.extend(u64::MAX.to_le_bytes());
    let whole = Promise {
        sent: skipped,
        claimed: 0,
    };
    all.push(("a record that is skipped".to_string(), whole));
    let announced = promise(&announced, PROMISED, 100);
    all.push(("an image that is announced".to_string(), announced));
    // The buffers of images that were loaded stay until a larger one is complete.
    let image = records::images(state)?[0];
    let two = [state, image].concat();
    all.push(("behind images".to_string(), promise(&two, PROMISED, 5000)));
    let claimed = Promise {
        claimed: 1 << 30,
        ..promise(&[], PROMISED, 100)
    };
    all.push(("a write from nowhere".to_string(), claimed));
    for number in 0..RANDOM {
        let before = if rng.bool() { state } else { &[] };
        let size = 1 << rng.u32(12..32);
        let most = 1 << rng.u32(1..22);
        let len = rng.usize(..most).min(size as usize - 1);
        let name = format!("promise {number}: {size} bytes, {len} sent");
        all.push((name, promise(before, size, len)));
    }
    Ok(all)
}

/// Sends a stream, and returns the file with what it pins. What is refused is sent as far as
/// that.
fn send(device: &Device, promise: &Promise) -> Result<File> {
    let mut file = device.begin(State::RESUMING)?;
    let written = file.write_all(&promise.sent);
    if written.is_ok() && promise.claimed > 0 {
        let nowhere = sys::write_raw(&file, 8, promise.claimed);
        ensure!(nowhere.is_err(), "bytes were read from nowhere");
    }
    Ok(file)
}

/// Sends a stream to some VFs at once: what that charges is not more than what was sent and
/// [`MOST`] for each.
fn charges_little(devices: &[Device], promise: &Promise) -> Result<u64> {
    let sent = promise.sent.len() as u64;
    let most = devices.len() as u64 * (sent + sent / 64 + MOST);
    let mut peak = Peak::of(GROUP)?;
    let files = devices.iter().map(|device| send(device, promise));
    let files: Vec<File> = files.collect::<Result<_>>()?;
    let growth = peak.growth()?;
    drop(files);
    for device in devices {
        device.reset()?;
    }
    ensure!(
        growth <= most,
        "{growth} bytes for {sent}, more than {most}"
    );
    Ok(growth.saturating_sub(sent * devices.len() as u64) / devices.len() as u64)
}

pub(super) fn run(results: &mut Results, vfs: &[Bdf], seed: u64) {
    results.test("what promises memory pins none", |results| {
        expect_refusals();
        let mut rng = Rng::with_seed(seed);
        let (state, _) = streams::save(vfs[0], 2)?;
        let promises = promises(&state, &mut rng)?;
        let _group = Group::of_this_process(GROUP)?;
        let devices: Vec<Device> = vfs[..AT_ONCE]
            .iter()
            .map(|vf| Device::open(*vf))
            .collect::<Result<_, _>>()?;
        let mut largest = 0;
        for (name, promise) in &promises {
            for devices in [&devices[..1], &devices] {
                let over = charges_little(devices, promise);
                let over = over.map_err(|err| err.context(format!("{name}, seed {seed}")))?;
                largest = largest.max(over);
            }
        }
        results.progress(&format!(
            "at most {largest} bytes more than were sent, for a VF"
        ));
        Ok(())
    });
}
