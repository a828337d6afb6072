//! `container = { … }` of a worker: what it may say, and what makes no sense in it.

use std::collections::BTreeMap;

use bytesize::ByteSize;
use rbee_api::container::{ContainerSpec, Gpus, Ports, Pull};
use serde::{Deserialize, Serialize};

use super::document::Document;
use super::schema::WorkerConfig;
use super::values::Ready;

/// Where the engine listens unless `DOCKER_HOST` or `[hive] docker` say otherwise.
pub const DOCKER_HOST_DEFAULT: &str = "unix:///var/run/docker.sock";

/// `container = { … }`: the worker is run in a container, by an engine that speaks Docker's API.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerConfig {
    /// The image, such as `redis:7` or `ghcr.io/ggml-org/llama.cpp:server`.
    pub image: String,
    /// Instead of the image's own entry point.
    pub entrypoint: Option<Vec<String>>,
    /// What the entry point gets, instead of the image's own; placeholders are filled in, and `{model_path}` is where the
    /// container finds the model.
    pub args: Option<Vec<String>>,
    /// Variables of its environment, as the worker's `env`; where both say it, this one counts.
    pub env: BTreeMap<String, String>,
    /// `8080`: the worker's port, on loopback, leads to this one of the container. `"HOST:CONTAINER"`, with an address
    /// before or `/udp` behind, is a fixed one besides. A list holds several.
    pub ports: Ports,
    /// Graphics processors: `"all"`, how many, or a list of which.
    pub gpus: Option<Gpus>,
    /// `SOURCE:TARGET` or `SOURCE:TARGET:ro`: a folder or file of this machine, or a named volume.
    pub volumes: Vec<String>,
    /// User, and group after a colon. Absent: the image's.
    pub user: Option<String>,
    /// `bridge`, `host`, `none`, or a network that the engine knows. Absent: the engine's default.
    pub network: Option<String>,
    /// When the image is fetched: `missing` (default), `always` or `never`.
    pub pull: Pull,
    /// Size of `/dev/shm`. Absent: the engine's default, 64 MiB.
    pub shm_size: Option<ByteSize>,
    /// Devices of the machine: `/dev/x` or `/dev/x:/dev/y`.
    pub devices: Vec<String>,
    /// The container's own files cannot be written.
    pub read_only: bool,
    /// A small first process passes on signals and reaps, for programs that do neither as process 1.
    pub init: bool,
}

impl ContainerConfig {
    pub(super) fn to_spec(&self) -> ContainerSpec {
        ContainerSpec {
            image: self.image.trim().to_owned(),
            entrypoint: self.entrypoint.clone(),
            args: self.args.clone(),
            ports: self.ports.clone(),
            gpus: self.gpus.clone(),
            volumes: self.volumes.clone(),
            user: self.user.clone(),
            network: self.network.clone(),
            pull: self.pull,
            shm_bytes: self.shm_size.map(|size| size.as_u64()),
            devices: self.devices.clone(),
            read_only: self.read_only,
            init: self.init,
        }
    }

    /// Whether something of it is given the worker's port.
    pub(super) fn has_port(&self) -> bool {
        let texts = self.args.iter().flatten().chain(self.entrypoint.iter().flatten()).chain(self.env.values());
        self.ports.own().is_some() || texts.into_iter().any(|text| text.contains("{port}"))
    }
}

/// Records everything that makes no sense. `key` is the worker's, such as `worker.api`.
pub(super) fn check(name: &str, worker: &WorkerConfig, key: &str, document: &mut Document<'_>) {
    let Some(container) = &worker.container else { return };
    let at = |field: &str| format!("{key}.container.{field}");
    if container.image.trim().is_empty() || container.image.trim().contains(char::is_whitespace) {
        let hint = Some("write it like `container = { image = \"redis:7\" }`".to_owned());
        document.problem(&at("image"), format!("the container of worker `{name}` names no image"), hint);
    }
    check_beside(name, worker, key, document);
    check_ports(name, worker, container, &at("ports"), document);
    for volume in &container.volumes {
        if !is_volume(volume) {
            let hint = "write it like `/srv/data:/data`, `/srv/data:/data:ro` or `NAME:/data`".to_owned();
            document.problem(&at("volumes"), format!("`{volume}` is no volume of worker `{name}`"), Some(hint));
        }
    }
    for device in container.devices.iter().filter(|device| !device.starts_with("/dev/")) {
        document.problem(&at("devices"), format!("`{device}` is no device such as `/dev/dri`"), None);
    }
    for (field, text) in [("user", &container.user), ("network", &container.network)] {
        if text.as_ref().is_some_and(|text| text.trim().is_empty()) {
            document.problem(&at(field), format!("`{}` is empty; leave it out", at(field)), None);
        }
    }
}

