//! One report of a fleet: queen's own and those of her hives. Pure.

use rbee_api::report::{DaemonReport, Missing, Report};

/// Where a daemon stands in a report: queen, then hive by hive, the hive's own daemon before its workers.
pub(super) fn order(daemon: &DaemonReport) -> (Option<&str>, u8, &str, u32) {
    let rank = match daemon.name.as_str() {
        "queen" => 0,
        "hive" => 1,
        _ => 2,
    };
    let (name, replica) = daemon.name.split_once('/').unwrap_or((&daemon.name, "0"));
    (daemon.hive.as_deref(), rank, name, replica.parse().unwrap_or(u32::MAX))
}

/// Puts what hives answered into queen's own report. Of a hive that did not, what it had told queen before stays,
/// and it is named as missing.
#[must_use]
pub fn merge(mut queens: Report, answers: Vec<(String, Result<Report, String>)>) -> Report {
    for (hive, answer) in answers {
        let report = match answer {
            Ok(report) => report,
            Err(reason) => {
                queens.missing.push(Missing { hive, reason });
                continue;
            }
        };
        let of_hive = |daemon: &DaemonReport| daemon.hive.as_deref() == Some(hive.as_str());
        let (known, others): (Vec<_>, Vec<_>) = queens.daemons.into_iter().partition(of_hive);
        queens.daemons = others;
        let supervised = known.into_iter().find(|daemon| daemon.name == "hive");
        for mut daemon in report.daemons {
            daemon.hive = Some(hive.clone());
            if let Some(supervised) = supervised.as_ref().filter(|_| daemon.name == "hive") {
                join(&mut daemon, supervised);
            }
            queens.daemons.push(daemon);
        }
        queens.notes.extend(report.notes.into_iter().map(|note| format!("{hive}: {note}")));
        queens.sources.push(hive);
    }
    queens.missing.sort_by(|a, b| a.hive.cmp(&b.hive));
    queens.sources[1..].sort();
    queens.daemons.sort_by(|a, b| order(a).cmp(&order(b)));
    queens
}

/// A hive knows what it used; whoever supervises it knows when it was there and how it fell.
fn join(own: &mut DaemonReport, supervised: &DaemonReport) {
    let known_ms = |daemon: &DaemonReport| {
        let times = &daemon.availability;
        times.up_ms + times.starting_ms + times.down_ms + times.off_ms
    };
    if known_ms(supervised) >= known_ms(own) || supervised.restarts.total > own.restarts.total {
        own.availability = supervised.availability;
        own.series.up.clone_from(&supervised.series.up);
        own.series.off.clone_from(&supervised.series.off);
    }
    if supervised.restarts.total >= own.restarts.total {
        own.restarts = supervised.restarts.clone();
    }
    if own.slowest_starts.is_empty() {
        own.slowest_starts.clone_from(&supervised.slowest_starts);
    }
    if supervised.health_failures.total > own.health_failures.total {
        own.health_failures = supervised.health_failures.clone();
    }
    if own.cpu_percent.is_none() && own.memory_bytes.is_none() {
        own.cpu_percent = supervised.cpu_percent;
        own.memory_bytes = supervised.memory_bytes;
        own.series.cpu_percent.clone_from(&supervised.series.cpu_percent);
        own.series.memory_bytes.clone_from(&supervised.series.memory_bytes);
    }
}

#[cfg(test)]
mod tests;
