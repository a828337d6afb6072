//! What kind of file would not be executed: read only after the kernel has refused it, to say why.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::spawn_error::Problem;

const HEAD_BYTES: u64 = 4096;
const ELF: &[u8] = b"\x7fELF";

/// Processors by their number in an ELF file, those one meets.
const PROCESSORS: [(u16, &str); 8] = [
    (3, "x86"),
    (8, "mips"),
    (20, "powerpc"),
    (21, "powerpc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
];
const RISCV: u16 = 243;

/// Why the kernel does not know the file's format.
pub(super) fn problem_of(path: &Path) -> Problem {
    let head = head_of(path);
    if head.starts_with(ELF) {
        return match processor(&head) {
            Some(built_for) if built_for != std::env::consts::ARCH => Problem::OtherProcessor { built_for },
            _ => Problem::WrongFormat,
        };
    }
    let is_text = !head.is_empty() && !head.contains(&0) && std::str::from_utf8(&head).is_ok();
    if is_text && !head.starts_with(b"#!") { Problem::NoInterpreterLine } else { Problem::WrongFormat }
}

/// The interpreter of a script, or the loader of a program, that the file names.
pub(super) fn interpreter_of(path: &Path) -> Option<PathBuf> {
    let head = head_of(path);
    let name = match head.strip_prefix(b"#!") {
        Some(line) => line.split(|byte| *byte == b'\n').next()?.trim_ascii().split(|byte| *byte == b' ').next()?,
        None => loader(&head)?,
    };
    (!name.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(name)))
}

fn head_of(path: &Path) -> Vec<u8> {
    let mut head = Vec::new();
    // What cannot be read is simply not explained.
    let _ = File::open(path).and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head));
    head
}

fn processor(head: &[u8]) -> Option<String> {
    let machine = number(head, 18, 2)? as u16;
    let known = PROCESSORS.iter().find(|(number, _)| *number == machine).map(|(_, name)| (*name).to_owned());
    let riscv = || (machine == RISCV).then(|| "riscv64".to_owned());
    Some(known.or_else(riscv).unwrap_or_else(|| format!("number {machine}")))
}

/// The interpreter segment of a 64-bit ELF file, where it stands in its beginning.
fn loader(head: &[u8]) -> Option<&[u8]> {
    const INTERPRETER: u64 = 3;
    if !head.starts_with(ELF) || head.get(4) != Some(&2) {
        return None;
    }
    let (table, size, count) = (number(head, 32, 8)?, number(head, 54, 2)?, number(head, 56, 2)?);
    let at =
        (0..count).map(|index| (table + index * size) as usize).find(|at| number(head, *at, 4) == Some(INTERPRETER))?;
    let begin = number(head, at + 8, 8)? as usize;
    head.get(begin..)?.split(|byte| *byte == 0).next()
}

/// A number in the file's byte order.
fn number(head: &[u8], at: usize, len: usize) -> Option<u64> {
    let bytes = head.get(at..at.checked_add(len)?)?;
    let join = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    let is_big_endian = head.get(5) == Some(&2);
    Some(if is_big_endian { bytes.iter().fold(0, join) } else { bytes.iter().rev().fold(0, join) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_names_its_processor_and_its_loader() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(processor(&head_of(&own)).as_deref(), Some(std::env::consts::ARCH));
        let loader = interpreter_of(Path::new("/bin/sh")).unwrap();
        assert!(loader.exists(), "{loader:?}");
    }
}
