//! Findings about what runs and what is recorded: the dead, the lost, the outdated.

use daemon_lifecycle::inspect::Condition;

use super::Finding;
use super::facts::{Facts, ProgramFact, RunFact, Tier};

/// What this program is.
const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    for program in &facts.programs {
        of_program(program, found);
    }
    let alive = |tier: Tier| facts.runs.iter().find(|run| run.tier == tier && run.condition == Condition::Alive);
    for run in &facts.runs {
        of_run(facts, run, found);
    }
    if alive(Tier::Hive).is_none()
        && let Some(worker) = alive(Tier::Worker)
    {
        let what = format!("workers run ({}, pid {}), but no hive does", worker.name, worker.pid.unwrap_or_default());
        let why = "nobody restarts them, keeps their health or their logs";
        found.push(
            Finding::error("daemons", what, why).so("rbee-keeper up takes them over; rbee-keeper down ends them"),
        );
    }
    if facts.config.config.starts_queen()
        && alive(Tier::Queen).is_none()
        && let Some(hive) = alive(Tier::Hive)
    {
        let what = format!("the hive {} runs, but queen does not", hive.name);
        let why = "nobody answers requests or restarts the hive";
        found.push(Finding::error("daemons", what, why).so("rbee-keeper up takes it over; rbee-keeper down ends it"));
    }
    orphans(facts, found);
    for lock in &facts.locks {
        let owner = if lock.tier == Tier::Hive { Tier::Queen } else { Tier::Hive };
        let known = facts.runs.iter().filter(|run| run.tier == owner && run.condition == Condition::Alive);
        if let Some(holder) = lock.holder
            && known.clone().all(|run| run.pid != Some(holder))
        {
            let what = format!("{} is held by process {holder}, which no record names", lock.path.display());
            let why = "a supervisor that was started by hand, or by a service, has it; a second one is refused";
            // A hive in the foreground is what people do.
            found.push(Finding::note("locks", what, why).so(format!("ps -p {holder} -o pid,user,args")));
        }
    }
}

fn of_program(program: &ProgramFact, found: &mut Vec<Finding>) {
    let name = program.name;
    let Some(path) = &program.path else {
        if program.is_needed {
            let what = format!("{name} is neither beside rbee-keeper nor on PATH");
            let why = "what this machine's configuration starts needs it";
            found.push(Finding::error("programs", what, why).so("cargo xtask up builds it; or copy it there"));
        }
        return;
    };
    if let Some(refusal) = &program.refusal {
        let what = format!("{} {refusal}", path.display());
        found.push(
            Finding::error("programs", what, "it is executed with your rights").so(format!("ls -l {}", path.display())),
        );
        return;
    }
    match &program.version {
        Some(Ok(version)) if version != OWN_VERSION => {
            let what = format!("{name} is version {version}, rbee-keeper {OWN_VERSION}");
            let why = "they are made for each other: what one says the other may not understand";
            found.push(
                Finding::warning("programs", what, why).so(format!("put the same version to {}", path.display())),
            );
        }
        Some(Err(reason)) => {
            let what = format!("{} does not say its version: {reason}", path.display());
            found.push(
                Finding::error("programs", what, "it cannot run here").so("build it on this machine: cargo xtask up"),
            );
        }
        Some(Ok(_)) | None => {}
    }
}

