//! What is to be installed here: from configuration, environment and flags to definitions. Looks at users and programs, changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Uid, User, geteuid};
use rbee_runtime::binaries;
use rbee_runtime::config::Config;
use rbee_runtime::dirs::Dirs;
use rbee_runtime::env::Env;
use rbee_runtime::services::{ServiceScope, Services};
use service_definition::{Definition, Manager, Refusal, Scope, Service, Tier, service};

use super::systemd::Systemd;
use crate::cli::{How, Which};
use crate::context::{Context, url_of};
use crate::exit::Exit;
use crate::failure::Failure;

/// How often a daemon has to say that it works, before it counts as hung.
const WATCHDOG: Duration = Duration::from_secs(30);
/// What a start may take besides what keeper grants it: adopting, and a busy machine.
const START_SLACK: Duration = Duration::from_secs(60);
/// What a stop may take besides: closing files.
const STOP_SLACK: Duration = Duration::from_secs(10);

/// What is to be, and for whom.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) manager: Manager,
    pub(crate) scope: ServiceScope,
    /// Keeper, as it finds that installation.
    pub(crate) context: Context,
    pub(crate) config: Config,
    /// Whom the services run as: name, user, group.
    pub(crate) owner: (String, Option<(u32, u32)>),
    /// What is installed already.
    pub(crate) installed: Services,
    /// The hive first: queen is started when it is there, and stopped before it goes.
    pub(crate) services: Vec<Planned>,
}

/// One service.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) tier: Tier,
    pub(crate) service: Service,
    pub(crate) start_timeout: Duration,
    pub(crate) stop_timeout: Duration,
}

impl Plan {
    /// What these words ask for. `wanted`: which tiers, from the configuration and what is installed.
    pub(crate) async fn new(
        context: &Context,
        which: &Which,
        how: &How,
        wanted: impl FnOnce(&Config, &Services) -> Vec<Tier>,
    ) -> Result<Self, Failure> {
        let manager = which.manager.map_or(Manager::Systemd, Into::into);
        let scope = match (which.system, which.user) {
            (true, _) => ServiceScope::System,
            (false, true) => ServiceScope::User,
            (false, false) if geteuid().is_root() => ServiceScope::System,
            (false, false) => ServiceScope::User,
        };
        if scope == ServiceScope::User && how.run_as.is_some() {
            return Err(Failure::new("usage", "a user's service runs as that user: --run-as is for --system")
                .hint("leave out one of --user and --run-as")
                .exit(Exit::USAGE));
        }
        let (context, env) = installation(context, scope, which.name.as_str())?;
        let config = context.config()?.config;
        let installed = Services::read(&context.dirs.services_file()).map_err(|error| {
            let file = context.dirs.services_file();
            Failure::new("services", format!("cannot read {}", file.display())).because(&error)
        })?;
        let owner = Owner::find(scope, manager, how.run_as.as_deref(), &context.env, env.get("RBEE_HOME"))?;
        let version = if manager == Manager::Systemd { Systemd::of(scope).version().await } else { None };
        let tiers = wanted(&config, &installed);
        let maker = Maker { context: &context, config: &config, env: &env, owner: &owner, which, how, scope, version };
        let mut services = Vec::new();
        for tier in [Tier::Hive, Tier::Queen].into_iter().filter(|tier| tiers.contains(tier)) {
            let definition = maker.definition(tier, &tiers)?;
            let mut service = service(manager, &definition).map_err(|refusal| refused(&refusal))?;
            if let (Manager::Systemd, ServiceScope::User, Some(dir)) = (manager, scope, &context.env.xdg_config_home) {
                service.path = dir.join("systemd/user").join(&service.unit);
            }
            let (start_timeout, stop_timeout) = (definition.start_timeout, definition.stop_timeout);
            services.push(Planned { tier, service, start_timeout, stop_timeout });
        }
        let owner = (owner.name, owner.ids);
        Ok(Self { manager, scope, context, config, owner, installed, services })
    }
}

