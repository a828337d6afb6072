//! For tests of `/metrics`: everything that the dashboard and the alerts in `examples/monitoring` name is there.

use std::collections::BTreeSet;

const FILES: [&str; 2] = [
    include_str!("../../../examples/monitoring/grafana-dashboard.json"),
    include_str!("../../../examples/monitoring/alerts.yml"),
];

/// What the dashboard and the alerts name of the tier with this prefix and of any process, without what Prometheus puts
/// behind it.
fn named(prefix: &str) -> BTreeSet<&'static str> {
    let words = FILES.iter().flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    let names = words.filter(|word| word.starts_with(prefix) || word.starts_with("process_"));
    names.map(|name| name.trim_end_matches("_total").trim_end_matches("_bucket")).collect()
}

/// Passes when `text`, as a tier answers at `/metrics`, has all that is named of it, and that is more than `least` names.
///
/// # Panics
/// When a name is missing, or hardly any are found.
pub fn assert_all_named_are_in(text: &str, prefix: &str, least: usize) {
    let there: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let named = named(prefix);
    assert!(named.len() > least, "{named:?}");
    for name in named {
        assert!(there.contains(name), "{name} is not in\n{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MONI-18
    #[test]
    #[should_panic(expected = "is not in")]
    fn a_name_that_is_missing_fails() {
        assert_all_named_are_in("# TYPE rbee_queen_other gauge", "rbee_queen_", 6);
    }

    /// MONI-18
    #[test]
    #[should_panic(expected = "process_")]
    fn too_few_names_fail() {
        assert_all_named_are_in("", "rbee_queen_", 10_000);
    }
}
