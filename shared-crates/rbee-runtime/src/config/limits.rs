//! Limits that could not be kept, or under which nothing could run.

use bytesize::ByteSize;

use super::document::Document;
use super::schema::LimitsConfig;

/// The least memory that anything can start with.
const MEMORY_MIN: ByteSize = ByteSize::mib(1);
/// The fewest open files: the standard three and some to load the program.
const NOFILE_MIN: u64 = 16;
/// The smallest share of a processor that a kernel schedules by.
const CPUS_MIN: f64 = 0.01;

/// Records every limit that makes no sense; `table` is its key, such as `worker.api.limits`.
pub(super) fn check(limits: &LimitsConfig, table: &str, document: &mut Document<'_>) {
    let mut problem = |field: &str, message: String| document.problem(&format!("{table}.{field}"), message, None);
    for (field, size) in [("memory_max", limits.memory_max), ("memory_restart", limits.memory_restart)] {
        if let Some(size) = size.filter(|size| *size < MEMORY_MIN) {
            problem(field, format!("`{table}.{field}` is {size}: nothing runs in less than {MEMORY_MIN}"));
        }
    }
    if let (Some(restart), Some(max)) = (limits.memory_restart, limits.memory_max)
        && restart >= max
    {
        problem(
            "memory_restart",
            format!(
                "`memory_restart` ({restart}) of `{table}` is not below `memory_max` ({max}): it would never be reached"
            ),
        );
    }
    if let Some(cpus) = limits.cpus.filter(|cpus| !cpus.is_finite() || *cpus < CPUS_MIN) {
        problem("cpus", format!("`{table}.cpus` is {cpus}: it must be {CPUS_MIN} or more"));
    }
    if let Some(nice) = limits.nice.filter(|nice| !(-20..=19).contains(nice)) {
        problem("nice", format!("`{table}.nice` is {nice}: it must be -20 to 19"));
    }
    if let Some(nofile) = limits.nofile.filter(|nofile| *nofile < NOFILE_MIN) {
        problem("nofile", format!("`{table}.nofile` is {nofile}: it must be {NOFILE_MIN} or more"));
    }
    if limits.nproc == Some(0) {
        problem("nproc", format!("`{table}.nproc` is 0: nothing could run"));
    }
}
