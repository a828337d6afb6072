//! What bends the model's choice besides sampling: biases, penalties for what was said before, a grammar. All follow from
//! the request and the tokens so far.

use std::collections::HashMap;

use crate::engine::Token;
use crate::grammar::Shape;
use crate::job::Constraint;

/// What a request asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bending {
    /// Added to these tokens' numbers.
    pub bias: Vec<(Token, f32)>,
    /// Taken from the numbers of tokens that were there.
    pub presence_penalty: f32,
    /// Taken for each time they were there.
    pub frequency_penalty: f32,
}

/// All of it for one answer.
pub struct Shaping {
    bending: Bending,
    said: HashMap<Token, u32>,
    shape: Option<Shape>,
}

impl Shaping {
    /// For one answer; `None` where nothing bends it.
    #[must_use]
    pub fn constraint(bending: &Bending, shape: Option<Shape>) -> Option<Box<dyn Constraint>> {
        if *bending == Bending::default() {
            return shape.map(|shape| Box::new(shape) as Box<dyn Constraint>);
        }
        Some(Box::new(Self { bending: bending.clone(), said: HashMap::new(), shape }))
    }
}

impl Constraint for Shaping {
    fn allows(&mut self, _token: Token) -> bool {
        // The choice was made by the unbent numbers.
        false
    }

    fn mask(&mut self, logits: &mut [f32]) {
        let mut add = |token: &Token, value: f32| {
            if let Some(logit) = usize::try_from(token.0).ok().and_then(|id| logits.get_mut(id)) {
                *logit += value;
            }
        };
        self.bending.bias.iter().for_each(|(token, bias)| add(token, *bias));
        for (token, times) in &self.said {
            add(token, -self.bending.presence_penalty - self.bending.frequency_penalty * *times as f32);
        }
        if let Some(shape) = &mut self.shape {
            shape.mask(logits);
        }
    }

    fn accept(&mut self, token: Token) {
        *self.said.entry(token).or_default() += 1;
        if let Some(shape) = &mut self.shape {
            shape.accept(token);
        }
    }

    fn failed(&self) -> Option<&str> {
        self.shape.as_ref().and_then(Shape::failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OAI-08.
    #[test]
    fn biases_and_penalties_are_openais() {
        let bending =
            Bending { bias: vec![(Token(1), -100.0), (Token(9), 1.0)], presence_penalty: 0.5, frequency_penalty: 0.25 };
        let mut shaping = Shaping::constraint(&bending, None).unwrap();
        for token in [2, 2, 3] {
            shaping.accept(Token(token));
        }
        let mut logits = [1.0_f32; 5];
        shaping.mask(&mut logits);
        assert_eq!(logits, [1.0, -99.0, 0.0, 0.25, 1.0]);
    }

    #[test]
    fn nothing_asked_for_is_no_constraint() {
        assert!(Shaping::constraint(&Bending::default(), None).is_none());
    }
}
