//! `service` where nothing is installed: what is shown, and what is refused. With a real systemd: `tests/systemd`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

/// Keeper in an empty home, which finds a queen and a hive.
struct Scene {
    folder: TempDir,
}

impl Scene {
    fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("bin")).unwrap();
        std::fs::create_dir_all(folder.path().join("home")).unwrap();
        for program in ["queen-rbee", "rbee-hive"] {
            std::fs::write(folder.path().join("bin").join(program), "").unwrap();
        }
        std::fs::write(folder.path().join("home/rbee.toml"), config).unwrap();
        Self { folder }
    }

    fn home(&self) -> std::path::PathBuf {
        self.folder.path().join("home")
    }

    fn keeper(&self, words: &str) -> (i32, String, String) {
        let path = format!("{}:/usr/bin:/bin", self.folder.path().join("bin").display());
        let mut command = Command::cargo_bin("rbee-keeper").unwrap();
        command.env_clear().env("PATH", path).env("HOME", "/nowhere").env("RBEE_HOME", self.home());
        let output = command.arg("service").args(words.split(' ')).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn untouched(&self) -> bool {
        let files = std::fs::read_dir(self.home()).unwrap().map(|entry| entry.unwrap().file_name());
        files.collect::<Vec<_>>() == ["rbee.toml"]
    }
}

/// SERV-10
#[test]
fn show_prints_one_file_alone_and_touches_nothing() {
    let scene = Scene::new("role = \"master\"\n");
    for (words, begins) in [
        ("show queen --system", "# Written by"),
        ("show hive --user --manager launchd", "<?xml"),
        ("show queen --manager windows", "<service>"),
        ("show hive --manager supervisord --description bees", "; bees\n[program:rbee-hive]"),
    ] {
        let (code, out, err) = scene.keeper(words);
        assert!(code == 0 && out.starts_with(begins), "{words}: {out}{err}");
        assert!(err.contains("to install, write ") && err.contains("to remove it"), "{words}: {err}");
    }
    let (_, alone, _) = scene.keeper("show queen --system");
    assert!(!alone.contains("--without-hive"), "no hive has a unit: she keeps it herself");
    let (_, both, _) = scene.keeper("show --system --json");
    let both: Value = serde_json::from_str(&both).unwrap();
    let text = |index: usize| both["services"][index]["text"].as_str().unwrap();
    assert!(text(0).contains("rbee-hive run --queen http://127.0.0.1:7833\n"), "{}", text(0));
    assert!(text(1).contains("queen-rbee run --without-hive\n"), "{}", text(1));
    assert!(text(1).contains(&format!("Environment=\"RBEE_HOME={}\"", scene.home().display())));
    assert!(scene.untouched());
}

/// SERV-01
#[test]
fn the_role_says_which_and_a_leecher_has_none() {
    let units = |role: &str| {
        let (code, out, _) = Scene::new(&format!("role = \"{role}\"\n")).keeper("show --system --json");
        assert_eq!(code, 0);
        let shown: Value = serde_json::from_str(&out).unwrap();
        let services = shown["services"].as_array().cloned().unwrap_or_default();
        services.iter().map(|service| service["unit"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(units("master"), ["rbee-hive.service", "rbee-queen.service"]);
    assert_eq!(units("worker"), ["rbee-hive.service"]);
    assert_eq!(units("leecher"), [""; 0]);
}

/// SERV-04, SERV-05
#[test]
fn what_cannot_be_is_refused_with_what_to_do() {
    let scene = Scene::new("role = \"master\"\n");
    for (words, code, reason) in [
        ("install --name a/b", 64, "is no service name"),
        ("install --manager launchd", 64, "service show"),
        ("install --user --run-as root", 64, "--run-as is for --system"),
        ("install --system --user", 64, "cannot be used with"),
        ("install --system --run-as nobody-of-that-name", 1, "there is no user"),
        ("show --system --run-as a;b", 1, "there is no user"),
        ("show --manager launchd --system --run-as a;b", 64, "is no user's name"),
    ] {
        let (got, out, err) = scene.keeper(words);
        assert!(got == code && err.contains(reason) && out.is_empty(), "{words}: {got} {out}{err}");
        assert!(err.contains("hint: "), "{words}: {err}");
    }
    let (code, _, err) = Scene::new("[queen]\nlisten = \"127.0.0.1:0\"\n").keeper("show --system");
    assert!(code == 78 && err.contains("port 0") && err.contains("install queen"), "{err}");
    if !Path::new("/run/systemd/system").exists() {
        let (code, _, err) = scene.keeper("install --system --run-as root");
        assert!(code == 69 && err.contains("no systemd runs here") && err.contains("service show"), "{err}");
        assert_eq!(scene.keeper("status").0, 69);
    }
    assert!(scene.untouched());
}
