//! What a unit uses more of than a threshold allows.

use std::fmt;

/// What is used and measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Percent of one core.
    Cpu,
    /// Bytes.
    Memory,
    /// Open files.
    OpenFiles,
}

/// How much of what, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excess {
    /// What.
    pub resource: Resource,
    /// What was measured last, in the resource's own unit.
    pub used: u64,
    /// The threshold.
    pub limit: u64,
    /// How long it has been above.
    pub for_ms: u64,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource, used, limit, for_ms } = self;
        match resource {
            Resource::Cpu => write!(f, "used {used} % of a core, more than {limit} %")?,
            Resource::Memory => write!(f, "used {} of memory, more than {}", Mebibytes(*used), Mebibytes(*limit))?,
            Resource::OpenFiles => write!(f, "had {used} files open, more than {limit}")?,
        }
        if *for_ms > 0 { write!(f, ", for {} s", for_ms / 1000) } else { Ok(()) }
    }
}

/// Bytes as people read them.
pub(crate) struct Mebibytes(pub(crate) u64);

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB", self.0 as f64 / 1_048_576.0)
    }
}
