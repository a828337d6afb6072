//! Where our own programs are: beside the running one, else on `PATH`.

use std::path::{Path, PathBuf};

/// The program to execute for `name`: the file of that name beside ourselves if there is one, else the bare
/// name, which whoever spawns it looks up on `PATH`.
#[must_use]
pub fn locate(name: &str) -> PathBuf {
    own_dir().map(|dir| locate_in(&dir, name)).unwrap_or_else(|| name.into())
}

/// The file of the running program, as it was called when it was started; another one may stand there now.
///
/// # Errors
/// When the system does not tell.
pub fn own_program() -> std::io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    // What the kernel adds once the file has been replaced.
    let name = path.as_os_str().to_string_lossy();
    Ok(name.strip_suffix(" (deleted)").map(PathBuf::from).unwrap_or(path))
}

/// The folder of the running program, where [`locate`] looks first.
#[must_use]
pub fn own_dir() -> Option<PathBuf> {
    std::env::current_exe().ok()?.parent().map(Path::to_owned)
}

fn locate_in(dir: &Path, name: &str) -> PathBuf {
    let beside = dir.join(name);
    if beside.is_file() { beside } else { name.into() }
}

#[cfg(test)]
mod tests {
    use super::locate_in;
    use std::path::Path;

    #[test]
    fn a_neighbour_wins_over_path() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(locate_in(temp.path(), "queen-rbee"), Path::new("queen-rbee"));
        let beside = temp.path().join("queen-rbee");
        std::fs::write(&beside, "").unwrap();
        assert_eq!(locate_in(temp.path(), "queen-rbee"), beside);
    }
}
