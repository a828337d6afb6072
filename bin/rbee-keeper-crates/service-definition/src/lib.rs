//! How a service manager is told of queen and hive: pure, from a [`Definition`] to the text of a file and the commands around it.
//!
//! Nothing here touches the machine. What all of them have in common: a crash is followed by a start, with a back-off, and leaves the
//! workers to be adopted; a deliberate end stays an end; a stop has the time that the configuration grants it.

mod launchd;
mod names;
mod supervisord;
mod systemd;
mod windows;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use names::{Refusal, ServiceName};

/// Who starts services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// Linux.
    Systemd,
    /// macOS.
    Launchd,
    /// Windows, by WinSW: our programs do not speak to its service control manager themselves.
    Windows,
    /// supervisord, anywhere.
    Supervisord,
}

/// Whose service manager it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The machine's.
    System,
    /// One user's.
    User,
}

/// Which of our daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// The orchestrator.
    Queen,
    /// The pool manager.
    Hive,
}

impl Tier {
    /// As the command line and the unit's name have it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queen => "queen",
            Self::Hive => "hive",
        }
    }
}

/// A daemon as a service.
#[derive(Debug, Clone)]
pub struct Definition {
    /// What all units of this installation begin with.
    pub name: ServiceName,
    /// Which daemon.
    pub tier: Tier,
    /// Of the machine, or of one user.
    pub scope: Scope,
    /// The program, absolute.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, besides what the manager gives.
    pub env: BTreeMap<String, String>,
    /// Whom a system service runs as; the manager's own user without.
    pub run_as: Option<String>,
    /// The home folder of whom it runs as.
    pub home: PathBuf,
    /// A line for people.
    pub description: String,
    /// How long it may take to be ready.
    pub start_timeout: Duration,
    /// How long a deliberate stop may take.
    pub stop_timeout: Duration,
    /// How often it has to say that it works.
    pub watchdog: Duration,
    /// Folders it writes to.
    pub writable: Vec<PathBuf>,
    /// Whether it runs commands that are not ours (workers, hooks): those are not locked in.
    pub runs_commands: bool,
    /// A command that ends what is left when a stop took too long; asked after every end.
    pub after_end: Option<Vec<String>>,
    /// Which systemd it is for; what that one does not know is left out. Absent: any.
    pub systemd_version: Option<u32>,
}

/// A service as its manager wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// What the manager calls it.
    pub unit: String,
    /// Where the file belongs.
    pub path: PathBuf,
    /// What stands in it.
    pub text: String,
    /// What makes the manager know, enable and start it.
    pub install: Vec<Vec<String>>,
    /// What stops it and makes the manager forget it, before the file is removed.
    pub uninstall: Vec<Vec<String>>,
    /// The same, once it is removed.
    pub removed: Vec<Vec<String>>,
}

/// The service, for this manager.
///
/// # Errors
/// [`Refusal`] where a name, a path or a text cannot stand in such a file.
pub fn service(manager: Manager, definition: &Definition) -> Result<Service, Refusal> {
    names::check(definition)?;
    match manager {
        Manager::Systemd => systemd::service(definition),
        Manager::Launchd => Ok(launchd::service(definition)),
        Manager::Windows => Ok(windows::service(definition)),
        Manager::Supervisord => supervisord::service(definition),
    }
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn definition(tier: Tier, scope: Scope) -> Definition {
        Definition {
            name: ServiceName::default(),
            tier,
            scope,
            program: match tier {
                Tier::Queen => "/opt/rbee/queen-rbee".into(),
                Tier::Hive => "/opt/rbee/rbee-hive".into(),
            },
            args: match tier {
                Tier::Queen => words("run --without-hive"),
                Tier::Hive => words("run --queen http://127.0.0.1:7833"),
            },
            env: [("RBEE_HOME".to_owned(), "/srv/bees".to_owned())].into(),
            run_as: (scope == Scope::System).then(|| "bee".to_owned()),
            home: "/home/bee".into(),
            description: format!("rbee's {}", tier.word()),
            start_timeout: Duration::from_secs(60),
            stop_timeout: Duration::from_secs(75),
            watchdog: Duration::from_secs(30),
            writable: vec!["/srv/bees".into()],
            runs_commands: tier == Tier::Hive,
            after_end: Some(words("/opt/rbee/rbee-keeper service after-end hive")),
            systemd_version: None,
        }
    }

    /// All that is tricky at once.
    pub(crate) fn tricky() -> Definition {
        Definition {
            program: "/opt/my own 100%/$X/rbee-hive".into(),
            args: vec!["run".to_owned(), "--config".to_owned(), "/etc/a b\\c$HOME/é.toml".to_owned()],
            env: [("RBEE_HOME".to_owned(), "/srv/it's 5% \\ of $X".to_owned())].into(),
            description: "5% & <more> of \"it\"".to_owned(),
            writable: vec!["/srv/it's 5% \\ of $X".into()],
            ..definition(Tier::Hive, Scope::System)
        }
    }

    /// SERV-05
    #[test]
    fn what_cannot_stand_in_a_file_is_refused_with_the_reason() {
        for name in ["a/b", "a\nb", "", ".", "-a", "a b", "a;b", &"x".repeat(65)] {
            let refusal = name.parse::<ServiceName>().unwrap_err().to_string();
            assert!(refusal.contains("service name") && !refusal.contains('\n'), "{refusal}");
        }
        assert!("com.example.rbee-2_x".parse::<ServiceName>().is_ok());
        type Spoil = fn(&mut Definition);
        let cases: [(Spoil, &str); 6] = [
            (|d| d.run_as = Some("a b".to_owned()), "no user's name"),
            (|d| d.run_as = Some("x\nExecStart=/bin/sh".to_owned()), "no user's name"),
            (|d| d.description = "one\ntwo".to_owned(), "one line"),
            (|d| d.program = "rbee-hive".into(), "absolute"),
            (|d| drop(d.env.insert("A B".to_owned(), String::new())), "no variable's name"),
            (|d| drop(d.env.insert("A".to_owned(), "x\ny".to_owned())), "one line"),
        ];
        for manager in [Manager::Systemd, Manager::Launchd, Manager::Windows, Manager::Supervisord] {
            for (spoil, reason) in cases {
                let mut definition = definition(Tier::Hive, Scope::System);
                spoil(&mut definition);
                let refusal = service(manager, &definition).unwrap_err().to_string();
                assert!(refusal.contains(reason) && !refusal.contains('\n'), "{manager:?}: {refusal}");
            }
        }
    }
}
