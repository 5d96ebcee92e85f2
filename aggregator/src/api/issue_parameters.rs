//! The parameters of an issue list.
//!
//! Supported: `project` (an id or slug; `-1` for all), `cursor`, `limit` or `per_page`, `query` with `is:` and a status and
//! with words that title or culprit contain, and `sort=date`. Parameters that only shape the statistics (`statsPeriod`, `expand`, `collapse` …) are taken and not needed.

use super::error::ApiError;
use super::pagination::Page;

/// What a list is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IssueParameters {
    pub(super) page: Page,
    /// The project asked for, by id or slug; none for all.
    pub(super) project: Option<String>,
    /// The status asked for, as the store names it; none for all.
    pub(super) status: Option<String>,
    /// What title or culprit should contain.
    pub(super) text: Option<String>,
}

impl IssueParameters {
    /// Reads the pairs of a query.
    ///
    /// # Errors
    /// [`ApiError::BadParameter`] for anything that is wrong, or would change the answer and is not supported.
    pub(super) fn read(pairs: &[(String, String)]) -> Result<Self, ApiError> {
        let last = |name: &str| pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        if let Some(sort) = last("sort").filter(|sort| !matches!(*sort, "" | "date")) {
            return Err(ApiError::BadParameter(format!("sort: {sort:?} is not supported, only \"date\" is")));
        }
        for name in ["environment", "start", "end"] {
            if last(name).is_some_and(|value| !value.is_empty()) {
                return Err(ApiError::BadParameter(format!("{name}: filtering by it is not supported")));
            }
        }
        // Without a query, clients expect the issues that are open; an empty one asks for all.
        let Search { status, text } = Search::read(last("query").unwrap_or("is:unresolved"))?;
        Ok(Self {
            page: Page::read(last("cursor"), last("limit").or(last("per_page")))?,
            project: project(pairs)?,
            status,
            text,
        })
    }
}

fn project(pairs: &[(String, String)]) -> Result<Option<String>, ApiError> {
    let mut named: Vec<&str> = pairs
        .iter()
        .filter(|(key, value)| matches!(key.as_str(), "project" | "project[]") && !value.is_empty())
        .map(|(_, value)| value.as_str())
        .collect();
    named.dedup();
    match named.as_slice() {
        [] => Ok(None),
        all if all.contains(&"-1") => Ok(None),
        [one] => Ok(Some((*one).to_owned())),
        _ => Err(ApiError::BadParameter("project: expected one project, or -1 for all".to_owned())),
    }
}

/// What a query asks for.
struct Search {
    status: Option<String>,
    text: Option<String>,
}

impl Search {
    fn read(query: &str) -> Result<Self, ApiError> {
        let mut status = None;
        let mut words = Vec::new();
        for term in query.split_whitespace() {
            let asked = match term {
                "is:unresolved" => "unresolved",
                "is:resolved" => "resolved",
                "is:ignored" | "is:archived" => "ignored",
                word if is_plain(word) => {
                    words.push(word);
                    continue;
                }
                _ => return Err(ApiError::BadParameter(format!("query: the term {term:?} is not supported"))),
            };
            if status.is_some_and(|before| before != asked) {
                return Err(ApiError::BadParameter("query: an issue has one status only".to_owned()));
            }
            status = Some(asked);
        }
        let text = (!words.is_empty()).then(|| words.join(" "));
        Ok(Self { status: status.map(str::to_owned), text })
    }
}

/// Whether a word means itself: no filter, negation, quoting, wildcard, grouping or operator.
fn is_plain(word: &str) -> bool {
    !word.contains([':', '"', '*', '(', ')', '[', ']', '\\']) && !word.starts_with('!') && !matches!(word, "AND" | "OR")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<IssueParameters, ApiError> {
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        IssueParameters::read(&pairs)
    }

    #[test]
    fn without_parameters_all_projects_open_issues_are_asked_for() {
        let parameters = read(&[]).unwrap();
        assert_eq!(parameters.project, None);
        assert_eq!(parameters.status.as_deref(), Some("unresolved"));
        assert_eq!(parameters.page, Page { offset: 0, limit: 100 });
    }

    #[test]
    fn the_supported_parameters_are_read() {
        let pairs = [
            ("project", "shop"),
            ("per_page", "5"),
            ("cursor", "0:5:0"),
            ("query", "is:archived"),
            ("statsPeriod", "24h"),
        ];
        let parameters = read(&pairs).unwrap();
        assert_eq!(parameters.project.as_deref(), Some("shop"));
        assert_eq!(parameters.status.as_deref(), Some("ignored"));
        assert_eq!(parameters.page, Page { offset: 5, limit: 5 });
        let all = read(&[("query", "")]).unwrap();
        assert_eq!((all.status, all.text), (None, None));
        let search = read(&[("query", "bad is:unresolved input")]).unwrap();
        assert_eq!((search.status.as_deref(), search.text.as_deref()), (Some("unresolved"), Some("bad input")));
        assert_eq!(read(&[("project", "-1"), ("sort", "date")]).unwrap().project, None);
    }

    #[test]
    fn what_would_change_the_answer_and_is_not_supported_is_refused() {
        for pairs in [
            &[("query", "is:unresolved release:1.0")][..],
            &[("query", "is:resolved is:unresolved")],
            &[("query", "\"quoted text\"")],
            &[("query", "a OR b")],
            &[("query", "!text")],
            &[("sort", "freq")],
            &[("environment", "production")],
            &[("project", "1"), ("project", "2")],
            &[("limit", "1000")],
            &[("cursor", "nonsense")],
        ] {
            assert!(matches!(read(pairs), Err(ApiError::BadParameter(_))), "{pairs:?}");
        }
    }
}
