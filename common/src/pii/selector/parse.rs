//! The parser of selectors: recursive descent, one function a rule of the grammar.

use thiserror::Error;

use super::value_type::ValueType;
use super::{DEPTH_MAX, SELECTOR_BYTES_MAX, Selector, SelectorItem, SelectorPath};

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("at character {character}: {problem}")]
pub struct SelectorError {
    /// Where, counted in characters from 1.
    pub character: usize,
    /// What is wrong there.
    pub problem: String,
}

/// Whether a key can be written without quotes.
pub(super) fn is_plain_key(key: &str) -> bool {
    let mut bytes = key.bytes();
    bytes.next().is_some_and(starts_key) && bytes.all(continues_key)
}

const fn starts_key(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

const fn continues_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

pub(super) fn selector(text: &str) -> Result<Selector, SelectorError> {
    if text.len() > SELECTOR_BYTES_MAX {
        let problem = format!("the selector is longer than {SELECTOR_BYTES_MAX} bytes");
        return Err(SelectorError { character: 1, problem });
    }
    let mut parser = Parser { text, at: 0, depth: 0 };
    let selector = parser.or()?;
    match parser.peek() {
        None => Ok(selector),
        Some(b')') => Err(parser.error("this parenthesis was never opened")),
        Some(_) => Err(parser.error("expected `||`, `&&` or the end of the selector")),
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn or(&mut self) -> Result<Selector, SelectorError> {
        let mut all = vec![self.and()?];
        while self.operator(b'|') {
            all.push(self.and()?);
        }
        Ok(one_or(all, Selector::Or))
    }

    fn and(&mut self) -> Result<Selector, SelectorError> {
        let mut all = vec![self.unary()?];
        while self.operator(b'&') {
            all.push(self.unary()?);
        }
        Ok(one_or(all, Selector::And))
    }

    fn unary(&mut self) -> Result<Selector, SelectorError> {
        if matches!(self.peek(), Some(b'!' | b'~')) {
            self.at += 1;
            return Ok(Selector::Not(Box::new(self.operand()?)));
        }
        self.operand()
    }

    fn operand(&mut self) -> Result<Selector, SelectorError> {
        if self.peek() != Some(b'(') {
            return self.path().map(Selector::Path);
        }
        if self.depth == DEPTH_MAX {
            return Err(self.error(&format!("more than {DEPTH_MAX} parentheses within each other")));
        }
        let opened_at = self.at;
        self.at += 1;
        self.depth += 1;
        let inner = self.or()?;
        if self.peek() != Some(b')') {
            self.at = if self.peek().is_none() { opened_at } else { self.at };
            return Err(self.error("this parenthesis is not closed, or what follows is no operator"));
        }
        self.at += 1;
        self.depth -= 1;
        Ok(inner)
    }

    fn path(&mut self) -> Result<SelectorPath, SelectorError> {
        self.blanks();
        let start = self.at;
        let mut items = vec![self.item()?];
        while self.peek() == Some(b'.') {
            self.at += 1;
            items.push(self.item()?);
        }
        SelectorPath::new(items).map_err(|problem| {
            self.at = start;
            self.error(problem)
        })
    }

    fn item(&mut self) -> Result<SelectorItem, SelectorError> {
        match self.peek() {
            Some(b'$') => self.value_type(),
            Some(b'*') => {
                let stars = self.run(|byte| byte == b'*').len();
                match stars {
                    1 => Ok(SelectorItem::Wildcard),
                    2 => Ok(SelectorItem::DeepWildcard),
                    _ => {
                        self.at -= stars;
                        Err(self.error("write `*` for one step or `**` for any number"))
                    }
                }
            }
            Some(b'\'') => self.quoted(),
            Some(b'0'..=b'9') => {
                let start = self.at;
                let digits = self.run(continues_key);
                digits.parse().map(SelectorItem::Index).map_err(|_| {
                    self.at = start;
                    self.error("expected an index; a key that begins with a digit is written in quotes")
                })
            }
            Some(byte) if starts_key(byte) => Ok(SelectorItem::Key(self.run(continues_key).into())),
            Some(_) => Err(self.error("expected a key, a `'quoted key'`, an index, `*`, `**` or a `$type`")),
            None => Err(self.error("the selector ends where a key, an index, `*`, `**` or a `$type` is expected")),
        }
    }

    fn value_type(&mut self) -> Result<SelectorItem, SelectorError> {
        let start = self.at;
        self.at += 1;
        let name = self.run(continues_key);
        ValueType::of_name(name).map(SelectorItem::Type).ok_or_else(|| {
            let problem = format!("there is no type `${name}`");
            self.at = start;
            self.error(&problem)
        })
    }

    fn quoted(&mut self) -> Result<SelectorItem, SelectorError> {
        let start = self.at;
        let mut key = String::new();
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let Some(length) = rest.find('\'') else {
                self.at = start;
                return Err(self.error("this quote is not closed"));
            };
            key.push_str(&rest[..length]);
            self.at += length + 1;
            if !rest[length + 1..].starts_with('\'') {
                return Ok(SelectorItem::Key(key.into()));
            }
            key.push('\'');
            self.at += 1;
        }
    }

    /// The next byte that is no blank; the position is then there.
    fn peek(&mut self) -> Option<u8> {
        self.blanks();
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    }

    /// Skips an operator of one or two of these characters.
    fn operator(&mut self, byte: u8) -> bool {
        if self.peek() != Some(byte) {
            return false;
        }
        self.at += 1;
        self.at += usize::from(self.text.as_bytes().get(self.at) == Some(&byte));
        true
    }

    fn run(&mut self, belongs: impl Fn(u8) -> bool) -> &'t str {
        let rest = &self.text[self.at..];
        // What belongs is ASCII, so the cut is on a character boundary.
        let length = rest.bytes().take_while(|byte| belongs(*byte)).count();
        self.at += length;
        &rest[..length]
    }

    fn error(&self, problem: &str) -> SelectorError {
        let before = self.text.get(..self.at).unwrap_or(self.text);
        SelectorError { character: before.chars().count() + 1, problem: problem.to_owned() }
    }
}

/// The only one, or all of them joined.
pub(in crate::pii) fn one_or(mut all: Vec<Selector>, many: impl FnOnce(Vec<Selector>) -> Selector) -> Selector {
    match (all.len(), all.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            all.extend(last);
            many(all)
        }
    }
}