/// Keeper as it finds the installation that the services belong to, and the environment that says so to them.
fn installation(
    context: &Context,
    scope: ServiceScope,
    name: &str,
) -> Result<(Context, BTreeMap<String, String>), Failure> {
    let mut here = context.clone();
    let home = match (&context.env.rbee_home, scope) {
        (Some(home), _) => Some(std::path::absolute(home).unwrap_or_else(|_| home.clone())),
        (None, ServiceScope::System) => Some(Path::new("/var/lib").join(name)),
        (None, ServiceScope::User) => None,
    };
    let mut env = BTreeMap::new();
    let mut set = |name: &str, path: &Option<PathBuf>| {
        if let Some(path) = path {
            env.insert(name.to_owned(), path.to_string_lossy().into_owned());
        }
    };
    if let Some(home) = &home {
        here.dirs = Dirs::under(home);
        if !here.settings.explicit {
            here.settings.config_file = here.dirs.config_file();
        }
        set("RBEE_HOME", &Some(home.clone()));
    } else {
        set("XDG_CONFIG_HOME", &context.env.xdg_config_home);
        set("XDG_STATE_HOME", &context.env.xdg_state_home);
        set("XDG_DATA_HOME", &context.env.xdg_data_home);
    }
    if scope == ServiceScope::User
        && let Ok(path) = std::env::var("PATH")
    {
        // Workers' commands are looked for where their user finds them.
        env.insert("PATH".to_owned(), path);
    }
    Ok((here, env))
}

/// Whom the services run as.
#[derive(Debug)]
struct Owner {
    name: String,
    ids: Option<(u32, u32)>,
    home: PathBuf,
}

impl Owner {
    fn find(
        scope: ServiceScope,
        manager: Manager,
        run_as: Option<&str>,
        env: &Env,
        rbee_home: Option<&String>,
    ) -> Result<Self, Failure> {
        let unknown = |what: String| Failure::new("unknown_user", what).hint("`sudo useradd --system NAME` makes one");
        if let Some(name) = run_as {
            return match user(User::from_name(name)) {
                Some(user) => Ok(user),
                // It is another machine's.
                None if manager != Manager::Systemd => {
                    let folder = if manager == Manager::Launchd { "/Users" } else { "/home" };
                    Ok(Self { name: name.to_owned(), ids: None, home: Path::new(folder).join(name) })
                }
                None => Err(unknown(format!("there is no user {name:?} on this machine"))),
            };
        }
        let myself = || user(User::from_uid(geteuid()));
        let found = match scope {
            ServiceScope::User => myself(),
            ServiceScope::System => {
                let of_home = rbee_home.and_then(|home| fs::metadata(home).ok()).map(|home| Uid::from_raw(home.uid()));
                let caller = std::env::var("SUDO_USER").ok();
                of_home
                    .and_then(|uid| user(User::from_uid(uid)))
                    .or_else(|| caller.and_then(|name| user(User::from_name(&name))))
                    .or_else(myself)
            }
        };
        let mut found = found.ok_or_else(|| unknown("who you are is not known on this machine".to_owned()))?;
        if let (ServiceScope::User, Some(home)) = (scope, &env.home) {
            found.home.clone_from(home);
        }
        Ok(found)
    }
}

fn user(found: nix::Result<Option<User>>) -> Option<Owner> {
    let user = found.ok().flatten()?;
    Some(Owner { name: user.name, ids: Some((user.uid.as_raw(), user.gid.as_raw())), home: user.dir })
}

struct Maker<'a> {
    context: &'a Context,
    config: &'a Config,
    env: &'a BTreeMap<String, String>,
    owner: &'a Owner,
    which: &'a Which,
    how: &'a How,
    scope: ServiceScope,
    version: Option<u32>,
}

