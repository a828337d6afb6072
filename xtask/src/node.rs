//! The OpenAI client for Node, in a folder of its own below the target folder.

use std::path::PathBuf;
use std::process::Command;

use crate::paths::{Paths, on_path};
use crate::{child, say};

/// The newest client for each Node: the first that is not newer than it.
const CLIENTS: [(u32, &str); 3] = [(22, "openai@7.57.0"), (20, "openai@6.49.0"), (18, "openai@4.104.0")];

/// Where it is.
pub(crate) struct Node {
    pub(crate) program: PathBuf,
    /// The folder that has `node_modules`.
    pub(crate) modules: PathBuf,
}

/// Installs it, where there are node and npm. Without them its checks are skipped, and say so.
pub(crate) fn bring(paths: &Paths) -> Option<Node> {
    let program = on_path("node")?;
    on_path("npm")?;
    let version = child::output(Command::new(&program).arg("--version")).ok()?;
    let client = client_for(&version)?;
    let modules = paths.target.join("node");
    let receipt = modules.join("installed");
    if !std::fs::read_to_string(&receipt).is_ok_and(|installed| installed == client) {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(&modules).arg(client);
        let installed = child::step("Node client (npm install)", &mut npm, &paths.log("node"));
        if let Err(error) = installed.and_then(|()| Ok(std::fs::write(&receipt, client)?)) {
            say::note(format!("  {error:#}"));
            return None;
        }
    }
    Some(Node { program, modules })
}

/// `v20.1.2` → the client that runs on it.
fn client_for(version: &str) -> Option<&'static str> {
    let major: u32 = version.trim_start_matches('v').split('.').next()?.parse().ok()?;
    CLIENTS.iter().find(|(oldest, _)| major >= *oldest).map(|(_, client)| *client)
}

#[cfg(test)]
mod tests {
    use super::client_for;

    #[test]
    fn each_node_has_its_client() {
        assert_eq!(client_for("v24.0.1"), client_for("v22.0.0"));
        assert_ne!(client_for("v20.20.2"), client_for("v22.0.0"));
        assert!(client_for("v18.20.4").is_some_and(|client| client.contains("@4.")));
        assert_eq!(client_for("v16.1.0"), None);
        assert_eq!(client_for("nonsense"), None);
    }
}
