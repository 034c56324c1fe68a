// SPDX-License-Identifier: GPL-2.0

//! Data transfer sessions, and their files.

use super::{
    require,
    require_errno,
    shown,
    site::{
        drain,
        require_state,
        reset, //
    },
    skip,
    Site,
    Stop,
    Test,
    Verdict, //
};
use crate::{
    state::{
        Features,
        State, //
    },
    stream::{
        self,
        End, //
    },
    uapi, //
};
use std::{
    fs::File,
    io::{
        self,
        Read,
        Seek,
        SeekFrom,
        Write, //
    },
    os::{
        fd::AsFd,
        unix::fs::FileExt, //
    },
};

/// Number of reads after the end of a stream, each of which must say end again.
const AGAIN: usize = 5;

fn is_a_stream(site: &Site) -> Verdict {
    for state in [State::STOP_COPY, State::RESUMING] {
        let (_device, mut file) = site.open_session(state)?;
        let of = |what: &str| format!("{what} in {state}");
        for to in [SeekFrom::Start(0), SeekFrom::Current(0), SeekFrom::End(0)] {
            require_errno(file.seek(to), libc::ESPIPE, &of("lseek"))?;
        }
        let mut byte = [0];
        if state == State::STOP_COPY {
            require_errno(file.read_at(&mut byte, 0), libc::ESPIPE, &of("pread"))?;
        } else {
            require_errno(file.write_at(&byte, 0), libc::ESPIPE, &of("pwrite"))?;
        }
    }
    Ok(())
}

fn has_one_direction(site: &Site) -> Verdict {
    let (device, mut file) = site.open_session(State::STOP_COPY)?;
    require_errno(file.write(&[0]), libc::EBADF, "writing what is for reading")?;
    drop((device, file));
    let (_device, mut file) = site.open_session(State::RESUMING)?;
    require_errno(
        file.read(&mut [0]),
        libc::EBADF,
        "reading what is for writing",
    )
}

fn state_can_be_read_out(site: &Site) -> Verdict {
    let bytes = site.saved()?.len();
    require(bytes > 0, || "there is none".to_string())
}

fn end_is_for_ever(site: &Site) -> Verdict {
    let (_device, mut file) = site.open_session(State::STOP_COPY)?;
    let (_, end) = drain(&mut file)?;
    require(end == End::Final, || "reading ends in ENOMSG".to_string())?;
    for _ in 0..AGAIN {
        match file.read(&mut [0; 64]) {
            Ok(0) => (),
            Ok(n) => return require(false, || format!("{n} bytes come after the end")),
            Err(err) => return require(false, || format!("{} after the end", shown(&err))),
        }
    }
    let ready = uapi::poll(file.as_fd(), libc::POLLIN, 0)?;
    require(ready & libc::POLLIN != 0, || {
        "poll does not say readable at the end".to_string()
    })
}

/// Once with all data of PRE_COPY read, and once with none of them read.
fn no_enomsg_in_stop_copy(site: &Site) -> Verdict {
    for read_first in [true, false] {
        let (device, mut file) = site.open_session(State::PRE_COPY)?;
        if read_first {
            drain(&mut file)?;
        }
        device.set_state(State::STOP_COPY)?;
        let (_, end) = drain(&mut file)?;
        require(end == End::Final, || "reading ends in ENOMSG".to_string())?;
    }
    Ok(())
}

/// Reads without ever waiting, except by poll.
fn read_nonblocking(file: &mut File) -> Result<u64, Stop> {
    uapi::set_nonblocking(file.as_fd(), true)?;
    let mut buf = vec![0; 1 << 16];
    let mut bytes = 0;
    loop {
        match file.read(&mut buf) {
            Ok(0) => return Ok(bytes),
            Ok(n) => bytes += n as u64,
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                uapi::poll(file.as_fd(), libc::POLLIN, -1)?;
            }
            Err(err) => return Err(Stop::Fail(format!("after {bytes} bytes: {}", shown(&err)))),
        }
    }
}

fn nonblocking(site: &Site) -> Verdict {
    let bytes = site.saved()?.len() as u64;
    let (_device, mut file) = site.open_session(State::STOP_COPY)?;
    let read = read_nonblocking(&mut file)?;
    require(read == bytes, || {
        format!("{read} bytes without waiting, {bytes} with")
    })
}

/// A session that is over must not return data, nor an end of file, which user space would
/// take for the end of a state.
fn require_over(mut file: &File, after: &str) -> Verdict {
    match file.read(&mut [0; 64]) {
        Ok(0) => require(false, || format!("{after}: the stream has come to its end")),
        Ok(n) => require(false, || format!("{after}: {n} bytes come")),
        Err(err) if err.raw_os_error() == Some(libc::ENOMSG) => {
            require(false, || format!("{after}: ENOMSG, as if more would come"))
        }
        Err(_) => Ok(()),
    }
}

