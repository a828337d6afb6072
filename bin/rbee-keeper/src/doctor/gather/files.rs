//! What the files say: who may touch them, how much room there is, which of those the configuration names are there.

use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use model_store::{ModelSource, ModelStore};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};
use rbee_runtime::config::Config;
use rbee_runtime::dirs::Dirs;

use super::super::facts::{DirFact, FileFact, ModelFact, ModelState};

/// Files looked at for the newest.
const LOOKED_AT_MAX: usize = 2_000;
/// How a GGUF file begins.
const GGUF: [u8; 4] = *b"GGUF";

/// A file or directory as it stands; `None` where there is none.
pub(super) fn standing(path: &Path) -> Option<FileFact> {
    let about = std::fs::metadata(path).ok()?;
    Some(FileFact { path: path.to_owned(), mode: about.permissions().mode() & 0o7777, uid: about.uid() })
}

/// The directories of the installation, each file system's room told once.
pub(super) fn places(dirs: &Dirs, config: &Config) -> Vec<DirFact> {
    let budget = |names: &[&str]| names.iter().map(|name| budget_bytes(config, name)).sum();
    let all = [
        ("the configuration", dirs.config_dir().to_owned(), 0),
        ("state", dirs.state_dir().to_owned(), budget(&["cache"])),
        ("logs", dirs.log_dir(), budget(&["log"])),
        ("models", dirs.models_dir().to_owned(), 0),
        ("run files", dirs.run_dir().to_owned(), 0),
    ];
    let mut seen: Vec<(u64, u64)> = Vec::new();
    let mut places = Vec::new();
    for (what, path, budget_bytes) in all {
        let Some(nearest) = path.ancestors().find(|path| path.exists()) else { continue };
        let (Ok(room), Ok(about)) = (statvfs(nearest), std::fs::metadata(nearest)) else { continue };
        let mut fact = DirFact {
            what,
            standing: standing(&path),
            is_writable: access(nearest, AccessFlags::W_OK | AccessFlags::X_OK).is_ok(),
            is_read_only: room.flags().contains(FsFlags::ST_RDONLY),
            free_bytes: room.blocks_available().saturating_mul(room.fragment_size()),
            free_files: (room.files() > 0).then(|| room.files_available()),
            budget_bytes,
            path,
        };
        // One full disk is one finding.
        let file_system = (about.dev(), budget_bytes);
        if seen.iter().any(|(dev, budget)| *dev == about.dev() && *budget >= budget_bytes) {
            (fact.free_bytes, fact.free_files, fact.budget_bytes) = (u64::MAX, None, 0);
        }
        seen.push(file_system);
        places.push(fact);
    }
    places
}

/// What all workers' logs or caches may grow to.
fn budget_bytes(config: &Config, what: &str) -> u64 {
    let of = |worker: &rbee_runtime::config::WorkerConfig| match what {
        "log" => worker.log.max_size.as_u64().saturating_mul(u64::from(worker.log.keep) + 1),
        _ if worker.is_engine() => worker.cache_max.as_u64(),
        _ => 0,
    };
    config.worker.values().map(|worker| of(worker).saturating_mul(u64::from(worker.replicas))).sum()
}

/// The newest of our files.
pub(super) fn newest(dirs: &Dirs) -> Option<(PathBuf, SystemTime)> {
    let mut left = LOOKED_AT_MAX;
    let mut newest = None;
    for dir in [dirs.config_dir(), dirs.state_dir(), dirs.run_dir()] {
        newest_in(dir, 3, &mut left, &mut newest);
    }
    newest
}

fn newest_in(dir: &Path, depth: u32, left: &mut usize, newest: &mut Option<(PathBuf, SystemTime)>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Some(remaining) = left.checked_sub(1) else { return };
        *left = remaining;
        let Ok(about) = entry.metadata() else { continue };
        if about.is_dir() && depth > 0 {
            newest_in(&entry.path(), depth - 1, left, newest);
        } else if let Ok(at) = about.modified()
            && newest.as_ref().is_none_or(|(_, latest)| at > *latest)
        {
            *newest = Some((entry.path(), at));
        }
    }
}

/// The models that are wanted here.
pub(super) fn models(dirs: &Dirs, config: &Config) -> Vec<ModelFact> {
    if !config.starts_hive() || config.queen_is_elsewhere() {
        return Vec::new();
    }
    let wanted = config.wanted_workers(None);
    let names = wanted.iter().filter_map(|name| config.worker.get(*name)?.model.as_deref());
    let names: std::collections::BTreeSet<&str> = names.collect();
    let stored = ModelStore::new(dirs.models_dir()).list().unwrap_or_default();
    let of = |name: &str| {
        let model = config.model.get(name)?;
        let here = stored.iter().find(|stored| stored.name == name);
        let state = match (&model.source, here) {
            (ModelSource::File { path }, _) if let Some(reason) = not_a_model(path) => ModelState::BadFile(reason),
            (_, Some(stored)) if model.sha256.is_some_and(|digest| digest != stored.sha256) => ModelState::OtherDigest,
            (_, Some(stored)) if let Some(reason) = not_a_model(&stored.path) => ModelState::BadFile(reason),
            (_, Some(_)) | (ModelSource::File { .. }, None) => ModelState::Here,
            (_, None) if has_files(&dirs.models_dir().join(name)) => ModelState::Changed,
            (_, None) => ModelState::NotHere,
        };
        let bytes = match (&model.source, here) {
            (_, Some(stored)) => stored.size_bytes,
            (ModelSource::File { path }, None) => std::fs::metadata(path).map(|about| about.len()).unwrap_or(0),
            _ => 0,
        };
        Some(ModelFact { name: name.to_owned(), state, bytes })
    };
    names.into_iter().filter_map(of).collect()
}

