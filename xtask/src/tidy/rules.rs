//! Rules about files, names and dependencies.

use super::Finding;
use super::tree::Tree;

const LINES_MAX: usize = 400;
/// Lifecycle crates say what a daemon is; how daemons are run is not theirs.
const THIN_CRATE_LINES_MAX: usize = 500;
const NAMELESS: [&str; 6] = ["utils", "util", "common", "helpers", "helper", "misc"];
/// What the pure core may depend on: nothing that can reach a clock, a file, a socket or a thread.
const CORE_DEPENDENCIES: [&str; 2] = ["serde", "thiserror"];
const CORE_WORDS: [&str; 10] = [
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::io",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "async fn",
    "unsafe",
];

fn finding(file: &str, line: usize, message: impl Into<String>) -> Finding {
    Finding { file: file.to_owned(), line, message: message.into() }
}

/// Lines with their numbers.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// The text up to the tests at a file's end.
fn without_tests(text: &str) -> &str {
    text.split_once("#[cfg(test)]\nmod tests {").map_or(text, |(code, _)| code)
}

/// A test's own file.
fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

pub(super) fn files_are_short(tree: &Tree) -> Vec<Finding> {
    tree.ending(".rs")
        .filter_map(|(path, text)| {
            let lines = without_tests(text).lines().count();
            (lines > LINES_MAX)
                .then(|| finding(path, 0, format!("{lines} lines without its tests; {LINES_MAX} are enough")))
        })
        .collect()
}

pub(super) fn files_say_what_they_are(tree: &Tree) -> Vec<Finding> {
    tree.ending(".rs")
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| finding(path, 1, "the first line says what the file is for (//! …)"))
        .collect()
}

pub(super) fn modules_have_names(tree: &Tree) -> Vec<Finding> {
    tree.all()
        .filter_map(|(path, _)| {
            let code = path.ends_with(".rs") || path.ends_with("Cargo.toml");
            let word = path.split(['/', '.']).find(|part| NAMELESS.contains(part))?;
            code.then(|| finding(path, 0, format!("'{word}' says nothing; name it after what it does")))
        })
        .collect()
}

pub(super) fn lints_are_expected(tree: &Tree) -> Vec<Finding> {
    // In two halves, so that this file does not find itself.
    let (outer, inner) = (concat!("#[", "allow("), concat!("#![", "allow("));
    tree.ending(".rs")
        .flat_map(|(path, text)| {
            numbered(text).filter(move |(_, line)| line.contains(outer) || line.contains(inner)).map(
                move |(number, _)| {
                    finding(path, number, "#[expect(lint, reason = \"…\")] tells when it is no longer needed")
                },
            )
        })
        .collect()
}

pub(super) fn paths_are_nobodys(tree: &Tree) -> Vec<Finding> {
    let private = [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/tm", "p/")];
    tree.all()
        .flat_map(|(path, text)| {
            numbered(text).filter_map(move |(number, line)| {
                let word = private.iter().find(|word| line.contains(**word))?;
                Some(finding(path, number, format!("'{word}' is the path of one machine")))
            })
        })
        .collect()
}

pub(super) fn core_is_pure(tree: &Tree) -> Vec<Finding> {
    let manifest = "shared-crates/supervision/Cargo.toml";
    let Some(text) = tree.text(manifest) else { return vec![finding(manifest, 0, "the core is gone")] };
    let mut findings: Vec<Finding> = dependencies(text, "[dependencies]")
        .filter(|(_, name)| !CORE_DEPENDENCIES.contains(name))
        .map(|(line, name)| finding(manifest, line, format!("the pure core must not depend on {name}")))
        .collect();
    for (path, text) in tree.all().filter(|(path, _)| path.starts_with("shared-crates/supervision/src/")) {
        for (number, line) in numbered(text).filter(|(_, line)| !line.trim_start().starts_with("//")) {
            if let Some(word) = CORE_WORDS.iter().find(|word| line.contains(**word)) {
                findings.push(finding(path, number, format!("'{word}' has no place in the pure core")));
            }
        }
    }
    findings
}

/// Names in one section of a manifest, with their lines.
fn dependencies<'t>(manifest: &'t str, section: &'t str) -> impl Iterator<Item = (usize, &'t str)> {
    numbered(manifest)
        .skip_while(move |(_, line)| *line != section)
        .skip(1)
        .take_while(|(_, line)| !line.starts_with('['))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|(number, line)| Some((number, line.split(['.', ' ', '=']).next()?)))
}

