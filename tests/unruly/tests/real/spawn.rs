//! Commands that cannot be run, each told in its own words.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use daemon_lifecycle::{Launch, Phase, Readiness, UnitSpec};

use crate::scene::Scene;
use crate::supervisor::open;
use crate::survival::gone;

/// The beginning of a program for a processor that is not ours.
fn foreign_program() -> Vec<u8> {
    let foreign: u8 = if std::env::consts::ARCH == "aarch64" { 62 } else { 183 };
    let mut head = vec![0_u8; 64];
    head[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (head[16], head[18], head[20]) = (2, foreign, 1);
    head
}

/// PROC-26
#[tokio::test]
async fn what_cannot_be_executed_says_why() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let file = |name: &str, content: &[u8]| {
        fs::write(scene.path(name), content).unwrap();
        fs::set_permissions(scene.path(name), fs::Permissions::from_mode(0o755)).unwrap();
        Launch::new(scene.path(name), [""; 0])
    };
    let true_with = |args: Vec<String>| Launch::new("/bin/true", args);
    let cases = [
        ("script", file("script", b"echo hello\n"), "is a script without a first line that names its interpreter"),
        ("interpreter", file("interpreter", b"#!/no/such/sh -e\n"), "interpreter or loader, /no/such/sh, does not"),
        ("foreign", file("foreign", &foreign_program()), "is built for another processor ("),
        ("noise", file("noise", b"\x00\x01\x02"), "is not a program this machine can run"),
        ("big", true_with(vec!["x".repeat(200_000)]), "its arguments and environment are too big: 20"),
        ("nul", true_with(vec!["a\0b".to_owned()]), "holds a NUL byte"),
    ];
    let specs = cases.iter().map(|(name, launch, _)| {
        let mut spec = UnitSpec::new(*name, launch.clone());
        spec.readiness = Readiness::Started;
        spec
    });
    supervisor.apply(specs).await.unwrap();
    for (name, _, words) in &cases {
        supervisor.start(name).await.unwrap();
        let status = supervisor.settled(name).await.unwrap();
        let reason = status.reason.unwrap();
        assert!(reason.contains(words), "{name}: {reason}");
        assert_eq!(status.phase, Phase::Unavailable, "trying again cannot help: {reason}");
    }
    assert!(scene.files("run").iter().all(|file| !file.ends_with(".state") && !file.ends_with(".pid")));
    gone(&supervisor, &scene).await;
}
