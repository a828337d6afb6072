//! launchd property lists: LaunchDaemons of the machine, LaunchAgents of a user.

use std::path::PathBuf;

use plist::{Dictionary, Value};

use crate::{Definition, Scope, Service, Tier, words};

/// Seconds between two starts.
const THROTTLE_S: i64 = 10;
/// Files open at once: queen's connections, the hive's log files and pipes.
const FILES_MAX: i64 = 65_536;
/// Processes of the user.
const PROCESSES_MAX: i64 = 2048;
/// Owner alone, as launchd wants it: as a number.
const UMASK: i64 = 0o077;

pub(crate) fn service(definition: &Definition) -> Service {
    let label = label(definition);
    let (folder, domain) = match definition.scope {
        Scope::System => ("/Library/LaunchDaemons".into(), "system".to_owned()),
        Scope::User => (definition.home.join("Library/LaunchAgents"), "gui/$(id -u)".to_owned()),
    };
    let path: PathBuf = folder.join(format!("{label}.plist"));
    let launchctl = |verb: &str, rest: &[String]| [&["launchctl".to_owned(), verb.to_owned()], rest].concat();
    let target = format!("{domain}/{label}");
    let mut folders = words("mkdir -p");
    folders.push(logs(definition).to_string_lossy().into_owned());
    Service {
        text: text(definition, &label),
        install: vec![
            folders,
            launchctl("enable", std::slice::from_ref(&target)),
            launchctl("bootstrap", &[domain, path.to_string_lossy().into_owned()]),
        ],
        uninstall: vec![launchctl("bootout", &[target])],
        removed: Vec::new(),
        unit: label,
        path,
    }
}

/// As a domain name from behind: `dev.rbee.queen`; a name that is one already is taken as it is.
fn label(definition: &Definition) -> String {
    let (name, tier) = (definition.name.as_str(), definition.tier.word());
    if name.contains('.') { format!("{name}.{tier}") } else { format!("dev.{name}.{tier}") }
}

fn logs(definition: &Definition) -> PathBuf {
    match definition.scope {
        Scope::System => "/Library/Logs".into(),
        Scope::User => definition.home.join("Library/Logs"),
    }
    .join(definition.name.as_str())
}

fn text(definition: &Definition, label: &str) -> String {
    let mut xml = Vec::new();
    // Into memory: it cannot fail.
    let _ = Value::Dictionary(dictionary(definition, label)).to_writer_xml(&mut xml);
    let xml = String::from_utf8_lossy(&xml).into_owned();
    // launchd knows no description; a comment may not hold two hyphens.
    let comment = format!("<!-- {} -->\n<plist", definition.description.replace("--", "- -"));
    let mut xml = xml.replacen("<plist", &comment, 1);
    if !xml.ends_with('\n') {
        xml.push('\n');
    }
    xml
}

