//! Loads a GGUF file with or without repacked weights: the one place that goes below llama-cpp-2's safe API.
//!
//! Repacked weights are computed by other kernels for one row than for several, so batch-invariant numbers need them
//! off (.specs/decisions/003-one-worker-build.md). llama.cpp has a run-time switch for that, `use_extra_bufts`, but the
//! safe wrapper does not show it.

use std::ffi::CString;
use std::path::Path;
use std::ptr::NonNull;

use llama_cpp_2::LlamaModelLoadError;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;

/// Loads the model; `repack` lets the CPU backend keep weights in layouts of its own.
pub(super) fn load(backend: &LlamaBackend, path: &Path, repack: bool) -> Result<LlamaModel, LlamaModelLoadError> {
    if repack {
        return LlamaModel::load_from_file(backend, path, &LlamaModelParams::default());
    }
    let text = path.to_str().ok_or_else(|| LlamaModelLoadError::PathToStrError(path.to_path_buf()))?;
    let c_path = CString::new(text)?;
    load_without_repack(backend, &c_path).ok_or(LlamaModelLoadError::NullResult)
}

#[expect(unsafe_code, reason = "llama-cpp-2 does not show use_extra_bufts, the run-time switch for repacked weights")]
fn load_without_repack(_proof_of_init: &LlamaBackend, path: &CString) -> Option<LlamaModel> {
    // SAFETY: the backend is initialised (the proof is borrowed), the path is a C string that lives over the call, and
    // the parameters are the library's own defaults with a flag changed.
    let model = unsafe {
        let mut params = llama_cpp_sys_2::llama_model_default_params();
        params.use_extra_bufts = false;
        llama_cpp_sys_2::llama_load_model_from_file(path.as_ptr(), params)
    };
    let model = NonNull::new(model)?;
    // SAFETY: `LlamaModel` is `repr(transparent)` over `Ptr`, which is `repr(transparent)` over this `NonNull`, in the
    // very version Cargo.toml pins; the pointer comes from the call `LlamaModel::load_from_file` makes itself, nobody
    // else has it, and `LlamaModel` frees it. A change of size does not compile.
    Some(unsafe { std::mem::transmute::<NonNull<llama_cpp_sys_2::llama_model>, LlamaModel>(model) })
}
