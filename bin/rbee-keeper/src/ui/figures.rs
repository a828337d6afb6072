//! Times, bytes and shares in few columns.

/// The two largest units of a time: `3d4h`, `12s`.
pub(crate) fn duration(seconds: f64) -> String {
    // Saturating: nonsense of a broken clock is shown as such, and does no harm.
    let s = seconds.max(0.0) as u64;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        86_400..8_640_000 => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
        _ => format!("{}d", s / 86_400),
    }
}

/// Bytes in at most five columns: `150M`, `1.5G`.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["B", "K", "M", "G", "T", "P", "E"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 9.95);
    format!("{value:.digits$}{}", units[unit])
}

/// A share of a core in at most five columns.
pub(crate) fn percent(value: f64) -> String {
    if value > 0.0 && value < 9.95 { format!("{value:.1}%") } else { format!("{value:.0}%") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (seconds, expected) in [
            (0.4, "0s"),
            (59.9, "59s"),
            (61.0, "1m01s"),
            (3725.0, "1h02m"),
            (90_000.0, "1d01h"),
            (8_640_000.0, "100d"),
            (f64::NAN, "0s"),
            (-5.0, "0s"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
        for (count, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.0K"),
            (150 << 20, "150M"),
            (1536 << 20, "1.5G"),
            (10 << 30, "10G"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(bytes(count), expected);
        }
        for (value, expected) in [(0.0, "0%"), (0.04, "0.0%"), (9.94, "9.9%"), (12.3, "12%"), (1600.0, "1600%")] {
            assert_eq!(percent(value), expected);
        }
    }
}
