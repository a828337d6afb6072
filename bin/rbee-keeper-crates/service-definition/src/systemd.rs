//! systemd units.
//!
//! `KillMode=process`: a crash of the daemon ends nothing of what it started, and the next one adopts it. A deliberate stop is the
//! daemon's own work: it gets SIGTERM and the time it needs, and leaves nothing; where that time was not enough, the command after
//! the end sweeps up.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::{Definition, Refusal, Scope, Service, Tier, words};

/// The first that knows a growing time between restarts, and a cgroup of its own for the daemon itself.
const KNOWS_STEPS: u32 = 254;

pub(crate) fn service(definition: &Definition) -> Result<Service, Refusal> {
    let program = definition.program.to_string_lossy();
    if program.contains(['"', '\'', '\\']) {
        return Err(Refusal::Program { path: definition.program.clone() });
    }
    let unit = unit_name(definition, definition.tier);
    let systemctl = |rest: &str| {
        words(&match definition.scope {
            Scope::System => format!("systemctl {rest}"),
            Scope::User => format!("systemctl --user {rest}"),
        })
    };
    let folder = match definition.scope {
        Scope::System => "/etc/systemd/system".into(),
        Scope::User => definition.home.join(".config/systemd/user"),
    };
    Ok(Service {
        path: folder.join(&unit),
        text: text(definition),
        install: vec![
            systemctl("daemon-reload"),
            systemctl(&format!("enable {unit}")),
            systemctl(&format!("start {unit}")),
        ],
        uninstall: vec![systemctl(&format!("disable --now {unit}"))],
        removed: vec![systemctl("daemon-reload"), systemctl(&format!("reset-failed {unit}"))],
        unit,
    })
}

fn unit_name(definition: &Definition, tier: Tier) -> String {
    format!("{}-{}.service", definition.name.as_str(), tier.word())
}

fn text(definition: &Definition) -> String {
    let mut text =
        "# Written by `rbee-keeper service install`; `rbee-keeper service uninstall` removes it.\n".to_owned();
    let mut section = |name: &str, lines: &[(&str, String)]| {
        let _ = writeln!(text, "{}[{name}]", if name == "Unit" { "" } else { "\n" });
        for (key, value) in lines {
            let _ = writeln!(text, "{key}={value}");
        }
    };
    section("Unit", &unit(definition));
    section("Service", &[run(definition), life(definition), bounds(), sandbox(definition)].concat());
    let target = match definition.scope {
        Scope::System => "multi-user.target",
        Scope::User => "default.target",
    };
    section("Install", &[("WantedBy", target.to_owned())]);
    text
}

