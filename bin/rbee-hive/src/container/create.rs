//! From an order to what the engine is asked for: pure.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, DeviceRequest, HostConfig, HostConfigLogConfig, PortBinding, ResourcesUlimits,
};
use container_order::ContainerOrder;
use rbee_api::container::{FixedPort, Gpus};

/// Whose container it is: the run directory of the hive.
pub(super) const OWNER_LABEL: &str = "rbee.owner";
/// Which unit of it.
const UNIT_LABEL: &str = "rbee.unit";
/// Which run of that.
const RUN_LABEL: &str = "rbee.run";

/// What the engine is to make. `run_id` marks the run.
pub(super) fn body(order: &ContainerOrder, run_id: &str) -> ContainerCreateBody {
    let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    ContainerCreateBody {
        image: Some(order.image.clone()),
        entrypoint: order.entrypoint.clone(),
        cmd: order.args.clone(),
        env: some(order.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        working_dir: order.working_dir.clone(),
        user: order.user.clone(),
        exposed_ports: some(order.ports.fixed().map(inside).collect()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        labels: Some(HashMap::from([
            label(OWNER_LABEL, &order.owner),
            label(UNIT_LABEL, &order.unit),
            label(RUN_LABEL, run_id),
        ])),
        stop_signal: Some(format!("SIG{}", order.stop_signal)),
        host_config: Some(host_config(order)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(order: &ContainerOrder) -> HostConfig {
    let memory = order.memory_bytes.map(signed);
    let both = |number: u64| (Some(signed(number)), Some(signed(number)));
    let nofile =
        order.nofile.map(both).map(|(soft, hard)| ResourcesUlimits { name: Some("nofile".to_owned()), soft, hard });
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for port in order.ports.fixed() {
        let binding = PortBinding { host_ip: Some(port.address.to_string()), host_port: Some(port.host.to_string()) };
        bindings.entry(inside(port)).or_default().get_or_insert_default().push(binding);
    }
    HostConfig {
        binds: (!order.volumes.is_empty()).then(|| order.volumes.clone()),
        port_bindings: (!bindings.is_empty()).then_some(bindings),
        network_mode: order.network.clone(),
        memory,
        // The same: what is beyond would go to the swap instead of being refused.
        memory_swap: memory,
        nano_cpus: order.nano_cpus.map(signed),
        pids_limit: order.nproc.map(signed),
        ulimits: nofile.map(|limit| vec![limit]),
        shm_size: order.shm_bytes.map(signed),
        devices: (!order.devices.is_empty()).then(|| order.devices.iter().map(|device| mapping(device)).collect()),
        device_requests: order.gpus.as_ref().map(|gpus| vec![request(gpus)]),
        readonly_rootfs: order.read_only.then_some(true),
        init: order.init.then_some(true),
        // The unit's log is the log: a second one by the engine would have no bound.
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        ..HostConfig::default()
    }
}

fn inside(port: &FixedPort) -> String {
    format!("{}/{}", port.container, if port.is_udp { "udp" } else { "tcp" })
}

fn mapping(device: &str) -> DeviceMapping {
    let (outside, inside) = device.split_once(':').unwrap_or((device, device));
    DeviceMapping {
        path_on_host: Some(outside.to_owned()),
        path_in_container: Some(inside.to_owned()),
        cgroup_permissions: Some("rwm".to_owned()),
    }
}

/// As `docker run --gpus` asks.
fn request(gpus: &Gpus) -> DeviceRequest {
    let (count, device_ids) = match gpus {
        Gpus::All => (Some(-1), None),
        Gpus::Count(count) => (Some(i64::from(*count)), None),
        Gpus::Ids(ids) => (None, Some(ids.clone())),
    };
    DeviceRequest { count, device_ids, capabilities: Some(vec![vec!["gpu".to_owned()]]), ..DeviceRequest::default() }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn order() -> ContainerOrder {
        serde_json::from_value(json!({
            "socket": "/d.sock", "engine_timeout_ms": 1, "name": "rbee-w.0-1", "unit": "w.0", "owner": "/run/w",
            "image": "a:1", "pull": "missing", "entrypoint": ["/x"], "args": ["--port", "80"], "env": {"A": "1"},
            "working_dir": "/w", "user": "1:2", "network": "mine", "volumes": ["/s:/d:ro"],
            "ports": ["127.0.0.1:7855:80", "[::]:53:53/udp"], "gpus": 2, "shm_bytes": 5, "devices": ["/dev/a", "/dev/b:/dev/c"],
            "read_only": true, "init": true, "memory_bytes": 1024, "nano_cpus": 1_500_000_000_u64, "nofile": 64, "nproc": 9,
            "stop_signal": "INT", "start_timeout_ms": 1, "is_ready_when_started": false
        }))
        .unwrap()
    }

    /// CONT-04, CONT-08
    #[test]
    fn an_order_becomes_what_the_engine_understands() {
        let made = serde_json::to_value(body(&order(), "w.0:7")).unwrap();
        let host = &made["HostConfig"];
        for (at, expected) in [
            (&made["Image"], json!("a:1")),
            (&made["Entrypoint"], json!(["/x"])),
            (&made["Cmd"], json!(["--port", "80"])),
            (&made["Env"], json!(["A=1"])),
            (&made["StopSignal"], json!("SIGINT")),
            (&made["Labels"], json!({"rbee.owner": "/run/w", "rbee.unit": "w.0", "rbee.run": "w.0:7"})),
            (&host["Binds"], json!(["/s:/d:ro"])),
            (&host["PortBindings"]["80/tcp"], json!([{"HostIp": "127.0.0.1", "HostPort": "7855"}])),
            (&host["PortBindings"]["53/udp"], json!([{"HostIp": "::", "HostPort": "53"}])),
            (&host["Memory"], json!(1024)),
            (&host["MemorySwap"], json!(1024)),
            (&host["NanoCpus"], json!(1_500_000_000)),
            (&host["PidsLimit"], json!(9)),
            (&host["Ulimits"], json!([{"Name": "nofile", "Soft": 64, "Hard": 64}])),
            (&host["DeviceRequests"][0]["Count"], json!(2)),
            (&host["Devices"][1]["PathInContainer"], json!("/dev/c")),
            (&host["LogConfig"]["Type"], json!("none")),
            (&host["NetworkMode"], json!("mine")),
            (&host["ReadonlyRootfs"], json!(true)),
            (&host["Init"], json!(true)),
        ] {
            assert_eq!(*at, expected, "{made}");
        }
    }

    #[test]
    fn what_is_not_said_is_left_to_the_engine() {
        let order =
            ContainerOrder { memory_bytes: None, volumes: Vec::new(), gpus: Some(Gpus::All), args: None, ..order() };
        let made = serde_json::to_value(body(&order, "")).unwrap();
        let host = made["HostConfig"].as_object().unwrap();
        assert!(!host.contains_key("Memory") && !host.contains_key("Binds") && made.get("Cmd").is_none(), "{made}");
        assert_eq!(host["DeviceRequests"][0]["Count"], json!(-1));
    }
}
