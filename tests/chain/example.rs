//! The files of `examples/`, as users read them, with stand-ins for the daemons they name: what a test has to have otherwise is
//! replaced word by word, and every word to be replaced must be there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rbee_tests::home::Home;
use rbee_tests::wait;
use serde_json::Value;

pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A home whose configuration is `examples/NAME.toml` with these changes, on ports of its own. `~` is the home itself; programs
/// are looked for in its `bin`, then among the stand-ins, then on the `PATH`.
pub(crate) fn home_of(name: &str, changes: &[(&str, &str)]) -> Home {
    let mut home = Home::empty();
    let bin = home.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let folders = [bin, stand_ins()].into_iter().chain(std::env::split_paths(&path));
    let path = std::env::join_paths(folders).unwrap().into_string().unwrap();
    home.set_env("PATH", path);
    home.set_env("HOME", home.path().display().to_string());
    home.set_env("PYTHONDONTWRITEBYTECODE", "1");
    write(&home, name, changes);
    home
}

/// Writes the configuration of [`home_of`] anew.
pub(crate) fn write(home: &Home, name: &str, changes: &[(&str, &str)]) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name).with_extension("toml");
    let mut text = fs::read_to_string(&file).unwrap();
    let ports = [
        ("127.0.0.1:7833", format!("127.0.0.1:{}", home.queen_port)),
        ("127.0.0.1:7835", format!("127.0.0.1:{}", home.hive_port)),
        ("ports = \"7855-7899\"", "ports = \"0\"".to_owned()),
    ];
    let ports = ports.iter().map(|(from, to)| (*from, to.as_str()));
    for (from, to) in ports.chain(changes.iter().copied()) {
        assert!(text.contains(from), "`{from}` is not in {}", file.display());
        text = text.replace(from, to);
    }
    fs::write(home.path().join("rbee.toml"), text).unwrap();
}

/// What has happened, as the hive tells it.
pub(crate) fn events(home: &Home, kind: &str) -> Vec<Value> {
    let hive = format!("http://127.0.0.1:{}", home.hive_port);
    let (told, code) = home.json(&["--hive", &hive, "events", "--since", "1h", "--kind", kind]);
    assert_eq!(code, 0, "{told}");
    told["events"].as_array().unwrap().clone()
}

/// The folder of the stand-ins.
pub(crate) fn stand_ins() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("stand-ins")
}

/// The worker of that name, wherever it is.
pub(crate) fn worker<'s>(status: &'s Value, name: &str) -> &'s Value {
    let hives = status["hives"].as_array().unwrap();
    let mut workers = hives.iter().flat_map(|hive| hive["workers"].as_array().unwrap());
    workers.find(|worker| worker["name"] == name).unwrap_or_else(|| panic!("no worker {name} in {status}"))
}

pub(crate) fn phase(home: &Home, name: &str) -> String {
    worker(&home.status(), name)["phase"].as_str().unwrap().to_owned()
}

/// Waits until the worker is as asked.
pub(crate) fn until(home: &Home, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    wait::until(what, SOON, || Some(worker(&home.status(), name).clone()).filter(&is_so))
}

/// Waits until the worker runs, later than in this incarnation.
pub(crate) fn until_anew(home: &Home, name: &str, incarnation: u64) -> Value {
    let is_anew = |worker: &Value| worker["phase"] == "running" && worker["incarnation"].as_u64() > Some(incarnation);
    until(home, name, &format!("{name} to run anew"), is_anew)
}

pub(crate) fn incarnation(worker: &Value) -> u64 {
    worker["incarnation"].as_u64().unwrap()
}

/// HIVE-20 CONF-05
#[test]
fn each_file_is_in_order_and_all_of_it_is_in_force() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> = all.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    assert!(files.len() >= 3);
    for file in files {
        let home = Home::empty();
        let file = file.display().to_string();
        let (answer, code) = home.json(&["config", "check", "--config", &file]);
        assert_eq!((code, answer["not_in_force"].as_array().map(Vec::len)), (0, Some(0)), "{file}: {answer}");
    }
}
