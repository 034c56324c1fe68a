// SPDX-License-Identifier: GPL-2.0

//! A batch of requests: from threads of this process and of copies of it, all at once.

use super::{
    child::Child,
    corpus::Found,
    input::Sequence,
    sequences,
    shared::Shared,
    tally::Tally,
    walk,
    Bench, //
};
use crate::{
    error::Error,
    state::State,
    uapi, //
};
use fastrand::Rng;
use std::thread;

/// Requests of a batch.
const REQUESTS: u64 = 4000;

/// What a thread does.
type Work = fn(&Shared<'_>, Rng) -> Result<Tally, Error>;

/// Has this many threads work, the first one in another way.
pub(super) fn in_threads(
    shared: &Shared<'_>,
    rng: &mut Rng,
    first: Work, //
) -> Result<Tally, Error> {
    let threads = shared.plan.threads.get();
    thread::scope(|scope| {
        let works = std::iter::once(first).chain(std::iter::repeat(sequences::make as Work));
        let running: Vec<_> = works
            .take(threads as usize)
            .map(|work| {
                let rng = rng.fork();
                scope.spawn(move || work(shared, rng))
            })
            .collect();
        let mut tally = Tally::default();
        for thread in running {
            let ended = thread.join();
            let panicked = |_| Err(Error::Unexpected("a thread has panicked".to_string()));
            tally.add(ended.unwrap_or_else(panicked)?);
        }
        Ok(tally)
    })
}

/// Sometimes begins a session whose file all processes have.
fn begin(shared: &Shared<'_>, rng: &mut Rng) {
    let to = match rng.u32(..4) {
        0 => State::RESUMING,
        1 => State::STOP_COPY,
        2 => State::PRE_COPY,
        _ => return,
    };
    if let Ok(Some(file)) = uapi::set_state(shared.site.device.fd(), to.0) {
        shared.keep(rng, file);
    }
}

/// Makes the requests of a batch, and adds them to what was done. Returns the sequences that got
/// to new code.
pub(super) fn run(
    bench: &Bench<'_>,
    rng: &mut Rng,
    tally: &mut Tally,
) -> Result<Vec<Found<Sequence>>, Error> {
    let processes = bench.plan.processes.get();
    let each = REQUESTS.div_ceil(processes.into());
    let shared = Shared::new(bench, tally, each);
    begin(&shared, rng);
    let children: Result<Vec<Child>, Error> = (1..processes)
        .map(|_| Child::start(&shared, rng.fork()))
        .collect();
    let mut ended = in_threads(&shared, rng, walk::walk);
    let mut found = shared.take_found();
    for child in children? {
        let of_child = child.end();
        if let Ok(all) = &mut ended {
            match of_child {
                Ok(more) => {
                    all.add(more.tally);
                    found.extend(more.found);
                }
                Err(err) => ended = Err(err),
            }
        }
    }
    tally.add(ended?);
    Ok(found)
}
