// SPDX-License-Identifier: GPL-2.0

//! Another host as a [`crate::target::Target`], over TCP, or over whatever connects standard
//! input and output of two processes, such as ssh.
//!
//! Both sides send frames: a byte that says what it is, the length of its contents as a
//! little-endian u32, and the contents. The sender has `HELLO` (the version),
//! `DATA`, `BARRIER` (has it all been loaded?), `END` (SHA-256 of all data),
//! `START` and `ABANDON` (with a reason); the receiver answers all but `DATA` with `DONE`, or
//! with `FAILED` and a reason. It can send `FAILED` at any time. After `START`, `FAILED`
//! says that it has reset its device; where that has failed, too, it only closes the
//! connection. TCP has neither encryption nor authentication: for that, there is ssh.
//!
//! A side waits for the beginning of a frame as long as its timeout, and then as long
//! again until the frame is complete, however the bytes come. [`serve`] waits for a
//! `HELLO` from all that connect, at the same time.

mod callers;
mod command;
mod connection;
mod ends;
mod frames;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;

pub use ends::Ends;
pub use receiver::{
    refuse,
    serve,
    serve_one,
    Observer,
    Received, //
};
pub use sender::RemoteTarget;