fn ends(site: &Site, from: State, to: State) -> Verdict {
    let (device, file) = site.open_session(from)?;
    device.set_state(to)?;
    require_over(&file, &format!("in {to}"))
}

fn stop_ends_stop_copy(site: &Site) -> Verdict {
    ends(site, State::STOP_COPY, State::STOP)
}

fn running_ends_precopy(site: &Site) -> Verdict {
    ends(site, State::PRE_COPY, State::RUNNING)
}

fn running_ends_precopy_p2p(site: &Site) -> Verdict {
    ends(site, State::PRE_COPY_P2P, State::RUNNING_P2P)
}

fn stop_ends_resuming(site: &Site) -> Verdict {
    let state = site.saved()?;
    let (device, mut file) = site.open_session(State::RESUMING)?;
    file.write_all(&state)?;
    device.set_state(State::STOP)?;
    require(file.write(&state).is_err(), || {
        "more can be written in STOP".to_string()
    })
}

/// The whole group of states has one file, and all that is read from it can be loaded.
fn saving_group_shares_a_session(site: &Site) -> Verdict {
    let (device, features) = site.open_running()?;
    require_state(features, State::PRE_COPY)?;
    let mut file = device.begin(State::PRE_COPY)?;
    let mut state = Vec::new();
    let p2p = features.0 & Features::P2P != 0;
    let way: &[State] = if p2p {
        &[State::PRE_COPY_P2P, State::PRE_COPY, State::PRE_COPY_P2P]
    } else {
        &[]
    };
    for next in way.iter().chain(&[State::STOP_COPY]) {
        stream::copy_available(&mut file, &mut state, |_| ())?;
        let another = device.set_state(*next)?;
        require(another.is_none(), || {
            format!("{next} comes with another fd")
        })?;
    }
    stream::copy(&mut file, &mut state, |_| ())?;
    drop((device, file));
    load(site, &state, usize::MAX)
}

/// Loads a state in pieces, into the second device where there is one.
fn load(site: &Site, state: &[u8], piece: usize) -> Verdict {
    let device = site.open_to_load()?;
    let mut file = device.begin(State::RESUMING)?;
    for piece in state.chunks(piece) {
        file.write_all(piece)?;
    }
    device.set_state(State::RUNNING)?;
    Ok(())
}

fn segmentation_does_not_matter(site: &Site) -> Verdict {
    let state = site.saved()?;
    // Small pieces of a large state take too long, and would find nothing else.
    for piece in [1, 7, 4096, 65537] {
        if state.len() / piece < 1 << 14 {
            load(site, &state, piece)?;
        }
    }
    load(site, &state, state.len())
}

/// Reads in pieces whose lengths are not those of the driver's records.
fn reads_of_any_size(site: &Site) -> Verdict {
    let (_device, mut file) = site.open_session(State::STOP_COPY)?;
    let mut state = Vec::new();
    let mut sizes = [1, 3, 24, 4095, 100_000].into_iter().cycle();
    loop {
        let mut buf = vec![0; sizes.next().unwrap_or(1)];
        match file.read(&mut buf)? {
            0 => break,
            n => state.extend_from_slice(&buf[..n]),
        }
    }
    drop((_device, file));
    load(site, &state, usize::MAX)
}

fn moves_to_a_compatible_device(site: &Site) -> Verdict {
    if site.second.is_none() {
        return skip("needs a second device");
    }
    let state = site.saved()?;
    load(site, &state, usize::MAX)
}

fn empty_reads_and_writes(site: &Site) -> Verdict {
    let (device, mut file) = site.open_session(State::STOP_COPY)?;
    let n = file.read(&mut [])?;
    require(n == 0, || format!("reading nothing returns {n}"))?;
    let (bytes, _) = drain(&mut file)?;
    require(bytes > 0, || {
        "after reading nothing, nothing is left".to_string()
    })?;
    drop((device, file));
    let state = site.saved()?;
    let (device, mut file) = site.open_session(State::RESUMING)?;
    let n = file.write(&[])?;
    require(n == 0, || format!("writing nothing returns {n}"))?;
    file.write_all(&state)?;
    device.set_state(State::STOP)?;
    Ok(())
}

