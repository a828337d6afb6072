//! Findings about the configuration and what it names: models, programs, records, services.

use rbee_api::Phase;

use super::Finding;
use super::facts::{Facts, ModelState};

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    file(facts, found);
    meaning(facts, found);
    models(facts, found);
    daemons(facts, found);
    for trouble in &facts.monitoring {
        let why = "what happened meanwhile is missing from events and reports";
        found.push(Finding::warning("monitoring", trouble, why).so("remove the file once nobody needs it"));
    }
    for service in &facts.services {
        let (name, file) = (&service.name, service.file.display());
        let finding = if service.is_missing {
            let what = format!("the service {name} was installed, but {file} is not there");
            Finding::error("service", what, "the service manager cannot start it, and `up` asks that one to")
        } else {
            let what = format!("the service {name} is not as it would be installed now");
            let why = format!("{file} is of an older version, configuration or place");
            Finding::warning("service", what, why)
        };
        found.push(finding.so("rbee-keeper service install"));
    }
}

fn file(facts: &Facts, found: &mut Vec<Finding>) {
    let config = &facts.config;
    if let Some(reason) = &config.unreadable {
        let why = "no daemon starts without a configuration it can read";
        found.push(Finding::error("config", reason, why).so("rbee-keeper config init"));
    }
    let name = config.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
    for problem in &config.problems {
        let finding = Finding::error("config", problem.render(&name), "a file with a mistake is not taken at all");
        found.push(finding.so(format!("$EDITOR {name}, then rbee-keeper config check")));
    }
    for key in config.config.not_in_force() {
        let why = "the key is understood, but nothing on this machine carries it out";
        found.push(Finding::warning("config", format!("`{}` has no effect here", key.key), why));
    }
    for (key, missing) in &config.missing {
        let why = "the worker cannot start, and waits as `unavailable`";
        let finding = Finding::error("config", format!("`{key}`: {missing}"), why);
        found.push(finding.so("install it, or change the key"));
    }
}

/// What each key says for itself, and what does not go together.
fn meaning(facts: &Facts, found: &mut Vec<Finding>) {
    let config = &facts.config.config;
    let listen = config.hive.listen;
    if config.queen_is_elsewhere() && (listen.ip().is_loopback() || listen.ip().is_unspecified()) {
        let what = format!("the hive listens on {listen}, and its queen is on another machine");
        let why = "a hive tells queen where it is; she can reach neither it nor its workers at that address";
        found.push(Finding::error("config", what, why).so("set `hive.listen` to this machine's own address"));
    }
    if let Some(url) = other_queen(config) {
        let what = format!("`hive.queen` is {url}, and queen listens on {}", config.queen.listen);
        let why = "queen does not start a hive that belongs to another queen: nothing runs here";
        let remedy = format!("set `hive.queen` to http://127.0.0.1:{}, or remove it", config.queen.listen.port());
        found.push(Finding::warning("config", what, why).so(remedy));
    }
    if let Some(url) = config.hive.queen.as_deref().filter(|_| {
        config.starts_hive() && !config.starts_queen() && !config.queen_is_elsewhere() && !queen_runs(facts)
    }) {
        let what = format!("the hive belongs to a queen of this machine ({url}), who does not start by herself");
        let why = "until she runs, the hive runs only what she said last";
        found.push(
            Finding::warning("config", what, why)
                .so("rbee-keeper queen start; or remove `hive.queen`, so that the hive stands alone"),
        );
    }
}

/// The URL that is not of this machine's queen, though both start here.
fn other_queen(config: &rbee_runtime::config::Config) -> Option<&str> {
    let url = config.hive.queen.as_deref().filter(|_| config.starts_hive() && config.starts_queen())?;
    let port: Option<u16> = url.rsplit_once(':').and_then(|(_, port)| port.trim_end_matches('/').parse().ok());
    let own = config.queen.listen.port();
    (own != 0 && port != Some(own)).then_some(url)
}

fn queen_runs(facts: &Facts) -> bool {
    use super::facts::Tier;
    let alive = daemon_lifecycle::inspect::Condition::Alive;
    facts.runs.iter().any(|run| run.tier == Tier::Queen && run.condition == alive)
}