/// Keys of the worker that do not go with a container.
fn check_beside(name: &str, worker: &WorkerConfig, key: &str, document: &mut Document<'_>) {
    let mut refuse = |field: &str, hint: &str| {
        let message = format!("`{field}` of worker `{name}` does not go with `container`");
        document.problem(&format!("{key}.{field}"), message, Some(hint.to_owned()));
    };
    let keys = [
        ("command", worker.command.is_some(), "what it runs is the image's, or `entrypoint` and `args` of `container`"),
        ("forking", worker.forking, "what a container runs must stay in its foreground"),
        ("listen", worker.listen.is_some(), "an inherited socket does not reach into it; use `ports`"),
        ("watchdog", worker.watchdog.is_some(), "`sd_notify` does not reach into it; use `health`"),
        ("pid_file", worker.pid_file.is_some(), "its processes are the engine's"),
        ("limits.nice", worker.limits.nice.is_some(), "the engine knows no such limit; use `limits.cpus`"),
        ("limits.io", worker.limits.io.is_some(), "the engine keeps no such promise"),
        (
            "ready",
            worker.ready == Some(Ready::Notify),
            "`sd_notify` does not reach into it; use tcp, http:/path, exec:CMD or started",
        ),
    ];
    for (field, _, hint) in keys.iter().filter(|(_, is_set, _)| *is_set) {
        refuse(field, hint);
    }
    if let Some(dir) = worker.working_dir.as_ref().filter(|dir| !dir.is_absolute()) {
        let message =
            format!("`working_dir` of worker `{name}` is inside of its container: {} is no whole path", dir.display());
        document.problem(&format!("{key}.working_dir"), message, None);
    }
}

fn check_ports(name: &str, worker: &WorkerConfig, container: &ContainerConfig, at: &str, document: &mut Document<'_>) {
    let own = container.ports.0.iter().filter(|port| matches!(port, rbee_api::container::Port::Own(_))).count();
    if own > 1 {
        let hint = Some("write the others like `\"9000:8080\"`".to_owned());
        document.problem(
            at,
            format!("worker `{name}` has one port, which cannot lead to {own} of its container"),
            hint,
        );
    }
    let shares = |network: &str| network == "host" || network == "none" || network.starts_with("container:");
    if let Some(network) = container.network.as_deref().filter(|network| shares(network) && !container.ports.is_empty())
    {
        let hint = "leave `ports` out; with `network = \"host\"` it is told its port by `{port}`".to_owned();
        document.problem(at, format!("network `{network}` has no ports of its own to lead to"), Some(hint));
    }
    if let Some(fixed) = container.ports.fixed().next().filter(|_| worker.replicas > 1) {
        let message =
            format!("the {} replicas of worker `{name}` cannot all have port {}", worker.replicas, fixed.host);
        document.problem(at, message, Some("write the container's port alone: each replica has its own".to_owned()));
    }
}