fn closed_before_its_time(site: &Site) -> Verdict {
    let features = site.open_running()?.1;
    for state in [State::STOP_COPY, State::PRE_COPY, State::PRE_COPY_P2P] {
        if !features.supports(state) {
            continue;
        }
        let (device, mut file) = site.open_session(state)?;
        let _ = file.read(&mut [0; 3])?;
        drop(file);
        device.set_state(State::RUNNING)?;
    }
    // An incomplete state can only be given up.
    let (device, mut file) = site.open_session(State::RESUMING)?;
    file.write_all(&[0])?;
    drop(file);
    reset(&device)?;
    let state = device.state()?;
    require(state == State::RUNNING, || {
        format!("a reset leads to {state}")
    })
}

fn outlives_the_device(site: &Site) -> Verdict {
    let (device, file) = site.open_session(State::STOP_COPY)?;
    drop(device);
    require_over(&file, "the device is closed")?;
    // Nor does it hinder the next one.
    let device = site.open_as_left()?;
    let state = device.state()?;
    require(state == State::RUNNING, || format!("it is in {state}"))
}

fn no_session_left_by_a_refusal(site: &Site) -> Verdict {
    let (device, mut file) = site.open_session(State::STOP_COPY)?;
    let features = device.features()?;
    require_state(features, State::PRE_COPY)?;
    let refused = device.set_state(State::PRE_COPY);
    require(refused.is_err(), || "the request succeeds".to_string())?;
    let (bytes, end) = drain(&mut file)?;
    require(bytes > 0 && end == End::Final, || {
        format!("{bytes} bytes, and then {end:?}")
    })
}

pub fn tests() -> Vec<Test> {
    const OVER_THE_FD: &str = "in this case the migration data will flow over the FD using \
                               read() and write() as discussed below.";
    vec![
        Test::uapi("session.no_position", 1081, OVER_THE_FD, is_a_stream),
        Test::uapi(
            "session.one_direction",
            1081,
            OVER_THE_FD,
            has_one_direction,
        ),
        Test::uapi(
            "session.state_is_read_out",
            1087,
            "STOP_COPY - The device internal state can be read out",
            state_can_be_read_out,
        ),
        Test::uapi(
            "session.end",
            1306,
            "Once in STOP_COPY the migration data FD has a permanent end of stream signaled \
             in the usual way by read() always returning 0 and poll always returning \
             readable.",
            end_is_for_ever,
        ),
        Test::uapi(
            "session.no_enomsg_in_stop_copy",
            1308,
            "ENOMSG may not be returned in STOP_COPY.",
            no_enomsg_in_stop_copy,
        ),
        Test::expected(
            "session.nonblocking",
            "O_NONBLOCK reads return EAGAIN instead of waiting, and poll waits",
            nonblocking,
        ),
        Test::uapi(
            "session.stop_copy_to_stop",
            1112,
            "The STOP_COPY arc will terminate a data transfer session.",
            stop_ends_stop_copy,
        ),
        Test::uapi(
            "session.pre_copy_to_running",
            1135,
            "The PRE_COPY arc will terminate a data transfer session.",
            running_ends_precopy,
        ),
        Test::uapi(
            "session.pre_copy_p2p_to_running_p2p",
            1143,
            "The PRE_COPY_P2P arc will terminate a data transfer session.",
            running_ends_precopy_p2p,
        ),
        Test::uapi(
            "session.resuming_to_stop",
            1115,
            "Leaving RESUMING terminates a data transfer session",
            stop_ends_resuming,
        ),
        Test::uapi(
            "session.saving_group",
            1149,
            "Moving between these states alters what is streamed in session, but does not \
             terminate or otherwise affect the associated fd.",
            saving_group_shares_a_session,
        ),
        Test::uapi(
            "session.segmentation",
            1066,
            "The user is not required to preserve buffer segmentation when writing the data \
             stream during the RESUMING operation.",
            segmentation_does_not_matter,
        ),
        Test::uapi(
            "session.reads_of_any_size",
            1064,
            "The user must consider the migration data stream carried over the FD to be \
             opaque and must preserve the byte order of the stream.",
            reads_of_any_size,
        ),
        Test::uapi(
            "session.compatible_device",
            1182,
            "The data stream fed into the data_fd should be taken from the data transfer \
             output of a single FD during saving from a compatible device.",
            moves_to_a_compatible_device,
        ),
        Test::expected(
            "session.empty_reads_and_writes",
            "read() and write() of no bytes do nothing",
            empty_reads_and_writes,
        ),
        Test::uapi(
            "session.closed_early",
            1063,
            "The user is responsible to close this FD when it is finished.",
            closed_before_its_time,
        ),
        Test::expected(
            "session.outlives_the_device",
            "a data fd that was left open neither reads as a whole state nor hinders anyone",
            outlives_the_device,
        ),
        Test::uapi(
            "session.survives_a_refused_request",
            1190,
            "These arcs are not permitted and return error if requested.",
            no_session_left_by_a_refusal,
        ),
    ]
}
