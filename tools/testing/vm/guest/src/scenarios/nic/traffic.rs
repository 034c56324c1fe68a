// SPDX-License-Identifier: GPL-2.0

//! Traffic whose bytes are known: streams that end, and one that goes on while something is
//! changed.

use crate::net::{
    End,
    Host,
    Received,
    Sequence, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    io::{
        Read,
        Write, //
    },
    net::{
        IpAddr,
        Shutdown,
        TcpListener,
        TcpStream, //
    },
    sync::{
        atomic::{
            AtomicBool,
            AtomicU64,
            Ordering, //
        },
        Arc, //
    },
    thread::{
        self,
        JoinHandle, //
    },
    time::{
        Duration,
        Instant, //
    },
};

/// Bytes of a stream.
const STREAM: u64 = 4 << 20;
/// Bytes that must arrive after a change.
const PROGRESS: u64 = 1 << 20;
/// How long that may take: lost packets are sent again later and later.
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes a sequence until `goes_on` says otherwise, and then its end.
fn write(mut to: TcpStream, sequence: Sequence, goes_on: impl Fn(u64) -> bool) -> Result<()> {
    let mut data = vec![0; 1 << 16];
    let mut at = 0;
    while goes_on(at) {
        sequence.fill(at, &mut data);
        to.write_all(&data)?;
        at += data.len() as u64;
    }
    Ok(to.shutdown(Shutdown::Write)?)
}

/// Reads a sequence to its end. Returns its length.
fn read(mut from: TcpStream, sequence: Sequence, arrived: &AtomicU64) -> Result<u64> {
    let mut data = vec![0; 1 << 16];
    let mut received = Received::new(sequence);
    loop {
        let n = from.read(&mut data)?;
        if n == 0 {
            return Ok(received.bytes);
        }
        received.take(&data[..n]);
        let Received { bytes, wrong, .. } = received;
        ensure!(wrong == 0, "{wrong} of {bytes} bytes are wrong");
        arrived.store(bytes, Ordering::Relaxed);
    }
}

/// Connects a host to an address of another one.
fn connect(from: &Host, to: &Host, address: IpAddr) -> Result<(TcpStream, TcpStream)> {
    let listener = to.run(move || Ok(TcpListener::bind((address, 0))?))?;
    let port = listener.local_addr()?.port();
    let one = from.run(move || Ok(TcpStream::connect((address, port))?))?;
    Ok((one, listener.accept()?.0))
}

fn join<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().ok().context("a thread has died")?
}

/// Streams both ways at once to an address of a host, and compares what arrives.
pub fn stream_to(from: &Host, to: &Host, address: IpAddr) -> Result<()> {
    let (one, other) = connect(from, to, address)?;
    let mut writers = Vec::new();
    let mut readers = Vec::new();
    for (stream, end) in [(&one, End::Guest), (&other, End::Peer)] {
        let (to, from) = (stream.try_clone()?, stream.try_clone()?);
        let own = Sequence::new(0, end);
        let others = Sequence::new(0, end.other());
        writers.push(thread::spawn(move || write(to, own, |at| at < STREAM)));
        readers.push(thread::spawn(move || {
            read(from, others, &AtomicU64::new(0))
        }));
    }
    for writer in writers {
        join(writer)?;
    }
    for reader in readers {
        let len = join(reader)?;
        ensure!(len == STREAM, "{len} bytes");
    }
    Ok(())
}

/// Streams both ways at once between hosts, and compares what arrives.
pub fn stream(from: &Host, to: &Host) -> Result<()> {
    stream_to(from, to, to.address().into())
}

/// Sends a stream to whoever echoes it, and compares what comes back.
pub fn echo(stream: &TcpStream) -> Result<()> {
    let (to, from) = (stream.try_clone()?, stream.try_clone()?);
    let sequence = || Sequence::new(0, End::Guest);
    let own = sequence();
    let writer = thread::spawn(move || write(to, own, |at| at < STREAM));
    let len = read(from, sequence(), &AtomicU64::new(0))?;
    join(writer)?;
    ensure!(len == STREAM, "{len} bytes come back");
    Ok(())
}

/// A stream each way that goes on until it is ended.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    arrived: [Arc<AtomicU64>; 2],
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Traffic {
    /// Begins.
    pub fn start(from: &Host, to: &Host) -> Result<Self> {
        let (one, other) = connect(from, to, to.address().into())?;
        let stop = Arc::new(AtomicBool::new(false));
        let arrived = [0; 2].map(|_| Arc::new(AtomicU64::new(0)));
        let mut threads = Vec::new();
        let ends = [(one, End::Guest), (other, End::Peer)];
        for ((stream, end), arrived) in ends.into_iter().zip(&arrived) {
            let (to, stop) = (stream.try_clone()?, stop.clone());
            let goes_on = move |_| !stop.load(Ordering::Relaxed);
            let own = Sequence::new(0, end);
            threads.push(thread::spawn(move || write(to, own, goes_on)));
            let others = Sequence::new(0, end.other());
            let arrived = arrived.clone();
            threads.push(thread::spawn(move || {
                read(stream, others, &arrived).map(drop)
            }));
        }
        Ok(Self {
            stop,
            arrived,
            threads,
        })
    }

    /// Waits until more has arrived at both ends.
    pub fn goes_on(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        for arrived in &self.arrived {
            let before = arrived.load(Ordering::Relaxed);
            while arrived.load(Ordering::Relaxed) < before + PROGRESS {
                let alive = self.threads.iter().all(|thread| !thread.is_finished());
                ensure!(alive, "a stream has ended");
                ensure!(Instant::now() < end, "nothing arrives after {before} bytes");
                thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    /// Ends both streams, and waits until all has arrived.
    pub fn end(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        std::mem::take(&mut self.threads)
            .into_iter()
            .try_for_each(join)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        // If a test fails, the next one has the network to itself.
        self.stop.store(true, Ordering::Relaxed);
    }
}
