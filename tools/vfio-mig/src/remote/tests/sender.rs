// SPDX-License-Identifier: GPL-2.0

//! A sender, and receivers that are none of ours.

use super::{
    connect_to,
    connected,
    frames,
    listen,
    serve_notes,
    terminated,
    trickle,
    Notes,
    LONG, //
};
use crate::{
    remote::{
        connection::MAX_LINGER,
        frames::{
            ABANDON,
            DATA,
            DONE,
            FAILED,
            HEADER,
            MAX_FRAME, //
        },
        sender::RemoteTarget, //
    },
    target::Target, //
};
use std::{
    io::{
        self,
        Read,
        Write, //
    },
    time::{
        Duration,
        Instant, //
    },
};

#[test]
fn a_silent_peer_is_waited_for_once() {
    let timeout = Duration::from_millis(200);
    let (mut target, _peer) = connected(timeout);
    let begin = Instant::now();
    let err = target.prepare().unwrap_err();
    target.abandon(&terminated()).unwrap();
    assert!((timeout..timeout * 2).contains(&begin.elapsed()));
    assert_eq!(err.errno(), Some(libc::ETIMEDOUT));
    let text = err.to_string();
    assert!(text.contains("did nothing for 0.2 s"), "{text}");
}

#[test]
fn a_peer_that_takes_nothing_is_waited_for_once() {
    let timeout = Duration::from_millis(200);
    let (mut target, _peer) = connected(timeout);
    let piece = vec![0; MAX_FRAME as usize];
    let err = loop {
        if let Err(err) = target.write_all(&piece) {
            break err;
        }
    };
    assert!(
        err.to_string().contains("did not take a frame in 0.2 s"),
        "{err}"
    );
    let begin = Instant::now();
    target.abandon(&terminated()).unwrap();
    assert!(begin.elapsed() < timeout);
}

#[test]
fn a_frame_must_be_complete_in_time() {
    let timeout = Duration::from_millis(200);
    let (mut target, mut peer) = connected(timeout);
    peer.write_all(&[DONE, 0xff, 0xff, 0, 0]).unwrap();
    let slow = trickle(peer);
    let begin = Instant::now();
    let text = target.prepare().unwrap_err().to_string();
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
    assert!(text.contains("did not end a frame in 0.2 s"), "{text}");
    drop(target);
    slow.join().unwrap();
}

#[test]
fn a_peer_that_is_gone_has_closed_the_connection() {
    let (mut target, peer) = connected(LONG);
    drop(peer);
    let text = target.prepare().unwrap_err().to_string();
    assert!(text.ends_with("has closed the connection"), "{text}");
}

/// Writes until the peer has failed.
fn write_until_failure(target: &mut RemoteTarget) -> io::Error {
    let piece = vec![1; MAX_FRAME as usize];
    for _ in 0..1 << 10 {
        if let Err(err) = target.write_all(&piece) {
            return err;
        }
    }
    panic!("the peer takes all of it");
}

#[test]
fn a_sender_hears_why_its_data_are_not_taken() {
    let (listener, at) = listen();
    let notes = Notes {
        room: Some(3 << 20),
        ..Notes::default()
    };
    let serving = serve_notes(listener, LONG, notes);
    let mut target = connect_to(at, LONG);
    target.prepare().unwrap();
    let err = write_until_failure(&mut target);
    let text = "writing the device's state after 3145728 bytes: there is no room";
    assert_eq!(err.to_string(), text);
    let begin = Instant::now();
    target.abandon(&terminated()).unwrap();
    drop(target);
    let (result, notes, _) = serving.join().unwrap();
    assert_eq!(result.unwrap_err().to_string(), text);
    assert_eq!(notes.steps, ["prepare", "abandon"]);
    // After that, neither call waits.
    assert!(begin.elapsed() < MAX_LINGER);
}

#[test]
fn a_reason_is_heard_before_a_reset() {
    let (mut target, mut peer) = connected(LONG);
    target.write_all(b"data").unwrap();
    peer.write_all(&frames(&[(FAILED, b"no room")])).unwrap();
    // The peer closes without having read the data, so the connection is reset.
    drop(peer);
    assert_eq!(target.send(DATA, b"x").unwrap_err().to_string(), "no room");
    let (mut target, mut peer) = connected(LONG);
    peer.write_all(&frames(&[(DONE, b"")])).unwrap();
    while !target.connection.has_heard() {}
    let err = target.write_all(b"x").unwrap_err();
    assert!(err.to_string().contains("no request"), "{err}");
}

#[test]
fn a_stopped_source_does_not_wait_long_for_a_receiver_to_forget() {
    let (mut target, mut peer) = connected(LONG);
    peer.write_all(&frames(&[(DONE, b"")])).unwrap();
    target.abandon(&terminated()).unwrap();
    assert_eq!(target.connection.timeout, MAX_LINGER);
    let why = b"interrupted by SIGTERM";
    let mut heard = [0; HEADER + 22];
    peer.read_exact(&mut heard).unwrap();
    assert_eq!(heard[..], frames(&[(ABANDON, why)]));
}
