//! The work below the hive: some that must not notice anything, some that never gives peace.

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;

use crate::home::{Home, binary};

/// Workers that run from the first start to the last stop, with the lines they write.
pub const STEADY: [&str; 8] = ["calm", "speaks", "family", "talk-a", "talk-b", "talk-c", "rotates", "depends"];
/// Those of them that write numbered lines.
pub const TALKERS: [&str; 4] = ["talk-a", "talk-b", "talk-c", "rotates"];
/// The worker that is stopped and started in between.
pub const TOGGLED: &str = "toggled";
/// Workers that end, are killed or never get ready.
pub const RESTLESS: [&str; 5] = ["flaps", "flaps-family", "never-ready", "stubborn", TOGGLED];

/// One token for all hives of a home.
pub const TOKEN: &str = "chaos-token-0123456789abcdef";

/// Writes the hive's file.
pub fn configure(home: &Home) -> Result<()> {
    fs::create_dir_all(home.path().join("counts"))?;
    let mut text = format!("[hive]\nlisten = \"127.0.0.1:{}\"\nports = \"0\"\n", home.hive_port);
    let restart = "restart = { backoff_min = \"5ms\", backoff_max = \"5ms\", max_restarts = 1000000 }\n";
    for (name, options, keys) in [
        ("calm", "", ""),
        ("speaks", "--notify", "ready = \"notify\"\n"),
        ("depends", "--notify", "ready = \"notify\"\ndepends_on = [\"speaks\"]\n"),
        ("family", "--fork-child --setsid-child", ""),
        ("talk-a", "--print-every-ms 1 --burst 5", ""),
        ("talk-b", "--print-every-ms 1", ""),
        ("talk-c", "--print-every-ms 20 --burst 400", ""),
        ("rotates", "--print-every-ms 2 --burst 20", "log = { max_size = \"256KiB\", keep = 100000 }\n"),
        ("flaps", "--exit-after-ms 40 --code 3", restart),
        ("flaps-family", "--exit-after-ms 70 --fork-child --setsid-child", restart),
        (
            "never-ready",
            "--notify --never-ready",
            "ready = \"notify\"\nstart_timeout = \"200ms\"\nstop_timeout = \"1s\"\n",
        ),
        (
            "stubborn",
            "--notify --never-ready --ignore-term",
            "ready = \"notify\"\nstart_timeout = \"150ms\"\nstop_timeout = \"100ms\"\n",
        ),
        (TOGGLED, "--setsid-child", ""),
    ] {
        let count_file = home.path().join("counts").join(name).display().to_string();
        let mut words = vec![binary("unruly").display().to_string(), "--count-file".to_owned(), count_file];
        words.extend(options.split_whitespace().map(str::to_owned));
        write!(text, "\n[worker.{name}]\ncommand = {words:?}\n{keys}")?;
        if !keys.contains("ready") {
            text.push_str("ready = \"started\"\n");
        }
        if !keys.contains("restart") && RESTLESS.contains(&name) {
            text.push_str(restart);
        }
        if !keys.contains("log") {
            text.push_str("log = { max_size = \"1GiB\" }\n");
        }
    }
    fs::write(home.path().join("rbee.toml"), text)?;
    Ok(())
}

/// Every worker.
pub fn all() -> impl Iterator<Item = &'static str> {
    STEADY.into_iter().chain(RESTLESS)
}
