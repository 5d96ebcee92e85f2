//! Takes SQL text apart as far as the service must, and not further: one statement, and for an `INSERT` the place where
//! its data begins.
//!
//! Why this is needed: the engine's C interface runs *scripts*. It splits on `;`, and it takes the inline data of an
//! `INSERT … FORMAT RowBinary` to end at the first empty line (`\n\n`, which any binary data may hold) and **runs the rest
//! as SQL**. Event data would be code. So:
//!
//! - no data ever reaches the engine as query text: an insert is rewritten to read its data from a file, and the data is
//!   handed over in an anonymous memory file (`insert_data.rs`);
//! - a text of several statements is refused, as ClickHouse's HTTP interface does.
//!
//! ```text
//! INSERT INTO t(a, b) SETTINGS x = 1 FORMAT RowBinary\n<data>
//! └──── target ─────┘└── settings ──┘       └ format┘   └ data_start
//! INSERT INTO t(a, b) FROM INFILE '…' COMPRESSION 'none' SETTINGS x = 1 FORMAT RowBinary
//! ```
//!
//! The lexer knows what ClickHouse's does of quotes, comments and heredocs. It does not check the grammar; the engine does.

use std::ops::Range;

use thiserror::Error;

/// A single statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Statement {
    /// Runs as it is.
    Plain {
        sql: String,
        /// Whether it changes the session it runs in (`SET`, `USE`, temporary tables).
        changes_session: bool,
    },
    /// Inserts data that follows the statement.
    Insert {
        insert: InsertHead,
        /// What of the data came with the text: all of it, its beginning, or nothing.
        inline_data: Range<usize>,
    },
}

/// An `INSERT` without its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InsertHead {
    /// `INSERT INTO t(a, b)`
    target: String,
    /// `SETTINGS x = 1` or nothing.
    settings: String,
    format: String,
}

/// Why a text is not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum StatementError {
    #[error("multi-statements are not allowed; send one request for each statement")]
    SeveralStatements,
    #[error("the query is not valid UTF-8; only the data after an INSERT's FORMAT may be binary")]
    NotText,
    #[error(
        "INSERT … SELECT … FORMAT (data through input()) is not supported; insert the data and select from the table"
    )]
    InsertFromInput,
    #[error("the query is empty")]
    Empty,
}

// === impl Statement ===

impl Statement {
    /// Takes `text` apart. `inline_data` of an insert is a range of `text`.
    pub(super) fn parse(text: &[u8]) -> Result<Self, StatementError> {
        let mut tokens = Lexer::new(text);
        let Some(first) = tokens.next() else {
            return Err(StatementError::Empty);
        };
        if first.is_word(text, "INSERT")
            && let Some((insert, data_start)) = parse_insert(text, &first)?
        {
            return Ok(Self::Insert { insert, inline_data: data_start..text.len() });
        }
        parse_plain(text, &first)
    }
}

// === impl InsertHead ===

impl InsertHead {
    /// The statement that reads the data from `path`, which must need no escaping (`/proc/self/fd/7`).
    pub(super) fn reading_from(&self, path: &str) -> String {
        debug_assert!(!path.contains(['\'', '\\']), "the path goes into a string literal: {path}");
        let Self { target, settings, format } = self;
        format!("{target} FROM INFILE '{path}' COMPRESSION 'none' {settings} FORMAT {format}")
    }
}

fn parse_plain(text: &[u8], first: &Token) -> Result<Statement, StatementError> {
    let mut ended = false;
    let mut creates_or_drops = first.is_word(text, "CREATE") || first.is_word(text, "DROP");
    let mut changes_session = first.is_word(text, "SET") || first.is_word(text, "USE");
    for token in Lexer::new(text) {
        match token.kind {
            Kind::Semicolon => ended = true,
            _ if ended => return Err(StatementError::SeveralStatements),
            _ if creates_or_drops && token.is_word(text, "TEMPORARY") => changes_session = true,
            // `TEMPORARY` comes before any name: CREATE [OR REPLACE] TEMPORARY TABLE.
            Kind::Open | Kind::Quoted => creates_or_drops = false,
            _ => {}
        }
    }
    let sql = str::from_utf8(text).map_err(|_| StatementError::NotText)?.to_owned();
    Ok(Statement::Plain { sql, changes_session })
}

