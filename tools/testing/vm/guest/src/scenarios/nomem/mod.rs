// SPDX-License-Identifier: GPL-2.0

//! Allocations that fail: a request fails with ENOMEM, or succeeds without the memory; the
//! device goes on, and nothing is lost. A request whose copy from or to user space fails gets
//! EFAULT. Each allocation of a request fails once, until a run of it meets none that is to fail.
//! In `make check`, there is no time for each of them: of later ones, each run chooses some, by
//! its seed.

mod attempts;
mod binding;
mod early;
mod opening;
mod random;
mod requests;
mod subject;

use super::{
    compare::Site,
    conformance::bind_samples,
    NamedRun,
    Vfs, //
};
use crate::{
    campaign::Counts,
    hca::Driver,
    injection,
    kmsg,
    sys,
    tap::Results, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use attempts::{
    fail_each,
    Request, //
};
use fastrand::Rng;
use subject::Subject;
use vm_common::{
    judge::UNDESTROYED,
    names, //
};

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("nomem", run), ("nomem-random", random::run)];

/// What is not tried with the C driver: requests with one of these words in their names.
const NOT_WITH_C: &[&str] = &[
    "closing",
    "from PRE_COPY",
    "from RESUMING",
    "from STOP_COPY",
    "LOGGING_STOP",
    "VFIO_DEVICE_RESET",
    "write",
];
/// Why: all of them destroy objects of firmware.
const DESTROYS: &str =
    "if the C driver has no memory for a command that destroys something, it goes \
                        on with what that uses, which firmware refuses, and both are lost";

/// What the kernel complains of itself: a word in the names of requests, what it says, and why.
const OF_THE_KERNEL: &[(&str, &str, &str)] = &[
    (
        "closing",
        "drivers/iommu/iommu.c",
        "a device that closes without memory does not get back to its default domain: \
         __iommu_release_dma_ownership() warns, and goes on",
    ),
    (
        "probe",
        "drivers/vfio/group.c",
        "vfio_create_group() that has no memory leaves the IOMMU group to vfio_group_release(), \
         which warns",
    ),
    (
        "loading",
        "drivers/vfio/group.c",
        "loading a driver probes its devices",
    ),
    (
        "loading",
        "kernel/jump_label.c",
        "jump_label_module_notify() warns if it has no memory, and jump_label_del_module() of \
         what is not there then",
    ),
];

/// Requests of our driver and of the sample in `make check`: which, the seed says.
const IN_CHECK: [usize; 2] = [20, 6];

/// All requests of a driver. Loading the driver is the last.
fn requests(subject: &Subject) -> Result<Vec<Request>> {
    let mut all = requests::all(subject);
    all.extend(opening::all(subject)?);
    all.extend(binding::all(subject)?);
    Ok(all)
}

/// Makes requests of a driver: each, or `most` of them, or those with `only` in their names.
fn try_driver(
    results: &mut Results,
    subject: &Subject,
    only: &str,
    seed: u64,
    most: usize,
) -> Result<()> {
    let mut rng = Rng::with_seed(seed);
    let mut counts = Counts::new(subject.name);
    let title = |request: &Request| format!("{} driver: {}", subject.name, request.name);
    let mut chosen = requests(subject)?;
    chosen.retain(|request| names::parameter(&title(request)).contains(only));
    let most = sys::cases(most)?;
    if chosen.len() > most && only.is_empty() {
        rng.shuffle(&mut chosen);
        chosen.truncate(most);
    }
    for request in chosen {
        let name = title(&request);
        let destroys = NOT_WITH_C.iter().any(|word| request.name.contains(word));
        if subject.is_c() && destroys {
            results.skip(&name, DESTROYS);
            continue;
        }
        results.test(&name, |results| {
            // Nor has mlx5_core memory for the command that destroys something. It is
            // tried again.
            kmsg::expect(UNDESTROYED);
            for (_, said, why) in OF_THE_KERNEL
                .iter()
                .filter(|(word, ..)| request.name.contains(word))
            {
                kmsg::expect(said);
                results.progress(&format!("{said} may warn: {why}"));
            }
            let tally = fail_each(subject, &request, &mut rng, &mut counts)
                .with_context(|| format!("seed {seed}"))?;
            results.say(&format!(
                "{name}: {} failures of {} allocations, refused {} times",
                tally.failures, tally.allocations, tally.refused
            ));
            ensure!(
                tally.failures > 0 || !request.allocates,
                "it allocates nothing"
            );
            Ok(())
        });
    }
    counts.report(results);
    Ok(())
}

fn run(results: &mut Results) -> Result<()> {
    injection::set_up()?;
    let vfs = Vfs::new()?;
    let site = |driver| {
        let (vf, other) = vfs.of(driver);
        Site { vf, other }
    };
    let seed = sys::seed()?;
    let ours = Subject::of_vfs(Driver::Rust, site(Driver::Rust))?;
    results.test(
        "from PRE_COPY to STOP_COPY, before the first image was read",
        |results| {
            kmsg::expect(UNDESTROYED);
            let count = early::stopped_early(&ours.site)?;
            results.progress(&format!("{count} allocations"));
            Ok(())
        },
    );
    let only = &sys::kernel_parameter("vmtest.only")?.unwrap_or_default();
    try_driver(results, &ours, only, seed, IN_CHECK[0])?;
    let [vf, other] = bind_samples()?;
    let sample = Subject::sample(Site { vf, other })?;
    try_driver(results, &sample, only, seed, IN_CHECK[1])?;
    // What fails in C is no failure of ours: `make check` is without it.
    if sys::is_long()? || !only.is_empty() {
        let theirs = Subject::of_vfs(Driver::C, site(Driver::C))?;
        try_driver(results, &theirs, only, seed, usize::MAX)?;
    }
    Ok(())
}