type Lines = Vec<(&'static str, String)>;

fn lines(pairs: &[(&'static str, &str)]) -> Lines {
    pairs.iter().map(|(key, value)| (*key, (*value).to_owned())).collect()
}

fn unit(definition: &Definition) -> Lines {
    let mut unit = vec![("Description", described(&definition.description))];
    // She stops before the hive does: what is in flight is answered while the workers still run.
    let hive = if definition.tier == Tier::Queen { unit_name(definition, Tier::Hive) } else { String::new() };
    unit.push(("After", format!("network.target {hive}").trim_end().to_owned()));
    unit.extend(lines(&[("StartLimitIntervalSec", "10min"), ("StartLimitBurst", "30")]));
    unit
}

fn run(definition: &Definition) -> Lines {
    // After an upgrade queen is another process, and the old one says so.
    let access = if definition.tier == Tier::Queen { "all" } else { "main" };
    let mut run = lines(&[("Type", "notify"), ("NotifyAccess", access)]);
    // The one word in which no variable is looked for.
    let program = word(&definition.program.to_string_lossy(), false);
    let args = definition.args.iter().map(|arg| word(arg, true));
    run.push(("ExecStart", std::iter::once(program).chain(args).collect::<Vec<_>>().join(" ")));
    run.push(("ExecReload", "/bin/kill -HUP $MAINPID".to_owned()));
    if let Some(command) = &definition.after_end {
        let command: Vec<String> = command.iter().map(|part| word(part, true)).collect();
        run.push(("ExecStopPost", format!("-{}", command.join(" "))));
    }
    for (name, value) in &definition.env {
        run.push(("Environment", format!("\"{name}={}\"", escaped(value, false))));
    }
    if let (Scope::System, Some(user)) = (definition.scope, &definition.run_as) {
        run.push(("User", user.clone()));
    }
    run.extend(lines(&[("StandardOutput", "journal"), ("StandardError", "journal")]));
    run
}

fn life(definition: &Definition) -> Lines {
    let seconds = |duration: std::time::Duration| format!("{}s", duration.as_secs());
    let knows_steps = definition.systemd_version.is_none_or(|version| version >= KNOWS_STEPS);
    let mut life = lines(&[("Restart", "on-failure"), ("RestartSec", "1s")]);
    if knows_steps {
        life.extend(lines(&[("RestartSteps", "6"), ("RestartMaxDelaySec", "1min")]));
    }
    // A wrong command line or configuration does not get better by itself.
    life.extend(lines(&[("RestartPreventExitStatus", "64 78"), ("KillMode", "process")]));
    life.extend([
        ("TimeoutStartSec", seconds(definition.start_timeout)),
        ("TimeoutStopSec", seconds(definition.stop_timeout)),
        ("WatchdogSec", seconds(definition.watchdog)),
        // Its socket: who connects while it starts again waits instead of being refused.
        ("FileDescriptorStoreMax", "1".to_owned()),
        ("Delegate", "yes".to_owned()),
    ]);
    if knows_steps {
        // A cgroup that hands out controllers may hold no process, also when the daemon is started again.
        life.push(("DelegateSubgroup", "rbee-supervisor".to_owned()));
    } else {
        // Then none is handed out: limits hold for each process instead, and a crash is followed by a start.
        life.push(("Environment", "\"RBEE_CGROUP_CONTROLLERS=no\"".to_owned()));
    }
    life
}

fn bounds() -> Lines {
    lines(&[
        ("LimitNOFILE", "65536"),
        ("TasksMax", "infinity"),
        // A worker that has taken too much memory is the hive's business.
        ("OOMPolicy", "continue"),
        ("UMask", "0077"),
    ])
}

/// What is taken away. Commands that are not ours may need devices, namespaces, sockets of any kind and files anywhere; of them only
/// what no daemon should touch is kept.
fn sandbox(definition: &Definition) -> Lines {
    let mut sandbox = lines(&[("NoNewPrivileges", "yes"), ("RestrictSUIDSGID", "yes"), ("LockPersonality", "yes")]);
    if !definition.runs_commands {
        sandbox.extend(lines(&[
            ("RestrictRealtime", "yes"),
            ("RestrictNamespaces", "yes"),
            ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK"),
            ("MemoryDenyWriteExecute", "yes"),
            ("SystemCallArchitectures", "native"),
            ("SystemCallFilter", "@system-service"),
        ]));
    }
    if definition.scope == Scope::User {
        // The rest needs a file system of its own, which an ordinary user's manager cannot make everywhere.
        return sandbox;
    }
    let system = if definition.runs_commands { "full" } else { "strict" };
    sandbox.push(("ProtectSystem", system.to_owned()));
    for folder in &definition.writable {
        sandbox.push(("ReadWritePaths", word(&format!("-{}", folder.to_string_lossy()), false)));
    }
    sandbox.extend(lines(&[("ProtectKernelModules", "yes"), ("ProtectKernelLogs", "yes"), ("ProtectHostname", "yes")]));
    if !definition.runs_commands {
        // Not ProtectKernelTunables and ProtectControlGroups: in a container they show the host's boot id for the container's, and
        // then nobody outside knows her for the process that she says she is.
        sandbox.extend(lines(&[("ProtectClock", "yes"), ("PrivateDevices", "yes")]));
        if definition.run_as.as_deref().is_some_and(|user| user != "root") {
            sandbox.push(("CapabilityBoundingSet", String::new()));
        }
        if !is_below_temporary(definition) {
            sandbox.push(("PrivateTmp", "yes".to_owned()));
        }
    }
    sandbox
}

/// Whether something it needs is where a temporary folder of its own would hide it.
fn is_below_temporary(definition: &Definition) -> bool {
    let named = definition.args.iter().map(Path::new).chain(definition.env.values().map(Path::new));
    let mut paths = definition.writable.iter().map(PathBuf::as_path).chain([definition.program.as_path()]).chain(named);
    paths.any(|path| path.starts_with("/tmp") || path.starts_with("/var/tmp"))
}

/// No quotes are taken off there, and a backslash at the end would go on with the next line.
fn described(text: &str) -> String {
    let text = text.replace('%', "%%");
    if text.ends_with('\\') { format!("{text} ") } else { text }
}

/// One word of a list: quoted where it needs to be.
fn word(text: &str, in_command: bool) -> String {
    let is_plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | ':' | '=' | ',' | '+' | '@');
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("\"{}\"", escaped(text, in_command))
}

/// `%` begins a specifier everywhere, `$` a variable in commands.
fn escaped(text: &str, in_command: bool) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\\' | '"' => escaped.extend(['\\', c]),
            '%' => escaped.push_str("%%"),
            '$' if in_command => escaped.push_str("$$"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::tests::{definition, tricky};

    /// The lines that one unit alone has, and those that the other one has instead.
    fn changes(one: &str, other: &str) -> String {
        let missing_in = |text: &str, line: &&str| text.lines().all(|known| known != *line);
        let gone = one.lines().filter(|line| missing_in(other, line)).map(|line| format!("- {line}\n"));
        let new = other.lines().filter(|line| missing_in(one, line)).map(|line| format!("+ {line}\n"));
        gone.chain(new).collect()
    }

    /// SERV-06
    #[test]
    fn queen_of_the_machine_is_locked_in() {
        insta::assert_snapshot!(text(&definition(Tier::Queen, Scope::System)), @r#"
        # Written by `rbee-keeper service install`; `rbee-keeper service uninstall` removes it.
        [Unit]
        Description=rbee's queen
        After=network.target rbee-hive.service
        StartLimitIntervalSec=10min
        StartLimitBurst=30

        [Service]
        Type=notify
        NotifyAccess=all
        ExecStart=/opt/rbee/queen-rbee run --without-hive
        ExecReload=/bin/kill -HUP $MAINPID
        ExecStopPost=-/opt/rbee/rbee-keeper service after-end hive
        Environment="RBEE_HOME=/srv/bees"
        User=bee
        StandardOutput=journal
        StandardError=journal
        Restart=on-failure
        RestartSec=1s
        RestartSteps=6
        RestartMaxDelaySec=1min
        RestartPreventExitStatus=64 78
        KillMode=process
        TimeoutStartSec=60s
        TimeoutStopSec=75s
        WatchdogSec=30s
        FileDescriptorStoreMax=1
        Delegate=yes
        DelegateSubgroup=rbee-supervisor
        LimitNOFILE=65536
        TasksMax=infinity
        OOMPolicy=continue
        UMask=0077
        NoNewPrivileges=yes
        RestrictSUIDSGID=yes
        LockPersonality=yes
        RestrictRealtime=yes
        RestrictNamespaces=yes
        RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
        MemoryDenyWriteExecute=yes
        SystemCallArchitectures=native
        SystemCallFilter=@system-service
        ProtectSystem=strict
        ReadWritePaths=-/srv/bees
        ProtectKernelModules=yes
        ProtectKernelLogs=yes
        ProtectHostname=yes
        ProtectClock=yes
        PrivateDevices=yes
        CapabilityBoundingSet=
        PrivateTmp=yes

        [Install]
        WantedBy=multi-user.target
        "#);
    }

    /// SERV-06, SERV-21
    #[test]
    fn a_hive_of_a_user_is_not_and_an_older_systemd_gets_what_it_knows() {
        let hive = Definition { systemd_version: Some(252), ..definition(Tier::Hive, Scope::User) };
        let queen = text(&definition(Tier::Queen, Scope::System));
        insta::assert_snapshot!(changes(&queen, &text(&hive)), @r#"
        - Description=rbee's queen
        - After=network.target rbee-hive.service
        - NotifyAccess=all
        - ExecStart=/opt/rbee/queen-rbee run --without-hive
        - User=bee
        - RestartSteps=6
        - RestartMaxDelaySec=1min
        - DelegateSubgroup=rbee-supervisor
        - RestrictRealtime=yes
        - RestrictNamespaces=yes
        - RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
        - MemoryDenyWriteExecute=yes
        - SystemCallArchitectures=native
        - SystemCallFilter=@system-service
        - ProtectSystem=strict
        - ReadWritePaths=-/srv/bees
        - ProtectKernelModules=yes
        - ProtectKernelLogs=yes
        - ProtectHostname=yes
        - ProtectClock=yes
        - PrivateDevices=yes
        - CapabilityBoundingSet=
        - PrivateTmp=yes
        - WantedBy=multi-user.target
        + Description=rbee's hive
        + After=network.target
        + NotifyAccess=main
        + ExecStart=/opt/rbee/rbee-hive run --queen http://127.0.0.1:7833
        + Environment="RBEE_CGROUP_CONTROLLERS=no"
        + WantedBy=default.target
        "#);
    }

    /// SERV-06
    #[test]
    fn what_is_tricky_is_quoted() {
        let all = text(&tricky());
        let of = |keys: &[&str]| {
            let is_of = |line: &&str| keys.iter().any(|key| line.split('=').next() == Some(key));
            all.lines().filter(is_of).collect::<Vec<_>>().join("\n")
        };
        insta::assert_snapshot!(of(&["Description", "ExecStart", "Environment", "ReadWritePaths"]), @r#"
        Description=5%% & <more> of "it"
        ExecStart="/opt/my own 100%%/$X/rbee-hive" run --config "/etc/a b\\c$$HOME/é.toml"
        Environment="RBEE_HOME=/srv/it's 5%% \\ of $X"
        ReadWritePaths="-/srv/it's 5%% \\ of $X"
        "#);
    }

    /// SERV-05
    #[test]
    fn a_program_that_systemd_takes_for_a_riddle_is_refused() {
        let refused = service(&Definition { program: "/opt/it's/rbee-hive".into(), ..tricky() });
        assert!(refused.unwrap_err().to_string().contains("systemd starts no program"));
    }

    /// SERV-06
    #[test]
    fn what_would_be_hidden_stays_to_be_seen() {
        let queen = definition(Tier::Queen, Scope::System);
        assert!(text(&queen).contains("PrivateTmp=yes\n"));
        let args = ["run", "--config", concat!("/tm", "p/rbee.toml")].map(str::to_owned).to_vec();
        assert!(!text(&Definition { args, ..queen }).contains("PrivateTmp"));
    }

    /// SERV-06
    #[test]
    #[expect(clippy::disallowed_methods, reason = "asks the real parser")]
    fn systemd_itself_has_nothing_against_it() {
        if !Command::new("systemd-analyze").arg("--version").output().is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: there is no systemd-analyze to read the units");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        for definition in [definition(Tier::Queen, Scope::System), definition(Tier::Hive, Scope::System), tricky()] {
            // What they name has to be there.
            let program = dir.path().join("5% of $X");
            std::fs::copy("/bin/true", &program).unwrap();
            let after_end = Some(vec!["/bin/true".to_owned()]);
            let definition = Definition { program, after_end, systemd_version: Some(252), run_as: None, ..definition };
            let service = service(&definition).unwrap();
            let file = dir.path().join(&service.unit);
            std::fs::write(&file, &service.text).unwrap();
            let said = Command::new("systemd-analyze").arg("verify").arg(&file).output().unwrap();
            let said = String::from_utf8_lossy(&said.stderr).into_owned();
            let of_ours: Vec<&str> = said.lines().filter(|line| line.contains(&service.unit)).collect();
            assert_eq!(of_ours, [""; 0], "{}", service.text);
        }
    }
}
