//! Findings about what the machine gives: ports, limits, cgroups.

use super::Finding;
use super::facts::{Facts, ModelState, PortState};

/// Files that a hive holds open for itself, and for each replica: log, FIFOs, pidfd, socket, probe.
const HIVE_FILES: u64 = 128;
const FILES_A_REPLICA: u64 = 8;
/// Processes and threads that a replica needs to begin with.
const PROCESSES_A_REPLICA: u64 = 4;

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    ports(facts, found);
    limits(facts, found);
    cgroup(facts, found);
}

fn ports(facts: &Facts, found: &mut Vec<Finding>) {
    for port in &facts.ports {
        let (key, address) = (port.key, port.address);
        match &port.state {
            PortState::Free | PortState::Ours => {}
            PortState::Taken(by) => {
                let what = format!("port {} (`{key}`) is taken{by}", address.port());
                let why = "the daemon that is to listen there cannot start";
                found.push(
                    Finding::error("ports", what, why).so(format!("stop that program, or set `{key}` to a free port")),
                );
            }
            PortState::Refused(reason) => {
                let what = format!("nothing can listen on {address} (`{key}`): {reason}");
                let why = "the daemon that is to listen there cannot start";
                let remedy = format!("set `{key}` to an address of this machine (`ip addr` shows them)");
                found.push(Finding::error("ports", what, why).so(remedy));
            }
        }
    }
    if let Some(ports) = facts.worker_ports.as_ref().filter(|ports| ports.usable < ports.needed) {
        let by = if ports.taken_by.is_empty() { String::new() } else { format!("; taken{}", ports.taken_by.join(",")) };
        let what = format!("the workers need {} ports, {} of {} are free{by}", ports.needed, ports.usable, ports.range);
        let why = "a worker without a port does not start";
        found.push(Finding::error("ports", what, why).so("widen `hive.ports`, or set it to \"0\": any free ones"));
    }
}

fn limits(facts: &Facts, found: &mut Vec<Finding>) {
    let (config, limits) = (&facts.config.config, &facts.limits);
    let wanted = config.wanted_workers(None);
    let replicas: u64 =
        wanted.iter().filter_map(|name| config.worker.get(*name)).map(|worker| u64::from(worker.replicas)).sum();
    let files = HIVE_FILES + FILES_A_REPLICA * replicas;
    if limits.nofile_hard < files {
        let what = format!("{} open files allowed, the hive needs {files} for {replicas} replicas", limits.nofile_hard);
        let why = "without them it can neither start nor watch all of its workers";
        let remedy = "raise the hard limit: LimitNOFILE= of the service, or nofile in /etc/security/limits.conf";
        found.push(Finding::error("limits", what, why).so(remedy));
    }
    let processes = limits.processes + PROCESSES_A_REPLICA * replicas;
    if limits.nproc_soft < processes && !limits.may_raise_limits {
        let what = format!(
            "{} processes allowed, {} run, and {replicas} replicas are to",
            limits.nproc_soft, limits.processes
        );
        let remedy = "raise it: TasksMax= of the service, or nproc in /etc/security/limits.conf";
        found.push(Finding::warning("limits", what, "a worker may not be able to fork").so(remedy));
    }
    for (name, worker) in &config.worker {
        if let Some(nofile) =
            worker.limits.nofile.filter(|nofile| *nofile > limits.nofile_hard && !limits.may_raise_limits)
        {
            let what = format!("`worker.{name}.limits.nofile` is {nofile}, {} are allowed here", limits.nofile_hard);
            let finding = Finding::error("limits", what, "the worker cannot start");
            found.push(finding.so(format!("set it to {} or less, or raise the hard limit", limits.nofile_hard)));
        }
        if let Some(nice) = worker.limits.nice.filter(|nice| i32::from(*nice) < limits.nice_min) {
            let what = format!("`worker.{name}.limits.nice` is {nice}, {} or more is allowed here", limits.nice_min);
            let finding = Finding::error("limits", what, "the worker cannot start");
            found.push(finding.so(format!("set it to {} or more, or give the user a nice limit", limits.nice_min)));
        }
        let locked = worker.model.as_ref().filter(|_| worker.mlock).and_then(|model| {
            facts.models.iter().find(|m| m.name == *model && m.state == ModelState::Here).map(|m| m.bytes)
        });
        if let Some(bytes) = locked.filter(|bytes| *bytes > limits.memlock && !limits.may_raise_limits) {
            let size = |bytes| bytesize::ByteSize(bytes).to_string();
            let what = format!(
                "`worker.{name}.mlock` wants to lock {}, {} is allowed here",
                size(bytes),
                size(limits.memlock)
            );
            let why = "the engine goes on without: its model may be swapped out";
            let remedy = "raise it: LimitMEMLOCK= of the service, or memlock in /etc/security/limits.conf";
            found.push(Finding::warning("limits", what, why).so(remedy));
        }
    }
}