fn dictionary(definition: &Definition, label: &str) -> Dictionary {
    let text = |path: PathBuf| Value::from(path.to_string_lossy().into_owned());
    let command = std::iter::once(definition.program.to_string_lossy().into_owned()).chain(definition.args.clone());
    let env = definition.env.iter().map(|(name, value)| (name.clone(), Value::from(value.clone())));
    let is_hive = definition.tier == Tier::Hive;
    let log = |kind: &str| text(logs(definition).join(format!("{}.{kind}.log", definition.tier.word())));
    let mut keys = vec![
        ("Label", Value::from(label)),
        ("ProgramArguments", command.map(Value::from).collect::<Vec<_>>().into()),
        ("EnvironmentVariables", Value::Dictionary(env.collect())),
        ("WorkingDirectory", text(definition.home.clone())),
        ("RunAtLoad", true.into()),
        ("KeepAlive", keep_alive().into()),
        ("ThrottleInterval", THROTTLE_S.into()),
        // Its workers have groups of their own; a crash must not reach them, whatever group they are in.
        ("AbandonProcessGroup", true.into()),
        ("ExitTimeOut", i64::try_from(definition.stop_timeout.as_secs()).unwrap_or(i64::MAX).into()),
        // Not `Background`: people wait for answers.
        ("ProcessType", "Standard".into()),
        // What it starts inherits both: a model that is loaded must not make the machine stutter.
        ("LowPriorityIO", is_hive.into()),
        ("Nice", if is_hive { 5_i64 } else { 0 }.into()),
        ("SoftResourceLimits", limits().into()),
        ("HardResourceLimits", limits().into()),
        ("Umask", UMASK.into()),
        ("StandardOutPath", log("out")),
        ("StandardErrorPath", log("err")),
    ];
    if let (Scope::System, Some(user)) = (definition.scope, &definition.run_as) {
        keys.push(("UserName", user.clone().into()));
    }
    keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Each of these alone is a reason to start it again: a crash, an end that is no success. An end by intention is none.
/// `NetworkState` says that it needs a network; every launchd that knows `bootstrap` leaves it out of account.
fn keep_alive() -> Dictionary {
    let keys = [("Crashed", true), ("SuccessfulExit", false), ("NetworkState", true)];
    keys.into_iter().map(|(key, value)| (key.to_owned(), Value::from(value))).collect()
}

fn limits() -> Dictionary {
    let keys = [("NumberOfFiles", FILES_MAX), ("NumberOfProcesses", PROCESSES_MAX)];
    keys.into_iter().map(|(key, value)| (key.to_owned(), Value::from(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{definition, tricky};

    /// Every key of launchd.plist(5) that we may write, and its type there.
    const SCHEMA: [(&str, &str); 18] = [
        ("Label", "string"),
        ("ProgramArguments", "strings"),
        ("EnvironmentVariables", "dictionary of string"),
        ("WorkingDirectory", "string"),
        ("RunAtLoad", "boolean"),
        ("KeepAlive", "dictionary of boolean"),
        ("ThrottleInterval", "integer"),
        ("AbandonProcessGroup", "boolean"),
        ("ExitTimeOut", "integer"),
        ("ProcessType", "string"),
        ("LowPriorityIO", "boolean"),
        ("Nice", "integer"),
        ("SoftResourceLimits", "dictionary of integer"),
        ("HardResourceLimits", "dictionary of integer"),
        ("Umask", "integer"),
        ("StandardOutPath", "string"),
        ("StandardErrorPath", "string"),
        ("UserName", "string"),
    ];
    const KEEP_ALIVE: [&str; 3] = ["Crashed", "SuccessfulExit", "NetworkState"];
    const LIMITS: [&str; 9] = [
        "Core",
        "CPU",
        "Data",
        "FileSize",
        "MemoryLock",
        "NumberOfFiles",
        "NumberOfProcesses",
        "ResidentSetSize",
        "Stack",
    ];

    fn kind(value: &Value) -> String {
        match value {
            Value::String(_) => "string".to_owned(),
            Value::Boolean(_) => "boolean".to_owned(),
            Value::Integer(_) => "integer".to_owned(),
            Value::Array(items) if items.iter().all(|item| kind(item) == "string") => "strings".to_owned(),
            Value::Dictionary(items) => {
                let kinds: std::collections::BTreeSet<String> = items.values().map(kind).collect();
                format!("dictionary of {}", kinds.into_iter().collect::<Vec<_>>().join("|"))
            }
            other => format!("{other:?}"),
        }
    }

    fn parsed(definition: &Definition) -> Dictionary {
        let text = service(definition).text;
        let value: Value = Value::from_reader_xml(text.as_bytes()).unwrap();
        value.into_dictionary().unwrap()
    }

    /// SERV-07
    #[test]
    fn every_key_is_launchds_and_of_its_type() {
        let whole = parsed(&definition(Tier::Hive, Scope::System));
        assert_eq!(whole.len(), SCHEMA.len(), "all that there is to set is set");
        for definition in [definition(Tier::Queen, Scope::User), definition(Tier::Hive, Scope::System), tricky()] {
            let keys = parsed(&definition);
            for (key, value) in &keys {
                let known = SCHEMA.iter().find(|(name, _)| name == key).unwrap_or_else(|| panic!("{key} is no key"));
                assert_eq!(kind(value), known.1, "{key}");
            }
            let inner = |key: &str| keys[key].as_dictionary().unwrap().keys().map(String::as_str).collect::<Vec<_>>();
            assert!(inner("KeepAlive").iter().all(|key| KEEP_ALIVE.contains(key)));
            assert!(inner("SoftResourceLimits").iter().all(|key| LIMITS.contains(key)));
            let kind = keys["ProcessType"].as_string().unwrap();
            assert!(["Background", "Standard", "Adaptive", "Interactive"].contains(&kind));
        }
    }

    /// SERV-07
    #[test]
    fn what_is_tricky_is_read_back_as_it_was() {
        let definition = tricky();
        let keys = parsed(&definition);
        let command: Vec<&str> =
            keys["ProgramArguments"].as_array().unwrap().iter().filter_map(Value::as_string).collect();
        assert_eq!(command[0], definition.program.to_str().unwrap());
        assert_eq!(command[1..], definition.args);
        let env = keys["EnvironmentVariables"].as_dictionary().unwrap();
        assert_eq!(env["RBEE_HOME"].as_string(), definition.env.get("RBEE_HOME").map(String::as_str));
    }

    /// SERV-07
    #[test]
    fn an_agent_is_its_users_and_a_daemon_the_machines() {
        let agent = service(&definition(Tier::Queen, Scope::User));
        assert_eq!(agent.path, PathBuf::from("/home/bee/Library/LaunchAgents/dev.rbee.queen.plist"));
        assert_eq!(agent.install.last().unwrap()[..3], ["launchctl", "bootstrap", "gui/$(id -u)"]);
        assert_eq!(agent.uninstall, [["launchctl", "bootout", "gui/$(id -u)/dev.rbee.queen"]]);
        assert!(agent.text.contains("<string>/home/bee/Library/Logs/rbee/queen.err.log</string>"), "{}", agent.text);
        let mut daemon = definition(Tier::Hive, Scope::System);
        daemon.name = "com.example.bees".parse().unwrap();
        let daemon = service(&daemon);
        assert_eq!(daemon.path, PathBuf::from("/Library/LaunchDaemons/com.example.bees.hive.plist"));
        assert_eq!(daemon.install.last().unwrap()[..3], ["launchctl", "bootstrap", "system"]);
    }
}
