//! An error with all that stands behind it, for a log line or an answer.

use std::error::Error;

/// The error and everything that caused it, joined by colons.
#[must_use]
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot write")]
    struct CannotWrite(#[source] std::io::Error);

    #[test]
    fn every_cause_is_told_once_outermost_first() {
        let error = CannotWrite(std::io::Error::other("the disk is full"));
        assert_eq!(error_chain(&error), "cannot write: the disk is full");
        assert_eq!(error_chain(&std::io::Error::other("alone")), "alone");
    }
}