/// A receipt without its file as it was, or the reverse.
fn has_files(folder: &Path) -> bool {
    folder.join("receipt.json").exists()
}

/// Why a file cannot be a model; `None` where it can. Other engines read other formats: only our own name is held to ours.
fn not_a_model(path: &Path) -> Option<String> {
    let name = path.display();
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Some(format!("there is no file {name}")),
        Err(error) => return Some(format!("{name} cannot be read: {error}")),
    };
    let mut head = [0; 4];
    let is_gguf = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
    (is_gguf && (file.read_exact(&mut head).is_err() || head != GGUF)).then(|| format!("{name} is no GGUF file"))
}

/// Files and programs that wanted workers need and that are not there.
pub(super) fn missing(config: &Config) -> Vec<(String, String)> {
    let mut missing = Vec::new();
    for (name, key) in &config.queen.keys {
        if let Some(file) = key.key_file.as_ref().filter(|file| !file.is_file()) {
            missing.push((format!("queen.keys.{name}.key_file"), format!("there is no file {}", file.display())));
        }
    }
    if !config.starts_hive() || config.queen_is_elsewhere() {
        return missing;
    }
    for name in config.wanted_workers(None) {
        let Some(worker) = config.worker.get(name) else { continue };
        let folder = worker.working_dir.as_ref().filter(|dir| !dir.to_string_lossy().contains(['{', '~']));
        if let Some(dir) = folder.filter(|dir| !dir.is_dir()) {
            missing.push((format!("worker.{name}.working_dir"), format!("there is no folder {}", dir.display())));
        }
        let program = worker.command.as_ref().and_then(|command| command.first()).filter(|word| !word.contains('{'));
        if let Some(program) = program.filter(|program| !is_there(program, folder.map(PathBuf::as_path))) {
            missing.push((format!("worker.{name}.command"), format!("there is no program `{program}`")));
        }
    }
    missing
}

fn is_there(program: &str, folder: Option<&Path>) -> bool {
    if program.contains('/') {
        let path = folder.map_or_else(|| PathBuf::from(program), |folder| folder.join(program));
        return access(&path, AccessFlags::X_OK).is_ok();
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths)
        .any(|dir| access(&dir.join(program), AccessFlags::X_OK).is_ok() && dir.join(program).is_file())
}

/// Records of the past that were set aside.
pub(super) fn monitoring(dirs: &Dirs) -> Vec<String> {
    let entries = std::fs::read_dir(dirs.monitor_dir()).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let aside = names.filter(|name| name.contains(".sqlite.") && !name.ends_with("-wal") && !name.ends_with("-shm"));
    aside
        .map(|name| format!("{} was set aside: it could not be read", dirs.monitor_dir().join(name).display()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new("rbee.toml")).unwrap()
    }

    #[test]
    fn what_is_missing_is_named_by_its_key() {
        let home = tempfile::tempdir().unwrap();
        let text = "[worker.a]\ncommand = [\"no-such-program\"]\n[worker.b]\ncommand = [\"sh\"]\nworking_dir = \"/no/such\"\n\
             [worker.c]\ncommand = [\"also-missing\"]\nauto_start = false\n";
        let keys: Vec<String> = missing(&config(text)).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["worker.a.command", "worker.b.working_dir"]);
        let model = home.path().join("m.gguf");
        let text = format!("[model.m]\nsource = \"file:{}\"\n[worker.m]\nmodel = \"m\"\n", model.display());
        let dirs = Dirs::under(home.path());
        let state = || models(&dirs, &config(&text))[0].state.clone();
        assert!(matches!(state(), ModelState::BadFile(why) if why.contains("there is no file")));
        std::fs::write(&model, "GGU").unwrap();
        assert!(matches!(state(), ModelState::BadFile(why) if why.contains("is no GGUF file")));
        std::fs::write(&model, "GGUF\x03").unwrap();
        assert_eq!(state(), ModelState::Here);
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_judged_by_what_is_above_it() {
        let home = tempfile::tempdir().unwrap();
        let dirs = Dirs::under(&home.path().join("a/b"));
        let places = places(&dirs, &Config::default());
        assert_eq!(places.len(), 5);
        assert!(places.iter().all(|place| place.standing.is_none() && place.is_writable && !place.is_read_only));
        assert!(newest(&dirs).is_none());
    }
}
