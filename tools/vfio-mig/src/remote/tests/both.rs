// SPDX-License-Identifier: GPL-2.0

//! Both sides.

use super::{
    connect_to,
    connected,
    frames,
    listen,
    send_state,
    serve_notes,
    terminated,
    Notes,
    LONG, //
};
use crate::{
    error::Error,
    remote::frames::{
        reason,
        DONE,
        MAX_REASON, //
    },
    target::Target, //
};
use std::{
    io::Write,
    net::Shutdown,
    time::Duration, //
};

#[test]
fn a_state_arrives_whole() {
    let (listener, at) = listen();
    let serving = serve_notes(listener, LONG, Notes::default());
    let mut target = connect_to(at, LONG);
    send_state(&mut target).unwrap();
    let (result, notes, refused) = serving.join().unwrap();
    let received = result.unwrap();
    assert_eq!(received.bytes, 5);
    assert_eq!(Some(received.sha256), target.checksum());
    assert_eq!(notes.written, b"state");
    assert_eq!(notes.steps, ["prepare", "wait", "finish", "start"]);
    assert!(refused.0.is_empty());
}

#[test]
fn the_reason_of_a_peer_commands_no_terminal() {
    assert_eq!(reason(b"no room\nleft"), "no room left");
    let shown = reason(b"\r\x1b[2Kdone\x07\xff");
    assert_eq!(shown, "\u{fffd}\u{fffd}[2Kdone\u{fffd}\u{fffd}");
    assert_eq!(reason("a\u{202e}b".as_bytes()), "a\u{fffd}b");
    assert_eq!(reason(&[b'a'; 1 << 20]).len(), MAX_REASON);
}

#[test]
fn a_sender_can_give_up() {
    let (listener, at) = listen();
    let serving = serve_notes(listener, LONG, Notes::default());
    let mut target = connect_to(at, LONG);
    target.prepare().unwrap();
    target.write_all(b"data").unwrap();
    target.abandon(&terminated()).unwrap();
    assert!(!target.ended, "the receiver has not answered");
    drop(target);
    let (result, notes, _) = serving.join().unwrap();
    let text = result.unwrap_err().to_string();
    assert_eq!(text, "the sender has given up: interrupted by SIGTERM");
    assert_eq!(notes.steps, ["prepare", "abandon"]);
}

#[test]
fn a_receiver_that_may_run_is_not_abandoned() {
    let bad_frame = frames(&[(9, b"")]);
    let too_long = [DONE, 0xff, 0xff, 0xff, 0xff];
    // The peer is gone, or sends what is no answer.
    for answer in [&b""[..], &[DONE], &bad_frame, &too_long] {
        let (mut target, mut peer) = connected(LONG);
        peer.write_all(&frames(&[(DONE, b"")])).unwrap();
        target.prepare().unwrap();
        peer.write_all(answer).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert!(target.start().is_err());
        let text = target.abandon(&terminated()).unwrap_err().to_string();
        assert!(text.ends_with("was told to start"), "{text}");
    }
    let (mut target, _peer) = connected(Duration::from_millis(200));
    assert!(target.start().is_err());
    assert!(target.abandon(&terminated()).is_err());
}

/// Has a state sent to a receiver where these steps fail. Returns what the sender
/// says, what becomes of it when it then gives up, and the receiver's steps.
fn send_in_vain(fails: &'static [&'static str]) -> (Error, Result<(), Error>, Vec<&'static str>) {
    let (listener, at) = listen();
    let notes = Notes {
        fails,
        ..Notes::default()
    };
    let serving = serve_notes(listener, LONG, notes);
    let mut target = connect_to(at, LONG);
    let err = send_state(&mut target).unwrap_err();
    let abandoned = target.abandon(&terminated());
    drop(target);
    let (result, notes, _) = serving.join().unwrap();
    assert!(result.is_err());
    (err, abandoned, notes.steps)
}

#[test]
fn the_source_goes_on_if_the_receiver_does_not() {
    let (err, abandoned, steps) = send_in_vain(&["start"]);
    assert!(err.to_string().contains("start: "), "{err}");
    // The device was reset: nobody else has the state.
    abandoned.unwrap();
    assert_eq!(steps, ["prepare", "wait", "finish", "start", "abandon"]);

    // It runs in neither place, or in the wrong one: the receiver must not say FAILED.
    let (err, abandoned, _) = send_in_vain(&["start", "abandon"]);
    assert_eq!(err.errno(), Some(libc::ECONNRESET), "{err}");
    assert!(abandoned.is_err());

    // Before START it cannot run.
    let (err, abandoned, _) = send_in_vain(&["finish", "abandon"]);
    assert!(err.to_string().contains("finish: "), "{err}");
    abandoned.unwrap();
}
