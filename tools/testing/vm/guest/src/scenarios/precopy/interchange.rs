// SPDX-License-Identifier: GPL-2.0

//! Streams of running devices, which either driver loads.

use super::session::{
    change,
    create,
    info,
    read, //
};
use crate::{
    hca::Driver,
    records,
    scenarios::{
        compare::Site,
        streams,
        Vfs, //
    },
    tap::Results,
    vf::Vf, //
};
use anyhow::{
    ensure,
    Result, //
};
use std::io::{
    Cursor,
    Write, //
};
use vfio_mig::{
    bdf::Bdf,
    state::State,
    stream, //
};

/// All states of a pre-copy migration, with some work in each where it can be
/// done. Returns the stream and the digest of what was saved.
pub(super) fn whole_stream(vf: Bdf) -> Result<(Vec<u8>, u64)> {
    let vf = Vf::open(vf, 16)?;
    vf.device().opt_in_precopy_info_v2()?;
    vf.work(2, 16)?;
    let mut file = vf.device().begin(State::PRE_COPY)?;
    let mut stream = Vec::new();
    for pages in [0, 5, 200, 1] {
        info(&file);
        read(&mut file, usize::MAX, &mut stream);
        change(&vf, pages)?;
        vf.work(1, 16)?;
    }
    create(&vf, 30)?;
    info(&file);
    read(&mut file, usize::MAX, &mut stream);
    change(&vf, 9)?;
    info(&file);
    vf.device().set_state(State::PRE_COPY_P2P)?;
    let digest = vf.digest()?;
    // What was not read in PRE_COPY comes first.
    vf.device().set_state(State::STOP_COPY)?;
    stream::copy(&mut file, &mut stream, |_| ())?;
    Ok((stream, digest))
}

/// Loads a stream into the other VF, and says whether it is the same state.
pub(super) fn arrives(site: &Site, digest: u64, stream: &[u8]) -> Result<&'static str> {
    let other = Vf::open(site.other, 16)?;
    let mut to = other.device().begin(State::RESUMING)?;
    to.write_all(stream)?;
    other.device().set_state(State::RUNNING)?;
    Ok(if other.digest()? == digest {
        "same state"
    } else {
        "another state"
    })
}

/// What either driver has saved of a running device, either driver loads.
pub(super) fn interchange(results: &mut Results, vfs: &Vfs) {
    for from in Driver::BOTH {
        for to in Driver::BOTH {
            let name = format!("pre-copied by {}, loaded by {}", from.name(), to.name());
            results.test(&name, |_| {
                let (bytes, digest) = whole_stream(vfs.of(from).0)?;
                let mut slow = Cursor::new(&bytes);
                let vf = Vf::open(vfs.of(to).1, 16)?;
                let mut file = vf.device().begin(State::RESUMING)?;
                stream::copy(&mut slow, &mut file, |_| ())?;
                vf.device().set_state(State::RUNNING)?;
                ensure!(vf.digest()? == digest, "digests differ");
                Ok(())
            });
        }
    }
    results.test(
        "both drivers make the same stream of the same running device",
        |_| {
            let (c, _) = whole_stream(vfs.of(Driver::C).0)?;
            let (rust, _) = whole_stream(vfs.of(Driver::Rust).0)?;
            streams::same(&records::shared(&c)?, &records::shared(&rust)?)
        },
    );
}