fn models(facts: &Facts, found: &mut Vec<Finding>) {
    for model in &facts.models {
        let name = &model.name;
        let pull = format!("rbee-keeper model pull {name}");
        found.push(match &model.state {
            ModelState::Here => continue,
            ModelState::NotHere => Finding::note(
                "models",
                format!("{name} is not here yet"),
                "`rbee-keeper up` fetches it, which may take a while",
            )
            .so(pull),
            ModelState::Changed => Finding::error(
                "models",
                format!("the file of {name} was changed, or is not whole"),
                "it is not what was checked: an engine may refuse it, or answer nonsense",
            )
            .so(format!("rbee-keeper model rm {name} && {pull}")),
            ModelState::OtherDigest => Finding::error(
                "models",
                format!("{name} has another sha256 than the configuration says"),
                "it is another model than the one that is asked for, and is not started",
            )
            .so(format!("rbee-keeper model rm {name} && {pull}")),
            ModelState::BadFile(reason) => {
                Finding::error("models", format!("{name}: {reason}"), "its workers cannot load it")
                    .so(format!("set `model.{name}.source` to a GGUF file that is there"))
            }
        });
    }
}

/// What the daemons themselves say of the fleet.
fn daemons(facts: &Facts, found: &mut Vec<Finding>) {
    let fleet = match &facts.fleet {
        None => return,
        Some(Err(reason)) => {
            let finding = Finding::error("daemons", reason, "it runs, but nobody can ask it anything");
            return found.push(finding.so("rbee-keeper queen logs -n 50; rbee-keeper queen restart"));
        }
        Some(Ok(fleet)) => fleet,
    };
    for hive in
        fleet.hives.iter().filter(|hive| !matches!(hive.phase, Phase::Running | Phase::Draining | Phase::Stopped))
    {
        let what = format!("the hive {} is {}", hive.name, hive.phase);
        let finding = Finding::error("daemons", what, "its workers go on, but nobody looks after them");
        found.push(finding.so(format!("rbee-keeper hive status {}", hive.name)));
    }
    let of_queen = fleet.queen.iter().filter_map(|queen| Some(("queen", queen.history_trouble.as_ref()?)));
    let of_hives = fleet.hives.iter().filter_map(|hive| Some((hive.name.as_str(), hive.history_trouble.as_ref()?)));
    for (who, trouble) in of_queen.chain(of_hives) {
        let why = "what happens meanwhile may be missing from events and reports";
        let finding = Finding::warning("monitoring", format!("the history of {who}: {trouble}"), why);
        found.push(finding.so("look at the disk and at the file it names; a new history begins by itself"));
    }
    for (hive, worker) in fleet.workers() {
        if matches!(worker.phase, Phase::Failed | Phase::Unavailable) {
            let name = format!("{hive}:{}/{}", worker.name, worker.replica);
            let because = worker.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let finding = Finding::error(
                "daemons",
                format!("the worker {name} is {}{because}", worker.phase),
                "it is not started again by itself",
            );
            found.push(finding.so(format!("rbee-keeper worker why {name}; then worker retry {name} --force")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::{ModelFact, ServiceFact};
    use super::super::{Severity, diagnose};
    use super::*;

    fn found(facts: &Facts) -> Vec<(Severity, String)> {
        diagnose(facts)
            .into_iter()
            .map(|finding| (finding.severity, format!("{}: {}", finding.area, finding.what)))
            .collect()
    }

    /// ADVI-11
    #[test]
    fn mistakes_in_the_configuration_are_told_one_by_one() {
        let mut facts = Facts::sound();
        let problem = rbee_runtime::config::Problem {
            line: Some(3),
            key: "worker.a.modle".into(),
            message: "unknown key `modle`".into(),
            hint: Some("did you mean `model`?".into()),
        };
        facts.config.problems = vec![problem];
        facts.config.missing = vec![("worker.a.command".into(), "there is no program `llama`".into())];
        let told = found(&facts);
        assert_eq!(told[0].0, Severity::Error);
        assert_eq!(told[0].1, "config: unknown key `modle` at /r/rbee.toml:3; did you mean `model`?");
        assert_eq!(told[1].1, "config: `worker.a.command`: there is no program `llama`");
        facts.config.unreadable = Some("cannot read /r/rbee.toml".into());
        assert!(found(&facts).iter().any(|(_, text)| text == "config: cannot read /r/rbee.toml"));
    }

    /// ADVI-11
    #[test]
    fn a_hive_must_be_reachable_for_a_queen_elsewhere_and_have_one_here() {
        for (text, expected) in [
            ("role = \"worker\"\n[hive]\nqueen = \"http://10.0.0.5:7833\"", Some("its queen is on another machine")),
            (
                "role = \"worker\"\n[hive]\nlisten = \"0.0.0.0:1\"\nqueen = \"http://10.0.0.5:7833\"",
                Some("its queen is on"),
            ),
            ("role = \"worker\"\n[hive]\nlisten = \"10.0.0.6:1\"\nqueen = \"http://10.0.0.5:7833\"", None),
            ("role = \"worker\"\n[hive]\nqueen = \"http://127.0.0.1:7833\"", Some("who does not start by herself")),
            (
                "role = \"master\"\n[hive]\nqueen = \"http://127.0.0.1:7834\"",
                Some("and queen listens on 127.0.0.1:7833"),
            ),
            ("role = \"worker\"", None),
            ("role = \"master\"", None),
        ] {
            let told = found(&Facts::with_config(text));
            match expected {
                Some(expected) => assert!(told.iter().any(|(_, what)| what.contains(expected)), "{text}: {told:?}"),
                None => assert!(told.iter().all(|(severity, _)| *severity == Severity::Note), "{text}: {told:?}"),
            }
        }
    }

    /// ADVI-12
    #[test]
    fn models_that_are_missing_changed_or_others_are_told_with_the_command_that_brings_them() {
        for (state, severity, word) in [
            (ModelState::NotHere, Severity::Note, "not here yet"),
            (ModelState::Changed, Severity::Error, "not whole"),
            (ModelState::OtherDigest, Severity::Error, "another sha256"),
            (ModelState::BadFile("there is no file /m.gguf".into()), Severity::Error, "there is no file"),
        ] {
            let mut facts = Facts::sound();
            facts.models = vec![ModelFact { name: "m".into(), state, bytes: 0 }];
            let told: Vec<_> = diagnose(&facts).into_iter().filter(|finding| finding.area == "models").collect();
            assert_eq!(told.len(), 1);
            assert!(told[0].severity == severity && told[0].what.contains(word), "{told:?}");
            assert!(told[0].remedy.is_some());
        }
    }

    /// ADVI-12
    #[test]
    fn monitoring_services_and_daemons_in_trouble_are_told() {
        let mut facts = Facts::sound();
        facts.monitoring = vec!["hive.sqlite was set aside".into()];
        facts.services = vec![ServiceFact { name: "rbee-queen".into(), file: "/etc/x".into(), is_missing: false }];
        facts.fleet = Some(Err("queen (pid 7) does not answer".into()));
        let told = found(&facts);
        for expected in ["monitoring: hive.sqlite", "service: the service rbee-queen", "daemons: queen (pid 7)"] {
            assert!(told.iter().any(|(_, text)| text.starts_with(expected)), "{expected}: {told:?}");
        }
    }

    /// ADVI-12
    #[test]
    fn a_worker_that_gave_up_is_told_with_its_reason() {
        let fleet = serde_json::json!({ "queen": null, "hives": [{ "name": "local", "phase": "running", "pid": 2, "url": "http://x",
            "generation": 1, "uptime_s": 1.0, "restarts": 0, "workers": [{ "name": "a", "replica": 1, "phase": "failed", "pid": null,
            "port": null, "model": null, "incarnation": 3, "restarts": 5, "uptime_s": 0.0, "rss_bytes": 0, "cpu_percent": 0.0,
            "health": null, "reason": "exit code 1" }] }] });
        let mut facts = Facts::sound();
        let mut fleet: rbee_api::FleetStatus = serde_json::from_value(fleet).unwrap();
        fleet.hives[0].history_trouble = Some("the disk is full".into());
        facts.fleet = Some(Ok(fleet));
        let told = diagnose(&facts);
        assert!(told.iter().any(|finding| finding.what == "the history of local: the disk is full"), "{told:?}");
        let finding = told.iter().find(|finding| finding.area == "daemons").unwrap();
        assert_eq!(finding.what, "the worker local:a/1 is failed: exit code 1");
        assert!(finding.remedy.as_ref().unwrap().contains("worker why local:a/1"));
    }
}
