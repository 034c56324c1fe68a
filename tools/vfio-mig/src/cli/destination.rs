// SPDX-License-Identifier: GPL-2.0

//! Where `migrate` moves a state to, and where `receive` waits for one.

use std::{
    fmt,
    path::PathBuf,
    str::FromStr, //
};
use vfio_mig::{
    address::{
        Address,
        NotAnAddress, //
    },
    endpoint::{
        Endpoint,
        NotAnEndpoint, //
    },
    text, //
};

/// Standard input and output, in messages.
pub const STANDARD: &str = "standard input and output";

/// Where a state can go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Destination {
    /// A device of this host.
    Device(Address),
    /// A file.
    File(PathBuf),
    /// A host that listens.
    Tcp(Endpoint),
    /// A command, at whose standard input and output a receiver is: its words.
    Command(Vec<String>),
    /// A receiver at our standard input and output.
    Standard,
}

/// What a destination looks like.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotADestination {
    /// "file:"
    #[error("no path after \"file:\"")]
    NoPath,
    /// "tcp:HOST:0"
    #[error("port 0 is none to connect to")]
    NoPort,
    /// "exec:", or with a quote that does not end.
    #[error("no command after \"exec:\", or a quote that does not end")]
    NoCommand,
    /// No host and port.
    #[error(transparent)]
    Endpoint(#[from] NotAnEndpoint),
    /// Nothing that is known.
    #[error("{0}; nor does it begin with \"file:\", \"tcp:\" or \"exec:\"; nor is it \"-\"")]
    Address(#[from] NotAnAddress),
}

impl FromStr for Destination {
    type Err = NotADestination;

    fn from_str(text: &str) -> Result<Self, NotADestination> {
        if text == "-" {
            return Ok(Self::Standard);
        }
        if let Some(path) = text.strip_prefix("file:") {
            return match path {
                "" => Err(NotADestination::NoPath),
                path => Ok(Self::File(path.into())),
            };
        }
        if let Some(host) = text.strip_prefix("tcp:") {
            let host: Endpoint = host.parse()?;
            return match host.port() {
                0 => Err(NotADestination::NoPort),
                _ => Ok(Self::Tcp(host)),
            };
        }
        if let Some(command) = text.strip_prefix("exec:") {
            return match shlex::split(command) {
                Some(words) if !words.is_empty() => Ok(Self::Command(words)),
                _ => Err(NotADestination::NoCommand),
            };
        }
        Ok(Self::Device(text.parse()?))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(address) => address.fmt(f),
            Self::File(path) => f.write_str(&text::shown_path(path)),
            Self::Tcp(host) => host.fmt(f),
            Self::Command(words) => f.write_str(&text::shown(&words.join(" "))),
            Self::Standard => f.write_str(STANDARD),
        }
    }
}

/// Where a state can come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listen {
    /// Whoever connects to this.
    Tcp(Endpoint),
    /// A sender at our standard input and output.
    Standard,
}

impl FromStr for Listen {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Self, NotAnEndpoint> {
        match text {
            "-" => Ok(Self::Standard),
            text => text.parse().map(Self::Tcp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_told_apart() {
        let tcp = Destination::Tcp("host:1".parse().unwrap());
        assert_eq!("tcp:host:1".parse(), Ok(tcp));
        assert_eq!("file:-".parse(), Ok(Destination::File("-".into())));
        assert!(matches!("01:00.2".parse(), Ok(Destination::Device(_))));
        assert_eq!("-".parse(), Ok(Destination::Standard));
        let words = ["ssh", "host", "a b"].map(str::to_string).to_vec();
        assert_eq!(
            "exec:ssh host 'a b'".parse(),
            Ok(Destination::Command(words))
        );
        for text in [
            "01",
            "",
            "file:",
            "tcp:",
            "tcp:localhost",
            "tcp:localhost:0",
            "exec:",
            "exec: ",
            "exec:ssh 'host",
        ] {
            assert!(text.parse::<Destination>().is_err(), "{text}");
        }
        assert_eq!("-".parse(), Ok(Listen::Standard));
        assert_eq!(
            "[::1]:0".parse(),
            Ok(Listen::Tcp("[::1]:0".parse().unwrap()))
        );
        assert!("".parse::<Listen>().is_err());
    }
}
