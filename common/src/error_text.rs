//! Errors as one line for people.

use std::error::Error;

/// The error with its causes, less those that it quotes itself.
#[must_use]
pub fn reason(error: &(dyn Error + 'static)) -> String {
    let mut told = String::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if told.is_empty() {
            told = text;
        } else if !told.contains(&text) {
            told = format!("{told}: {text}");
        }
        next = cause.source();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    #[test]
    fn a_cause_is_told_once_even_if_the_error_quotes_it() {
        let layer = |text, source: Option<Layer>| Layer { text, source: source.map(Box::new) };
        let quoting = layer("can't read x: no such file", Some(layer("no such file", None)));
        assert_eq!(reason(&quoting), "can't read x: no such file");
        let plain = layer("can't start", Some(quoting));
        assert_eq!(reason(&plain), "can't start: can't read x: no such file");
    }
}
