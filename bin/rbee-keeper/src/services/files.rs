//! Files of units and folders for their daemons: written once, removed without a trace, and only where they are ours.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, chown};
use std::path::Path;

use crate::failure::Failure;

/// What the first line of every unit of ours begins with.
const OURS: &str = "# Written by `rbee-keeper";

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    New,
    Changed,
    Same,
}

/// Writes a unit's file, unless the same stands there.
pub(crate) fn write(path: &Path, text: &str) -> Result<Written, Failure> {
    let before = match fs::read_to_string(path) {
        Ok(before) if before == text => return Ok(Written::Same),
        Ok(before) => Some(before),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed("read", path, &error)),
    };
    if let Some(before) = &before {
        refuse_others(path, before, text)?;
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| failed("create", folder, &error))?;
    }
    // Beside it first: a unit appears whole or not at all.
    let new = path.with_extension("service.new");
    let written = fs::remove_file(&new)
        .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) });
    written
        .and_then(|()| OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new))
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&new, path))
        .map_err(|error| failed("write", path, &error))?;
    Ok(if before.is_some() { Written::Changed } else { Written::New })
}

/// Removes a unit's file; whether it was there.
pub(crate) fn remove(path: &Path) -> Result<bool, Failure> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed("read", path, &error)),
        Ok(text) if !text.starts_with(OURS) => return Err(not_ours(path)),
        Ok(_) => {}
    }
    fs::remove_file(path).map_err(|error| failed("remove", path, &error))?;
    Ok(true)
}

/// Makes a folder and what is missing above it, for this user and group.
pub(crate) fn make_folder(path: &Path, owner: Option<(u32, u32)>) -> Result<(), Failure> {
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
    for folder in missing.into_iter().rev() {
        DirBuilder::new().mode(0o700).create(folder).map_err(|error| failed("create", folder, &error))?;
        if let Some((user, group)) = owner {
            chown(folder, Some(user), Some(group)).map_err(|error| failed("hand over", folder, &error))?;
        }
    }
    Ok(())
}

fn refuse_others(path: &Path, before: &str, text: &str) -> Result<(), Failure> {
    if !before.starts_with(OURS) {
        return Err(not_ours(path));
    }
    let home = |text: &str| text.lines().find(|line| line.starts_with("Environment=\"RBEE_HOME=")).map(str::to_owned);
    if home(before) != home(text) {
        let what = format!(
            "{} belongs to another installation of rbee ({})",
            path.display(),
            home(before).unwrap_or_default()
        );
        return Err(Failure::new("conflict", what).hint("--name gives the units of this one another name"));
    }
    Ok(())
}

fn not_ours(path: &Path) -> Failure {
    Failure::new("conflict", format!("{} was not written by rbee-keeper", path.display()))
        .hint("look what it is; --name gives our units another name")
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::new("service_file", format!("cannot {what} {}", path.display())).because(error);
    if error.kind() == io::ErrorKind::PermissionDenied {
        return failure.hint("a service of the machine needs root: use sudo, or `--user` for one of your own");
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = "# Written by `rbee-keeper service install`\n[Service]\nEnvironment=\"RBEE_HOME=/a\"\n";

    /// SERV-02
    #[test]
    fn the_same_is_not_written_again_and_others_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("below/rbee-hive.service");
        assert_eq!(write(&path, UNIT).unwrap(), Written::New);
        assert_eq!(write(&path, UNIT).unwrap(), Written::Same);
        let longer = format!("{UNIT}Nice=5\n");
        assert_eq!(write(&path, &longer).unwrap(), Written::Changed);
        let other_home = UNIT.replace("=/a", "=/b");
        assert!(write(&path, &other_home).unwrap_err().message.contains("another installation"));
        assert!(remove(&path).unwrap() && !remove(&path).unwrap());
        fs::write(&path, "[Service]\n").unwrap();
        assert!(write(&path, UNIT).unwrap_err().message.contains("not written by rbee-keeper"));
        assert!(remove(&path).unwrap_err().message.contains("not written by rbee-keeper"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "[Service]\n");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
