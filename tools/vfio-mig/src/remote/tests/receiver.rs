// SPDX-License-Identifier: GPL-2.0

//! A receiver, and senders that are none of ours.

use super::{
    connected,
    frames,
    listen,
    peer,
    serve_notes,
    taken,
    trickle,
    Notes,
    LONG, //
};
use crate::{
    error::Error,
    remote::{
        connection::MAX_LINGER,
        frames::{
            ABANDON,
            BARRIER,
            DATA,
            DONE,
            END,
            FAILED,
            HELLO,
            START,
            VERSION, //
        },
        receiver::MAX_BARRIERS, //
    },
};
use sha2::{
    Digest,
    Sha256, //
};
use std::{
    io::{
        Read,
        Write, //
    },
    net::Shutdown,
    thread,
    time::{
        Duration,
        Instant, //
    },
};

#[test]
fn a_state_that_was_changed_on_the_way_is_not_loaded() {
    let digest = Sha256::digest(b"state");
    let (result, notes) = taken(&frames(&[
        (HELLO, VERSION),
        (DATA, b"other"),
        (END, &digest),
    ]));
    assert!(result.unwrap_err().to_string().contains("checksum"));
    assert_eq!(notes.steps, ["prepare", "abandon"]);
}

#[test]
fn frames_without_data_are_refused() {
    let (result, _) = taken(&frames(&[(HELLO, VERSION), (DATA, b"")]));
    assert!(result.unwrap_err().to_string().contains("without data"));
}

#[test]
fn a_state_without_bytes_is_not_started() {
    let digest = Sha256::digest(b"");
    let (result, notes) = taken(&frames(&[(HELLO, VERSION), (END, &digest), (START, b"")]));
    assert!(matches!(result, Err(Error::NothingToLoad)));
    assert_eq!(notes.steps, ["prepare", "abandon"]);
}

#[test]
fn nothing_unexpected_is_obeyed() {
    for bad in [
        frames(&[(HELLO, VERSION), (START, b"")]),
        frames(&[(HELLO, VERSION), (HELLO, VERSION)]),
        frames(&[(HELLO, VERSION), (ABANDON, b"")]),
        frames(&[(HELLO, VERSION), (9, b"")]),
        frames(&[(HELLO, VERSION), (BARRIER, b"x")]),
        frames(&[(HELLO, VERSION), (START, b"x")]),
        // It ends, in a header and in a frame.
        frames(&[(HELLO, VERSION)]),
        frames(&[(HELLO, VERSION), (DATA, b"x")])[..17].to_vec(),
        // A length that no frame has.
        [
            &frames(&[(HELLO, VERSION)])[..],
            &[DATA, 0xff, 0xff, 0xff, 0xff],
        ]
        .concat(),
    ] {
        let (result, notes) = taken(&bad);
        assert!(result.is_err(), "{bad:?}");
        assert_eq!(notes.steps, ["prepare", "abandon"], "{bad:?}");
    }
}

#[test]
fn who_has_nothing_to_send_does_not_keep_the_device() {
    let barriers = |n: u32| {
        let mut all = vec![(HELLO, VERSION)];
        all.extend((0..n).map(|_| (BARRIER, &b""[..])));
        all
    };
    let (result, notes) = taken(&frames(&barriers(MAX_BARRIERS + 1)));
    let text = result.unwrap_err().to_string();
    assert!(text.contains("again and again"), "{text}");
    assert_eq!(notes.steps.len(), MAX_BARRIERS as usize + 2);
    // It may ask as often as the rounds of pre-copy need it.
    let mut all = barriers(MAX_BARRIERS);
    all.push((DATA, b"state"));
    let digest = Sha256::digest(b"state");
    all.extend([(END, &digest[..]), (START, b"")]);
    assert_eq!(taken(&frames(&all)).0.unwrap().bytes, 5);
}

#[test]
fn who_sends_single_bytes_does_not_keep_the_device() {
    // On a busy host, the sender may get no processor for a while, which must not last as long.
    let timeout = Duration::from_secs(1);
    let (listener, at) = listen();
    let serving = serve_notes(listener, timeout, Notes::default());
    let mut sender = peer(at, &frames(&[(HELLO, VERSION)]));
    sender.set_nodelay(true).unwrap();
    let mut sent = 0;
    // Ends when the receiver fails; the limit is for a receiver that does not.
    while sent < 1000 && sender.write_all(&frames(&[(DATA, b"x")])).is_ok() {
        sent += 1;
        thread::sleep(Duration::from_millis(20));
    }
    let (result, notes, _) = serving.join().unwrap();
    let text = result.unwrap_err().to_string();
    assert!(text.contains("less than 64 KiB a second"), "{text}");
    assert_eq!(notes.steps, ["prepare", "abandon"]);
    assert!(sent < 1000);
}

#[test]
fn a_slow_sender_has_time_for_what_it_sends() {
    let (mut target, _peer) = connected(Duration::from_secs(60));
    let connection = &mut target.connection;
    for (waited, bytes, barriers, too_slow) in [
        (600, 0, 0, false),
        (601, 0, 0, true),
        (601, 0, 1, false),
        (601, 64 << 10, 0, false),
        (602, (128 << 10) - 1, 0, true),
        (600 + (1 << 16), 4 << 30, 0, false),
    ] {
        connection.waited = Duration::from_secs(waited);
        let is = connection.is_too_slow(bytes, barriers);
        assert_eq!(is, too_slow, "{waited} s, {bytes} bytes, {barriers}");
    }
}

#[test]
fn a_receiver_that_has_failed_reads_on() {
    let (listener, at) = listen();
    let notes = Notes {
        room: Some(0),
        ..Notes::default()
    };
    let serving = serve_notes(listener, LONG, notes);
    let mut peer = peer(at, &frames(&[(HELLO, VERSION), (DATA, b"x")]));
    // Does not read what comes back.
    for _ in 0..64 {
        peer.write_all(&[0; 64 << 10]).unwrap();
    }
    peer.shutdown(Shutdown::Write).unwrap();
    let mut answers = Vec::new();
    peer.read_to_end(&mut answers).unwrap();
    let why = b"writing the device's state after 0 bytes: there is no room";
    assert_eq!(answers, frames(&[(DONE, b""), (FAILED, why)]));
    assert!(serving.join().unwrap().0.is_err());
}

#[test]
fn a_receiver_that_has_failed_does_not_read_for_ever() {
    let (listener, at) = listen();
    let serving = serve_notes(listener, LONG, Notes::default());
    let begin = Instant::now();
    let peer = peer(at, &frames(&[(HELLO, VERSION), (START, b"")]));
    let slow = trickle(peer);
    assert!(serving.join().unwrap().0.is_err());
    assert!(begin.elapsed() < MAX_LINGER * 2);
    slow.join().unwrap();
}
