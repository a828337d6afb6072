//! Loads a GGUF file with or without repacked weights: the one place that goes below llama-cpp-2's safe API.
//!
//! Repacked weights are computed by other kernels for one row than for several, so batch-invariant numbers need them
//! off (.specs/decisions/003-one-worker-build.md). llama.cpp has a run-time switch for that, `use_extra_bufts`, but the
//! safe wrapper does not show it.

use std::ffi::{CString, c_void};
use std::path::Path;
use std::ptr::NonNull;

use llama_cpp_2::LlamaModelLoadError;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;

use super::llama::LlamaConfig;

/// Loads the model, unless `given_up` says so before all of it is read. But for deterministic numbers the CPU backend may
/// keep weights in layouts of its own.
pub(super) fn load<F: Fn() -> bool + 'static>(
    backend: &LlamaBackend,
    path: &Path,
    config: &LlamaConfig,
    given_up: F,
) -> Result<LlamaModel, LlamaModelLoadError> {
    if !config.deterministic {
        let mut params = LlamaModelParams::default();
        if config.mlock {
            params = params.with_use_mlock(true);
        }
        if !config.mmap {
            params = params.with_use_mmap(false);
        }
        let params = params.with_progress_callback(move |_| !given_up());
        return LlamaModel::load_from_file(backend, path, &params);
    }
    let text = path.to_str().ok_or_else(|| LlamaModelLoadError::PathToStrError(path.to_path_buf()))?;
    let c_path = CString::new(text)?;
    load_without_repack(backend, &c_path, config, &given_up).ok_or(LlamaModelLoadError::NullResult)
}

/// As llama-cpp-2 does it for the safe parameters.
const fn load_mode(config: &LlamaConfig) -> llama_cpp_sys_2::llama_load_mode {
    match (config.mmap, config.mlock) {
        (true, false) => llama_cpp_sys_2::LLAMA_LOAD_MODE_AUTO,
        (true, true) => llama_cpp_sys_2::LLAMA_LOAD_MODE_MMAP_MLOCK,
        (false, false) => llama_cpp_sys_2::LLAMA_LOAD_MODE_NONE,
        (false, true) => llama_cpp_sys_2::LLAMA_LOAD_MODE_MLOCK,
    }
}

/// What the library calls while it loads: whether to go on. `given_up` is the `F` that [`load_without_repack`] borrows.
#[expect(unsafe_code, reason = "the library hands our own pointer back")]
unsafe extern "C" fn goes_on<F: Fn() -> bool>(_progress: f32, given_up: *mut c_void) -> bool {
    // SAFETY: the pointer is to the `F` that is borrowed over the whole call that calls this, on one thread at a time.
    let given_up = unsafe { &*given_up.cast::<F>() };
    !given_up()
}

#[expect(unsafe_code, reason = "llama-cpp-2 does not show use_extra_bufts, the run-time switch for repacked weights")]
fn load_without_repack<F: Fn() -> bool>(
    _proof_of_init: &LlamaBackend,
    path: &CString,
    config: &LlamaConfig,
    given_up: &F,
) -> Option<LlamaModel> {
    // SAFETY: the backend is initialised (the proof is borrowed), the path is a C string that lives over the call, and
    // the parameters are the library's own defaults with a flag changed and a callback whose argument is borrowed over
    // the call; the library does not keep it.
    let model = unsafe {
        let mut params = llama_cpp_sys_2::llama_model_default_params();
        params.use_extra_bufts = false;
        params.load_mode = load_mode(config);
        params.progress_callback = Some(goes_on::<F>);
        params.progress_callback_user_data = std::ptr::from_ref(given_up).cast_mut().cast::<c_void>();
        llama_cpp_sys_2::llama_load_model_from_file(path.as_ptr(), params)
    };
    let model = NonNull::new(model)?;
    // SAFETY: `LlamaModel` is `repr(transparent)` over `Ptr`, which is `repr(transparent)` over this `NonNull`, in the
    // very version Cargo.toml pins; the pointer comes from the call `LlamaModel::load_from_file` makes itself, nobody
    // else has it, and `LlamaModel` frees it. A change of size does not compile.
    Some(unsafe { std::mem::transmute::<NonNull<llama_cpp_sys_2::llama_model>, LlamaModel>(model) })
}
