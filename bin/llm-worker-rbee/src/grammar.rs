//! Answers of a given form: which tokens may come next is known from the grammar and the tokens so far, nothing else. So
//! an answer that is taken up elsewhere goes on in the same form.
//!
//! ```text
//!   JSON schema ─▶ [`Form`] ─▶ llguidance's parser, over the model's vocabulary ─▶ [`Shape`], one an answer
//!   tools       ─▶     "                                                            allows / mask / accept
//! ```

use std::sync::{Arc, OnceLock};

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use serde_json::Value;

use crate::engine::{Token, Tokenizer};
use crate::job::Constraint;

/// White space between the parts of JSON: little, because small models never tire of it.
const WHITE_SPACE: &str = r"[ ]|\n[ ]{0,16}";

/// Largest grammar, bytes: what is far larger takes seconds.
const GRAMMAR_BYTES_MAX: usize = 256 << 10;

/// A grammar in llguidance's dialect of Lark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form(String);

/// Why a form cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    /// The schema is not one, or has parts that cannot be enforced.
    #[error("{reason}")]
    Refused {
        /// What the compiler says.
        reason: String,
    },
    /// The model's vocabulary cannot be used for it.
    #[error("the model's vocabulary does not allow it: {reason}")]
    Vocabulary {
        /// Why not.
        reason: String,
    },
}

impl Form {
    /// A whole grammar; its first rule is `start`.
    #[must_use]
    pub fn lark(rules: String) -> Self {
        Self(rules)
    }

    /// JSON of that schema, and nothing else.
    #[must_use]
    pub fn json(schema: &Value) -> Self {
        Self(format!("start: {}", json(schema)))
    }

    /// Any JSON object.
    #[must_use]
    pub fn json_object() -> Self {
        Self::json(&serde_json::json!({"type": "object"}))
    }
}

/// JSON of that schema as part of a rule. A schema that is no object (`true`) is written as one.
#[must_use]
pub fn json(schema: &Value) -> String {
    let mut schema = match schema {
        Value::Object(fields) => Value::Object(fields.clone()),
        Value::Bool(false) => serde_json::json!({"not": {}}),
        _ => serde_json::json!({}),
    };
    // Ours in any case: those of a client could lift limits.
    JsonCompileOptions { whitespace_pattern: Some(WHITE_SPACE.to_owned()), ..JsonCompileOptions::default() }
        .apply_to(&mut schema);
    format!("%json {schema}")
}

/// A text as part of a rule.
#[must_use]
pub fn literal(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// Makes shapes for one model. What it needs of the vocabulary is made when the first is wanted.
pub struct Grammars {
    tokenizer: Arc<dyn Tokenizer>,
    factory: OnceLock<Result<ParserFactory, String>>,
}

impl Grammars {
    /// For the model of that tokenizer.
    #[must_use]
    pub fn new(tokenizer: Arc<dyn Tokenizer>) -> Self {
        Self { tokenizer, factory: OnceLock::new() }
    }

    /// What the form allows. Takes some milliseconds, the first time some hundreds: not for the threads that serve
    /// everybody.
    ///
    /// # Errors
    /// [`FormError`].
    pub fn shape(&self, form: &Form) -> Result<Shape, FormError> {
        if form.0.len() > GRAMMAR_BYTES_MAX {
            let reason = format!("it is larger than the {} KiB this server takes", GRAMMAR_BYTES_MAX >> 10);
            return Err(FormError::Refused { reason });
        }
        let factory = self.factory.get_or_init(|| factory(&*self.tokenizer)).as_ref();
        let factory = factory.map_err(|reason| FormError::Vocabulary { reason: reason.clone() })?;
        let grammar = TopLevelGrammar::from_lark(form.0.clone());
        let mut matcher = Matcher::new(factory.create_parser(grammar));
        match matcher.get_error() {
            Some(error) => Err(FormError::Refused { reason: first_line(&error) }),
            // A schema nothing satisfies may only show here.
            None => match matcher.compute_mask_or_eos() {
                Ok(_) => Ok(Shape { matcher, mask: None, failed: None }),
                Err(error) => Err(FormError::Refused { reason: first_line(&error.to_string()) }),
            },
        }
    }
}

fn factory(tokenizer: &dyn Tokenizer) -> Result<ParserFactory, String> {
    let environment = environment(tokenizer)?;
    let slices = llguidance::earley::SlicedBiasComputer::general_slices();
    let mut factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)
        .map_err(|error| error.to_string())?;
    factory.quiet();
    *factory.limits_mut() = ParserLimits { verbose_errors: false, ..ParserLimits::default() };
    Ok(factory)
}

