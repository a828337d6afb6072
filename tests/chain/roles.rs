//! What `up` starts: by the machine's role, and by each daemon's own word. ADVI-02, ADVI-05.

use std::fs;
use std::time::Duration;

use predicates::prelude::*;
use rbee_tests::home::Home;
use rbee_tests::wait;

use crate::down;

const SOON: Duration = Duration::from_secs(30);

/// Which programs of ours run in the home, and the workers' sleeps.
fn running(home: &Home) -> (bool, bool, usize) {
    let commands: Vec<String> = home.processes().into_iter().map(|process| process.command).collect();
    let is =
        |name: &str| commands.iter().any(|command| command.split(' ').next().is_some_and(|word| word.ends_with(name)));
    (is("queen-rbee"), is("rbee-hive"), commands.iter().filter(|command| command.starts_with("sleep ")).count())
}

/// ADVI-02
#[test]
fn each_role_starts_its_own_and_each_daemon_overrides_it() {
    for (role, queen_key, hive_key, worker_key, expected) in [
        ("master", "", "", "", (true, true, 1)),
        ("master", "", "auto_start = false", "", (true, false, 0)),
        ("master", "auto_start = false", "", "", (false, true, 1)),
        ("master", "", "", "auto_start = false", (true, true, 0)),
        ("worker", "", "", "", (false, true, 1)),
        ("worker", "auto_start = true", "", "", (true, true, 1)),
        ("leecher", "", "", "", (false, false, 0)),
        ("leecher", "auto_start = true", "", "", (true, false, 0)),
        ("leecher", "", "", "auto_start = true", (false, true, 1)),
        ("leecher", "auto_start = true", "auto_start = true", "", (true, true, 0)),
    ] {
        let home = Home::empty();
        let (queen, hive) = (home.queen_port, home.hive_port);
        // Without a queen of its own the hive stands alone.
        let of_queen = if expected.0 { format!("queen = \"http://127.0.0.1:{queen}\"\n") } else { String::new() };
        let text = format!(
            "role = \"{role}\"\n[queen]\nlisten = \"127.0.0.1:{queen}\"\n{queen_key}\n\
             [hive]\nlisten = \"127.0.0.1:{hive}\"\nports = \"0\"\n{of_queen}{hive_key}\n\
             [worker.sleeper]\ncommand = [\"sleep\", \"1000\"]\nready = \"started\"\n{worker_key}\n"
        );
        fs::write(home.path().join("rbee.toml"), &text).unwrap();
        home.keeper(&["up"]).assert().success();
        // A hive without workers is not waited for.
        wait::until(&format!("{expected:?} with {text}"), SOON, || (running(&home) == expected).then_some(()));
        down(&home);
    }
}

/// ADVI-05: a machine whose hive belongs to a queen on another one.
#[test]
fn a_worker_joins_the_queen_it_names_and_waits_for_her_where_she_is_not_there() {
    let master = Home::empty();
    let queen = master.queen_port;
    master.write_config_with("", "");
    let text = fs::read_to_string(master.path().join("rbee.toml")).unwrap();
    fs::write(master.path().join("rbee.toml"), text.replace("[hive]", "[hive]\nauto_start = false")).unwrap();
    let attic = Home::empty();
    let words = ["--role", "worker", "--queen", &format!("http://127.0.0.1:{queen}"), "--name", "attic"];
    let listen = format!("127.0.0.1:{}", attic.hive_port);
    attic
        .keeper(&[&["config", "init", "--listen", &listen], &words[..]].concat())
        .assert()
        .success()
        .stderr(predicate::str::contains("put the token of queen's machine into"));
    attic.keeper(&["up"]).assert().success().stderr(predicate::str::contains("its queen does not answer"));
    attic.keeper(&["down"]).assert().success();

    master.keeper(&["up"]).assert().success();
    fs::write(attic.path().join("token"), master.token()).unwrap();
    attic.keeper(&["up"]).assert().success();
    assert_eq!(running(&attic), (false, true, 0));
    wait::until("the hive in queen's tree", SOON, || {
        let hives = master.status()["hives"].as_array().cloned().unwrap_or_default();
        hives.into_iter().find(|hive| hive["name"] == "attic" && hive["phase"] == "running")
    });
    down(&attic);
    down(&master);
}
