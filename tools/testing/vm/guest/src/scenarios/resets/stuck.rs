// SPDX-License-Identifier: GPL-2.0

//! Calls on a data file whose memory never comes.

use super::session::{
    runs,
    state_is,
    End,
    ENDS, //
};
use crate::{
    hca::Pf,
    records,
    scenarios::compare::{
        words,
        Site, //
    },
    sys::{
        self,
        MissingMemory, //
    },
    tap::Results,
    vf::Vf, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    io::Write,
    thread, //
};
use vfio_mig::state::State;

/// A call on a data file meets a page that never comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stuck {
    Read,
    Write,
}

/// A call waits for user memory, and something ends its session: that does not wait for the
/// call.
fn stuck_call(site: &Site, stuck: Stuck, end: End) -> Result<()> {
    let memory = MissingMemory::new()?;
    let (addr, len) = memory.around();
    let vf = Vf::open(site.vf, 16)?;
    let mut file = match stuck {
        Stuck::Read => vf.device().begin(State::STOP_COPY)?,
        Stuck::Write => vf.device().begin(State::RESUMING)?,
    };
    match stuck {
        Stuck::Read => records::read_to_image(&mut file)?,
        // The header of an image.
        Stuck::Write => file.write_all(&[0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])?,
    }
    let caller = {
        let file = file.try_clone()?;
        thread::spawn(move || match stuck {
            Stuck::Read => words(sys::read_raw(&file, addr, len)),
            Stuck::Write => words(sys::write_raw(&file, addr, len)),
        })
    };
    memory.wait_for_fault()?;
    let others = (|| {
        let state = vf.device().state()?;
        Pf::find()?.reload()?;
        state_is(&vf, state)?;
        let vf = end.carry_out(site, vf)?;
        runs(&vf)
    })();
    // Else the caller would never end.
    let waited = !caller.is_finished();
    memory.resolve_fault()?;
    let seen = caller.join().ok().context("the caller panicked")?;
    others?;
    ensure!(waited, "the call has not waited for its memory");
    ensure!(seen == "ENODEV", "the call ended with {seen}");
    Ok(())
}

pub(super) fn stuck_calls(results: &mut Results, site: &Site) {
    for stuck in [Stuck::Read, Stuck::Write] {
        for end in ENDS {
            let name = format!("a {stuck:?} that waits for its memory, the PF's reload, {end:?}");
            match MissingMemory::new() {
                Err(err) if err.raw_os_error() == Some(libc::ENOSYS) => {
                    results.skip(&name, "the kernel has no userfaultfd");
                }
                _ => results.test(&name, |_| stuck_call(site, stuck, end)),
            }
        }
    }
}
