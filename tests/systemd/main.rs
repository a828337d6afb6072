//! Queen and hive as services of a real systemd: a machine of its own is booted, keeper installs the units in it, and then things go
//! wrong. Where no such machine can be had, it says why and is skipped.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod machine;
mod rootfs;

use std::time::{Duration, Instant};

use machine::{Machine, PROGRAMS, Said};
use rbee_tests::wait::until;
use serde_json::Value;

const HOME: &str = "/var/lib/rbee";
const UNITS: [&str; 2] = ["rbee-queen.service", "rbee-hive.service"];
const SOON: Duration = Duration::from_secs(30);
const CONFIG: &str =
    "role = \"master\"\n[worker.sleeper]\ncommand = [\"sleep\", \"100000\"]\nready = \"started\"\nreplicas = 2\n";
/// Ends at SIGKILL alone.
const STUBBORN: &str = "[worker.stubborn]\ncommand = [\"sh\", \"-c\", \"trap : TERM; while :; do sleep 1000 & wait; done\"]\n\
    ready = \"started\"\nstop_timeout = \"6s\"\n";

/// Who runs: queen, hive, workers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pids {
    queen: u64,
    hive: u64,
    workers: Vec<u64>,
}

struct Scene {
    machine: Machine,
}

impl Scene {
    fn keeper(&self, words: &str) -> Said {
        let program = format!("{PROGRAMS}/rbee-keeper");
        let home = format!("RBEE_HOME={HOME}");
        let words: Vec<&str> = ["env", &home, &program].into_iter().chain(words.split(' ')).collect();
        self.machine.run(&words)
    }

    /// keeper's answer, which must be no error.
    fn asked(&self, words: &str) -> Value {
        let said = self.keeper(&format!("{words} --json"));
        assert_eq!(said.code, Some(0), "{words}: {said:?}\n{}", self.machine.journal());
        serde_json::from_str(&said.out).unwrap()
    }

    fn of_unit(&self, unit: &str, property: &str) -> String {
        self.machine.must(&["systemctl", "show", "--value", "--property", property, unit]).trim().to_owned()
    }

    fn main_pid(&self, unit: &str) -> u64 {
        self.of_unit(unit, "MainPID").parse().unwrap()
    }

    /// Who runs, when all that is wanted does and queen has heard of it from the hive that runs now.
    fn pids(&self) -> Option<Pids> {
        let said = self.keeper("status --json");
        let status: Value = serde_json::from_str(&said.out).ok()?;
        let hive = &status["hives"][0];
        let runs = |tier: &Value| tier["phase"] == "running";
        let workers = hive["workers"].as_array()?;
        let all = runs(&status["queen"]) && runs(hive) && workers.len() == 2 && workers.iter().all(runs);
        let (queen, hive_pid) = (status["queen"]["pid"].as_u64()?, hive["pid"].as_u64()?);
        let is_theirs = queen == self.main_pid(UNITS[0]) && hive_pid == self.main_pid(UNITS[1]);
        let workers = workers.iter().filter_map(|worker| worker["pid"].as_u64()).collect();
        (all && is_theirs).then_some(Pids { queen, hive: hive_pid, workers })
    }

    fn wait_pids(&self, what: &str) -> Pids {
        until(what, SOON, || self.pids())
    }

    fn signal(&self, unit: &str, signal: &str) {
        self.machine.must(&["systemctl", "kill", "--kill-who=main", "--signal", signal, unit]);
    }

    /// A line for each process of that user, and for each file that stands for one.
    fn left_of(&self, user: &str, run_dir: &str) -> Vec<String> {
        let script = "ps -u \"$1\" -o pid=,args= | grep -v systemd; find \"$2\" -type f 2>/dev/null; true";
        let said = self.machine.must(&["sh", "-c", script, "sh", user, run_dir]);
        said.lines().map(str::to_owned).filter(|line| !line.contains("(sd-pam)")).collect()
    }

    fn nothing_left(&self, when: &str) {
        assert_eq!(
            self.left_of("bee", &format!("{HOME}/run")),
            Vec::<String>::new(),
            "{when}\n{}",
            self.machine.journal()
        );
    }
}

