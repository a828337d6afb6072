//! A worker in a container: which image, and what of the machine it is given.
//!
//! The small values have one text form, in the configuration and on the wire.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How to run a worker in a container. Texts have their placeholders filled in by the hive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The image, as the engine knows it.
    pub image: String,
    /// Instead of the image's own entry point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// What the entry point gets, instead of the image's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Ports of the container that are reached from outside.
    #[serde(default, skip_serializing_if = "Ports::is_empty")]
    pub ports: Ports,
    /// The graphics processors it gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<Gpus>,
    /// Folders, files and named volumes: `SOURCE:TARGET` or `SOURCE:TARGET:ro`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// User, and group after a colon, by name or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The network it is in; the engine's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// When its image is fetched.
    #[serde(default)]
    pub pull: Pull,
    /// Size of `/dev/shm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm_bytes: Option<u64>,
    /// Devices of the machine: `/dev/x` or `/dev/x:/dev/y`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// Its own files cannot be written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// A small first process passes on signals and reaps.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub init: bool,
}

impl ContainerSpec {
    /// Whether it shares the machine's network: then it binds the worker's port itself.
    #[must_use]
    pub fn is_in_host_network(&self) -> bool {
        self.network.as_deref() == Some("host")
    }

    /// Every text in which placeholders are filled in.
    pub fn texts(&self) -> impl Iterator<Item = &String> {
        self.entrypoint.iter().flatten().chain(self.args.iter().flatten()).chain(&self.volumes)
    }
}

/// When an image is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pull {
    /// When the engine does not have it.
    #[default]
    Missing,
    /// Before each start.
    Always,
    /// Never: it has to be there.
    Never,
}

/// Graphics processors: `"all"`, how many, or which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gpus {
    /// All there are.
    All,
    /// Any so many.
    Count(u32),
    /// These, by number or UUID.
    Ids(Vec<String>),
}

/// The ports of a container: one, or a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports(pub Vec<Port>);

impl Ports {
    /// Whether none is reached from outside.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one that stands behind the worker's own port.
    #[must_use]
    pub fn own(&self) -> Option<u16> {
        self.0.iter().find_map(|port| match port {
            Port::Own(container) => Some(*container),
            Port::Fixed(_) => None,
        })
    }

    /// The others.
    pub fn fixed(&self) -> impl Iterator<Item = &FixedPort> {
        self.0.iter().filter_map(|port| match port {
            Port::Own(_) => None,
            Port::Fixed(fixed) => Some(fixed),
        })
    }
}

/// A port of a container that is reached from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// `8080`: the worker's own port leads there.
    Own(u16),
    /// `HOST:CONTAINER` and longer forms.
    Fixed(FixedPort),
}

/// `[ADDRESS:]HOST:CONTAINER[/udp]`: a port of the machine that leads to one of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedPort {
    /// Where the machine listens; loopback if not said.
    pub address: IpAddr,
    /// The machine's port.
    pub host: u16,
    /// The container's port.
    pub container: u16,
    /// Datagrams instead of connections.
    pub is_udp: bool,
}

/// Why a text is no port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no port such as 8080, `9000:8080`, `0.0.0.0:9000:8080` or `5353:53/udp`")]
pub struct NoPort {
    text: String,
}

impl FromStr for Port {
    type Err = NoPort;

    fn from_str(text: &str) -> Result<Self, NoPort> {
        let none = || NoPort { text: text.to_owned() };
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(none);
        let (places, is_udp) = match text.rsplit_once('/') {
            None => (text, false),
            Some((places, "udp")) => (places, true),
            Some((places, "tcp")) => (places, false),
            Some(_) => return Err(none()),
        };
        let Some((rest, container)) = places.rsplit_once(':') else {
            return if is_udp { Err(none()) } else { number(places).map(Self::Own) };
        };
        let (address, host) = match rest.rsplit_once(':') {
            None => (IpAddr::from(Ipv4Addr::LOCALHOST), rest),
            Some((address, host)) => {
                let address = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
                (address.parse().map_err(|_| none())?, host)
            }
        };
        Ok(Self::Fixed(FixedPort { address, host: number(host)?, container: number(container)?, is_udp }))
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(container) => write!(f, "{container}"),
            Self::Fixed(FixedPort { address, host, container, is_udp }) => {
                let protocol = if *is_udp { "/udp" } else { "" };
                match address {
                    IpAddr::V4(address) => write!(f, "{address}:{host}:{container}{protocol}"),
                    IpAddr::V6(address) => write!(f, "[{address}]:{host}:{container}{protocol}"),
                }
            }
        }
    }
}

impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = OneOrMany::deserialize(deserializer)?;
        found.texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect::<Result<_, _>>().map(Self)
    }
}

impl Serialize for Gpus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::Count(count) => serializer.serialize_u32(*count),
            Self::Ids(ids) => serializer.collect_seq(ids),
        }
    }
}

impl<'de> Deserialize<'de> for Gpus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let OneOrMany { texts, is_list } = OneOrMany::deserialize(deserializer)?;
        match texts.as_slice() {
            _ if is_list && !texts.is_empty() => Ok(Self::Ids(texts)),
            [one] if one == "all" => Ok(Self::All),
            [one] => match one.parse() {
                Ok(count) if count > 0 => Ok(Self::Count(count)),
                _ => Err(D::Error::custom(format!("`{one}` is neither `all`, nor how many, nor a list of which"))),
            },
            _ => Err(D::Error::custom("an empty list gives it none; leave the key out")),
        }
    }
}

/// A number or text, or a list of them.
struct OneOrMany {
    texts: Vec<String>,
    is_list: bool,
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;

        impl<'de> Visitor<'de> for Seen {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a text or a list of them")
            }

            fn visit_i64<E>(self, number: i64) -> Result<OneOrMany, E> {
                Ok(OneOrMany { texts: vec![number.to_string()], is_list: false })
            }

            fn visit_u64<E>(self, number: u64) -> Result<OneOrMany, E> {
                Ok(OneOrMany { texts: vec![number.to_string()], is_list: false })
            }

            fn visit_str<E>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany { texts: vec![text.to_owned()], is_list: false })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany, A::Error> {
                let mut texts = Vec::new();
                while let Some(one) = list.next_element::<OneOrMany>()? {
                    texts.extend(one.texts);
                }
                Ok(OneOrMany { texts, is_list: true })
            }
        }

        deserializer.deserialize_any(Seen)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json, to_value};

    use super::*;

    #[test]
    fn ports_have_one_text_form() {
        for (text, shown) in [
            ("8080", "8080"),
            ("9000:8080", "127.0.0.1:9000:8080"),
            ("0.0.0.0:9000:8080/tcp", "0.0.0.0:9000:8080"),
            ("[::1]:5353:53/udp", "[::1]:5353:53/udp"),
        ] {
            assert_eq!(text.parse::<Port>().unwrap().to_string(), shown);
            assert_eq!(shown.parse::<Port>(), text.parse::<Port>());
        }
        for bad in ["", "0", "x", "70000", "1:0", "53/udp", "8080/sctp", "host:1:2", "1:2:3:4"] {
            assert!(bad.parse::<Port>().is_err(), "{bad}");
        }
    }

    /// CONT-01
    #[test]
    fn one_or_many_are_understood_and_come_back() {
        let ports = |value: Value| from_value::<Ports>(value);
        assert_eq!(ports(json!(8080)).unwrap().own(), Some(8080));
        let both = ports(json!([8080, "9000:9001"])).unwrap();
        assert_eq!((both.own(), both.fixed().next().map(|port| port.host)), (Some(8080), Some(9000)));
        assert_eq!(ports(to_value(&both).unwrap()).unwrap(), both);
        assert!(ports(json!(-1)).is_err() && ports(json!({})).is_err());

        for (value, gpus) in [
            (json!("all"), Gpus::All),
            (json!(2), Gpus::Count(2)),
            (json!([0, "GPU-7f"]), Gpus::Ids(vec!["0".to_owned(), "GPU-7f".to_owned()])),
        ] {
            assert_eq!(from_value::<Gpus>(value).unwrap(), gpus);
            assert_eq!(from_value::<Gpus>(to_value(&gpus).unwrap()).unwrap(), gpus);
        }
        for bad in [json!("some"), json!(0), json!([]), json!(1.5)] {
            assert!(from_value::<Gpus>(bad.clone()).is_err(), "{bad}");
        }
    }
}