/// Which limits are in force by what, and which are not.
fn cgroup(facts: &Facts, found: &mut Vec<Finding>) {
    const REMEDY: &str = "rbee-keeper service install: a service with Delegate=yes has them";
    let reach = &facts.cgroup;
    let has = |name: &str| reach.controllers.iter().any(|controller| controller == name);
    for (name, worker) in &facts.config.config.worker {
        let limits = &worker.limits;
        if limits.cpus.is_some() && !has("cpu") {
            let what = format!("`worker.{name}.limits.cpus` is not in force here");
            let why = "only a cgroup limits processors, and there is none with the cpu controller for us";
            found.push(Finding::warning("cgroup", what, why).so(REMEDY));
        }
        if limits.nproc.is_some() && !has("pids") && facts.uid == 0 {
            let what = format!("`worker.{name}.limits.nproc` is not in force here");
            found.push(Finding::warning("cgroup", what, "of root's processes the kernel counts none").so(REMEDY));
        }
        if limits.memory_max.is_some() && !has("memory") {
            let what = format!("`worker.{name}.limits.memory_max` bounds each process's private memory alone");
            let why = "without a cgroup the unit as a whole, and what it maps, is not counted";
            found.push(Finding::note("cgroup", what, why).so(REMEDY));
        }
    }
    let (what, why) = match (&reach.base, reach.can_make) {
        (None, _) => ("no cgroup v2 hierarchy is mounted".to_owned(), WITHOUT),
        (Some(base), false) => (format!("{} is not ours to make cgroups in", base.display()), WITHOUT),
        (Some(_), true) if reach.controllers.len() == 3 => return,
        (Some(base), true) => {
            let with = match reach.controllers.as_slice() {
                [] => "without controllers".to_owned(),
                names => format!("with the controllers {} alone", names.join(", ")),
            };
            (format!("cgroups can be made in {}, {with}", base.display()), FEWER)
        }
    };
    found.push(Finding::note("cgroup", what, why).so(REMEDY));
}

const WITHOUT: &str = "nothing is wrong: a worker's processes are found by their marks and limited one by one; `cpus` \
    limits need a cgroup";
const FEWER: &str = "nothing is wrong: a worker ends as a whole; limits of the others are set a process, or not at all";

#[cfg(test)]
mod tests {
    use super::super::facts::{PortFact, WorkerPorts};
    use super::super::{Severity, diagnose};
    use super::*;

    fn of_area(facts: &Facts, area: &str) -> Vec<Finding> {
        diagnose(facts).into_iter().filter(|finding| finding.area == area).collect()
    }