/// A part of the scenario; the next begins where it ends.
type Step = fn(&mut Scene);

/// SERV-01 to SERV-04, SERV-11 to SERV-20
#[test]
fn services_under_a_real_systemd() {
    let root = match rootfs::find() {
        Ok(root) => root,
        Err(why) => return eprintln!("skipped: queen and hive under a real systemd: {why}"),
    };
    let mut scene = Scene { machine: Machine::boot(&root) };
    for user in ["bee", "u1"] {
        scene.machine.must(&["useradd", "--create-home", user]);
    }
    let steps: [(&str, Step); 9] = [
        ("what cannot be is refused", |scene| refusals(scene)),
        ("installed over what ran, twice: its workers go on", |scene| installs_over_what_runs(scene)),
        ("kill -9 of queen and hive: others, the same workers", |scene| crashes(scene)),
        ("SIGSTOP of queen and hive: found by the watchdog", |scene| hangs(scene)),
        ("queen stop, start, restart, upgrade, kill by keeper", |scene| verbs(scene)),
        ("systemctl stop, down: nothing left; the journal has it", |scene| stops(scene)),
        ("after power-off and boot all runs", reboots),
        ("uninstalled: nothing left", |scene| uninstalls(scene)),
        ("the same for a user, with linger", |scene| services_of_a_user(scene)),
    ];
    for (what, step) in steps {
        let began = Instant::now();
        step(&mut scene);
        eprintln!("{what:<56} ok {:5.1} s", began.elapsed().as_secs_f64());
    }
}

/// SERV-04, SERV-05: nothing is written.
fn refusals(scene: &Scene) {
    scene.machine.write(&format!("{HOME}/rbee.toml"), CONFIG);
    scene.machine.must(&["chown", "-R", "bee", HOME]);
    let keeper = format!("{PROGRAMS}/rbee-keeper");
    let as_user = scene.machine.run(&["runuser", "-u", "u1", "--", &keeper, "service", "install", "--system"]);
    assert!(
        as_user.code == Some(1) && as_user.err.contains("needs root") && as_user.err.contains("--user"),
        "{as_user:?}"
    );
    for (words, code, reason) in [
        ("service install --run-as nobody-here", 1, "no user \"nobody-here\""),
        ("service install --name a/b", 64, "no service name"),
        ("service install --manager launchd", 64, "service show"),
        ("service install --user --run-as bee", 64, "--run-as is for --system"),
    ] {
        let said = scene.keeper(words);
        assert!(said.code == Some(code) && said.err.contains(reason), "{words}: {said:?}");
    }
    let shown = scene.keeper("service show queen");
    assert!(shown.code == Some(0) && shown.out.contains("[Service]\nType=notify\n"), "{shown:?}");
    let units = scene.machine.must(&["sh", "-c", "ls /etc/systemd/system /run/systemd/system"]);
    assert!(!units.contains("rbee"), "{units}");
}

