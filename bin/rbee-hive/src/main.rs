//! rbee-hive

fn main() {}