fn environment(tokenizer: &dyn Tokenizer) -> Result<TokEnv, String> {
    let size = u32::try_from(tokenizer.vocabulary()).map_err(|error| error.to_string())?;
    let tokens = || (0..size).filter_map(|id| Some((id, Token(i32::try_from(id).ok()?))));
    let ends: Vec<u32> = tokens().filter(|(_, token)| tokenizer.is_end(*token)).map(|(id, _)| id).collect();
    let Some(end) = ends.first() else { return Err("it has no end token".to_owned()) };
    let words: Vec<Vec<u8>> = tokens()
        .map(|(_, token)| {
            let mut bytes = Vec::new();
            // An end token is never part of the text, whatever it would read.
            if !tokenizer.is_end(token) {
                tokenizer.append_piece(token, &mut bytes);
            }
            bytes
        })
        .collect();
    let trie = TokTrie::from(&TokRxInfo::new(size, *end), &words).with_eos_tokens(&ends);
    Ok(Arc::new(ApproximateTokEnv::new(trie)))
}

/// What is wrong with the client's schema. The rest of a message shows the grammar around it, which the client has never
/// seen, and places in that.
fn first_line(message: &str) -> String {
    let line = message.lines().find(|line| !line.trim().is_empty()).unwrap_or("it cannot be enforced").trim();
    line.split_once("failed to compile JSON schema: ").map_or(line, |(_, reason)| reason).to_owned()
}

/// What may come next in one answer.
pub struct Shape {
    matcher: Matcher,
    /// For the tokens so far.
    mask: Option<SimpleVob>,
    /// Why there is none.
    failed: Option<String>,
}

impl Shape {
    /// The same for another answer.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { matcher: self.matcher.deep_clone(), mask: None, failed: None }
    }

    fn allowed(&mut self) -> Option<&SimpleVob> {
        if self.mask.is_none() {
            match self.matcher.compute_mask_or_eos() {
                Ok(mask) => self.mask = Some(mask),
                Err(error) => self.failed = Some(first_line(&error.to_string())),
            }
        }
        self.mask.as_ref()
    }
}

impl Constraint for Shape {
    fn allows(&mut self, token: Token) -> bool {
        let Ok(id) = u32::try_from(token.0) else { return false };
        self.allowed().is_some_and(|mask| mask.is_allowed(id))
    }