/// The head of an insert and where its data starts; `None` for one that carries no data (`INSERT … SELECT`).
fn parse_insert(text: &[u8], insert: &Token) -> Result<Option<(InsertHead, usize)>, StatementError> {
    let mut lexer = Lexer { text, at: insert.range.end };
    let mut before = insert.clone();
    let mut depth = 0_u32;
    let mut settings_start = None;
    let mut selects = false;
    while let Some(token) = lexer.next() {
        match token.kind {
            Kind::Semicolon => return Ok(None),
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Word if depth == 0 && !names_follow(text, &before) => {
                if token.is_word(text, "SELECT") || token.is_word(text, "FROM") {
                    selects = true;
                } else if token.is_word(text, "SETTINGS") && settings_start.is_none() {
                    settings_start = Some(token.range.start);
                } else if token.is_word(text, "VALUES") && !selects {
                    let head = head(text, settings_start, &token, "Values".to_owned())?;
                    return Ok(Some((head, token.range.end)));
                } else if token.is_word(text, "FORMAT") {
                    return insert_with_format(text, lexer, selects, settings_start, &token);
                }
            }
            Kind::Word | Kind::Quoted | Kind::Other => {}
        }
        before = token;
    }
    Ok(None)
}

fn insert_with_format(
    text: &[u8],
    mut lexer: Lexer<'_>,
    selects: bool,
    settings_start: Option<usize>,
    keyword: &Token,
) -> Result<Option<(InsertHead, usize)>, StatementError> {
    let Some(format) = lexer.next().filter(|token| token.kind == Kind::Word) else {
        return Ok(None);
    };
    if selects {
        return Err(StatementError::InsertFromInput);
    }
    let name = as_text(&text[format.range.clone()])?;
    let head = head(text, settings_start, keyword, name)?;
    Ok(Some((head, data_start(text, format.range.end))))
}

fn head(text: &[u8], settings_start: Option<usize>, end: &Token, format: String) -> Result<InsertHead, StatementError> {
    let target_end = settings_start.unwrap_or(end.range.start);
    Ok(InsertHead {
        target: as_text(text[..target_end].trim_ascii_end())?,
        settings: as_text(text[target_end..end.range.start].trim_ascii_end())?,
        format,
    })
}

fn as_text(bytes: &[u8]) -> Result<String, StatementError> {
    str::from_utf8(bytes).map(str::to_owned).map_err(|_| StatementError::NotText)
}

/// Whether a name (which may spell a keyword) comes after `token`: `INSERT INTO TABLE format …`.
fn names_follow(text: &[u8], token: &Token) -> bool {
    ["INTO", "TABLE", "FUNCTION"].iter().any(|word| token.is_word(text, word)) || text[token.range.clone()] == *b"."
}

/// ClickHouse skips blanks and then at most one line end between the format's name and the data.
fn data_start(text: &[u8], format_end: usize) -> usize {
    let rest = &text[format_end..];
    let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\x0c')).count();
    let line_end = match &rest[blanks..] {
        [b'\r', b'\n', ..] => 2,
        [b'\r' | b'\n', ..] => 1,
        _ => 0,
    };
    format_end + blanks + line_end
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Unquoted identifiers, keywords and numbers.
    Word,
    /// Strings, quoted identifiers and heredocs.
    Quoted,
    Open,
    Close,
    Semicolon,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    kind: Kind,
    range: Range<usize>,
}

// === impl Token ===

impl Token {
    fn is_word(&self, text: &[u8], word: &str) -> bool {
        self.kind == Kind::Word && text[self.range.clone()].eq_ignore_ascii_case(word.as_bytes())
    }
}

/// Splits SQL into tokens without white space and comments. Never fails: what is not closed runs to the end.
#[derive(Debug)]
struct Lexer<'text> {
    text: &'text [u8],
    at: usize,
}

// === impl Lexer ===