    /// ADVI-16
    #[test]
    fn a_port_that_is_not_to_be_had_is_an_error_that_names_who_has_it() {
        for (state, what) in [
            (PortState::Free, None),
            (PortState::Ours, None),
            (
                PortState::Taken(" by nginx (pid 7)".into()),
                Some("port 7833 (`queen.listen`) is taken by nginx (pid 7)"),
            ),
            (PortState::Refused("no such address".into()), Some("nothing can listen on 127.0.0.1:7833")),
        ] {
            let mut facts = Facts::sound();
            let address = "127.0.0.1:7833".parse().unwrap();
            facts.ports = vec![PortFact { key: "queen.listen", address, state }];
            let told = of_area(&facts, "ports");
            assert_eq!(told.len(), usize::from(what.is_some()), "{told:?}");
            assert!(
                told.iter().all(|finding| finding.severity == Severity::Error && finding.what.contains(what.unwrap()))
            );
        }
        let mut facts = Facts::sound();
        let taken_by = vec![" by redis (pid 8)".to_owned()];
        facts.worker_ports = Some(WorkerPorts { range: "7855-7856".into(), needed: 2, usable: 1, taken_by });
        let told = of_area(&facts, "ports");
        assert_eq!(told[0].what, "the workers need 2 ports, 1 of 7855-7856 are free; taken by redis (pid 8)");
    }

    /// ADVI-17
    #[test]
    fn limits_of_the_machine_are_held_against_those_of_the_configuration() {
        const WORKER: &str = "[worker.a]\ncommand = [\"x\"]\nreplicas = 10\n";
        let with = |limits: &str| Facts::with_config(&format!("{WORKER}limits = {limits}\n"));
        let told = |facts: &Facts| of_area(facts, "limits").into_iter().map(|f| f.what).collect::<Vec<_>>();
        let mut facts = with("{}");
        facts.limits.nofile_hard = 200;
        assert_eq!(told(&facts), ["200 open files allowed, the hive needs 208 for 10 replicas"]);
        let mut facts = with("{}");
        (facts.limits.nproc_soft, facts.limits.processes) = (120, 100);
        assert_eq!(told(&facts), ["120 processes allowed, 100 run, and 10 replicas are to"]);
        let mut facts = with("{ nofile = 2000000, nice = -5 }");
        assert_eq!(
            told(&facts),
            [
                "`worker.a.limits.nofile` is 2000000, 1048576 are allowed here",
                "`worker.a.limits.nice` is -5, 0 or more is allowed here"
            ]
        );
        (facts.limits.may_raise_limits, facts.limits.nice_min) = (true, -20);
        assert_eq!(told(&facts), [""; 0]);
    }

    /// ADVI-17
    #[test]
    fn a_model_that_may_not_be_locked_is_told() {
        let mut facts = Facts::sound();
        facts.config.config.worker.get_mut("smollm2").unwrap().mlock = true;
        let told = of_area(&facts, "limits");
        assert_eq!(told[0].what, "`worker.smollm2.mlock` wants to lock 100.0 MiB, 8.0 MiB is allowed here");
        facts.limits.memlock = u64::MAX;
        assert_eq!(of_area(&facts, "limits"), []);
    }

    /// ADVI-18
    #[test]
    fn what_a_cgroup_would_keep_is_told_where_there_is_none() {
        let text = "[worker.a]\ncommand = [\"x\"]\nlimits = { cpus = 1.0, nproc = 9, memory_max = \"1GiB\" }\n";
        let mut facts = Facts::with_config(text);
        assert_eq!(of_area(&facts, "cgroup"), []);
        facts.cgroup.can_make = false;
        facts.cgroup.controllers.clear();
        let told = of_area(&facts, "cgroup");
        let severities: Vec<_> = told.iter().map(|finding| finding.severity).collect();
        assert_eq!(severities, [Severity::Warning, Severity::Note, Severity::Note], "{told:?}");
        assert!(told[0].what.contains("cpus") && told[2].what.contains("/sys/fs/cgroup/x is not ours"));
        facts.uid = 0;
        assert!(of_area(&facts, "cgroup").iter().any(|finding| finding.what.contains("nproc")));
        let mut alone = Facts::sound();
        alone.cgroup = daemon_lifecycle::CgroupReach::default();
        let told = of_area(&alone, "cgroup");
        assert!(told.len() == 1 && told[0].severity == Severity::Note, "{told:?}");
    }
}
