//! How many threads to compute with when nobody says: decided from model size and free cores.
//!
//! More threads than free cores makes decoding up to twenty times slower (they wait for each other by spinning), so
//! the choice errs on the low side: always fewer than cores, one for tiny models, which gain little from a second.

/// Models below this number of weights run on one thread.
const TINY_MODEL_PARAMETERS: u64 = 500_000_000;
/// A model of this many weights per thread keeps a thread busy.
const PARAMETERS_PER_THREAD: u64 = 400_000_000;

/// Threads for a model of `parameters` weights on a machine of `cores` with `load` of them busy.
#[must_use]
pub fn choose(parameters: u64, cores: usize, load: f64) -> usize {
    if parameters < TINY_MODEL_PARAMETERS {
        return 1;
    }
    let useful = usize::try_from(parameters / PARAMETERS_PER_THREAD).unwrap_or(usize::MAX);
    let busy = (0..cores).take_while(|core| (*core as f64) + 0.5 <= load).count();
    let free = cores.saturating_sub(busy);
    useful.min(free).min(cores.saturating_sub(1)).max(1)
}

/// Cores of this machine and how many of them were busy over the last minute.
#[must_use]
pub fn machine() -> (usize, f64) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0);
    (cores, load)
}

#[cfg(test)]
mod tests {
    use super::choose;

    #[test]
    fn fewer_than_cores_and_one_for_tiny_models() {
        let table = [
            // parameters, cores, load, threads
            (135_000_000, 2, 0.0, 1),
            (135_000_000, 64, 0.0, 1),
            (1_070_000_000, 2, 0.0, 1),
            (1_070_000_000, 4, 0.0, 2),
            (8_000_000_000, 8, 0.0, 7),
            (8_000_000_000, 8, 4.2, 4),
            (8_000_000_000, 8, 99.0, 1),
            (8_000_000_000, 1, 0.0, 1),
        ];
        for (parameters, cores, load, expected) in table {
            assert_eq!(choose(parameters, cores, load), expected, "{parameters} on {cores} with load {load}");
        }
    }
}
