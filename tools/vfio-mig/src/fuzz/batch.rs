// SPDX-License-Identifier: GPL-2.0

//! A batch of requests: from threads of this process and of copies of it, all at once.

use super::{
    corpus::Corpus,
    requests,
    shared::Shared,
    site::Site,
    tally::{
        Tally,
        WORDS, //
    },
    walk,
    Plan, //
};
use crate::{
    error::{
        Context,
        Error, //
    },
    state::State,
    uapi, //
};
use fastrand::Rng;
use nix::{
    sys::wait::waitpid,
    unistd::{
        ForkResult,
        Pid, //
    },
};
use std::{
    fs::File,
    io::{
        Read,
        Write, //
    },
    thread, //
};

/// Requests of a batch.
const REQUESTS: u64 = 4000;

/// What a thread does.
type Work = fn(&Shared<'_>, Rng) -> Result<Tally, Error>;

/// Has this many threads work, the first one in another way.
fn in_threads(
    shared: &Shared<'_>,
    rng: &mut Rng,
    first: Work, //
) -> Result<Tally, Error> {
    let threads = shared.plan.threads.get();
    thread::scope(|scope| {
        let works = std::iter::once(first).chain(std::iter::repeat(requests::make as Work));
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

/// A copy of this process, with its files.
struct Child {
    pid: Pid,
    /// What it has done: the words of its tally, or why it has failed.
    said: File,
}

impl Child {
    /// Has a copy of this process make requests, and end without closing anything.
    fn start(shared: &Shared<'_>, mut rng: Rng) -> Result<Self, Error> {
        let pipe = nix::unistd::pipe().map_err(std::io::Error::from);
        let (said, say) = pipe.context("a pipe")?;
        let (said, mut say) = (File::from(said), File::from(say));
        match uapi::fork().context("a second process")? {
            ForkResult::Parent { child } => Ok(Self { pid: child, said }),
            ForkResult::Child => {
                let text = match in_threads(shared, &mut rng, requests::make) {
                    Ok(mut tally) => tally.words().iter().flat_map(|n| n.to_le_bytes()).collect(),
                    Err(err) => err.to_string().into_bytes(),
                };
                uapi::exit_now(i32::from(say.write_all(&text).is_err()))
            }
        }
    }

    /// Waits for its end.
    fn end(mut self) -> Result<Tally, Error> {
        let mut said = Vec::new();
        let read = self.said.read_to_end(&mut said);
        let waited = waitpid(self.pid, None).map_err(std::io::Error::from);
        waited.context("waiting for a second process")?;
        read.context("reading from a second process")?;
        if said.len() != WORDS * 8 {
            let said = String::from_utf8_lossy(&said);
            return Err(Error::Unexpected(format!("a second process: {said}")));
        }
        let words = said.chunks_exact(8);
        let words: Vec<u64> = words
            .map(|word| {
                word.iter()
                    .rev()
                    .fold(0, |n, byte| (n << 8) | u64::from(*byte))
            })
            .collect();
        let mut tally = Tally::default();
        tally.add_words(&words);
        Ok(tally)
    }
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

/// Makes the requests of a batch, and adds them to what was done.
pub(super) fn run(
    site: &Site,
    plan: &Plan,
    corpus: &Corpus,
    rng: &mut Rng,
    tally: &mut Tally,
) -> Result<(), Error> {
    let processes = plan.processes.get();
    let each = REQUESTS.div_ceil(processes.into());
    let shared = Shared::new(site, plan, corpus.first(), tally, each);
    begin(&shared, rng);
    let children: Result<Vec<Child>, Error> = (1..processes)
        .map(|_| Child::start(&shared, rng.fork()))
        .collect();
    let mut ended = in_threads(&shared, rng, walk::walk);
    for child in children? {
        let of_child = child.end();
        if let Ok(all) = &mut ended {
            match of_child {
                Ok(more) => all.add(more),
                Err(err) => ended = Err(err),
            }
        }
    }
    tally.add(ended?);
    Ok(())
}
