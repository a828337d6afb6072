//! Where a program is: the lookup a shell would do, with an answer that says where it looked.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::spawn_error::{Problem, SpawnError};

/// The file to execute for `program`.
///
/// With a slash it is a path, a relative one from `working_dir`; without one each directory of `path_variable` is tried.
pub(super) fn resolve(
    program: &Path,
    working_dir: Option<&Path>,
    path_variable: Option<&OsStr>,
) -> Result<PathBuf, SpawnError> {
    if program.as_os_str().as_encoded_bytes().contains(&b'/') {
        return Ok(working_dir.map_or_else(|| program.to_owned(), |dir| dir.join(program)));
    }
    let looked_in: Vec<PathBuf> = path_variable
        .map(|path| std::env::split_paths(path).filter(|dir| dir.is_absolute()).collect())
        .unwrap_or_default();
    let mut found_unusable = None;
    for candidate in looked_in.iter().map(|dir| dir.join(program)) {
        match candidate.metadata() {
            Ok(file) if file.is_file() && has_execute_bit(&file) => return Ok(candidate),
            Ok(file) if file.is_file() => found_unusable = found_unusable.or(Some(candidate)),
            _ => {}
        }
    }
    Err(match found_unusable {
        Some(path) => SpawnError::Unusable { path, problem: Problem::NotExecutable },
        None => SpawnError::NotOnPath { program: program.display().to_string(), looked_in },
    })
}

/// Whether anybody may execute the file.
pub(super) fn has_execute_bit(file: &Metadata) -> bool {
    file.permissions().mode() & 0o111 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_as_it_is_and_counts_from_the_working_dir() {
        let resolved =
            |program: &str, dir: Option<&str>| resolve(Path::new(program), dir.map(Path::new), None).unwrap();
        assert_eq!(resolved("/bin/x", Some("/srv")), Path::new("/bin/x"));
        assert_eq!(resolved("bin/x", Some("/srv")), Path::new("/srv/bin/x"));
        assert_eq!(resolved("./x", None), Path::new("./x"));
    }

    #[test]
    fn a_name_is_looked_up_and_what_was_tried_is_told() {
        assert!(resolve(Path::new("sh"), None, Some(OsStr::new("/nowhere:/bin"))).unwrap().ends_with("bin/sh"));
        let error = resolve(Path::new("no-such"), None, Some(OsStr::new("/bin:/usr/bin"))).unwrap_err();
        assert_eq!(error.to_string(), "no-such was not found; looked in /bin, /usr/bin");
        let error = resolve(Path::new("no-such"), None, None).unwrap_err();
        assert_eq!(error.to_string(), "no-such was not found; looked in no directory, because PATH is empty");
    }

    #[test]
    fn a_file_that_is_not_executable_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tool"), "").unwrap();
        let error = resolve(Path::new("tool"), None, Some(dir.path().as_os_str())).unwrap_err();
        assert!(error.to_string().ends_with("tool is not executable"), "{error}");
    }
}
