//! A TOML text as a tree that remembers where everything stands, and is read to its end in spite of errors.
//!
//! serde stops at the first error. To report all of them, what is wrong is struck out of the tree and the
//! rest is read again, until nothing is wrong or nothing more can be struck out.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::de::{DeserializeOwned, IntoDeserializer};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, did_you_mean};

/// Rounds of striking out; a file with more mistakes gets the first ones reported.
const PROBLEMS_MAX: usize = 50;

/// One text and what is wrong in it so far.
pub(super) struct Document<'t> {
    starts: LineStarts,
    tree: Option<Spanned<DeTable<'t>>>,
    lines: BTreeMap<String, usize>,
    problems: Vec<Problem>,
}

impl<'t> Document<'t> {
    /// Parses the text; syntax errors become problems.
    pub(super) fn read(text: &'t str) -> Self {
        let starts = LineStarts::of(text);
        let (tree, errors) = DeTable::parse_recoverable(text);
        let problems: Vec<Problem> = errors
            .iter()
            .take(PROBLEMS_MAX)
            .map(|error| Problem {
                line: error.span().map(|span| starts.line_at(span.start)),
                key: String::new(),
                message: format!("not TOML: {}", error.message()),
                hint: None,
            })
            .collect();
        let mut lines = BTreeMap::new();
        // With broken syntax the recovered tree is guesswork: report the syntax alone.
        let tree = problems.is_empty().then_some(tree);
        if let Some(tree) = &tree {
            index_lines(&starts, "", tree.get_ref(), &mut lines);
        }
        Self { starts, tree, lines, problems }
    }

    /// Reads the tree as a `T`; what does not fit becomes a problem and is left out.
    pub(super) fn deserialize<T: DeserializeOwned>(&mut self) -> Option<T> {
        let mut tree = self.tree.clone()?;
        for _ in 0..PROBLEMS_MAX {
            let error = match T::deserialize(tree.clone().into_deserializer()) {
                Ok(value) => return Some(value),
                Err(error) => error,
            };
            let place = error.span().and_then(|span| locate(tree.get_ref(), &span));
            let key = place.as_deref().map(|path| path.join(".")).unwrap_or_default();
            self.problems.push(Problem {
                line: error.span().map(|span| self.starts.line_at(span.start)),
                ..describe(error.message(), key)
            });
            strike_out(tree.get_mut(), &place?);
        }
        None
    }

    /// Records that the value at `key` makes no sense.
    pub(super) fn problem(&mut self, key: &str, message: impl Into<String>, hint: Option<String>) {
        self.problems.push(Problem { line: self.line_of(key), key: key.to_owned(), message: message.into(), hint });
    }

    /// Whether enough is wrong: what costs time to find out about one more mistake need not be found out.
    pub(super) fn is_full(&self) -> bool {
        self.problems.len() >= PROBLEMS_MAX
    }

    /// Everything found, in the order of lines.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        self.problems
    }

    /// The line of a key, or of the nearest table around it that is in the file.
    fn line_of(&self, key: &str) -> Option<usize> {
        let mut path = key;
        loop {
            if let Some(line) = self.lines.get(path) {
                return Some(*line);
            }
            path = path.rsplit_once('.')?.0;
        }
    }
}

/// Puts serde's message into our words; serde lists the known names, we pick the nearest.
fn describe(message: &str, key: String) -> Problem {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (message, hint) = match (message.split_once(' '), quoted.split_first()) {
        (Some(("unknown", rest)), Some((given, known))) if rest.starts_with("field ") => {
            let hint = did_you_mean(given, known.iter().copied())
                .unwrap_or_else(|| format!("known here: {}", known.join(", ")));
            (format!("unknown key `{given}`"), Some(hint))
        }
        (Some(("unknown", rest)), Some((given, known))) if rest.starts_with("variant ") => {
            let hint =
                did_you_mean(given, known.iter().copied()).unwrap_or_else(|| format!("one of: {}", known.join(", ")));
            (format!("`{given}` is no value of `{key}`"), Some(hint))
        }
        (Some(("missing", _)), Some((field, _))) => (format!("`{key}` lacks `{field}`"), None),
        _ => (format!("bad value of `{key}`: {message}"), None),
    };
    Problem { line: None, key, message, hint }
}

/// The path of the key or value with that span: an exact match, else the smallest one around it.
fn locate(tree: &DeTable<'_>, wanted: &Range<usize>) -> Option<Vec<String>> {
    let mut best: Option<(usize, Vec<String>)> = None;
    visit(tree, &mut Vec::new(), &mut |path, span| {
        let covers = span.start <= wanted.start && wanted.end <= span.end;
        let length = span.end - span.start;
        if covers && best.as_ref().is_none_or(|(shortest, _)| length < *shortest) {
            best = Some((length, path.to_vec()));
        }
    });
    best.map(|(_, path)| path)
}

fn visit(tree: &DeTable<'_>, path: &mut Vec<String>, see: &mut impl FnMut(&[String], Range<usize>)) {
    for (key, value) in tree.iter() {
        path.push(key.get_ref().to_string());
        see(path, key.span());
        see(path, value.span());
        if let DeValue::Table(table) = value.get_ref() {
            visit(table, path, see);
        }
        path.pop();
    }
}

fn strike_out(tree: &mut DeTable<'_>, path: &[String]) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        tree.remove(first.as_str());
    } else if let Some(DeValue::Table(table)) = tree.get_mut(first.as_str()).map(Spanned::get_mut) {
        strike_out(table, rest);
    }
}

fn index_lines(starts: &LineStarts, prefix: &str, tree: &DeTable<'_>, lines: &mut BTreeMap<String, usize>) {
    for (key, value) in tree.iter() {
        let path = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        if let DeValue::Table(table) = value.get_ref() {
            index_lines(starts, &path, table, lines);
        }
        lines.insert(path, starts.line_at(key.span().start));
    }
}

/// Where each line begins.
struct LineStarts(Vec<usize>);

impl LineStarts {
    fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// The line, counted from 1, that the byte at `offset` is in.
    fn line_at(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }
}