    fn mask(&mut self, logits: &mut [f32]) {
        // Without a mask nothing may come: an answer out of form is worse than one that ends.
        let Some(mask) = self.allowed() else { return logits.fill(f32::NEG_INFINITY) };
        for (id, logit) in logits.iter_mut().enumerate() {
            if !u32::try_from(id).is_ok_and(|id| mask.is_allowed(id)) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    fn accept(&mut self, token: Token) {
        self.mask = None;
        let Ok(id) = u32::try_from(token.0) else { return };
        // The matcher keeps the error, and has no mask from then on.
        if let Err(error) = self.matcher.consume_token(id) {
            self.failed = Some(first_line(&error.to_string()));
        }
    }

    fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// Each byte is a token; the one after them ends an answer.
    pub(crate) struct Bytes;

    pub(crate) const END: i32 = 256;

    impl Tokenizer for Bytes {
        fn tokenize(&self, text: &str, _add_special: bool) -> Vec<Token> {
            text.bytes().map(|byte| Token(byte.into())).collect()
        }

        fn append_piece(&self, token: Token, bytes: &mut Vec<u8>) {
            bytes.extend(u8::try_from(token.0));
        }

        fn is_end(&self, token: Token) -> bool {
            token.0 == END
        }

        fn vocabulary(&self) -> usize {
            257
        }
    }

    /// Whether the whole text is of that form; else where it is not.
    pub(crate) fn fits(form: &Form, text: &str) -> Result<(), usize> {
        let mut shape = Grammars::new(Arc::new(Bytes)).shape(form).unwrap();
        for (place, token) in Bytes.tokenize(text, false).into_iter().enumerate() {
            if !shape.allows(token) {
                return Err(place);
            }
            shape.accept(token);
        }
        if shape.allows(Token(END)) { Ok(()) } else { Err(text.len()) }
    }

    /// OAI-20.
    #[test]
    fn json_of_a_schema_fits_and_nothing_else() {
        let form = Form::json(&json!({
            "type": "object", "required": ["name", "size"], "additionalProperties": false,
            "properties": {"name": {"type": "string"}, "size": {"type": "integer", "minimum": 0}, "of": {"$ref": "#/$defs/k"}},
            "$defs": {"k": {"enum": ["a", "b"]}}
        }));
        for good in [
            r#"{"name":"x","size":3}"#,
            r#"{"name": "é\n", "size": 30, "of": "a"}"#,
            "{\n  \"name\": \"\",\n  \"size\": 0\n}",
        ] {
            assert_eq!(fits(&form, good), Ok(()), "{good}");
        }
        for (bad, place) in [
            (r#"{"size""#, 2),
            (r#"{"name":"x","size":-"#, 19),
            (r#"{"name":"x"}"#, 11),
            ("Sure", 0),
            (r#"{"name":"x","size":3}."#, 21),
        ] {
            assert_eq!(fits(&form, bad), Err(place), "{bad}");
        }
        assert_eq!(fits(&Form::json_object(), r#"{"a": [1, {"b": null}], "c": "d"}"#), Ok(()));
        assert_eq!(fits(&Form::json_object(), "[1]"), Err(0));
    }

    /// OAI-21.
    #[test]
    fn what_cannot_be_enforced_is_refused() {
        let grammars = Grammars::new(Arc::new(Bytes));
        let table = [
            (json!({"type": "object", "properties": {"a": {"not": {"type": "string"}}}}), "not"),
            (json!({"type": "array", "uniqueItems": true}), "uniqueItems"),
            (json!({"type": "elephant"}), "elephant"),
            (json!({"$ref": "#/$defs/missing"}), "missing"),
            (json!({"$ref": "https://example.com/schema.json"}), "example.com"),
            (json!({"type": "integer", "minimum": 5, "maximum": 2}), "minimum"),
            (json!({"properties": 7}), "properties"),
        ];
        for (schema, word) in table {
            let Err(error) = grammars.shape(&Form::json(&schema)) else { panic!("{schema} was taken") };
            let error = error.to_string();
            assert!(error.contains(word) && !error.contains("compile"), "{schema}: {error}");
        }
    }

    /// OAI-22.
    #[test]
    fn a_shape_is_the_same_after_a_resume() {
        let grammars = Grammars::new(Arc::new(Bytes));
        let form = Form::json(&json!({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}));
        let mut first = grammars.shape(&form).unwrap();
        let tokens = Bytes.tokenize(r#"{"a": true}"#, false);
        for cut in 0..=tokens.len() {
            let mut again = grammars.shape(&form).unwrap();
            tokens[..cut].iter().for_each(|token| again.accept(*token));
            let (mut one, mut other) = (vec![0.0; 257], vec![0.0; 257]);
            first.mask(&mut one);
            again.mask(&mut other);
            assert_eq!(one, other, "after {cut}");
            if let Some(token) = tokens.get(cut) {
                first.accept(*token);
            }
        }
        let mut last = vec![0.0_f32; 257];
        first.mask(&mut last);
        assert!(
            last[..256].iter().all(|logit| *logit == f32::NEG_INFINITY) && last[256] == 0.0,
            "only the end is left"
        );
    }

    /// OAI-22: an answer out of form breaks off, it does not end.
    #[test]
    fn a_token_against_the_form_is_a_failure() {
        let mut shape = Grammars::new(Arc::new(Bytes)).shape(&Form::json_object()).unwrap();
        assert_eq!(shape.failed(), None);
        shape.accept(Token(b'x'.into()));
        let mut logits = [0.0_f32; 257];
        shape.mask(&mut logits);
        assert!(logits.iter().all(|logit| *logit == f32::NEG_INFINITY) && shape.failed().is_some());
    }

    /// OAI-21: no schema brings the worker down or takes it long.
    #[test]
    fn a_schema_of_ill_will_is_bounded() {
        let grammars = Grammars::new(Arc::new(Bytes));
        let mut deep = json!({"type": "string"});
        for _ in 0..60 {
            deep = json!({"type": "array", "items": deep});
        }
        assert!(grammars.shape(&Form::json(&deep)).is_ok());
        let large = json!({"type": "string", "pattern": "^(a{1,1000}b{1,1000}){1,1000}$"});
        assert!(grammars.shape(&Form::json(&large)).is_ok_and(|mut shape| shape.allows(Token(b'"'.into()))));
        let wide: Vec<String> = (0..200_000).map(|number| format!("value {number}")).collect();
        assert!(grammars.shape(&Form::json(&json!({"enum": wide}))).is_err());
        let endless = json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}});
        assert!(grammars.shape(&Form::json(&endless)).is_err());
    }
}