fn of_run(facts: &Facts, run: &RunFact, found: &mut Vec<Finding>) {
    let file = run.file.display();
    let pid = run.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    // A supervisor that runs clears up by itself.
    let owner = match run.tier {
        Tier::Queen => None,
        Tier::Hive => Some(Tier::Queen),
        Tier::Worker => Some(Tier::Hive),
    };
    let is_cared_for = facts.runs.iter().any(|other| Some(other.tier) == owner && other.condition == Condition::Alive);
    match &run.condition {
        Condition::Alive => {
            if run.is_outdated {
                let what = format!("{}{pid} runs an older build than the file that stands there now", run.name);
                let remedy = match run.tier {
                    Tier::Queen => "rbee-keeper queen upgrade".to_owned(),
                    Tier::Hive => format!("rbee-keeper hive upgrade {}", run.name),
                    Tier::Worker => format!("rbee-keeper worker restart {} --rolling", worker_name(&run.name)),
                };
                found.push(Finding::warning("programs", what, "what was repaired since is not in force").so(remedy));
            }
            for limit in &run.limits_not_in_force {
                let what = format!("`{limit}` of {} is not in force", run.name);
                let finding = Finding::warning("cgroup", what, "it was started where no cgroup was to be had");
                found.push(finding.so("rbee-keeper service install: a service with Delegate=yes has one"));
            }
        }
        Condition::Gone | Condition::OtherBoot if is_cared_for => {}
        Condition::Gone => {
            let what = format!("{file} names a process that is gone{pid}");
            let why = "it ended without being told to; what it ran may still be there";
            found.push(
                Finding::warning("stale", what, why).so("rbee-keeper up starts it again; rbee-keeper down clears it"),
            );
        }
        Condition::OtherBoot => {
            let what = format!("{file} is from before the machine was started");
            let why = "it was not stopped before the machine went down; the next start clears it";
            found.push(
                Finding::warning("stale", what, why).so("rbee-keeper up starts it again; rbee-keeper down clears it"),
            );
        }
        Condition::Unreadable(reason) => {
            let what = format!("{file} cannot be understood: {reason}");
            let why = "whether that daemon runs cannot be told, so it is neither started nor stopped";
            let remedy = format!("look whether it runs (ps -ef | grep rbee); if not: rm {file}");
            found.push(Finding::error("stale", what, why).so(remedy));
        }
    }
}

/// `smollm2.0` is `smollm2/0` to people.
fn worker_name(unit: &str) -> String {
    unit.rsplit_once('.').map_or_else(|| unit.to_owned(), |(name, _)| name.to_owned())
}