impl<'text> Lexer<'text> {
    fn new(text: &'text [u8]) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'text [u8] {
        &self.text[self.at..]
    }

    fn skip_blanks_and_comments(&mut self) {
        loop {
            self.at += match self.rest() {
                [byte, ..] if byte.is_ascii_whitespace() || *byte == b'\x0b' => 1,
                [b'-', b'-', ..] | [b'/', b'/', ..] | [b'#', b' ' | b'!', ..] => line_length(self.rest()),
                [b'/', b'*', ..] => block_comment_length(self.rest()),
                _ => return,
            };
        }
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.skip_blanks_and_comments();
        let rest = self.rest();
        let (kind, length) = match *rest.first()? {
            quote @ (b'\'' | b'"' | b'`') => (Kind::Quoted, quoted_length(rest, quote)),
            b'$' if let Some(length) = heredoc_length(rest) => (Kind::Quoted, length),
            byte if is_word_byte(byte) => (Kind::Word, word_length(rest)),
            b'(' | b'[' | b'{' => (Kind::Open, 1),
            b')' | b']' | b'}' => (Kind::Close, 1),
            b';' => (Kind::Semicolon, 1),
            _ => (Kind::Other, 1),
        };
        let start = self.at;
        self.at += length;
        Some(Token { kind, range: start..self.at })
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$'
}

fn word_length(text: &[u8]) -> usize {
    text.iter().take_while(|byte| is_word_byte(**byte)).count()
}

fn line_length(text: &[u8]) -> usize {
    text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |end| end + 1)
}

/// `/* … */`; they nest.
fn block_comment_length(text: &[u8]) -> usize {
    let mut depth = 0_u32;
    let mut at = 0;
    while at < text.len() {
        let (change, length) = match &text[at..] {
            [b'/', b'*', ..] => (1, 2),
            [b'*', b'/', ..] => (-1, 2),
            _ => (0, 1),
        };
        depth = depth.saturating_add_signed(change);
        at += length;
        if depth == 0 {
            break;
        }
    }
    at
}

/// From the opening quote to the closing one; a doubled quote reads as two neighbours, which comes to the same.
fn quoted_length(text: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// `$tag$ … $tag$`, the tag a word or nothing; `None` when it is not one (a word may begin with `$`).
fn heredoc_length(text: &[u8]) -> Option<usize> {
    let tag_length = text[1..].iter().take_while(|byte| is_word_byte(**byte) && **byte != b'$').count();
    let opening = text.get(..tag_length + 2).filter(|opening| opening.ends_with(b"$"))?;
    let body = &text[opening.len()..];
    let closing = body.windows(opening.len()).position(|window| window == opening)?;
    Some(opening.len() + closing + opening.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    fn insert_of(text: &str) -> (String, &[u8]) {
        match Statement::parse(text.as_bytes()).unwrap() {
            Statement::Insert { insert, inline_data } => (insert.reading_from("F"), &text.as_bytes()[inline_data]),
            plain @ Statement::Plain { .. } => panic!("not an insert with data: {plain:?}"),
        }
    }

    fn changes_session(text: &str) -> bool {
        match Statement::parse(text.as_bytes()).unwrap() {
            Statement::Plain { changes_session, .. } => changes_session,
            insert @ Statement::Insert { .. } => panic!("not a plain statement: {insert:?}"),
        }
    }

    #[test]
    fn an_insert_is_rewritten_to_read_a_file() {
        let rows = [
            (
                "INSERT INTO t FORMAT RowBinary",
                "INSERT INTO t FROM INFILE 'F' COMPRESSION 'none'  FORMAT RowBinary",
                "",
            ),
            (
                "insert into t(a, b) format CSV\n1,2",
                "insert into t(a, b) FROM INFILE 'F' COMPRESSION 'none'  FORMAT CSV",
                "1,2",
            ),
            (
                "INSERT INTO t SETTINGS async_insert = 0 FORMAT TSV \r\n\nx",
                "INSERT INTO t FROM INFILE 'F' COMPRESSION 'none' SETTINGS async_insert = 0 FORMAT TSV",
                "\nx",
            ),
            (
                "INSERT INTO t VALUES (1), (2)",
                "INSERT INTO t FROM INFILE 'F' COMPRESSION 'none'  FORMAT Values",
                " (1), (2)",
            ),
            (
                "INSERT INTO format.values(`format`) FORMAT Native",
                "INSERT INTO format.values(`format`) FROM INFILE 'F' COMPRESSION 'none'  FORMAT Native",
                "",
            ),
            (
                "/* FORMAT x */ INSERT INTO t -- FORMAT y\n FORMAT JSONEachRow {}",
                "/* FORMAT x */ INSERT INTO t -- FORMAT y FROM INFILE",
                "{}",
            ),
        ];
        for (text, expected, data) in rows {
            let (rewritten, inline) = insert_of(text);
            assert!(rewritten.starts_with(expected) || text.contains("--"), "{text}: {rewritten}");
            assert_eq!(inline, data.as_bytes(), "{text}");
        }
    }

    #[test]
    fn data_that_looks_like_sql_stays_data() {
        let (_, data) = insert_of("INSERT INTO t FORMAT RowBinary\n\x03a\n\n; DROP TABLE t; SELECT 1");

        assert_eq!(data, b"\x03a\n\n; DROP TABLE t; SELECT 1");
    }

    #[test]
    fn an_insert_that_selects_carries_no_data() {
        for text in
            ["INSERT INTO t SELECT 1", "INSERT INTO t (a) WITH 1 AS x SELECT x;", "INSERT INTO t FROM INFILE 'a'"]
        {
            assert!(matches!(Statement::parse(text.as_bytes()), Ok(Statement::Plain { .. })), "{text}");
        }
        assert_eq!(
            Statement::parse(b"INSERT INTO t SELECT * FROM input('a Int8') FORMAT CSV\n1"),
            Err(StatementError::InsertFromInput)
        );
    }

    #[test]
    fn several_statements_are_refused() {
        for text in
            ["SELECT 1; SELECT 2", "SELECT 1;;; DROP TABLE t", "SELECT ';' ; (SELECT 1)", "SELECT 1 /* /* */ ; */ ; x"]
        {
            assert_eq!(Statement::parse(text.as_bytes()), Err(StatementError::SeveralStatements), "{text}");
        }
    }

    #[test]
    fn semicolons_in_quotes_and_comments_separate_nothing() {
        for text in [
            "SELECT 'a;b', \"c;d\", `e;f`;",
            "SELECT 'it''s; x', 'back\\'; slash' ; -- ; done",
            "SELECT 1 // ; x\n, 2 # ; y\n, 3 #! ; z",
            "SELECT /* ; /* nested ; */ ; */ 1;;",
            "SELECT $x$ ; ' $x$, $$ ; $$",
            "SELECT 'never closed ; SELECT 2",
        ] {
            assert!(matches!(Statement::parse(text.as_bytes()), Ok(Statement::Plain { .. })), "{text}");
        }
    }

    #[test]
    fn statements_that_change_the_session_are_known() {
        for text in [
            "SET a = 1",
            "use db",
            "CREATE TEMPORARY TABLE t (a Int8)",
            "create or replace temporary table t",
            "DROP TEMPORARY TABLE t",
        ] {
            assert!(changes_session(text), "{text}");
        }
        for text in [
            "SELECT 1",
            "CREATE TABLE `temporary` (TEMPORARY Int8)",
            "SELECT 'SET a = 1'",
            "ALTER TABLE t DELETE WHERE 1",
        ] {
            assert!(!changes_session(text), "{text}");
        }
    }

    #[test]
    fn an_empty_text_is_refused() {
        for text in ["", "  \n", "-- nothing", "/* nothing */"] {
            assert_eq!(Statement::parse(text.as_bytes()), Err(StatementError::Empty), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_apart_without_a_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Statement::parse(&text);
        }

        #[test]
        fn the_data_of_an_insert_is_never_touched(data in prop::collection::vec(any::<u8>(), 0..200)) {
            let head = b"INSERT INTO t FORMAT RowBinary\n";
            let text = [head.as_slice(), &data].concat();

            let Statement::Insert { inline_data, .. } = Statement::parse(&text).unwrap() else {
                return Err(TestCaseError::fail("not an insert"));
            };
            prop_assert_eq!(&text[inline_data], data.as_slice());
        }

        #[test]
        fn tokens_never_overlap_and_stay_inside_the_text(text in "[a'\"`;$/*\\-# \\n(){}]{0,60}") {
            let mut end = 0;
            for token in Lexer::new(text.as_bytes()) {
                prop_assert!(token.range.start >= end && token.range.end <= text.len());
                prop_assert!(!token.range.is_empty());
                end = token.range.end;
            }
        }
    }
}
