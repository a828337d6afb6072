//! rbee-keeper

fn main() {}
