// SPDX-License-Identifier: GPL-2.0

//! Hosts on a network: interfaces in network namespaces of their own.

use super::Statistics;
use crate::{
    link,
    sys, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use std::{
    fs::{
        self,
        File, //
    },
    io,
    net::{
        Ipv4Addr,
        SocketAddr,
        SocketAddrV4,
        UdpSocket, //
    },
    os::fd::AsFd,
    process::{
        Command,
        Stdio, //
    },
    sync::mpsc,
    thread,
    time::{
        Duration,
        Instant, //
    },
};

/// How long a link may take to come up, and an answer to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of the header of an echo request.
const ECHO: usize = 8;
/// Bytes of an IP header without options.
const IP: usize = 20;

type Job = Box<dyn FnOnce() + Send>;

/// A host with one interface, which goes back to where it was taken from when this is dropped.
pub struct Host {
    interface: String,
    address: Ipv4Addr,
    jobs: mpsc::Sender<Job>,
    /// The namespace that the interface was taken from.
    origin: File,
}

/// The network namespace of this thread.
fn own_namespace() -> io::Result<File> {
    File::open("/proc/thread-self/ns/net")
}

impl Host {
    /// A host that takes an interface, gives it an address in a network of 256, and
    /// turns it on.
    pub fn new(interface: &str, address: Ipv4Addr) -> Result<Self> {
        let (jobs, todo) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let _ = tell.send(sys::new_network_namespace().and_then(|()| own_namespace()));
            for job in todo {
                job();
            }
        });
        let namespace = told.recv()??;
        let origin = own_namespace()?;
        link::move_interface(interface, namespace.as_fd(), None)
            .with_context(|| format!("moving {interface}"))?;
        let host = Self {
            interface: interface.to_string(),
            address,
            jobs,
            origin,
        };
        host.configure(move |name| sys::set_address(name, address))?;
        host.turn(true)?;
        Ok(host)
    }

    /// The name of its interface.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Does something where its interface is. Sockets that are made there stay there.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (tell, told) = mpsc::channel();
        let job = Box::new(move || {
            let _ = tell.send(work());
        });
        self.jobs.send(job).ok().context("the host has ended")?;
        told.recv()?
    }

    /// Does something with its interface.
    pub fn with_interface<T: Send + 'static>(
        &self,
        work: impl FnOnce(&str) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let name = self.interface.clone();
        self.run(move || work(&name))
    }

    /// Changes its interface.
    pub fn configure<T: Send + 'static>(
        &self,
        work: impl FnOnce(&str) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.with_interface(|name| Ok(work(name)?))
    }

    /// Runs a program where its interface is. Returns what the program says.
    fn program(&self, path: &'static str, args: Vec<String>) -> Result<String> {
        self.run(move || {
            let mut command = Command::new(path);
            let output = command.args(&args).stdin(Stdio::null()).output();
            let output = output.with_context(|| path)?;
            let said = |bytes| String::from_utf8_lossy(bytes).into_owned();
            ensure!(
                output.status.success(),
                "{path} {args:?}: {} {}",
                output.status,
                said(&output.stderr)
            );
            Ok(said(&output.stdout))
        })
    }

    /// Runs `ip` with these words.
    pub fn ip(&self, words: &str) -> Result<String> {
        let words = words.split_whitespace().map(str::to_string);
        self.program("/usr/bin/ip", words.collect())
    }

    /// Runs `tc` with these words.
    pub fn tc(&self, words: &str) -> Result<String> {
        let words = words.split_whitespace().map(str::to_string);
        self.program("/usr/bin/tc", words.collect())
    }

    /// The address of Ethernet that its interface has.
    pub fn mac(&self) -> Result<String> {
        let text = self.ip(&format!("-br link show {}", self.interface))?;
        let mac = text.split_whitespace().nth(2);
        Ok(mac.context("no address")?.to_string())
    }

    /// Runs `ethtool` with an option, its interface and these words.
    pub fn ethtool(&self, option: &str, words: &str) -> Result<String> {
        let words = words.split_whitespace();
        let option = (!option.is_empty()).then_some(option);
        let all = option
            .into_iter()
            .chain([self.interface.as_str()])
            .chain(words);
        self.program("/usr/bin/ethtool", all.map(str::to_string).collect())
    }

    /// What `ethtool` says behind `name:`. Of limits and what holds, that is what holds: it
    /// comes last.
    pub fn setting(&self, option: &str, name: &str) -> Result<String> {
        let text = self.ethtool(option, "")?;
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        let mut values = lines.filter(|(of, _)| of.trim() == name);
        let (_, value) = values
            .next_back()
            .with_context(|| format!("no {name} in {text}"))?;
        Ok(value.trim().to_string())
    }

    /// Fails if a setting is another one.
    pub fn expect_setting(&self, option: &str, name: &str, value: &str) -> Result<()> {
        let found = self.setting(option, name)?;
        ensure!(found == value, "{name} is {found}, not {value}");
        Ok(())
    }

    /// What the driver of its interface counts.
    pub fn statistics(&self) -> Result<Statistics> {
        self.configure(Statistics::of)
    }

    /// What that counts while `work` is done.
    pub fn counted(&self, work: impl FnOnce() -> Result<()>) -> Result<Statistics> {
        let before = self.statistics()?;
        work()?;
        Ok(self.statistics()?.since(&before))
    }

    /// Turns its interface on or off.
    pub fn turn(&self, on: bool) -> Result<()> {
        let bits = libc::IFF_UP;
        self.configure(move |name| sys::set_interface_flags(name, bits, on))
    }

    /// Whether its link is up.
    pub fn has_link(&self) -> Result<bool> {
        Ok(self.configure(sys::interface_flags)? & libc::IFF_RUNNING != 0)
    }

    /// Waits until its link is up.
    pub fn wait_for_link(&self) -> Result<()> {
        self.wait_for_link_to_be(true)
    }

    /// Waits until its link is up, or down.
    pub fn wait_for_link_to_be(&self, up: bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.has_link()? != up {
            let what = if up { "down" } else { "up" };
            ensure!(Instant::now() < end, "{}'s link is {what}", self.interface);
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Sends an echo request with `len` bytes of data, and waits for the answer.
    pub fn ping(&self, to: Ipv4Addr, len: usize) -> Result<()> {
        self.ping_for(to, len, PATIENCE)
    }

    /// Does what [`Self::ping`] does, and waits for `patience` at most.
    pub fn ping_for(&self, to: Ipv4Addr, len: usize, patience: Duration) -> Result<()> {
        let socket = self.run(|| Ok(UdpSocket::from(sys::icmp_socket()?)))?;
        let mut request = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1];
        request.extend((0..len).map(|i| i as u8));
        let sum = !checksum(&request);
        request[2..4].copy_from_slice(&sum.to_be_bytes());
        socket.send_to(&request, SocketAddr::V4(SocketAddrV4::new(to, 0)))?;
        let end = Instant::now() + patience;
        let mut answer = vec![0; 1 << 16];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "{to} does not answer");
            socket.set_read_timeout(Some(left))?;
            let Ok(n) = socket.recv(&mut answer) else {
                continue;
            };
            let echo = answer.get(IP..n).unwrap_or_default();
            // Its own requests are heard, too, if it pings itself.
            if echo.first() == Some(&0) {
                ensure!(echo[ECHO..] == request[ECHO..], "{to} answers otherwise");
                return Ok(());
            }
        }
    }

    /// A number of a file of the kind of /proc/net/snmp.
    pub fn counter(&self, group: &str, name: &str) -> Result<u64> {
        let text = self.run(|| Ok(fs::read_to_string("/proc/thread-self/net/snmp")?))?;
        let lines = text.lines().filter_map(|line| line.split_once(": "));
        let mut lines = lines.filter(|(of, _)| *of == group);
        let names = lines.next().context("no names")?.1.split(' ');
        let values = lines.next().context("no values")?.1.split(' ');
        let value = names.zip(values).find(|(one, _)| *one == name);
        Ok(value.with_context(|| format!("no {name}"))?.1.parse()?)
    }
}

impl Drop for Host {
    /// The kernel would move the interface, too, but some time after the namespace was left:
    /// whoever takes it from its driver in that time has mlx5_core use the namespace after it was
    /// freed (unregister_netdevice_notifier_dev_net() of mlx5e_tc_nic_cleanup()).
    fn drop(&mut self) {
        let Ok(origin) = self.origin.try_clone() else {
            return;
        };
        // Its name may have been given to another one. It is gone if its driver has left it.
        let _ = self
            .with_interface(move |name| link::move_interface(name, origin.as_fd(), Some("eth%d")));
    }
}

/// The ones' complement sum of big endian words.
fn checksum(data: &[u8]) -> u16 {
    let words = data.chunks(2).map(|word| match word {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        _ => u32::from(word[0]) << 8,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