fn orphans(facts: &Facts, found: &mut Vec<Finding>) {
    let queen_runs = facts.runs.iter().any(|run| run.tier == Tier::Queen && run.condition == Condition::Alive);
    for orphan in &facts.orphans {
        let (pid, name, unit) = (orphan.pid, &orphan.name, &orphan.unit);
        if unit == "queen" && queen_runs {
            let what = format!("an earlier queen (pid {pid}) still finishes its answers");
            found.push(Finding::note(
                "orphans",
                what,
                "it ends by itself, at the latest after `queen.upgrade_drain_timeout`",
            ));
            continue;
        }
        let what = format!("process {pid} ({name}) belongs to a run of {unit} that no supervisor knows");
        let why = "nobody watches it, and nobody will end it; it may hold memory, ports or files";
        found.push(Finding::error("orphans", what, why).so(format!("ps -p {pid} -o pid,etime,args; then kill {pid}")));
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::{LockFact, OrphanFact};
    use super::super::{Severity, diagnose};
    use super::*;

    fn run(tier: Tier, name: &str, condition: Condition) -> RunFact {
        RunFact {
            tier,
            name: name.into(),
            file: format!("/r/run/{name}.state").into(),
            pid: Some(7),
            condition,
            clock_jump_s: Some(0),
            is_outdated: false,
            limits_not_in_force: Vec::new(),
        }
    }

    fn told(facts: &Facts) -> Vec<(Severity, String)> {
        let found = diagnose(facts)
            .into_iter()
            .filter(|finding| finding.area != "cgroup" || finding.severity != Severity::Note);
        found.map(|finding| (finding.severity, finding.what)).collect()
    }

    fn with_runs(runs: Vec<RunFact>) -> Facts {
        Facts { runs, ..Facts::sound() }
    }

    /// ADVI-19
    #[test]
    fn the_dead_are_told_unless_somebody_is_about_to_bury_them() {
        use Condition::{Alive, Gone, OtherBoot};
        for (runs, expected) in [
            (vec![run(Tier::Queen, "queen", Gone)], vec!["names a process that is gone (pid 7)"]),
            (vec![run(Tier::Queen, "queen", OtherBoot)], vec!["from before the machine was started"]),
            (vec![run(Tier::Queen, "queen", Alive), run(Tier::Hive, "local", Gone)], vec![]),
            (
                vec![run(Tier::Queen, "queen", Alive), run(Tier::Hive, "local", Alive), run(Tier::Worker, "a.0", Gone)],
                vec![],
            ),
            (vec![run(Tier::Hive, "local", Alive)], vec!["the hive local runs, but queen does not"]),
            (vec![run(Tier::Queen, "queen", Alive), run(Tier::Worker, "a.0", Alive)], vec!["but no hive does"]),
            (
                vec![run(Tier::Queen, "queen", Condition::Unreadable("no JSON".into()))],
                vec!["cannot be understood: no JSON"],
            ),
        ] {
            let told = told(&with_runs(runs.clone()));
            assert_eq!(told.len(), expected.len(), "{runs:?}: {told:?}");
            assert!(told.iter().zip(&expected).all(|((_, what), part)| what.contains(part)), "{told:?}");
        }
    }

    /// ADVI-20
    #[test]
    fn programs_that_are_missing_unsafe_or_of_another_version_are_told() {
        let program = ProgramFact {
            name: "queen-rbee",
            is_needed: true,
            path: Some("/b/queen-rbee".into()),
            refusal: None,
            version: Some(Ok(OWN_VERSION.to_owned())),
        };
        let of = |program: ProgramFact| told(&Facts { programs: vec![program], ..Facts::sound() });
        assert_eq!(of(program.clone()), []);
        assert_eq!(of(ProgramFact { path: None, is_needed: false, ..program.clone() }), []);
        for (program, severity, part) in [
            (ProgramFact { path: None, ..program.clone() }, Severity::Error, "neither beside rbee-keeper nor on PATH"),
            (
                ProgramFact { refusal: Some("can be written by everybody".into()), ..program.clone() },
                Severity::Error,
                "by everybody",
            ),
            (ProgramFact { version: Some(Ok("9.9.9".into())), ..program.clone() }, Severity::Warning, "version 9.9.9"),
            (
                ProgramFact { version: Some(Err("no".into())), ..program.clone() },
                Severity::Error,
                "does not say its version",
            ),
        ] {
            let told = of(program);
            assert!(told.len() == 1 && told[0].0 == severity && told[0].1.contains(part), "{told:?}");
        }
        let outdated = RunFact { is_outdated: true, ..run(Tier::Queen, "queen", Condition::Alive) };
        let found = diagnose(&with_runs(vec![outdated]));
        assert!(
            found.iter().any(|finding| finding.remedy.as_deref() == Some("rbee-keeper queen upgrade")),
            "{found:?}"
        );
    }

    /// ADVI-21
    #[test]
    fn orphans_and_strange_holders_of_locks_are_told() {
        let orphan = |unit: &str| OrphanFact { pid: 8, name: "sleep".into(), unit: unit.into() };
        let mut facts = with_runs(vec![run(Tier::Queen, "queen", Condition::Alive)]);
        facts.orphans = vec![orphan("a.0"), orphan("queen")];
        let told_of = told(&facts);
        assert_eq!(
            told_of[0],
            (Severity::Error, "process 8 (sleep) belongs to a run of a.0 that no supervisor knows".into())
        );
        assert_eq!(told_of[1].0, Severity::Note);
        facts.orphans.clear();
        let lock =
            |holder| LockFact { tier: Tier::Hive, path: "/r/run/hives/supervisor.lock".into(), holder: Some(holder) };
        facts.locks = vec![lock(7)];
        assert_eq!(told(&facts), []);
        facts.locks = vec![lock(9)];
        assert!(told(&facts)[0].1.contains("is held by process 9"));
    }

    /// ADVI-18
    #[test]
    fn a_limit_of_a_running_worker_that_is_not_in_force_is_told() {
        let queen = run(Tier::Queen, "queen", Condition::Alive);
        let hive = run(Tier::Hive, "local", Condition::Alive);
        let worker = RunFact { limits_not_in_force: vec!["cpus".into()], ..run(Tier::Worker, "a.0", Condition::Alive) };
        assert_eq!(
            told(&with_runs(vec![queen, hive, worker])),
            [(Severity::Warning, "`cpus` of a.0 is not in force".into())]
        );
    }
}
