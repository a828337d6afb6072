//! Findings about files and directories: who may touch them, room for what grows, the clock that stamps them.

use super::Finding;
use super::facts::{CLOCK_TOLERANCE, DirFact, Facts, FileFact};

/// Below this, nothing works for long.
const FREE_BYTES_MIN: u64 = 100 << 20;
/// Below this, it is time to look.
const FREE_BYTES_LOW: u64 = 1 << 30;
/// Logs, sockets and records are many small files.
const FREE_FILES_MIN: u64 = 1_000;
const OTHERS_WRITE: u32 = 0o022;
const OTHERS_ANY: u32 = 0o077;

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    secrets(facts, found);
    for dir in &facts.dirs {
        standing(facts, dir, found);
        room(dir, found);
    }
    clock(facts, found);
}

fn secrets(facts: &Facts, found: &mut Vec<Finding>) {
    if let Some(token) = &facts.token {
        let path = token.path.display();
        if token.mode & OTHERS_ANY != 0 {
            let what = format!("{path} is open to others (mode {:04o})", token.mode);
            let why =
                "whoever has the token commands queen, hives and workers; a token that others can read is not used";
            found.push(Finding::error("token", what, why).so(format!("chmod 600 {path}")));
        } else if let Some(problem) = &facts.token_problem {
            let finding = Finding::error("token", problem, "without it no daemon can be asked for anything");
            found.push(finding.so(format!("rm {path} && rbee-keeper config init; the daemons need a restart then")));
        }
        owner(facts, token, "token", found);
    } else if let Some(problem) = &facts.token_problem {
        found.push(Finding::error("token", problem, "without it no daemon can be asked for anything"));
    }
    if let Some(file) = &facts.config_file {
        let path = file.path.display();
        if file.mode & OTHERS_WRITE != 0 {
            let what = format!("{path} can be written by others (mode {:04o})", file.mode);
            let why = "it names commands that run with your rights: whoever writes it is you";
            found.push(Finding::error("config", what, why).so(format!("chmod go-w {path}")));
        }
        owner(facts, file, "config", found);
    }
}

fn owner(facts: &Facts, file: &FileFact, area: &'static str, found: &mut Vec<Finding>) {
    // Root's is fine: that one can do anything anyway.
    if file.uid != facts.uid && file.uid != 0 {
        let path = file.path.display();
        let what = format!("{path} belongs to another user (uid {})", file.uid);
        found.push(
            Finding::error(area, what, "its owner can change it at any time").so(format!("chown {} {path}", facts.uid)),
        );
    }
}

fn standing(facts: &Facts, dir: &DirFact, found: &mut Vec<Finding>) {
    let path = dir.path.display();
    if !dir.is_writable {
        let (what, why) = match (&dir.standing, dir.is_read_only) {
            (_, true) => (format!("{path} is on a file system that is read-only"), "nothing can be written there"),
            (Some(_), _) => (format!("{path} cannot be written"), "daemons keep their files there"),
            (None, _) => (format!("{path} cannot be made"), "daemons keep their files there"),
        };
        let remedy = "run as the user it belongs to, or set RBEE_HOME to a folder of yours";
        found.push(Finding::error("files", what, why).so(remedy));
    }
    if let Some(standing) = &dir.standing {
        if standing.mode & OTHERS_WRITE != 0 {
            let what = format!("{path} can be written by others (mode {:04o})", standing.mode);
            let why = "they could put records and sockets there that daemons would trust";
            found.push(Finding::error("files", what, why).so(format!("chmod go-w {path}")));
        }
        owner(facts, standing, "files", found);
    }
}

fn room(dir: &DirFact, found: &mut Vec<Finding>) {
    let (path, free) = (dir.path.display(), size(dir.free_bytes));
    let what = format!("{free} free for {} ({path})", dir.what);
    let clear = "make room: `rbee-keeper model list` shows models; `log` in rbee.toml bounds logs";
    if dir.free_bytes < FREE_BYTES_MIN {
        let why = "with a full disk nothing is recorded: no log line, no state, no start";
        found.push(Finding::error("disk", what, why).so(clear));
    } else if dir.free_bytes < FREE_BYTES_LOW {
        found.push(Finding::warning("disk", what, "it may soon be full").so(clear));
    } else if dir.free_bytes < dir.budget_bytes {
        let why = format!("what the configuration lets grow there may take up to {}", size(dir.budget_bytes));
        found.push(Finding::warning("disk", what, why).so("lower `log.max_size`, `log.keep` or `cache_max`"));
    }
    if let Some(files) = dir.free_files.filter(|files| *files < FREE_FILES_MIN) {
        let what = format!("room for {files} more files only, for {} ({path})", dir.what);
        found.push(Finding::error("disk", what, "logs, sockets and records are many small files").so(clear));
    }
}

