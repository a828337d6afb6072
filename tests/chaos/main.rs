//! The short form of `cargo xtask chaos`: the hive killed some thirty times under load.

use rbee_tests::chaos::Chaos;

/// PROC-02, PROC-03, PROC-04, HIVE-08
#[test]
fn a_hive_killed_again_and_again_loses_nothing_and_doubles_nothing() {
    let survived = Chaos { kills: 30, seed: 3 }.run().unwrap();
    // All of it has really happened.
    assert!(survived.kills_ready > 10 && survived.kills_starting > 2, "{survived:?}");
    assert!(survived.runs > 30 && survived.lines > 10_000, "{survived:?}");
}
