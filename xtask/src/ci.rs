//! `cargo xtask ci`: all that must hold before a commit, the quick checks first.

use anyhow::Result;

use crate::build::cargo;
use crate::paths::Paths;
use crate::tools::Tools;
use crate::{child, say, suites, tidy};

pub(crate) fn ci(paths: &Paths) -> Result<()> {
    let tools = Tools::bring(paths)?;
    let steps: [(&str, &[&str]); 3] = [
        ("fmt", &["fmt", "--all", "--check"]),
        ("clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        ("docs", &["doc", "--workspace", "--no-deps", "--document-private-items"]),
    ];
    say::note("tidy");
    tidy::tidy(paths)?;
    for (title, arguments) in steps {
        say::note(title);
        child::shown(cargo(paths, &tools).args(arguments).env("RUSTDOCFLAGS", "-D warnings"))?;
    }
    suites::test(paths)
}
