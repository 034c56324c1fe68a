// SPDX-License-Identifier: GPL-2.0

//! Where a host listens: a name or an address, and a TCP port.

use std::{
    fmt,
    io,
    net::{
        Ipv6Addr,
        SocketAddr,
        ToSocketAddrs, //
    },
    str::FromStr,
    vec, //
};

/// A host and a port. The host is not looked up before it is used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
}

impl Endpoint {
    /// The port; if it is 0, the kernel chooses one to listen on.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

impl ToSocketAddrs for Endpoint {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        (self.host.as_str(), self.port).to_socket_addrs()
    }
}

/// What an endpoint looks like.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not HOST:PORT, such as 192.0.2.1:4444 or [2001:db8::1]:4444")]
pub struct NotAnEndpoint;

/// Whether `text` is an IPv6 address, with or without the interface that it is of.
fn is_ipv6(text: &str) -> bool {
    let (address, interface) = text.split_once('%').unwrap_or((text, "any"));
    address.parse::<Ipv6Addr>().is_ok() && !interface.is_empty()
}

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Self, NotAnEndpoint> {
        let (host, port) = text.rsplit_once(':').ok_or(NotAnEndpoint)?;
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let is_host = match bracketed {
            Some(host) => is_ipv6(host),
            // Without brackets, the end of an IPv6 address could be a port.
            None => {
                let is_strange = |c: char| c.is_whitespace() || "[]:/".contains(c);
                !host.is_empty() && !host.contains(is_strange)
            }
        };
        if !is_host || !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NotAnEndpoint);
        }
        Ok(Self {
            host: bracketed.unwrap_or(host).to_string(),
            port: port.parse().map_err(|_| NotAnEndpoint)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_told_apart() {
        for text in [
            "host:1",
            "192.0.2.1:4444",
            "[::1]:65535",
            "[fe80::1%eth0]:1",
            "a.b-c:0",
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text);
        }
        let endpoint: Endpoint = "[::1]:22".parse().unwrap();
        let addresses: Vec<_> = endpoint.to_socket_addrs().unwrap().collect();
        assert_eq!(addresses, ["[::1]:22".parse::<SocketAddr>().unwrap()]);
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "host",
            ":1",
            "host:",
            "host:x",
            "host:+1",
            "host:65536",
            "::1",
            "::1:1",
            "[host]:1",
            "[]:1",
            "[::1%]:1",
            "[::1:1",
            "tcp://host:1",
            "ho st:1",
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(NotAnEndpoint), "{text}");
        }
    }
}
