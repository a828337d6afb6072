//! Numbered requirements: each is cited by a test, or says itself that it is pending.

use super::Finding;
use super::tree::Tree;

/// Stands in the line of a requirement nothing tests yet.
const PENDING: &str = "(pending";

pub(super) fn requirements_are_tested(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut known = Vec::new();
    for (path, text) in tree.all().filter(|(path, _)| path.starts_with(".specs/") && !path.contains("/decisions/")) {
        for (index, line) in text.lines().enumerate() {
            let Some(id) = defined(line) else { continue };
            let finding = |message: String| Finding { file: path.to_owned(), line: index + 1, message };
            if known.contains(&id) {
                findings.push(finding(format!("{id} is defined twice")));
            }
            known.push(id);
            let cited = cited_in_a_test(tree, id);
            if !cited && !line.contains(PENDING) {
                findings.push(finding(format!("{id} is cited by no test and not marked {PENDING}: …)")));
            }
            if cited && line.contains(PENDING) {
                findings.push(finding(format!("{id} is tested: it is pending no longer")));
            }
        }
    }
    findings
}

/// `- **ABC-07** …` → ABC-07.
fn defined(line: &str) -> Option<&str> {
    let id = line.strip_prefix("- **")?.split_once("**")?.0;
    let (area, number) = id.split_once('-')?;
    let is_id = area.chars().all(|c| c.is_ascii_uppercase()) && number.chars().all(|c| c.is_ascii_digit());
    is_id.then_some(id)
}

/// In a test's file, or below the tests' mark of another.
fn cited_in_a_test(tree: &Tree, id: &str) -> bool {
    tree.all().any(|(path, text)| {
        let text = if path.ends_with(".py")
            || path.starts_with("tests/")
            || path.contains("/tests")
            || path.contains("/sim")
        {
            text
        } else if path.ends_with(".rs") {
            text.split_once("#[cfg(test)]").map_or("", |(_, tests)| tests)
        } else {
            ""
        };
        cites(text, id)
    })
}

/// The whole ID: ABC-1 is not cited by ABC-12.
fn cites(text: &str, id: &str) -> bool {
    text.match_indices(id).any(|(at, _)| !text[at + id.len()..].starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(files: &[(&str, &str)]) -> Vec<String> {
        requirements_are_tested(&Tree::of(files)).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_requirement_is_cited_by_a_test_or_pending() {
        let specs = "# Life\n- **ABC-1** MUST a.\n- **ABC-2** MUST b.\n- **ABC-3** MUST c (pending: next).\n- **ABC-4** MUST d.\n";
        let found = messages(&[
            (".specs/life.md", specs),
            ("tests/chain/a.rs", "// ABC-12 ABC-4"),
            ("src/lib.rs", "// ABC-1\n#[cfg(test)]\nmod tests { // ABC-2 }"),
        ]);
        assert_eq!(found, ["ABC-1 is cited by no test and not marked (pending: …)"]);
    }

    #[test]
    fn twice_defined_and_no_longer_pending_are_found() {
        let found = messages(&[(".specs/a.md", "- **A-1** x (pending).\n- **A-1** x.\n"), ("tests/a.rs", "A-1")]);
        assert_eq!(found, ["A-1 is tested: it is pending no longer", "A-1 is defined twice"]);
    }
}
