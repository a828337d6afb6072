//! queen-rbee

fn main() {}
