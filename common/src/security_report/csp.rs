//! Violations of a content security policy, in the words of `report-uri` (kebab-case) and of the Reporting API (camelCase).

use super::{Described, SecurityReportError, text};
use crate::tree::{Object, Value};

/// The fields of a report: their names in the event, and those in reports of either form.
const FIELDS: [(&str, &[&str]); 12] = [
    ("document_uri", &["document-uri", "documentURL", "documentURI"]),
    ("referrer", &["referrer"]),
    ("blocked_uri", &["blocked-uri", "blockedURL", "blockedURI"]),
    ("effective_directive", &["effective-directive", "effectiveDirective"]),
    ("violated_directive", &["violated-directive", "violatedDirective"]),
    ("original_policy", &["original-policy", "originalPolicy"]),
    ("disposition", &["disposition"]),
    ("status_code", &["status-code", "statusCode"]),
    ("source_file", &["source-file", "sourceFile"]),
    ("line_number", &["line-number", "lineNumber"]),
    ("column_number", &["column-number", "columnNumber"]),
    ("script_sample", &["script-sample", "sample"]),
];

/// Longest culprit: some browsers put the whole policy into the violated directive.
const MAX_CULPRIT_CHARS: usize = 200;

pub(super) fn describe<'a>(body: &Object<'a>, user_agent: Option<&str>) -> Result<Described<'a>, SecurityReportError> {
    let mut report = Object::new();
    for (name, spellings) in FIELDS {
        let written = spellings.iter().find_map(|spelling| body.get(spelling));
        if let Some(value @ (Value::String(_) | Value::Number(_))) = written {
            report.insert(name, value.clone());
        }
    }
    let violated = text(&report, "violated_directive").map(str::to_owned);
    let directive = text(&report, "effective_directive")
        .or_else(|| violated.as_deref()?.split_whitespace().next())
        .ok_or(SecurityReportError::Incomplete { kind: "csp", field: "a directive" })?
        .to_ascii_lowercase();
    report.insert("effective_directive", directive.clone());
    let blocked = text(&report, "blocked_uri").unwrap_or("self").to_owned();
    let document = text(&report, "document_uri").map(str::to_owned);
    let subject = subject(&directive);
    let message = message(subject, &Blocked::of(&blocked, &directive, violated.as_deref(), document.as_deref()));
    Ok(Described {
        kind: "csp",
        message,
        culprit: violated.unwrap_or_else(|| directive.clone()).chars().take(MAX_CULPRIT_CHARS).collect(),
        tags: vec![("effective-directive", directive), ("blocked-uri", without_query(&blocked).to_owned())],
        url: document,
        referrer: text(&report, "referrer").map(str::to_owned),
        user_agent: user_agent.map(str::to_owned),
        happened_at: None,
        report,
    })
}

/// What a directive is about, as people say it.
fn subject(directive: &str) -> &str {
    match directive {
        "script-src" | "script-src-elem" | "script-src-attr" => "script",
        "style-src" | "style-src-elem" | "style-src-attr" => "style",
        "img-src" => "image",
        "frame-src" | "child-src" => "frame",
        other => other.strip_suffix("-src").unwrap_or(other),
    }
}

/// What was blocked.
enum Blocked<'a> {
    /// Code within the page.
    Inline,
    /// Code made of text.
    Eval,
    /// Something of the page's own host.
    Own(&'a str),
    /// Something of another host, or of a scheme without hosts.
    From(String),
}

impl<'a> Blocked<'a> {
    fn of(blocked: &'a str, directive: &str, violated: Option<&str>, document: Option<&'a str>) -> Self {
        let own = document.and_then(host).unwrap_or("self");
        match blocked {
            "inline" => Self::Inline,
            "eval" | "wasm-eval" => Self::Eval,
            // Older browsers say "self" for code in the page; what the directive lacks tells them apart.
            "self" | "'self'" if directive.starts_with("script-src") || directive.starts_with("style-src") => {
                let allows = |keyword| violated.is_some_and(|violated| violated.contains(keyword));
                match (allows("'unsafe-inline'"), allows("'unsafe-eval'")) {
                    (true, false) => Self::Eval,
                    (false, true) => Self::Inline,
                    _ => Self::Own(own),
                }
            }
            "self" | "'self'" => Self::Own(own),
            url => match host(url) {
                Some(host) if document.and_then(self::host) == Some(host) => Self::Own(host),
                Some(host) => Self::From(host.to_owned()),
                None => Self::From(format!("{}:", url.split(':').next().unwrap_or_default())),
            },
        }
    }
}

fn message(subject: &str, blocked: &Blocked<'_>) -> String {
    match blocked {
        Blocked::Inline => format!("Blocked inline '{subject}'"),
        Blocked::Eval => format!("Blocked unsafe eval() '{subject}'"),
        Blocked::Own(host) => format!("Blocked '{subject}' from '{host}'"),
        Blocked::From(place) => format!("Blocked '{subject}' from '{place}'"),
    }
}

/// Host and port of an address.
fn host(url: &str) -> Option<&str> {
    let (_scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_user, host)| host);
    (!host.is_empty()).then_some(host)
}

fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}
