// SPDX-License-Identifier: GPL-2.0

//! Streams that are no states, on many devices at once: most of the time goes by in resets.

use super::{
    expect_refusals,
    memory,
    tell,
    Inputs, //
};
use crate::{
    hca::{
        self,
        Driver,
        Pf, //
    },
    scenarios::conformance::{
        bind_samples,
        SAMPLE, //
    },
    sys,
    tap::Results, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use mlx5_emu::image;
use std::{
    fs,
    sync::atomic::{
        AtomicU64,
        Ordering::Relaxed, //
    },
    thread,
    time::Duration, //
};
use vfio_mig::{
    address::Address,
    bdf::Bdf,
    fuzz::{
        self,
        Done,
        Guide,
        ImageFormat,
        Judgement,
        Plan,
        Subject, //
    },
};

/// How long all of it goes on, in seconds: in `make check` and in `make check-all`.
const DURATION: [u32; 2] = [20, 300];
/// VFs that load streams at the same time.
const VFS: u16 = 16;
/// Those of them that the C driver has in the end.
const OF_C: usize = 4;
/// What a stream may promise to the C driver, in bytes: a record makes that allocate as much as
/// the header says, and the machine has no 4 GiB for that.
const PROMISED_TO_C: u64 = 16 << 20;
/// At least one of this number of streams must have an image for firmware to load.
const LOADED: u64 = 10;
/// Between two lines of progress.
const SAID: Duration = Duration::from_secs(1);

/// The images of the emulated HCA.
const IMAGES: ImageFormat = ImageFormat {
    words: image::HEADER_LEN / 8,
    seal: image::seal,
};

/// LOADs that firmware has answered so far.
fn loads(pf: &Pf) -> Result<u64> {
    let dir = format!("/sys/kernel/debug/mlx5/{}/commands", pf.address());
    let count = fs::read_to_string(format!("{dir}/LOAD_VHCA_STATE/n")).context(dir)?;
    Ok(count.trim().parse()?)
}

/// Loads streams into all devices at once. What is done with each follows from the seed and
/// its place among them, and from what all of them have kept.
fn load_all(
    results: &mut Results,
    devices: &[Address],
    plan: &Plan,
    guide: &Guide,
) -> Result<Done> {
    let rounds = AtomicU64::new(0);
    let ended: Vec<Result<Done>> = thread::scope(|scope| {
        let threads: Vec<_> = (plan.seed..)
            .zip(devices)
            .map(|(seed, device)| {
                let rounds = &rounds;
                scope.spawn(move || {
                    let plan = Plan { seed, ..*plan };
                    fuzz::run(*device, &plan, guide, |_| {
                        rounds.fetch_add(1, Relaxed);
                    })
                    .with_context(|| device.to_string())
                })
            })
            .collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            thread::sleep(SAID);
            results.progress(&format!("{} rounds of streams", rounds.load(Relaxed)));
        }
        let join = |thread: thread::ScopedJoinHandle<'_, Result<Done>>| {
            thread.join().ok().context("a thread panicked")?
        };
        threads.into_iter().map(join).collect()
    });
    let mut all = Done::default();
    for done in ended {
        all.add(&done?);
    }
    Ok(all)
}

fn addresses(vfs: &[Bdf]) -> Vec<Address> {
    vfs.iter().copied().map(Address::from).collect()
}

/// VFs of our driver.
fn bind() -> Result<Vec<Bdf>> {
    let pf = Pf::find()?;
    pf.set_vfs(0)?;
    pf.set_vfs(VFS)?;
    let vfs = pf.vfs()?;
    for vf in &vfs {
        hca::bind(*vf, Driver::Rust)?;
    }
    Ok(vfs)
}

/// Streams for our driver, and a count of what firmware gets of them.
fn with_rust(results: &mut Results, vfs: &[Bdf], plan: &Plan, inputs: &Inputs) -> Result<()> {
    expect_refusals();
    let guide = inputs.guide(results, Driver::Rust.name())?;
    let pf = Pf::find()?;
    let before = loads(&pf)?;
    let done = load_all(results, &addresses(vfs), plan, &guide)?;
    let loads = loads(&pf)? - before;
    tell(results, Driver::Rust.name(), &done, &guide)?;
    results.progress(&format!("{loads} LOADs"));
    ensure!(
        loads >= done.streams_with_image && done.streams_with_image * LOADED >= done.streams,
        "{loads} LOADs of {} images in {} streams",
        done.streams_with_image,
        done.streams
    );
    ensure!(done.compared > 0, "nothing was compared");
    Ok(())
}

/// Streams for the C driver, which takes what is not whole.
fn with_c(results: &mut Results, vfs: &[Bdf], plan: &Plan, inputs: &Inputs) -> Result<()> {
    expect_refusals();
    let guide = inputs.guide(results, Driver::C.name())?;
    for vf in vfs {
        hca::bind(*vf, Driver::C)?;
    }
    let plan = Plan {
        judgement: Judgement::MayBeAnything,
        most_promised: PROMISED_TO_C,
        ..*plan
    };
    let done = load_all(results, &addresses(vfs), &plan, &guide)?;
    tell(results, Driver::C.name(), &done, &guide)?;
    ensure!(done.compared > 0, "nothing was compared");
    Ok(())
}

pub fn run(results: &mut Results) -> Result<()> {
    let seed = sys::seed()?;
    let tenth = sys::duration(DURATION)? / 10;
    let plan = |time: Duration| Plan {
        time: Some(time),
        only: Some(Subject::Streams),
        images: Some(IMAGES),
        ..Plan::new(seed)
    };
    let again = || format!("seed {seed}");
    let inputs = Inputs::find()?;
    let vfs = bind()?;
    results.test("hostile streams, rust driver", |results| {
        with_rust(results, &vfs, &plan(tenth * 8), &inputs).with_context(again)
    });
    memory::run(results, &vfs, seed);
    let samples = bind_samples()?.map(Address::from);
    results.test("hostile streams, vfio_ivshmem_rust driver", |results| {
        let guide = inputs.guide(results, SAMPLE)?;
        let done = load_all(results, &samples, &plan(tenth), &guide).with_context(again)?;
        tell(results, SAMPLE, &done, &guide)?;
        ensure!(done.streams_taken > 0, "no stream was taken");
        Ok(())
    });
    // As with hostile users.
    if sys::is_long()? {
        results.test("hostile streams, c driver", |results| {
            with_c(results, &vfs[..OF_C], &plan(tenth), &inputs).with_context(again)
        });
    }
    Ok(())
}
