//! What is wrong on this machine and what to do about it.
//!
//! ```text
//!   machine, files, processes ──gather──▶ Facts ──diagnose (pure)──▶ [Finding] ──▶ people, JSON, exit code
//! ```
//!
//! Nothing is repaired here, and no daemon is needed.

mod config;
mod facts;
mod gather;
mod machine;
mod places;
mod processes;

use serde::Serialize;

pub(crate) use facts::Facts;
pub(crate) use gather::gather;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Something does not work, or is not safe.
    Error,
    /// Something is not as it should be, or will not go on working.
    Warning,
    /// Worth knowing; nothing is wrong.
    Note,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// What it is about: `ports`, `token`, …
    pub(crate) area: &'static str,
    /// What was seen.
    pub(crate) what: String,
    /// Why it matters.
    pub(crate) why: String,
    /// What to do, a command where there is one.
    pub(crate) remedy: Option<String>,
}

impl Finding {
    fn new(severity: Severity, area: &'static str, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { severity, area, what: what.into(), why: why.into(), remedy: None }
    }

    fn error(area: &'static str, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(Severity::Error, area, what, why)
    }

    fn warning(area: &'static str, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(Severity::Warning, area, what, why)
    }

    fn note(area: &'static str, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(Severity::Note, area, what, why)
    }

    /// What to do about it.
    fn so(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// Everything that the facts show, the worst first.
pub(crate) fn diagnose(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    config::check(facts, &mut found);
    places::check(facts, &mut found);
    machine::check(facts, &mut found);
    processes::check(facts, &mut found);
    found.sort_by_key(|finding| finding.severity);
    found
}

/// Whether anything is wrong.
pub(crate) fn is_ill(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.severity != Severity::Note)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ADVI-10
    #[test]
    fn a_sound_machine_has_no_findings() {
        let found = diagnose(&Facts::sound());
        assert!(!is_ill(&found), "{found:#?}");
    }

    #[test]
    fn the_worst_comes_first() {
        let mut facts = Facts::sound();
        facts.clock.is_synchronised = Some(false);
        facts.token.as_mut().unwrap().mode = 0o644;
        let found = diagnose(&facts);
        assert!(found.is_sorted_by_key(|finding| finding.severity) && is_ill(&found), "{found:#?}");
    }
}
