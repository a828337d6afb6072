//! What people see of a report.

use super::fixture::{daemon, empty, eventful};
use super::{Totals, html, text};

/// REPT-12
#[test]
fn no_line_is_longer_than_the_terminal() {
    for report in [empty(), eventful()] {
        for columns in [12, 20, 40, 71, 72, 80, 104, 200] {
            let told = text(&report, columns, false);
            for line in told.lines() {
                assert!(line.chars().count() <= columns, "{columns}: {line:?}");
            }
            assert!(!told.contains('\u{1b}'), "somebody else's escape sequence");
        }
        assert!(text(&report, 80, true).contains("\u{1b}[1m"));
    }
}

/// REPT-12
#[test]
fn eighty_columns_have_tables() {
    insta::assert_snapshot!(text(&eventful(), 80, false));
}

/// REPT-12
#[test]
fn twenty_columns_have_short_lines() {
    insta::assert_snapshot!(text(&eventful(), 20, false));
}

/// REPT-07
#[test]
fn a_report_of_nothing_says_so_in_every_form() {
    assert!(text(&empty(), 80, false).contains("Nothing is known of this day"));
    let page = html(&empty()).unwrap();
    assert!(page.contains("Nothing is known of this day") && !page.contains("<svg"));
}

/// REPT-13
#[test]
fn texts_of_others_stay_texts() {
    let mut report = eventful();
    report.daemons[1].name = "<script>alert('x')</script>".to_owned();
    report.daemons[1].hive = Some("<img src=x>".to_owned());
    report.notes.push("</style><script>".to_owned());
    report.sources.push("\"><script>".to_owned());
    let page = html(&report).unwrap();
    assert_eq!(page.matches("<script").count(), 0);
    assert_eq!(page.matches("<img").count(), 0);
    assert_eq!(page.matches("</style>").count(), 1);
    for escaped in ["&lt;script&gt;alert(1)", "&lt;b&gt;no&lt;", "smollm2&lt;&#x2f;h3&gt;", "&lt;img src=x&gt;"] {
        assert!(page.contains(escaped), "{escaped}");
    }
}

/// REPT-13
#[test]
fn a_page_needs_nothing_else() {
    let page = html(&eventful()).unwrap();
    for outside in ["<link", "<script", "<iframe", "@import", "url(", " src=", " href=", "onload", "javascript:"] {
        assert!(!page.contains(outside), "{outside}");
    }
    // The only addresses are those of a namespace, and what a hive said.
    let addresses: Vec<&str> = page.match_indices("http").map(|(at, _)| &page[at..at + 26]).collect();
    assert!(
        addresses.iter().all(|address| address.starts_with("http://www.w3.org/2000/svg")
            || address.starts_with("http:&#x2f;&#x2f;10.0.0")
            || address.starts_with("http-equiv")),
        "{addresses:?}"
    );
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("@media print"));
    assert!(page.contains("default-src 'none'"));
}

/// REPT-13
#[test]
fn charts_are_drawn_in_the_colours_of_the_page_alone() {
    let page = html(&eventful()).unwrap();
    assert!(page.matches("<svg class=\"chart\"").count() == 4, "CPU, memory, and two of the model");
    assert_eq!(page.matches("<svg class=\"strip\"").count(), 4);
    let mut rest = page.split("<svg").skip(1);
    assert!(rest.all(|chart| {
        let chart = chart.split("</svg>").next().unwrap_or_default();
        let mut colors = chart.match_indices("=\"#").map(|(at, _)| &chart[at + 2..at + 9]);
        colors.all(|color| style_has(&page, color))
    }));
}

/// Whether the style sheet gives the colour a meaning.
fn style_has(page: &str, color: &str) -> bool {
    page.contains(&format!("[fill=\"{color}\"]")) || page.contains(&format!("[stroke=\"{color}\"]"))
}

#[test]
fn the_share_of_all_is_of_the_time_that_is_known() {
    let mut report = eventful();
    let totals = Totals::of(&report);
    assert_eq!((totals.daemons, totals.restarts, totals.health_failures, totals.requests), (4, 4, 2, 12_431));
    assert!((totals.availability.unwrap() - 99.5).abs() < 0.01, "{:?}", totals.availability);
    report.daemons = vec![daemon(None, "queen")];
    report.daemons[0].availability = Default::default();
    assert_eq!(Totals::of(&report).availability, None);
}
