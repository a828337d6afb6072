//! A chain whose engine is the mock worker: hives find it beside themselves, under the engine's name.

use std::fs;
use std::net::SocketAddr;

use serde_json::Value;
use tempfile::TempDir;

use crate::home::{Home, binaries, binary};

/// The engine's program that a hive finds beside itself.
const ENGINE: &str = "llm-worker-rbee";
/// Answers at once, of one replica: as many as a config may say.
pub const SLOTS: usize = 256;
/// The model's name.
pub const NAME: &str = "mock";

/// One chain of one worker, `up` already.
pub struct MockChain {
    /// Its home.
    pub home: Home,
    _programs: TempDir,
}

impl MockChain {
    /// Starts it, with these lines more in the tables `[queen]` and `[worker.mock]`.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn up(queen_keys: &str, worker_keys: &str) -> Self {
        // Beside the binaries: links do not cross file systems.
        let programs = TempDir::with_prefix_in("with-mock-", binaries()).unwrap();
        for (name, place) in [
            ("rbee-keeper", "rbee-keeper"),
            ("queen-rbee", "queen-rbee"),
            ("rbee-hive", "rbee-hive"),
            ("mock-worker", ENGINE),
        ] {
            fs::hard_link(binary(name), programs.path().join(place)).unwrap();
        }
        let home = Home::with_programs(programs.path());
        let model = home.path().join("mock.gguf");
        fs::write(&model, "no model").unwrap();
        let rest = format!(
            "[model.{NAME}]\nsource = \"file:{}\"\n\n[worker.{NAME}]\nmodel = \"{NAME}\"\nslots = {SLOTS}\n{worker_keys}",
            model.display()
        );
        home.write_config_with(queen_keys, &rest);
        home.keeper(&["up"]).assert().success();
        Self { home, _programs: programs }
    }

    /// Where queen answers.
    pub fn queen(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.home.queen_port))
    }

    /// Queen's process.
    ///
    /// # Panics
    /// When there is none.
    pub fn queen_pid(&self) -> u32 {
        number(&self.home.status()["queen"]["pid"])
    }

    /// Where the first replica answers.
    ///
    /// # Panics
    /// When there is none.
    pub fn worker(&self) -> SocketAddr {
        let port: u32 = number(&self.home.status()["hives"][0]["workers"][0]["port"]);
        SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap()))
    }

    /// Ends it in order; nothing may be left.
    ///
    /// # Panics
    /// When something is.
    pub fn down(self) {
        self.home.keeper(&["down"]).assert().success();
        assert_eq!(self.home.processes(), []);
    }
}

fn number(value: &Value) -> u32 {
    value.as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or_else(|| panic!("{value} is no number"))
}
