// SPDX-License-Identifier: GPL-2.0

//! Attempts at a request: in each, another one of its allocations fails.

use super::subject::{
    Ready,
    Subject, //
};
use crate::{
    campaign::Counts,
    injection,
    scenarios::{
        amounts::Amounts,
        compare::errno_name, //
    },
    sys,
};
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use fastrand::Rng;
use std::io;

/// No request allocates as often.
const MAX: u32 = 50_000;
/// In `make check`, the step from the nth allocation, which fails, to the next one that fails is
/// at most n divided by this. Else it is one.
const STEP: u32 = 4;
/// Attempts after which a good migration is tried.
const EACH: u32 = 16;

/// What has become of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Outcome {
    /// Whether it has succeeded.
    pub(super) succeeded: bool,
    /// Whether something was made to fail.
    pub(super) failed: bool,
}

/// Gets ready, or looks at what has become of a request.
type Step<T> = Box<dyn Fn(&mut Ready<'_>) -> T>;

/// Looks at what has become of a request, and of the device.
type Check = Box<dyn Fn(&mut Ready<'_>, Outcome) -> Result<()>>;

/// A request.
pub(super) struct Request {
    pub(super) name: String,
    /// Whether it allocates anything: if it does, something must have failed.
    pub(super) allocates: bool,
    pub(super) ready: Step<Result<()>>,
    pub(super) work: Step<io::Result<()>>,
    /// Checks the device, and has it as it was before the request.
    pub(super) after: Check,
}

/// What was made to fail in a request.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Tally {
    /// The number of the last allocation.
    pub(super) allocations: u32,
    /// How many of them have failed, one in each attempt.
    pub(super) failures: u32,
    /// In how many attempts the request has failed.
    pub(super) refused: u32,
}

fn attempt(ready: &mut Ready<'_>, request: &Request, n: u32) -> Result<Outcome> {
    (request.ready)(ready).context("getting ready")?;
    let (result, failed) = injection::with_failure(n, || (request.work)(ready))?;
    if let Err(err) = &result {
        let errno = err.raw_os_error().unwrap_or(0);
        ensure!(failed, "without a failure: {err}");
        let explained = injection::explains(errno);
        ensure!(explained, "{}", errno_name(errno));
    }
    let outcome = Outcome {
        succeeded: result.is_ok(),
        failed,
    };
    (request.after)(ready, outcome).with_context(|| match result {
        Ok(()) => "after the request has succeeded".to_string(),
        Err(err) => format!("after {err}"),
    })?;
    Ok(outcome)
}

/// Has one allocation of a request fail, then a later one, and so on, until there is none to
/// fail. Returns also how much there was after the first attempt, and how many there were.
fn fail_in_turn(
    subject: &Subject,
    request: &Request,
    rng: &mut Rng,
    counts: &mut Counts,
) -> Result<(Tally, Amounts, u64)> {
    let one_by_one = sys::is_long()?;
    let mut ready = Ready::new(subject)?;
    let mut tally = Tally::default();
    let mut before = None;
    let (mut n, mut attempts) = (0, 0);
    while n < MAX {
        n += if one_by_one {
            1
        } else {
            1 + rng.u32(..=n / STEP)
        };
        attempts += 1;
        let outcome = attempt(&mut ready, request, n).with_context(|| format!("failure {n}"))?;
        counts.requests += 1;
        counts.succeeded += u64::from(outcome.succeeded);
        counts.faults_injected += u64::from(outcome.failed);
        tally.failures += u32::from(outcome.failed);
        tally.refused += u32::from(!outcome.succeeded);
        if !outcome.failed || attempts % EACH == 0 {
            ready.close();
            subject
                .migrates()
                .with_context(|| format!("after failure {n}"))?;
        }
        if before.is_none() {
            ready.close();
            before = Some(Amounts::now()?);
        }
        if !outcome.failed {
            tally.allocations = n - 1;
            let before = before.context("no attempt")?;
            return Ok((tally, before, attempts.into()));
        }
    }
    bail!("there is no end to its allocations")
}

/// Has each allocation of a request fail. Nothing may be lost.
pub(super) fn fail_each(
    subject: &Subject,
    request: &Request,
    rng: &mut Rng,
    counts: &mut Counts,
) -> Result<Tally> {
    let mut tally = Tally::default();
    Amounts::kept(|| {
        let (turn, before, attempts) = fail_in_turn(subject, request, rng, counts)?;
        tally = turn;
        Ok((before, attempts))
    })?;
    Ok(tally)
}
