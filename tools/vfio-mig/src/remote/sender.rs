// SPDX-License-Identifier: GPL-2.0

//! The side that has the source.

use super::{
    connection::{
        connect,
        Connection,
        MAX_LINGER, //
    },
    ends::Ends,
    frames::{
        bad,
        reason,
        ABANDON,
        BARRIER,
        DATA,
        DONE,
        END,
        FAILED,
        HELLO,
        MAX_FRAME,
        START,
        VERSION, //
    },
};
use crate::{
    endpoint::Endpoint,
    error::{
        Context,
        Error,
        StreamContext, //
    },
    stream,
    target::Target,
    wait::Signals, //
};
use sha2::{
    Digest,
    Sha256, //
};
use std::{
    io::{
        self,
        Write, //
    },
    time::Duration, //
};

/// A host that waits in [`super::serve`].
pub struct RemoteTarget {
    pub(super) connection: Connection,
    peer: String,
    digest: Sha256,
    /// It has answered `HELLO`.
    greeted: bool,
    /// The receiver was told to start, and has not said that it has failed.
    started: bool,
    /// Nothing more can be sent: a frame was cut short, or the peer has failed or was silent
    /// until its time-out.
    pub(super) ended: bool,
}

impl RemoteTarget {
    /// Connects. A side that needs more than `timeout` for a step is given up.
    pub fn connect(to: &Endpoint, timeout: Duration) -> Result<Self, Error> {
        let ends = connect(to, timeout).and_then(Ends::tcp);
        let ends = ends.context(format!("connecting to {to}"))?;
        Ok(Self::over(ends, &to.to_string(), timeout))
    }

    /// As [`Self::connect`], of a receiver at the other end of `ends`, which are called
    /// `peer`.
    pub fn over(ends: Ends, peer: &str, timeout: Duration) -> Self {
        Self {
            connection: Connection::new(ends, timeout),
            peer: peer.to_string(),
            digest: Sha256::new(),
            greeted: false,
            started: false,
            ended: false,
        }
    }

    /// Finds out whether a receiver is there, which then has its device in RESUMING. So the
    /// source need not be opened for a migration that cannot begin.
    pub fn greet(&mut self) -> Result<(), Error> {
        if !self.greeted {
            self.request(HELLO, VERSION)?;
            self.greeted = true;
        }
        Ok(())
    }

    pub(super) fn send(&mut self, kind: u8, bytes: &[u8]) -> io::Result<()> {
        self.connection.send(kind, bytes).map_err(|err| {
            self.ended = true;
            // It may have said why before it closed the connection.
            match err.kind() {
                io::ErrorKind::ConnectionReset => self.hear().err().unwrap_or(err),
                _ => err,
            }
        })
    }

    /// Receives an answer.
    fn hear(&mut self) -> io::Result<()> {
        let mut answer = Vec::new();
        let err = match self.connection.receive(&mut answer) {
            Ok(DONE) => return Ok(()),
            Ok(FAILED) => {
                // A receiver that says FAILED does not run.
                self.started = false;
                io::Error::other(reason(&answer))
            }
            Ok(kind) => bad(format!("unexpected frame {kind:#x}")),
            Err(err) => err,
        };
        self.ended = true;
        Err(self.connection.ends.explain(err))
    }

    fn request(&mut self, kind: u8, bytes: &[u8]) -> Result<(), Error> {
        self.send(kind, bytes)
            .and_then(|()| self.hear())
            .context(self.peer.clone())
    }
}

impl Write for RemoteTarget {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Data is not answered, unless something has failed.
        if self.connection.has_heard() {
            self.hear()?;
            self.ended = true;
            return Err(bad("an answer to no request"));
        }
        let n = bytes.len().min(MAX_FRAME as usize);
        self.send(DATA, &bytes[..n])?;
        self.digest.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for RemoteTarget {
    fn prepare(&mut self) -> Result<(), Error> {
        self.greet()
    }

    fn wait_loaded(&mut self) -> Result<(), Error> {
        self.request(BARRIER, &[])
    }

    fn finish(&mut self) -> Result<(), Error> {
        let digest = self.digest.clone().finalize();
        self.request(END, &digest)
    }

    fn start(&mut self) -> Result<(), Error> {
        self.started = true;
        // Without the answer, nobody knows which of the two may run.
        self.connection.signals = Signals::Ignore;
        self.request(START, &[])
    }

    fn abandon(&mut self, why: &Error) -> Result<(), Error> {
        if self.started {
            // Without an answer, the destination may run.
            return Err(Error::MayRun(self.peer.clone()));
        }
        // A receiver whose process or connection has ended resets its device by itself.
        if !self.ended {
            self.connection.signals = Signals::Ignore;
            // The source is stopped until this returns. Without START, the receiver does
            // not run, whether it answers or not.
            self.connection.timeout = self.connection.timeout.min(MAX_LINGER);
            let _ = self.request(ABANDON, why.to_string().as_bytes());
        }
        Ok(())
    }

    fn explain(&self, err: Error) -> Error {
        err.stream_context(stream::WRITING, &self.peer)
    }

    fn checksum(&self) -> Option<String> {
        Some(format!("{:x}", self.digest.clone().finalize()))
    }
}
