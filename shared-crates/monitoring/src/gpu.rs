//! Memory of graphics cards, by NVIDIA's library where the machine has it; looked for at run time, never needed.

use std::collections::HashMap;
use std::fmt;

use nvml_wrapper::Nvml;
use nvml_wrapper::enums::device::UsedGpuMemory;

/// The cards there are.
pub(crate) struct Gpus {
    library: Option<Nvml>,
}

impl fmt::Debug for Gpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gpus").field("library", &self.library.is_some()).finish()
    }
}

impl Gpus {
    pub(crate) fn find() -> Self {
        let library = Nvml::init();
        if let Err(error) = &library {
            tracing::debug!(%error, "no memory of graphics cards is looked at");
        }
        Self { library: library.ok() }
    }

    /// Bytes that each process holds on all cards; absent without cards.
    pub(crate) fn bytes_by_process(&self) -> Option<HashMap<u32, u64>> {
        let library = self.library.as_ref()?;
        let mut bytes: HashMap<u32, u64> = HashMap::new();
        for index in 0..library.device_count().ok()? {
            let Ok(device) = library.device_by_index(index) else { continue };
            for process in device.running_compute_processes().unwrap_or_default() {
                if let UsedGpuMemory::Used(used) = process.used_gpu_memory {
                    *bytes.entry(process.pid).or_default() += used;
                }
            }
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MONI-09
    #[test]
    fn without_the_library_nothing_is_told_and_nothing_fails() {
        assert_eq!(Gpus { library: None }.bytes_by_process(), None);
        // Whatever this machine has: no panic, and the same answer in kind each time.
        let found = Gpus::find();
        assert_eq!(found.bytes_by_process().is_some(), found.library.is_some());
    }
}
