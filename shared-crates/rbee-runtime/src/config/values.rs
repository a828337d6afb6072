//! Values of the configuration that have a form of their own: ports, probes, signals, durations.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not the value it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct InvalidValue {
    /// What was written.
    pub text: String,
    /// What it should be.
    pub expected: &'static str,
}

impl InvalidValue {
    fn new(text: &str, expected: &'static str) -> Self {
        Self { text: text.to_owned(), expected }
    }
}

/// Serde goes through the text form for all of these.
macro_rules! by_text {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = InvalidValue;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )*};
}

by_text!(PortRange, Ready, Probe);

/// Ports that workers may have: `7855-7899`, one port, or `0` for any free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    /// First port; 0 together with `last` = 0 means any free port.
    pub first: u16,
    /// Last port, not below `first`.
    pub last: u16,
}

impl PortRange {
    const EXPECTED: &str = "a port range such as `7855-7899`, one port, or `0` for any free port";

    /// Whether the system may choose.
    #[must_use]
    pub fn is_any(self) -> bool {
        self.first == 0
    }

    /// Every port in order; nothing when any will do.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        (self.first..=self.last).filter(|port| *port != 0)
    }
}

impl FromStr for PortRange {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidValue::new(text, Self::EXPECTED);
        let port = |part: &str| part.trim().parse::<u16>().map_err(|_| invalid());
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(text)?, port(text)?),
        };
        if first > last || (first == 0 && last != 0) {
            return Err(invalid());
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// A question put to a daemon from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Probe {
    /// `http:/path`: a GET on the daemon's port is answered with 2xx.
    Http {
        /// Path with its leading slash.
        path: String,
    },
    /// `http://unix:SOCKET:/path`: a GET over a unix socket is answered with 2xx.
    HttpUnix {
        /// The socket.
        socket: String,
        /// Path with its leading slash.
        path: String,
    },
    /// `tcp`: the port accepts a connection.
    Tcp,
    /// `unix:/path`: the socket accepts a connection.
    Unix {
        /// The socket.
        path: String,
    },
    /// `exec:CMD`: the command ends with 0. Words are split at blanks, no shell.
    Exec {
        /// The command line.
        command: String,
    },
}

impl Probe {
    const EXPECTED: &str = "a probe: http:/path, http://unix:SOCKET:/path, tcp, unix:SOCKET or exec:CMD";

    /// The socket and the path of `//unix:SOCKET:/path`.
    fn over_unix(text: &str) -> Option<(&str, &str)> {
        let (socket, path) = text.strip_prefix("//unix:")?.rsplit_once(":/")?;
        is_path(socket).then(|| (socket, &text[text.len() - path.len() - 1..]))
    }
}

/// Whether it leads from the root, the home or a folder that is filled in.
fn is_path(text: &str) -> bool {
    ["/", "~/", "{run_dir}/", "{state_dir}/"].iter().any(|start| text.starts_with(start))
}

impl FromStr for Probe {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidValue::new(text, Self::EXPECTED);
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match (kind, rest) {
            ("tcp", "") => Ok(Self::Tcp),
            ("http", rest) if rest.starts_with("//unix:") => {
                let (socket, path) = Self::over_unix(rest).ok_or_else(invalid)?;
                Ok(Self::HttpUnix { socket: socket.to_owned(), path: path.to_owned() })
            }
            ("http", path) if path.starts_with('/') => Ok(Self::Http { path: path.to_owned() }),
            ("unix", path) if is_path(path) => Ok(Self::Unix { path: path.to_owned() }),
            ("exec", command) if !command.trim().is_empty() => Ok(Self::Exec { command: command.trim().to_owned() }),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { path } => write!(f, "http:{path}"),
            Self::HttpUnix { socket, path } => write!(f, "http://unix:{socket}:{path}"),
            Self::Tcp => f.write_str("tcp"),
            Self::Unix { path } => write!(f, "unix:{path}"),
            Self::Exec { command } => write!(f, "exec:{command}"),
        }
    }
}

/// How a daemon proves that it is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Ready {
    /// It says so by `sd_notify`.
    Notify,
    /// It counts as ready as soon as it is spawned.
    Started,
    /// A probe succeeds.
    Probe(Probe),
}

impl FromStr for Ready {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "notify" => Ok(Self::Notify),
            "started" => Ok(Self::Started),
            _ => text.parse().map(Self::Probe).map_err(|_| {
                InvalidValue::new(
                    text,
                    "one of notify, started, tcp, http:/path, http://unix:SOCKET:/path, unix:SOCKET, exec:CMD",
                )
            }),
        }
    }
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Notify => f.write_str("notify"),
            Self::Started => f.write_str("started"),
            Self::Probe(probe) => probe.fmt(f),
        }
    }
}

/// Signal that asks a daemon to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StopSignal {
    /// SIGTERM.
    #[default]
    Term,
    /// SIGINT.
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGHUP.
    Hup,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
    /// SIGKILL.
    Kill,
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Hup => "HUP",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
            Self::Kill => "KILL",
        })
    }
}

/// Durations as people write them: `10m`, `1h 30m`, `500ms`.
pub(super) mod duration {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*value))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text)
            .map_err(|error| D::Error::custom(format!("`{text}` is no duration such as `30s` or `10m` ({error})")))
    }
}

/// As [`duration`], for keys that may be absent.
pub(super) mod optional_duration {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "the signature serde asks for")]
    pub(crate) fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::duration::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        super::duration::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::{PortRange, Probe, Ready};

    #[test]
    fn port_ranges() {
        let range: PortRange = "7855-7857".parse().unwrap();
        assert_eq!(range.iter().collect::<Vec<_>>(), [7855, 7856, 7857]);
        assert_eq!(range.to_string(), "7855-7857");
        assert!("0".parse::<PortRange>().unwrap().is_any());
        assert_eq!("0".parse::<PortRange>().unwrap().iter().count(), 0);
        for text in ["", "9-8", "0-5", "a-b", "1-70000", "1-2-3"] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn readiness_and_probes_round_trip() {
        for text in [
            "notify",
            "started",
            "tcp",
            "http:/health",
            "unix:/run/x.sock",
            "unix:~/.lotus/api",
            "http://unix:{run_dir}/a:b.sock:/v1/health",
            "exec:redis-cli ping",
        ] {
            assert_eq!(text.parse::<Ready>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "http",
            "http:health",
            "http://unix:/a.sock",
            "http://unix:a.sock:/x",
            "unix:",
            "unix:x",
            "exec: ",
            "tcp:1",
        ] {
            assert!(text.parse::<Ready>().is_err(), "{text}");
        }
        assert!("notify".parse::<Probe>().is_err());
    }
}
