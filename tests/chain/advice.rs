//! `doctor` and `optimize` as a user meets them. ADVI-10, ADVI-13, ADVI-19, ADVI-21, ADVI-34.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rbee_tests::home::Home;
use rbee_tests::{model, processes};
use serde_json::{Value, json};

use crate::{SLEEPER, down, pid, up, worker};

/// What doctor finds but for notes, and for what is this machine's own affair: `AREA: WHAT`.
fn findings(home: &Home) -> Vec<String> {
    let (document, code) = home.json(&["doctor"]);
    let all = document["findings"].as_array().cloned().unwrap_or_default();
    let is_wrong = |finding: &&Value| finding["severity"] != "note";
    assert_eq!(code, i32::from(all.iter().any(|finding| is_wrong(&finding))), "{document}");
    assert_eq!(document["healthy"], code == 0);
    assert!(all.iter().filter(is_wrong).all(|finding| finding["remedy"].is_string()), "{document}");
    let told = all
        .iter()
        .filter(is_wrong)
        .map(|f| format!("{}: {}", f["area"].as_str().unwrap(), f["what"].as_str().unwrap()));
    told.filter(|text| !text.starts_with("disk: ") && !text.starts_with("limits: ")).collect()
}

fn only(home: &Home, part: &str) {
    let found = findings(home);
    assert!(found.len() == 1 && found[0].contains(part), "{part}: {found:?}");
}

/// ADVI-10, ADVI-13, ADVI-16
#[test]
fn a_sound_home_has_no_findings_before_in_and_after_its_life() {
    let home = Home::with_config(SLEEPER);
    assert_eq!(findings(&home), [""; 0]);
    assert!(!home.path().join("run").exists(), "looking creates nothing");
    up(&home);
    assert_eq!(findings(&home), [""; 0]);
    for (file, mode, part) in [("token", 0o644, "token: "), ("rbee.toml", 0o666, "config: ")] {
        let path = home.path().join(file);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        only(&home, part);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    down(&home);
    assert_eq!(findings(&home), [""; 0]);
    // Of a file that makes no sense that alone is told.
    let sound = fs::read_to_string(home.path().join("rbee.toml")).unwrap();
    fs::write(home.path().join("rbee.toml"), format!("profil = \"x\"\n{sound}")).unwrap();
    only(&home, "config: unknown key `profil`");
    fs::write(home.path().join("rbee.toml"), sound).unwrap();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", home.queen_port)).unwrap();
    only(&home, &format!("ports: port {} (`queen.listen`) is taken by ", home.queen_port));
}

/// ADVI-19, ADVI-21
#[test]
fn the_crashed_and_the_lost_are_found() {
    let home = Home::with_config(SLEEPER);
    let status = up(&home);
    let (queen, hive, sleeper) = (pid(&status["queen"]), pid(&status["hives"][0]), pid(worker(&status)));
    processes::crash(queen);
    let found = findings(&home);
    assert!(found.iter().any(|text| text.contains("queen.state names a process that is gone")), "{found:?}");
    assert!(found.iter().any(|text| text.contains("the hive local runs, but queen does not")), "{found:?}");
    processes::crash(hive);
    let found = findings(&home);
    assert!(found.iter().any(|text| text.contains("workers run (sleeper.0")), "{found:?}");
    for file in ["state", "pid"] {
        fs::remove_file(home.path().join(format!("run/workers/sleeper.0.{file}"))).unwrap();
    }
    let found = findings(&home);
    let orphan = format!("orphans: process {sleeper} (sleep) belongs to a run of sleeper.0");
    assert!(found.iter().any(|text| text.starts_with(&orphan)), "{found:?}");
    processes::crash(sleeper);
    home.keeper(&["down"]).assert().success();
    assert_eq!(findings(&home), [""; 0]);
}

/// ADVI-34
#[test]
fn what_is_proposed_is_written_in_place_and_proposed_no_more() {
    let home = Home::empty();
    let model = home.path().join("m.gguf");
    fs::write(&model, "GGUF").unwrap();
    let worker = "# mine\n[worker.m]\nmodel = \"m\"\nthreads = 99   # far too many\n";
    home.write_config(&format!("[model.m]\nsource = \"file:{}\"\n{worker}", model.display()));
    let file = home.path().join("rbee.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let before = fs::read_to_string(&file).unwrap();
    let (document, code) = home.json(&["optimize"]);
    assert_eq!((code, &document["applied"]), (0, &Value::Bool(false)), "{document}");
    assert!(document["no_history"].is_string() && document["history"] == false, "{document}");
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
    let proposals = document["proposals"].as_array().unwrap();
    let threads = proposals.iter().find(|proposal| proposal["key"] == "worker.m.threads").unwrap();
    assert_eq!(threads["from"], 99);

    let (document, code) = home.json(&["optimize", "--apply"]);
    assert_eq!(
        (code, &document["applied"], &document["reloaded"]),
        (0, &Value::Bool(true), &Value::Null),
        "{document}"
    );
    let after = fs::read_to_string(&file).unwrap();
    assert!(after.contains("# mine\n[worker.m]\n") && after.contains("   # far too many\n"), "{after}");
    assert!(!after.contains("threads = 99"), "{after}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    let (document, _) = home.json(&["optimize", "--apply"]);
    assert_eq!((&document["proposals"], &document["applied"]), (&json!([]), &Value::Bool(false)));
    assert_eq!(fs::read_to_string(&file).unwrap(), after);
}

/// ADVI-34: with our engine on the real model.
#[test]
fn what_is_applied_is_reloaded_by_the_daemons_that_run() {
    let Some(model) = model::file() else { return };
    let home = Home::with_config(&format!(
        "[model.m]\nsource = \"file:{}\"\n[worker.m]\nmodel = \"m\"\nthreads = 99\nauto_start = true\n{SLEEPER}",
        model.display()
    ));
    up(&home);
    let (document, code) = home.json(&["optimize", "--apply"]);
    assert_eq!((code, &document["applied"]), (0, &Value::Bool(true)), "{document}");
    assert_eq!((&document["reloaded"]["restarted"], &document["reloaded"]["untouched"]), (&json!(["m/0"]), &json!(1)));
    let (document, code) = home.json(&["optimize", "--apply"]);
    assert_eq!((code, &document["proposals"], &document["reloaded"]), (0, &json!([]), &Value::Null), "{document}");
    down(&home);
}
