// SPDX-License-Identifier: GPL-2.0

//! Peers that connect, and are no senders.

use super::{
    connect_to,
    frames,
    listen,
    peer,
    send_state,
    serve_notes,
    trickle,
    Notes,
    Refused,
    LONG, //
};
use crate::remote::{
    callers::{
        accept_all,
        MAX_CALLERS, //
    },
    frames::{
        reason,
        FAILED,
        HEADER,
        HELLO,
        VERSION, //
    },
};
use std::{
    io::{
        Read,
        Write, //
    },
    time::{
        Duration,
        Instant, //
    },
};

#[test]
fn who_is_no_sender_does_not_use_the_receiver_up() {
    let (listener, at) = listen();
    // These all connect before the sender, which must not have to wait for them.
    let silent = peer(at, b"");
    let slow = peer(at, &[HELLO, 10, 0]);
    let scanner = peer(at, b"");
    let scanned = scanner.local_addr().unwrap();
    drop(scanner);
    let browser = peer(at, b"GET / HTTP/1.0\r\n\r\n");
    let long = peer(at, &[HELLO, 65, 0, 0, 0]);
    let newer = peer(at, &frames(&[(HELLO, b"vfio-mig 2\x1b")]));
    let begin = Instant::now();
    let serving = serve_notes(listener, LONG, Notes::default());
    send_state(&mut connect_to(at, LONG)).unwrap();
    let (result, notes, refused) = serving.join().unwrap();
    assert_eq!(result.unwrap().bytes, 5);
    assert!(begin.elapsed() < LONG / 2);
    assert_eq!(notes.steps, ["prepare", "wait", "finish", "start"]);
    refused.require(scanned, "closed the connection before HELLO");
    let first = "another sender came first";
    let version = r#"it speaks "vfio-mig 2\u{1b}", and not "vfio-mig 1""#;
    for (mut peer, why) in [
        (silent, first),
        (slow, first),
        (browser, "did not say HELLO"),
        (long, "did not say HELLO"),
        (newer, version),
    ] {
        refused.require(peer.local_addr().unwrap(), why);
        // The peer is told the reason, too.
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).unwrap();
        assert_eq!(answer.first(), Some(&FAILED), "{why}");
        let told = reason(&answer[HEADER..]);
        assert!(told.contains(why), "{told}");
    }
    assert_eq!(refused.0.len(), 6, "{:?}", refused.0);
}

#[test]
fn who_says_hello_too_slowly_is_refused() {
    let (listener, at) = listen();
    let timeout = Duration::from_millis(200);
    let begin = Instant::now();
    let serving = serve_notes(listener, timeout, Notes::default());
    let silent = peer(at, b"");
    let slow = peer(at, &[HELLO]);
    let slow_at = slow.local_addr().unwrap();
    let trickling = trickle(slow);
    let mut answer = Vec::new();
    (&silent).read_to_end(&mut answer).unwrap();
    assert!(begin.elapsed() >= timeout);
    trickling.join().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(2));
    send_state(&mut connect_to(at, LONG)).unwrap();
    let (result, _, refused) = serving.join().unwrap();
    assert_eq!(result.unwrap().bytes, 5);
    refused.require(silent.local_addr().unwrap(), "did not say HELLO in 0.2 s");
    refused.require(slow_at, "HELLO");
}

#[test]
fn many_who_say_nothing_keep_no_sender_out() {
    let (listener, at) = listen();
    let silent: Vec<_> = (0..MAX_CALLERS + 8).map(|_| peer(at, b"")).collect();
    let serving = serve_notes(listener, LONG, Notes::default());
    send_state(&mut connect_to(at, LONG)).unwrap();
    let (result, _, refused) = serving.join().unwrap();
    assert_eq!(result.unwrap().bytes, 5);
    assert_eq!(refused.0.len(), silent.len(), "{:?}", refused.0);
    refused.require(silent[0].local_addr().unwrap(), "too many others");
}

#[test]
fn a_sender_that_has_said_hello_is_heard() {
    let (listener, at) = listen();
    listener.set_nonblocking(true).unwrap();
    let mut sender = peer(at, b"");
    let from = sender.local_addr().unwrap();
    let silent: Vec<_> = (1..MAX_CALLERS).map(|_| peer(at, b"")).collect();
    let mut callers = Vec::new();
    let mut refused = Refused::default();
    while callers.len() < MAX_CALLERS {
        accept_all(&listener, &mut callers, LONG, &mut refused).unwrap();
    }
    // Before the receiver looks again, the first peer says HELLO, and one more connects.
    sender.write_all(&frames(&[(HELLO, VERSION)])).unwrap();
    while callers[0].stream.peek(&mut [0]).is_err() {}
    let late = peer(at, b"");
    while refused.0.is_empty() {
        accept_all(&listener, &mut callers, LONG, &mut refused).unwrap();
    }
    refused.require(silent[0].local_addr().unwrap(), "too many others");
    assert_eq!((callers[0].from, callers.len()), (from, MAX_CALLERS));
    assert!(callers[0].listen().unwrap());
    drop(late);
}
