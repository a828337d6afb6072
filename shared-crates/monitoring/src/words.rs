//! What a supervisor says of its units, with them named as people name replicas.

use rbee_api::ReplicaId;

/// A unit's name.
pub fn in_our_words(unit: &str) -> String {
    ReplicaId::from_unit_name(unit).map_or_else(|| unit.to_owned(), |id| id.to_string())
}

/// A sentence about these units.
pub fn sentence_in_our_words(sentence: &str, units: &[String]) -> String {
    each_word(sentence, |word, bare| {
        units.iter().any(|unit| unit == bare).then(|| word.replace(bare, &in_our_words(bare)))
    })
}

/// A sentence in which names of units stand between backticks.
pub fn quoted_in_our_words(sentence: &str) -> String {
    each_word(sentence, |word, bare| (word == format!("`{bare}`")).then(|| format!("`{}`", in_our_words(bare))))
}

fn each_word(sentence: &str, name: impl Fn(&str, &str) -> Option<String>) -> String {
    let words = sentence.split(' ');
    words
        .map(|word| name(word, word.trim_matches('`')).unwrap_or_else(|| word.to_owned()))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_names_replicas() {
        let chain = ["api.0", "cache.1"].map(str::to_owned);
        let text = "api.0 restarted because its dependency cache.1 restarted because it exited with code 1.1";
        assert_eq!(
            sentence_in_our_words(text, &chain),
            "api/0 restarted because its dependency cache/1 restarted because it exited with code 1.1"
        );
        assert_eq!(sentence_in_our_words("its dependency `cache.1` failed", &chain), "its dependency `cache/1` failed");
    }

    #[test]
    fn what_is_quoted_is_a_replica() {
        assert_eq!(quoted_in_our_words("its dependency `db.0` is not running"), "its dependency `db/0` is not running");
        assert_eq!(quoted_in_our_words("ended with exit code 1.1"), "ended with exit code 1.1");
    }
}
