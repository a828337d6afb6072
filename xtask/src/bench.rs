//! `cargo xtask bench` and `cargo xtask chaos`: optimised builds of just what each needs.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::build::build;
use crate::paths::{Paths, on_path};
use crate::tools::Tools;
use crate::{child, say, suites};

/// A peer of `bench supervise`; the others come as Debian packages.
const PM2: &str = "pm2@7.0.4";
/// What a hive is measured and tormented with; no engine among it, whose build needs cmake.
const WITHOUT_ENGINE: [&str; 3] = ["rbee-hive", "unruly", "rbee-tests"];
/// What the gateway is measured with: a mock stands in the engine's place.
const GATEWAY: [&str; 4] = ["rbee-keeper", "queen-rbee", "rbee-hive", "rbee-tests"];

pub(crate) fn bench(paths: &Paths, name: &str, arguments: &[String]) -> Result<()> {
    match name {
        "supervise" | "monitor" => build_only(paths, &WITHOUT_ENGINE)?,
        "gateway" => build_only(paths, &GATEWAY)?,
        "worker" => return suites::bench_worker(paths, arguments),
        _ => return suites::bench(paths, name, arguments),
    }
    let mut bench = Command::new(paths.binaries(true).join("bench"));
    bench.arg(name).args(arguments).env("RBEE_BIN_DIR", paths.binaries(true));
    if name == "supervise"
        && let Some(pm2) = bring_pm2(paths)
    {
        bench.env("RBEE_BENCH_PM2", pm2);
    }
    child::shown(&mut bench)
}

pub(crate) fn chaos(paths: &Paths, kills: u32, seed: Option<u64>) -> Result<()> {
    build_only(paths, &WITHOUT_ENGINE)?;
    let mut chaos = Command::new(paths.binaries(true).join("chaos"));
    chaos.args(["--kills", &kills.to_string()]).env("RBEE_BIN_DIR", paths.binaries(true));
    if let Some(seed) = seed {
        chaos.args(["--seed", &seed.to_string()]);
    }
    child::shown(&mut chaos)
}

fn build_only(paths: &Paths, packages: &[&str]) -> Result<()> {
    let mut arguments = vec!["--release", "--bins"];
    arguments.extend(packages.iter().flat_map(|name| ["--package", name]));
    build("build (the first takes minutes)", paths, &Tools::default(), &arguments)
}

/// pm2 in the target folder, where npm can bring it. Without it, the bench skips it and says so.
fn bring_pm2(paths: &Paths) -> Option<PathBuf> {
    if on_path("pm2").is_some() {
        return None;
    }
    let folder = paths.target.join("peers");
    let pm2 = folder.join("node_modules/.bin/pm2");
    if !pm2.is_file() && on_path("npm").is_some() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(&folder).arg(PM2);
        if let Err(error) = child::step("pm2, to compare with (npm install)", &mut npm, &paths.log("pm2")) {
            say::note(format!("  {error:#}"));
        }
    }
    pm2.is_file().then_some(pm2)
}