fn clock(facts: &Facts, found: &mut Vec<Finding>) {
    if let Some((path, at)) = &facts.clock.newest_file
        && let Ok(ahead) = at.duration_since(facts.now)
        && ahead > CLOCK_TOLERANCE
    {
        let by = humantime::format_duration(std::time::Duration::from_secs(ahead.as_secs()));
        let what = format!("the clock is behind: {} is from {by} ahead of now", path.display());
        let why = "events and reports are ordered by the clock, and models look changed";
        found.push(Finding::warning("clock", what, why).so("timedatectl set-ntp true"));
    }
    let jumps = facts.runs.iter().filter_map(|run| Some((run, run.clock_jump_s?)));
    let tolerance = i64::try_from(CLOCK_TOLERANCE.as_secs()).unwrap_or(i64::MAX);
    let furthest = jumps.max_by_key(|(_, jump)| jump.abs()).filter(|(_, jump)| jump.abs() > tolerance);
    if let Some((run, jump)) = furthest {
        let by = humantime::format_duration(std::time::Duration::from_secs(jump.unsigned_abs()));
        let way = if jump > 0 { "forwards" } else { "back" };
        let what = format!("the clock jumped {way} by {by} since {} was started", run.name);
        let why = "times in events and reports from before and after do not fit together";
        found.push(Finding::warning("clock", what, why).so("timedatectl status"));
    }
    if facts.clock.is_synchronised == Some(false) {
        let why = "it drifts; with several machines, events come in the wrong order";
        found.push(Finding::note("clock", "nothing keeps the clock right", why).so("timedatectl set-ntp true"));
    }
}

fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use daemon_lifecycle::inspect::Condition;

    use super::super::facts::{RunFact, Tier};
    use super::super::{Severity, diagnose};
    use super::*;

    type Break = fn(&mut Facts);

    /// What is found once this is broken: exactly one finding more.
    fn only(breaks: Break) -> Finding {
        let mut facts = Facts::sound();
        let before = diagnose(&facts);
        breaks(&mut facts);
        let mut found = diagnose(&facts);
        found.retain(|finding| !before.contains(finding));
        assert_eq!(found.len(), 1, "{found:#?}");
        found.remove(0)
    }

    /// ADVI-13
    #[test]
    fn files_and_directories_that_others_can_touch_are_errors_with_the_command_that_closes_them() {
        for (breaks, what, remedy) in [
            (
                (|f| f.token.as_mut().unwrap().mode = 0o640) as Break,
                "/r/token is open to others (mode 0640)",
                "chmod 600 /r/token",
            ),
            (|f| f.token.as_mut().unwrap().uid = 7, "/r/token belongs to another user (uid 7)", "chown 1000 /r/token"),
            (|f| f.token_problem = Some("/r/token holds no token".into()), "/r/token holds no token", "rm /r/token"),
            (
                |f| f.config_file.as_mut().unwrap().mode = 0o666,
                "/r/rbee.toml can be written by others",
                "chmod go-w /r/rbee.toml",
            ),
            (|f| f.config_file.as_mut().unwrap().uid = 7, "/r/rbee.toml belongs to another user", "chown 1000"),
            (
                |f| f.dirs[0].standing.as_mut().unwrap().mode = 0o777,
                "/r/state can be written by others",
                "chmod go-w /r/state",
            ),
            (|f| f.dirs[0].is_writable = false, "/r/state cannot be written", "RBEE_HOME"),
            (|f| (f.dirs[0].is_writable, f.dirs[0].is_read_only) = (false, true), "is read-only", "RBEE_HOME"),
            (|f| (f.dirs[0].is_writable, f.dirs[0].standing) = (false, None), "/r/state cannot be made", "RBEE_HOME"),
        ] {
            let finding = only(breaks);
            assert_eq!(finding.severity, Severity::Error, "{finding:?}");
            assert!(finding.what.contains(what), "{finding:?}");
            assert!(finding.remedy.as_ref().unwrap().contains(remedy), "{finding:?}");
        }
        let mut of_root = Facts::sound();
        of_root.token.as_mut().unwrap().uid = 0;
        assert_eq!(diagnose(&of_root), diagnose(&Facts::sound()));
    }

    /// ADVI-14
    #[test]
    fn a_disk_that_is_or_gets_full_is_told() {
        for (breaks, severity, what) in [
            ((|f| f.dirs[0].free_bytes = 5 << 20) as Break, Severity::Error, "5.0 MiB free for state"),
            (|f| f.dirs[0].free_bytes = 500 << 20, Severity::Warning, "500.0 MiB free for state"),
            (|f| f.dirs[0].budget_bytes = 200 << 30, Severity::Warning, "100.0 GiB free for state"),
            (|f| f.dirs[0].free_files = Some(3), Severity::Error, "room for 3 more files"),
        ] {
            let finding = only(breaks);
            assert_eq!((finding.severity, finding.area), (severity, "disk"));
            assert!(finding.what.contains(what), "{finding:?}");
        }
    }

    /// ADVI-15
    #[test]
    fn a_clock_that_is_behind_jumped_or_is_left_alone_is_told() {
        let run = |jump| RunFact {
            tier: Tier::Worker,
            name: "a.0".into(),
            file: "/r/run/workers/a.0.state".into(),
            pid: Some(7),
            condition: Condition::Alive,
            clock_jump_s: Some(jump),
            is_outdated: false,
            limits_not_in_force: Vec::new(),
        };
        let behind = only(|f| f.clock.newest_file = Some(("/r/x".into(), f.now + Duration::from_secs(7200))));
        assert_eq!(behind.what, "the clock is behind: /r/x is from 2h ahead of now");
        assert_eq!(only(|f| f.clock.is_synchronised = Some(false)).severity, Severity::Note);
        for (jump, what) in [(-3600, Some("back by 1h")), (90, Some("forwards by 1m 30s")), (-59, None), (1, None)] {
            let mut facts = Facts::sound();
            facts.runs = vec![run(jump), run(0)];
            let told = diagnose(&facts).into_iter().find(|finding| finding.area == "clock");
            assert_eq!(told.is_some(), what.is_some(), "{jump}: {told:?}");
            assert!(told.is_none_or(|finding| finding.what.contains(what.unwrap())));
        }
    }
}
