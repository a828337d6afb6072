//! Plants each known bug and lets the simulator look for it: `cargo xtask sim --mutants`.

use std::process::ExitCode;

use supervision::mutants::Mutant;
use supervision::sim::hunt;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]
fn main() -> ExitCode {
    let worlds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let mut escaped = 0;
    for (mutant, what) in Mutant::ALL {
        let name = format!("{mutant:?}");
        match hunt(*mutant, worlds) {
            Some(caught) => {
                println!(
                    "{name:<20} caught at seed {:<5} by {:<15} ({what})",
                    caught.seed,
                    caught.invariant.to_string()
                );
            }
            None => {
                escaped += 1;
                println!("{name:<20} NOT CAUGHT in {worlds} worlds ({what})");
            }
        }
    }
    let planted = Mutant::ALL.len();
    if escaped > 0 {
        eprintln!("{escaped} of {planted} planted bugs were not caught");
        return ExitCode::FAILURE;
    }
    println!("{planted} of {planted} planted bugs were caught");
    ExitCode::SUCCESS
}
