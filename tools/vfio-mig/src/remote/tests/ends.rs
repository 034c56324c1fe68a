// SPDX-License-Identifier: GPL-2.0

//! Two hosts at the ends of pipes, and at those of a command.

use super::{
    frames,
    send_state,
    terminated,
    Notes,
    Refused,
    LONG, //
};
use crate::{
    error::Error,
    remote::{
        ends::Ends,
        frames::{
            DATA,
            DONE,
            HELLO,
            VERSION, //
        },
        receiver::{
            serve_one_into,
            Received, //
        },
        sender::RemoteTarget, //
    },
    target::Target, //
};
use nix::{
    fcntl::OFlag,
    unistd::pipe2, //
};
use std::{
    fs::File,
    io::{
        Read,
        Write, //
    },
    thread::{
        self,
        JoinHandle, //
    },
    time::Duration, //
};

/// Two pipes: the ends of one host, and those of the other one.
fn pipes() -> (Ends, Ends) {
    let (our_from, their_to) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let (their_from, our_to) = pipe2(OFlag::O_CLOEXEC).unwrap();
    (
        Ends::blocking(our_from, our_to),
        Ends::blocking(their_from, their_to),
    )
}

type Serving = JoinHandle<(Result<Received, Error>, Notes)>;

fn serve(ends: Ends) -> Serving {
    thread::spawn(move || {
        let (mut notes, mut refused) = (Notes::default(), Refused::default());
        let result = serve_one_into(&mut notes, ends, "a pipe", LONG, &mut refused);
        assert!(refused.0.is_empty());
        (result, notes)
    })
}

#[test]
fn a_state_passes_through_pipes() {
    let (ours, theirs) = pipes();
    let serving = serve(theirs);
    let mut target = RemoteTarget::over(ours, "a pipe", LONG);
    target.greet().unwrap();
    send_state(&mut target).unwrap();
    let (result, notes) = serving.join().unwrap();
    let received = result.unwrap();
    assert_eq!((received.bytes, received.from.as_str()), (5, "a pipe"));
    assert_eq!(Some(received.sha256), target.checksum());
    assert_eq!(notes.written, b"state");
    assert_eq!(notes.steps, ["prepare", "wait", "finish", "start"]);
}

#[test]
fn more_passes_than_a_pipe_holds() {
    let state: Vec<u8> = (0..5 << 20).map(|i: u32| (i / 7) as u8).collect();
    let (ours, theirs) = pipes();
    let serving = serve(theirs);
    let mut target = RemoteTarget::over(ours, "a pipe", LONG);
    target.prepare().unwrap();
    target.write_all(&state).unwrap();
    target.finish().unwrap();
    target.start().unwrap();
    let (result, notes) = serving.join().unwrap();
    result.unwrap();
    assert!(notes.written == state);
}

#[test]
fn a_sender_that_dies_is_heard() {
    let (ours, theirs) = pipes();
    let serving = serve(theirs);
    let mut target = RemoteTarget::over(ours, "a pipe", LONG);
    target.prepare().unwrap();
    target.write_all(b"half a st").unwrap();
    drop(target);
    let (result, notes) = serving.join().unwrap();
    let err = result.unwrap_err();
    assert_eq!(err.errno(), Some(libc::ECONNRESET), "{err}");
    assert_eq!(notes.steps, ["prepare", "abandon"]);
}

/// Both ends, of which the other one is ready to receive.
fn ready_pipes() -> (Ends, Ends) {
    let (ours, mut theirs) = pipes();
    let to = theirs.to.as_mut().unwrap();
    to.write_all(&frames(&[(DONE, b"")])).unwrap();
    (ours, theirs)
}

#[test]
fn a_receiver_that_dies_is_heard() {
    let (ours, theirs) = ready_pipes();
    let mut target = RemoteTarget::over(ours, "a pipe", LONG);
    target.prepare().unwrap();
    target.write_all(b"half a st").unwrap();
    drop(theirs);
    let err = target.write_all(b"ate").unwrap_err();
    assert_eq!(err.kind(), std::io::ErrorKind::ConnectionReset, "{err}");
    target.abandon(&terminated()).unwrap();
}

#[test]
fn a_pipe_that_nobody_reads_is_not_waited_for_without_end() {
    let (ours, _theirs) = ready_pipes();
    let mut target = RemoteTarget::over(ours, "a pipe", Duration::from_millis(200));
    target.prepare().unwrap();
    let err = target.write_all(&[0; 1 << 20]).unwrap_err();
    let text = "the other side did not take a frame in 0.2 s (--timeout)";
    assert_eq!(err.to_string(), text);
}

/// What a receiver says and answers to this.
fn answer_to(bytes: &[u8]) -> (Error, String) {
    let (ours, theirs) = pipes();
    let serving = serve(theirs);
    let mut answer = String::new();
    let Ends { mut from, to, .. } = ours;
    let mut to: File = to.unwrap();
    to.write_all(bytes).unwrap();
    drop(to);
    from.read_to_string(&mut answer).ok();
    let (result, notes) = serving.join().unwrap();
    assert!(notes.steps.is_empty(), "{:?}", notes.steps);
    (result.unwrap_err(), answer)
}

#[test]
fn who_is_no_sender_is_told_so() {
    for (said, why) in [
        (frames(&[(DATA, b"data")]), "it did not say HELLO"),
        (
            frames(&[(HELLO, b"vfio-mig 2")]),
            "it speaks \"vfio-mig 2\"",
        ),
        (frames(&[(HELLO, &[b'x'; 65])]), "it did not say HELLO"),
        (
            b"GET / HTTP/1.0\r\n\r\n".to_vec(),
            "no vfio-mig: what it says begins with \"GET /\"",
        ),
        (frames(&[(HELLO, VERSION)])[..7].to_vec(), "closed"),
    ] {
        let (err, _) = answer_to(&said);
        assert!(err.to_string().contains(why), "{why}: {err}");
        assert!(err.to_string().starts_with("a pipe: "), "{err}");
    }
}

fn command(words: &[&str]) -> std::io::Result<Ends> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_string()).collect();
    Ends::command(&words, &words.join(" "), |_| ())
}

#[test]
fn a_command_that_fails_is_named_with_its_status() {
    for (words, why) in [
        (&["false"][..], "false ended with exit status: 1"),
        (&["sh", "-c", "kill -9 $$"], "ended with signal: 9"),
        (
            &["sh", "-c", "echo Welcome; exec cat"],
            "no vfio-mig: what it says begins with \"Welco\"",
        ),
        // It sends HELLO back.
        (&["cat"], "unexpected frame 0x1"),
    ] {
        let mut target = RemoteTarget::over(command(words).unwrap(), "a command", LONG);
        let text = target.greet().unwrap_err().to_string();
        assert!(
            text.starts_with("a command: ") && text.contains(why),
            "{text}"
        );
    }
    let err = command(&["/no/such/command"]).err().unwrap();
    assert_eq!(err.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_command_ignores_what_a_terminal_sends() {
    let script = "kill -INT $$; kill -HUP $$; exit 7";
    let mut target = RemoteTarget::over(command(&["sh", "-c", script]).unwrap(), "it", LONG);
    let text = target.greet().unwrap_err().to_string();
    assert!(text.ends_with("exit status: 7"), "{text}");
}
