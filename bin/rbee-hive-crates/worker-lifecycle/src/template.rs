//! Fills `{port} {model_path} {name} {replica} {run_dir} {state_dir}` into what the config says about a foreign command.
//!
//! Only these words in braces are touched: JSON and shell texts pass as they are.

use std::path::Path;

use rbee_api::ReplicaId;

/// What can be filled in.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    /// Which replica.
    pub id: &'a ReplicaId,
    /// Its port, where it has one.
    pub port: Option<u16>,
    /// The model's file, where it has one.
    pub model_path: Option<&'a Path>,
    /// Folder for sockets and the like.
    pub run_dir: &'a Path,
    /// Folder for what it keeps over restarts.
    pub state_dir: &'a Path,
}

/// A word that stands for nothing here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{{{word}}}` is used, but {why}")]
pub struct Unfillable {
    /// The word between the braces.
    pub word: &'static str,
    /// What is missing.
    pub why: &'static str,
}

/// Whether `text` asks for a port.
#[must_use]
pub fn wants_port(text: &str) -> bool {
    text.contains("{port}")
}

impl Values<'_> {
    /// `text` with the known words filled in, in one pass: what is filled in is never looked at again.
    ///
    /// # Errors
    /// When it uses a word that has no value.
    pub fn fill(&self, text: &str) -> Result<String, Unfillable> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find('{') {
            filled.push_str(&rest[..start]);
            rest = &rest[start..];
            match self.word_at(rest)? {
                Some((length, value)) => {
                    filled.push_str(&value);
                    rest = &rest[length..];
                }
                None => {
                    filled.push('{');
                    rest = &rest[1..];
                }
            }
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn word_at(&self, text: &str) -> Result<Option<(usize, String)>, Unfillable> {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let words: [(&'static str, Option<String>, &'static str); 6] = [
            ("port", self.port.map(|port| port.to_string()), "this worker has no port"),
            ("model_path", self.model_path.map(path), "no `model` is given for this worker"),
            ("name", Some(self.id.name.clone()), ""),
            ("replica", Some(self.id.replica.to_string()), ""),
            ("run_dir", Some(path(self.run_dir)), ""),
            ("state_dir", Some(path(self.state_dir)), ""),
        ];
        let inside = text[1..].split_once('}').map(|(inside, _)| inside);
        let Some((word, value, why)) = words.into_iter().find(|(word, _, _)| Some(*word) == inside) else {
            return Ok(None);
        };
        let value = value.ok_or(Unfillable { word, why })?;
        Ok(Some((word.len() + 2, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str, port: Option<u16>, model: Option<&str>) -> Result<String, Unfillable> {
        let id = ReplicaId { name: "api".into(), replica: 2 };
        Values {
            id: &id,
            port,
            model_path: model.map(Path::new),
            run_dir: Path::new("/run/w"),
            state_dir: Path::new("/s"),
        }
        .fill(text)
    }

    #[test]
    fn words_are_filled_in_and_nothing_else_is_touched() {
        for (text, expected) in [
            ("--port={port}", "--port=7855"),
            ("{model_path}", "/m/{port}.gguf"),
            ("{name}-{replica}:{run_dir}/s", "api-2:/run/w/s"),
            ("{state_dir}/cache", "/s/cache"),
            (r#"{"port": {port}}"#, r#"{"port": 7855}"#),
            ("{{port}}", "{7855}"),
            ("{Port} {other} {", "{Port} {other} {"),
            ("ünï{name}", "ünïapi"),
            ("", ""),
        ] {
            assert_eq!(fill(text, Some(7855), Some("/m/{port}.gguf")).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_word_without_value_is_an_error() {
        let error = fill("-m {model_path}", Some(1), None).unwrap_err();
        assert_eq!(error.to_string(), "`{model_path}` is used, but no `model` is given for this worker");
        assert_eq!(fill("{port}", None, None).unwrap_err().word, "port");
    }
}