/// `SOURCE:TARGET[:MODE]`. A relative source would be a volume's name to the engine, and not what its user meant.
fn is_volume(text: &str) -> bool {
    let mut parts = text.split(':');
    let (Some(source), Some(target)) = (parts.next(), parts.next()) else { return false };
    let is_name = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '{' | '}'))
    };
    let is_path = source.starts_with('/') || source.starts_with("~/") || source.starts_with('{');
    let is_mode = |mode: &str| matches!(mode, "ro" | "rw" | "z" | "Z" | "ro,z" | "ro,Z");
    (is_path || is_name(source))
        && target.starts_with('/')
        && parts.next().is_none_or(is_mode)
        && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;

    fn problems(worker: &str) -> Vec<String> {
        match Config::parse(&format!("[worker.w]\n{worker}"), Path::new("rbee.toml")) {
            Ok(_) => Vec::new(),
            Err(super::super::ConfigError::Invalid { problems, .. }) => {
                problems.into_iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect()
            }
            Err(error) => vec![error.to_string()],
        }
    }

    /// CONT-01
    #[test]
    fn a_whole_container_is_understood() {
        let text = "container = { image = \"a/b:1\", entrypoint = [\"/x\"], args = [\"--port\", \"8080\"], env = { A = \"{port}\" }, \
            ports = [8080, \"9000:9000\"], gpus = \"all\", volumes = [\"/srv:/data:ro\", \"~/m:/m\", \"{state_dir}:/s\", \"cache:/c\"], \
            user = \"1000:1000\", network = \"mine\", pull = \"always\", shm_size = \"1GiB\", devices = [\"/dev/dri\"], \
            read_only = true, init = true }\nworking_dir = \"/data\"";
        assert_eq!(problems(text), [""; 0]);
        let config = Config::parse(&format!("[worker.w]\n{text}"), Path::new("rbee.toml")).unwrap();
        let spec = config.worker["w"].to_spec();
        let rbee_api::assignment::Engine::Container(container) = &spec.engine else { panic!("{spec:?}") };
        assert_eq!((container.ports.own(), container.shm_bytes), (Some(8080), Some(1 << 30)));
        assert_eq!((spec.ready.as_str(), spec.env["A"].as_str()), ("tcp", "{port}"));
        let back: rbee_api::WorkerSpec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
        assert_eq!(back, spec);
    }

    /// CONT-01
    #[test]
    fn a_container_is_ready_once_it_listens_or_else_once_it_runs() {
        let ready = |container: &str| {
            let text = format!("[worker.w]\ncontainer = {{ image = \"x\", {container} }}");
            Config::parse(&text, Path::new("rbee.toml")).unwrap().worker["w"].to_spec().ready
        };
        assert_eq!(ready("ports = 80"), "tcp");
        assert_eq!(ready("args = [\"{port}\"]"), "tcp");
        assert_eq!(ready("args = [\"x\"]"), "started");
    }

    /// CONT-02
    #[test]
    fn what_makes_no_sense_is_refused_where_it_stands() {
        for (worker, key, words) in [
            ("container = {}", "container.image", "names no image"),
            ("container = { image = \"a b\" }", "container.image", "names no image"),
            ("container = { image = \"x\", imagee = 1 }", "container.imagee", "unknown key"),
            ("container = { image = \"x\", pull = \"often\" }", "container.pull", "no value"),
            ("container = { image = \"x\", gpus = 0 }", "container.gpus", "neither"),
            ("container = { image = \"x\", ports = \"x\" }", "container.ports", "no port"),
            ("container = { image = \"x\", ports = [1, 2] }", "container.ports", "cannot lead to 2"),
            ("container = { image = \"x\", ports = 1, network = \"host\" }", "container.ports", "no ports of its own"),
            (
                "replicas = 2\ncontainer = { image = \"x\", ports = \"1:1\" }",
                "container.ports",
                "cannot all have port 1",
            ),
            ("container = { image = \"x\", volumes = [\"data:/d\", \"./d:/d\"] }", "container.volumes", "`./d:/d`"),
            ("container = { image = \"x\", volumes = [\"/d\"] }", "container.volumes", "`/d`"),
            ("container = { image = \"x\", devices = [\"gpu\"] }", "container.devices", "no device"),
            ("container = { image = \"x\", user = \"\" }", "container.user", "is empty"),
            ("command = [\"x\"]\ncontainer = { image = \"x\" }", "command", "does not go with"),
            ("forking = true\npid_file = \"/x\"\ncontainer = { image = \"x\" }", "forking", "does not go with"),
            ("listen = \"127.0.0.1:1\"\ncontainer = { image = \"x\" }", "listen", "does not go with"),
            ("watchdog = \"1s\"\ncontainer = { image = \"x\" }", "watchdog", "does not go with"),
            ("ready = \"notify\"\ncontainer = { image = \"x\" }", "ready", "does not go with"),
            ("limits = { nice = 1 }\ncontainer = { image = \"x\" }", "limits.nice", "does not go with"),
            ("limits = { io = \"low\" }\ncontainer = { image = \"x\" }", "limits.io", "does not go with"),
            ("working_dir = \"x\"\ncontainer = { image = \"x\" }", "working_dir", "inside of its container"),
            ("container = { image = \"x\", args = [\"{prot}\"] }", "container.args", "unknown placeholder"),
            ("container = { image = \"x\", args = [\"{model_path}\"] }", "container.args", "has no model"),
        ] {
            let found = problems(worker);
            let expected = format!("worker.w.{key}: ");
            assert!(found.iter().any(|p| p.starts_with(&expected) && p.contains(words)), "{worker}: {found:?}");
        }
    }

    /// CONT-03
    #[test]
    fn an_engine_is_reached_by_its_socket() {
        let of = |docker: &str| {
            let text = format!("[hive]\ndocker = \"{docker}\"");
            Config::parse(&text, Path::new("rbee.toml")).is_ok()
        };
        assert!(of("unix:///run/podman/podman.sock"));
        for bad in ["", "/run/docker.sock", "tcp://10.0.0.1:2375", "unix://docker.sock"] {
            assert!(!of(bad), "{bad}");
        }
    }
}
