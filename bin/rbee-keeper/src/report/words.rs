//! Numbers and times of a report as people read them.

use jiff::Timestamp;
use rbee_api::report::{DaemonReport, Period, Usage};

/// `99.98 %`; never 100 where something is missing.
pub(super) fn percent(value: f64) -> String {
    let shown = if value < 100.0 { value.min(99.99) } else { value };
    if shown >= 99.995 { "100 %".to_owned() } else { format!("{shown:.2} %") }
}

/// `–` where it is not known.
pub(super) fn percent_or_unknown(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), percent)
}

/// `1d 2h`, `3m 12s`, `840 ms`: the two largest parts.
pub(super) fn duration(ms: u64) -> String {
    let s = ms / 1_000;
    let parts = [(s / 86_400, "d"), (s / 3_600 % 24, "h"), (s / 60 % 60, "m"), (s % 60, "s")];
    let Some(first) = parts.iter().position(|(count, _)| *count > 0) else { return format!("{ms} ms") };
    let shown = parts[first..].iter().take(2).filter(|(count, _)| *count > 0);
    shown.map(|(count, unit)| format!("{count}{unit}")).collect::<Vec<_>>().join(" ")
}

/// `840 ms`, `1.25 s`, `41 s`, `2m 3s`.
pub(super) fn latency(ms: f64) -> String {
    match ms {
        ms if ms < 1.0 => "<1 ms".to_owned(),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms if ms < 10_000.0 => format!("{:.2} s", ms / 1_000.0),
        ms if ms < 60_000.0 => format!("{:.1} s", ms / 1_000.0),
        ms => duration(whole(ms)),
    }
}

/// `38 MiB`, `1.4 GiB`.
pub(super) fn bytes(count: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut shown = count;
    let mut unit = 0;
    while shown >= 1_000.0 && unit + 1 < units.len() {
        shown /= 1_024.0;
        unit += 1;
    }
    let digits = usize::from(shown < 9.95 && unit > 0);
    format!("{shown:.digits$} {}", units[unit])
}

/// `950`, `12.4k`, `3.1M`.
pub(super) fn count(number: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let shown = number as f64;
    match number {
        0..1_000 => number.to_string(),
        1_000..100_000 => format!("{:.1}k", shown / 1e3),
        100_000..1_000_000 => format!("{:.0}k", shown / 1e3),
        _ => format!("{:.1}M", shown / 1e6),
    }
}

/// Share of cores: `3.2 %`, `180 %`.
pub(super) fn cpu(percent: f64) -> String {
    if percent < 9.95 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

/// Average and peak: `3.2 / 41 %`.
pub(super) fn spread(usage: Option<&Usage>, words: impl Fn(f64) -> String) -> String {
    let Some(usage) = usage else { return "–".to_owned() };
    let (average, peak) = (words(usage.average), words(usage.peak));
    match (average.rsplit_once(' '), peak.rsplit_once(' ')) {
        (Some((number, unit)), Some((_, same))) if unit == same => format!("{number} / {peak}"),
        _ => format!("{average} / {peak}"),
    }
}

/// `2026-11-21 20:40`, UTC.
pub(super) fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M").to_string()
}

/// A time within the period, UTC: `20:40:07` of a short one, `Sat 20:40` of a week.
pub(super) fn moment_within(at: Timestamp, period: Period) -> String {
    match period {
        Period::Hour => at.strftime("%H:%M:%S"),
        Period::Day => at.strftime("%d %b %H:%M"),
        Period::Week => at.strftime("%a %d %H:%M"),
    }
    .to_string()
}

/// `local:smollm2/0`, or `queen`.
pub(super) fn name(daemon: &DaemonReport) -> String {
    let hive = daemon.hive.as_ref().map(|hive| format!("{hive}:")).unwrap_or_default();
    format!("{hive}{}", daemon.name)
}

/// What `of` things are called.
pub(super) fn plural(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds")]
fn whole(ms: f64) -> u64 {
    ms.max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_never_better_than_they_are() {
        for (value, expected) in
            [(100.0, "100 %"), (99.9999, "99.99 %"), (99.5, "99.50 %"), (0.0, "0.00 %"), (42.0, "42.00 %")]
        {
            assert_eq!(percent(value), expected);
        }
        for (ms, expected) in [
            (0, "0 ms"),
            (840, "840 ms"),
            (1_000, "1s"),
            (192_000, "3m 12s"),
            (3_600_000, "1h"),
            (93_600_000, "1d 2h"),
            (86_460_000, "1d"),
        ] {
            assert_eq!(duration(ms), expected, "{ms}");
        }
        for (value, expected) in
            [(0.2, "<1 ms"), (839.6, "840 ms"), (1_254.0, "1.25 s"), (41_020.0, "41.0 s"), (123_456.0, "2m 3s")]
        {
            assert_eq!(latency(value), expected);
        }
        for (value, expected) in [
            (0.0, "0 B"),
            (999.0, "999 B"),
            (1_023.0, "1.0 KiB"),
            (4e7, "38 MiB"),
            (1.5e9, "1.4 GiB"),
            (1e15, "909 TiB"),
        ] {
            assert_eq!(bytes(value), expected);
        }
        for (number, expected) in [(0, "0"), (999, "999"), (12_431, "12.4k"), (431_000, "431k"), (3_100_000, "3.1M")] {
            assert_eq!(count(number), expected);
        }
    }

    #[test]
    fn a_spread_names_its_unit_once_where_it_can() {
        let usage = |average, peak| Usage { average, peak, peak_at: Timestamp::UNIX_EPOCH };
        assert_eq!(spread(Some(&usage(3.2, 41.4)), cpu), "3.2 / 41 %");
        assert_eq!(spread(Some(&usage(4e7, 1.5e9)), bytes), "38 MiB / 1.4 GiB");
        assert_eq!(spread(None, cpu), "–");
    }
}