pub(super) fn lifecycle_crates_are_thin(tree: &Tree) -> Vec<Finding> {
    let crates = [
        "bin/rbee-keeper-crates/queen-lifecycle",
        "bin/queen-rbee-crates/hive-lifecycle",
        "bin/rbee-hive-crates/worker-lifecycle",
    ];
    let mut findings = Vec::new();
    for name in crates {
        let sources =
            tree.ending(".rs").filter(|(path, _)| path.starts_with(&format!("{name}/src/")) && !is_test(path));
        let mut lines = 0;
        for (path, text) in sources {
            let code = without_tests(text);
            lines += code.lines().count();
            for (number, line) in numbered(code).filter(|(_, line)| !line.trim_start().starts_with("//")) {
                if line.contains("process::Command") || line.contains("Signal::") || line.contains("libc::") {
                    findings.push(finding(path, number, "processes are daemon-lifecycle's"));
                }
            }
        }
        if lines == 0 || lines > THIN_CRATE_LINES_MAX {
            findings.push(finding(name, 0, format!("{lines} lines; a thin crate has 1 to {THIN_CRATE_LINES_MAX}")));
        }
    }
    findings
}

pub(super) fn dependencies_have_reasons(tree: &Tree) -> Vec<Finding> {
    let Some(manifest) = tree.text("Cargo.toml") else { return Vec::new() };
    let lines: Vec<&str> = manifest.lines().collect();
    dependencies(manifest, "[workspace.dependencies]")
        .filter(|(number, _)| {
            let line = lines[number - 1];
            // A comment on a block holds for the block: our own crates, and pins that belong together.
            let block_has_one = lines[..number - 1]
                .iter()
                .rev()
                .take_while(|above| !above.is_empty() && (above.contains(" = ") || above.starts_with('#')))
                .any(|above| above.starts_with('#') && !above.contains("the comment says which job"));
            !line.contains('#') && !block_has_one
        })
        .map(|(number, name)| finding("Cargo.toml", number, format!("{name}: say in a comment which job it has")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(findings: &[Finding]) -> Vec<(&str, usize)> {
        findings.iter().map(|finding| (finding.file.as_str(), finding.line)).collect()
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_are_not_counted() {
        let long = "x\n".repeat(401);
        let tested = format!("{}#[cfg(test)]\nmod tests {{\n{}", "x\n".repeat(400), "x\n".repeat(400));
        let tree = Tree::of(&[("a.rs", &long), ("b.rs", &tested)]);
        assert_eq!(lines(&files_are_short(&tree)), [("a.rs", 0)]);
    }

    #[test]
    fn names_that_say_nothing_are_found() {
        let tree =
            Tree::of(&[("src/utils.rs", ""), ("src/common/mod.rs", ""), ("src/commons.rs", ""), ("docs/utils.md", "")]);
        assert_eq!(lines(&modules_have_names(&tree)), [("src/utils.rs", 0), ("src/common/mod.rs", 0)]);
    }

    #[test]
    fn an_allowed_lint_is_found() {
        let text = format!("//! x\n{}dead_code)]\n", concat!("#[", "allow("));
        assert_eq!(lines(&lints_are_expected(&Tree::of(&[("a.rs", &text)]))), [("a.rs", 2)]);
    }

    #[test]
    fn the_path_of_a_machine_is_found() {
        let text = format!("ok\nlet p = \"{}x\";\n", concat!("/wo", "rk/"));
        assert_eq!(lines(&paths_are_nobodys(&Tree::of(&[("a.rs", &text)]))), [("a.rs", 2)]);
    }

    #[test]
    fn a_clock_or_a_runtime_in_the_core_is_found() {
        let tree = Tree::of(&[
            (
                "shared-crates/supervision/Cargo.toml",
                "[dependencies]\nserde.workspace = true\ntokio.workspace = true\n[dev-dependencies]\nproptest = \"1\"\n",
            ),
            (
                "shared-crates/supervision/src/lib.rs",
                "//! std::fs in a comment is fine\nlet now = SystemTime::now();\n",
            ),
        ]);
        assert_eq!(
            lines(&core_is_pure(&tree)),
            [("shared-crates/supervision/Cargo.toml", 3), ("shared-crates/supervision/src/lib.rs", 2)]
        );
    }

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let manifest = "[workspace.dependencies]\n# Our own.\na = { path = \"a\" }\nb = { path = \"b\" }\n\n# One crate a job; the comment says which job.\nc = \"1\" # c's\nd = \"1\"\n";
        assert_eq!(lines(&dependencies_have_reasons(&Tree::of(&[("Cargo.toml", manifest)]))), [("Cargo.toml", 8)]);
    }

    #[test]
    fn a_thick_lifecycle_crate_and_one_that_spawns_are_found() {
        let thick = "x\n".repeat(501);
        let tree = Tree::of(&[
            ("bin/queen-rbee-crates/hive-lifecycle/src/lib.rs", "//! x\nlet c = std::process::Command::new(x);\n"),
            ("bin/rbee-hive-crates/worker-lifecycle/src/lib.rs", &thick),
            ("bin/rbee-keeper-crates/queen-lifecycle/src/lib.rs", "//! x\n"),
        ]);
        assert_eq!(
            lines(&lifecycle_crates_are_thin(&tree)),
            [("bin/queen-rbee-crates/hive-lifecycle/src/lib.rs", 2), ("bin/rbee-hive-crates/worker-lifecycle", 0)]
        );
    }
}
