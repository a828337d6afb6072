//! cmake and libclang for llama.cpp: the system's, else Debian packages, else wheels in a private environment.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::paths::{Paths, on_path};
use crate::python::Environment;
use crate::{child, say};

const DEBIAN_PACKAGES: [&str; 4] = ["cmake", "make", "libclang-dev", "clang"];
const WHEELS: [&str; 3] = ["cmake==4.1.2", "libclang==18.1.1", "ninja==1.13.0"];
const BY_HAND: &str = "llama.cpp needs cmake and libclang with its headers. Install them and try again:\n  \
    Debian, Ubuntu:  apt-get install cmake make libclang-dev clang\n  \
    Fedora:          dnf install cmake make clang-devel\n  \
    Arch:            pacman -S cmake make clang";

/// Environment that cargo needs to find the tools; empty where the system has them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tools {
    variables: Vec<(&'static str, OsString)>,
}

impl Tools {
    /// Adds the environment to a cargo command.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
    }

    /// Finds the tools, or brings them.
    pub(crate) fn bring(paths: &Paths) -> Result<Self> {
        if system_has_them() {
            return Ok(Self::default());
        }
        if is_root() && on_path("apt-get").is_some() {
            match install_debian_packages(paths) {
                Ok(()) if system_has_them() => return Ok(Self::default()),
                Ok(()) => say::note("  the Debian packages came, but the tools are not where they should be"),
                Err(error) => say::note(format!("  {error:#}\n  trying Python wheels instead")),
            }
        }
        match install_wheels(paths) {
            Ok(tools) => Ok(tools),
            Err(error) => bail!("{error:#}\n\n{BY_HAND}"),
        }
    }
}

fn system_has_them() -> bool {
    let cmake = env::var_os("CMAKE").map(PathBuf::from).filter(|path| path.is_file()).or_else(|| on_path("cmake"));
    // Without a cmake generator's own program cmake stops at its first step.
    let make = on_path("make").or_else(|| on_path("ninja"));
    cmake.is_some() && make.is_some() && libclang_with_headers()
}

/// libclang reads system headers only with clang's own (stddef.h, stdbool.h), which come with the compiler.
fn libclang_with_headers() -> bool {
    if env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    if on_path("clang").is_none() {
        return false;
    }
    let mut folders: Vec<PathBuf> =
        ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"]
            .map(PathBuf::from)
            .to_vec();
    let versions = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    folders.extend(
        versions
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("llvm"))
            .map(|entry| entry.path().join("lib")),
    );
    folders.iter().any(|folder| holds_libclang(folder))
}

fn holds_libclang(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // libclang-cpp is another library.
        (name.starts_with("libclang.so") || name.starts_with("libclang-"))
            && name.contains(".so")
            && !name.contains("cpp")
    })
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn install_debian_packages(paths: &Paths) -> Result<()> {
    let install = || {
        let mut apt = Command::new("apt-get");
        apt.args(["install", "-y", "--no-install-recommends"])
            .args(DEBIAN_PACKAGES)
            .env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    let log = paths.log("apt-get-install");
    if child::step("cmake and libclang (apt-get install)", &mut install(), &log).is_ok() {
        return Ok(());
    }
    // A fresh container has no package lists.
    child::step("package lists (apt-get update)", Command::new("apt-get").arg("update"), &paths.log("apt-get-update"))?;
    child::step("cmake and libclang (apt-get install)", &mut install(), &log)
}

fn install_wheels(paths: &Paths) -> Result<Tools> {
    let environment = Environment::at(&paths.tools())?;
    environment.install("cmake and libclang (pip install)", &WHEELS, &paths.log("tools"))?;
    let packages = &environment.packages;
    let mut variables = vec![("CMAKE", packages.join("cmake/data/bin/cmake").into_os_string())];
    if on_path("make").is_none() {
        variables.push(("CMAKE_GENERATOR", "Ninja".into()));
        variables.push(("CMAKE_MAKE_PROGRAM", find_ninja(packages).into_os_string()));
    }
    variables.push(("LIBCLANG_PATH", packages.join("clang/native").into_os_string()));
    // The wheel has no headers of its own: the C compiler's do.
    let headers = child::output(Command::new("cc").arg("-print-file-name=include"))?;
    variables.push(("BINDGEN_EXTRA_CLANG_ARGS", format!("-I{headers}").into()));
    Ok(Tools { variables })
}

fn find_ninja(packages: &Path) -> PathBuf {
    let inside = packages.join("ninja/data/bin/ninja");
    if inside.is_file() { inside } else { packages.join("bin/ninja") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libclang_is_told_from_its_neighbours() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["libclang-cpp.so.14", "libclang.a", "libclangBasic.so"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert!(!holds_libclang(folder.path()));
        fs::write(folder.path().join("libclang-14.so.1"), "").unwrap();
        assert!(holds_libclang(folder.path()));
    }
}