/// SERV-01, SERV-02, SERV-12, SERV-19, SERV-20
fn installs_over_what_runs(scene: &Scene) {
    // As bee would have started it by hand.
    let keeper = format!("{PROGRAMS}/rbee-keeper");
    let home = format!("RBEE_HOME={HOME}");
    scene.machine.must(&["runuser", "-u", "bee", "--", "env", &home, &keeper, "up"]);
    let before = scene.asked("status");
    let workers = |status: &Value| {
        let workers = status["hives"][0]["workers"].as_array().unwrap();
        workers.iter().map(|worker| worker["pid"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let installed = scene.asked("service install");
    assert!(installed["changed"] == true && installed["run_as"] == "bee", "{installed}");
    let after = scene.wait_pids("the units to run what ran");
    assert_eq!(after.workers, workers(&before), "they were adopted");
    let again = scene.asked("service install");
    assert_eq!((&again["changed"], scene.pids().unwrap()), (&Value::Bool(false), after));
    for unit in UNITS {
        assert_eq!(
            (scene.of_unit(unit, "UnitFileState"), scene.of_unit(unit, "User")),
            ("enabled".into(), "bee".into())
        );
        // What hangs shall be found out soon, from the next start on.
        let drop_in = format!("/etc/systemd/system/{unit}.d/soon.conf");
        scene.machine.write(&drop_in, "[Service]\nWatchdogSec=2s\n");
    }
    scene.machine.must(&["systemctl", "daemon-reload"]);
}

/// SERV-13, SERV-15, SERV-16
fn crashes(scene: &Scene) {
    let before = scene.wait_pids("all to run");
    scene.signal(UNITS[0], "KILL");
    // Asked at once: the socket is there, whoever is not.
    let list = scene.keeper("worker list");
    assert!(list.code == Some(0) && list.out.contains("sleeper/1"), "{list:?}");
    let after = until("another queen", SOON, || scene.pids().filter(|pids| pids.queen != before.queen));
    assert_eq!((after.hive, &after.workers), (before.hive, &before.workers));
    scene.signal(UNITS[1], "KILL");
    let after = until("another hive", SOON, || scene.pids().filter(|pids| pids.hive != before.hive));
    assert_eq!(after.workers, before.workers, "adopted");
    for unit in UNITS {
        assert_eq!(scene.of_unit(unit, "NRestarts"), "1", "{unit}");
    }
}

/// SERV-11, SERV-13
fn hangs(scene: &Scene) {
    let before = scene.wait_pids("all to run");
    for unit in UNITS {
        scene.signal(unit, "STOP");
    }
    let after =
        until("others", SOON, || scene.pids().filter(|pids| pids.queen != before.queen && pids.hive != before.hive));
    assert_eq!(after.workers, before.workers, "adopted");
    let journal = scene.machine.must(&["journalctl", "--no-pager", "-o", "cat"]);
    for unit in UNITS {
        assert!(journal.contains(&format!("{unit}: Watchdog timeout")), "{journal}");
    }
}

/// SERV-15
fn verbs(scene: &Scene) {
    let before = scene.wait_pids("all to run");
    scene.asked("queen stop --keep-hives");
    assert_eq!(scene.of_unit(UNITS[0], "ActiveState"), "inactive", "an end by intention stays one");
    assert_eq!(scene.keeper("queen status").code, Some(3));
    let started = scene.asked("queen start");
    assert_eq!(started["pid"].as_u64(), Some(scene.main_pid(UNITS[0])));
    assert_eq!(scene.asked("queen start")["changed"], false);
    scene.asked("queen restart");
    let restarted = scene.wait_pids("queen after her restart");
    let upgraded = scene.asked("queen upgrade");
    assert_ne!(upgraded["pid"].as_u64(), Some(restarted.queen));
    let after = scene.wait_pids("the queen that took over, as the unit's own");
    assert_eq!((Some(after.queen), after.hive), (upgraded["pid"].as_u64(), before.hive));
    assert_eq!(after.workers, before.workers);
    // She is watched as the first one was.
    scene.signal(UNITS[0], "STOP");
    let watched = until("another queen", SOON, || scene.pids().filter(|pids| pids.queen != after.queen));
    assert_eq!(watched.workers, before.workers);
    scene.asked("queen kill");
    let again = until("another queen", SOON, || scene.pids().filter(|pids| pids.queen != watched.queen));
    assert_eq!(again.workers, before.workers);
}

/// SERV-14, SERV-17
fn stops(scene: &Scene) {
    scene.machine.must(&[&["systemctl", "stop"], UNITS.as_slice()].concat());
    scene.nothing_left("after systemctl stop");
    for (unit, words) in UNITS.into_iter().zip(["queen is ready", "stopping all workers"]) {
        let log = scene.machine.must(&["journalctl", "--no-pager", "-o", "cat", "-u", unit]);
        assert!(log.contains(words), "{log}");
    }
    // One that dies while it stops.
    scene.machine.write(&format!("{HOME}/rbee.toml"), &format!("{CONFIG}{STUBBORN}"));
    scene.asked("up");
    scene.machine.must(&["systemctl", "stop", "--no-block", UNITS[1]]);
    until("the hive to stop", SOON, || (scene.of_unit(UNITS[1], "ActiveState") == "deactivating").then_some(()));
    scene.signal(UNITS[1], "KILL");
    until("the hive to be down", SOON, || (scene.of_unit(UNITS[1], "SubState") == "failed").then_some(()));
    scene.asked("queen stop --keep-hives");
    scene.nothing_left("after a stop in which the hive died");
    scene.machine.write(&format!("{HOME}/rbee.toml"), CONFIG);
    scene.asked("up");
    scene.asked("down");
    scene.nothing_left("after down");
    for unit in UNITS {
        assert_eq!(scene.of_unit(unit, "ActiveState"), "inactive");
    }
    scene.asked("up");
}

/// SERV-17
fn reboots(scene: &mut Scene) {
    scene.machine.reboot();
    scene.wait_pids("all to run after the boot");
}

/// SERV-03
fn uninstalls(scene: &Scene) {
    let removed = scene.asked("service uninstall");
    assert_eq!((&removed["changed"], removed["removed"].as_array().unwrap().len()), (&Value::Bool(true), 2));
    scene.nothing_left("after uninstall");
    let script = "rm -r /etc/systemd/system/*.service.d; find /etc/systemd /var/lib/rbee/state -name '*rbee-*' -o -name 'services.*'";
    assert_eq!(scene.machine.must(&["sh", "-c", script]), "");
    for unit in UNITS {
        assert_eq!(scene.of_unit(unit, "LoadState"), "not-found");
    }
    assert_eq!(scene.asked("service uninstall")["changed"], false);
    assert_eq!(scene.keeper("service status").code, Some(3));
}

/// SERV-03, SERV-18
fn services_of_a_user(scene: &Scene) {
    let machine = &scene.machine;
    machine.must(&["loginctl", "enable-linger", "u1"]);
    let id = machine.must(&["id", "-u", "u1"]).trim().to_owned();
    let runtime = format!("XDG_RUNTIME_DIR=/run/user/{id}");
    until("the user's own systemd", SOON, || {
        let words = ["runuser", "-u", "u1", "--", "env", &runtime, "systemctl", "--user", "is-system-running"];
        ["running", "degraded"].contains(&machine.run(&words).out.trim()).then_some(())
    });
    let ask = |words: &str| {
        let program = format!("{PROGRAMS}/rbee-keeper");
        let who = ["runuser", "-u", "u1", "--", "env", "HOME=/home/u1", &runtime, &program];
        let words: Vec<&str> = who.into_iter().chain(words.split(' ')).chain(["--json"]).collect();
        serde_json::from_str::<Value>(&machine.must(&words)).unwrap()
    };
    machine.write("/home/u1/.config/rbee/rbee.toml", CONFIG);
    machine.must(&["chown", "-R", "u1:", "/home/u1"]);
    let installed = ask("service install");
    assert!(installed["changed"] == true && installed["scope"] == "user" && installed["run_as"] == "u1", "{installed}");
    assert_eq!(ask("service install")["changed"], false);
    let workers = || {
        let status = ask("status");
        let workers: Vec<u64> =
            status["hives"][0]["workers"].as_array()?.iter().filter_map(|worker| worker["pid"].as_u64()).collect();
        (workers.len() == 2).then_some((status["hives"][0]["pid"].as_u64()?, workers))
    };
    let (hive, before) = until("the user's workers", SOON, workers);
    machine.must(&["kill", "-KILL", &hive.to_string()]);
    let (_, after) = until("another hive", SOON, || workers().filter(|(pid, _)| *pid != hive));
    assert_eq!(after, before, "adopted");
    assert_eq!(ask("service uninstall")["changed"], true);
    assert_eq!(scene.left_of("u1", &format!("/run/user/{id}/rbee")), Vec::<String>::new());
    let script =
        "find /home/u1/.config/systemd /home/u1/.local/state -name '*rbee-*' -o -name 'services.*' 2>/dev/null; true";
    assert_eq!(machine.must(&["sh", "-c", script]), "");
}
