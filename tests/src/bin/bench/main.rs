//! Measures side by side in one run, and prints ratios: `bench chain`.
fn main() {}