impl Maker<'_> {
    fn definition(&self, tier: Tier, tiers: &[Tier]) -> Result<Definition, Failure> {
        let has = |tier| tiers.contains(&tier);
        let (binary, stop_timeout) = match tier {
            Tier::Queen => (queen_lifecycle::BINARY, queen_lifecycle::shutdown_timeout(self.config)),
            Tier::Hive => (hive_lifecycle::BINARY, hive_lifecycle::shutdown_timeout(self.config)),
        };
        let mut args = vec!["run".to_owned()];
        if let Some(file) = self.context.config_file_for_children() {
            args.extend(["--config".to_owned(), file.to_string_lossy().into_owned()]);
        }
        match tier {
            Tier::Queen if has(Tier::Hive) => args.push("--without-hive".to_owned()),
            Tier::Hive if self.config.hive.queen.is_none() && (has(Tier::Queen) || self.config.starts_queen()) => {
                args.extend(["--queen".to_owned(), self.queen_url()?]);
            }
            _ => {}
        }
        let name = self.which.name.as_str();
        let own =
            format!("rbee's {}", if tier == Tier::Queen { "queen: orchestrator and API" } else { "hive: workers" });
        let keeper = binaries::own_program()
            .map_err(|error| Failure::new("internal", "cannot tell which program this is").because(&error))?;
        let after_end = [
            keeper.to_string_lossy().into_owned(),
            "service".to_owned(),
            "after-end".to_owned(),
            format!("{name}-{}.service", tier.word()),
        ];
        // What is hers to keep: the hive, or what the configuration has her run when something happens.
        let runs_commands = tier == Tier::Hive || !has(Tier::Hive) || !self.config.on.commands().is_empty();
        Ok(Definition {
            name: self.which.name.clone(),
            tier,
            scope: if self.scope == ServiceScope::System { Scope::System } else { Scope::User },
            program: program(binary)?,
            args,
            env: self.env.clone(),
            run_as: (self.scope == ServiceScope::System).then(|| self.owner.name.clone()),
            home: self.owner.home.clone(),
            description: self.how.description.clone().unwrap_or(own),
            start_timeout: hive_lifecycle::STARTUP_TIMEOUT + START_SLACK,
            stop_timeout: stop_timeout + STOP_SLACK,
            watchdog: WATCHDOG,
            writable: self.writable(),
            runs_commands,
            after_end: Some(after_end.to_vec()),
            systemd_version: self.version,
        })
    }

    /// The hive is told it once and for all.
    fn queen_url(&self) -> Result<String, Failure> {
        let listen = self.config.queen.listen;
        if listen.port() == 0 {
            return Err(Failure::new("config", "with port 0 in [queen] listen, the hive's unit cannot say where queen is")
                .hint("give queen a port of her own in rbee.toml, or `rbee-keeper service install queen`: then she starts the hive")
                .exit(Exit::CONFIG));
        }
        Ok(url_of(listen))
    }

    fn writable(&self) -> Vec<PathBuf> {
        let dirs = &self.context.dirs;
        let all = [dirs.config_dir(), dirs.state_dir(), dirs.models_dir(), dirs.run_dir()];
        let is_covered = |path: &Path| all.iter().any(|other| *other != path && path.starts_with(other));
        let mut folders: Vec<PathBuf> =
            all.iter().filter(|path| !is_covered(path)).map(|path| path.to_path_buf()).collect();
        folders.dedup();
        folders
    }
}

/// Where a program of ours is, whole: a unit looks nowhere by itself.
fn program(binary: &str) -> Result<PathBuf, Failure> {
    let found = binaries::locate(binary);
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = if found.is_absolute() {
        Some(found)
    } else {
        std::env::split_paths(&paths).map(|folder| folder.join(binary)).find(|path| path.is_file())
    };
    found.ok_or_else(|| {
        Failure::new("unavailable", format!("{binary} is neither beside rbee-keeper nor on PATH"))
            .hint("`cargo xtask up` builds it; put it beside rbee-keeper")
    })
}

fn refused(refusal: &Refusal) -> Failure {
    Failure::new("usage", refusal.to_string())
        .hint("nothing was written; see `rbee-keeper service install --help`")
        .exit(Exit::USAGE)
}
