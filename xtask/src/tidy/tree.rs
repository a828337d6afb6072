//! The checkout's texts, read once.

use std::fs;
use std::io;
use std::path::Path;

/// All text files that matter, by path from the root, sorted.
pub(super) struct Tree {
    files: Vec<(String, String)>,
}

const KINDS: [&str; 6] = ["rs", "toml", "md", "py", "sh", "yml"];

impl Tree {
    pub(super) fn read(root: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        visit(root, "", &mut files)?;
        files.sort();
        Ok(Self { files })
    }

    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect() }
    }

    /// All files whose path ends so.
    pub(super) fn ending<'t>(&'t self, end: &'t str) -> impl Iterator<Item = (&'t str, &'t str)> {
        self.all().filter(move |(path, _)| path.ends_with(end))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.all().find(|(known, _)| *known == path).map(|(_, text)| text)
    }
}

fn visit(folder: &Path, prefix: &str, files: &mut Vec<(String, String)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if matches!(name.as_str(), "target" | ".git" | "__pycache__") {
            continue;
        }
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            visit(&entry.path(), &format!("{path}/"), files)?;
        } else if kind.is_file() && (KINDS.iter().any(|kind| name.ends_with(&format!(".{kind}"))) || path == ".ci/run")
        {
            files.push((path, fs::read_to_string(entry.path())?));
        }
    }
    Ok(())
}
