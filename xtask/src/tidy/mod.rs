//! What no compiler checks. Each rule is a pure function of a tree of texts; a finding names file and line.

mod rules;
mod specs;
mod tree;

use anyhow::{Context, Result, bail};

use crate::paths::Paths;
use crate::say;
use tree::Tree;

/// One thing that is not as it should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Path from the root.
    file: String,
    /// From 1; 0 when the whole file is meant.
    line: usize,
    message: String,
}

type Rule = fn(&Tree) -> Vec<Finding>;

const RULES: [(&str, Rule); 9] = [
    ("files are short", rules::files_are_short),
    ("files say what they are", rules::files_say_what_they_are),
    ("modules have names of their own", rules::modules_have_names),
    ("lints are expected, not allowed", rules::lints_are_expected),
    ("paths are nobody's", rules::paths_are_nobodys),
    ("the core is pure", rules::core_is_pure),
    ("lifecycle crates are thin", rules::lifecycle_crates_are_thin),
    ("dependencies have reasons", rules::dependencies_have_reasons),
    ("requirements are tested", specs::requirements_are_tested),
];

pub(crate) fn tidy(paths: &Paths) -> Result<()> {
    let tree = Tree::read(&paths.root).context("cannot read the checkout")?;
    let mut count = 0;
    for (name, rule) in RULES {
        let findings = rule(&tree);
        say::line(format!("tidy: {name}: {}", if findings.is_empty() { "ok" } else { "NOT SO" }));
        for Finding { file, line, message } in &findings {
            let place = if *line == 0 { file.clone() } else { format!("{file}:{line}") };
            say::line(format!("  {place}: {message}"));
        }
        count += findings.len();
    }
    if count > 0 {
        bail!("tidy found {count} things");
    }
    Ok(())
}
