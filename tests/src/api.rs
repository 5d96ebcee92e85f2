//! The API that pages and other programs use.

use std::net::SocketAddr;
use std::time::Duration;

use picket_common::ids::EventId;
use serde_json::Value;

use crate::http::{Answer, HttpClient};
use crate::installation::ORGANISATION;
use crate::wait::{eventually, holds};

/// A client with a token.
#[derive(Debug)]
pub struct Api {
    http: HttpClient,
    address: SocketAddr,
    authorization: String,
}

/// What a list says of an issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Its number.
    pub id: String,
    /// The short id.
    pub short_id: String,
    /// The title.
    pub title: String,
    /// Where it comes from.
    pub culprit: String,
    /// The level.
    pub level: String,
    /// Events.
    pub count: u64,
    /// Users.
    pub users: u64,
}

impl Issue {
    fn read(json: &Value) -> Self {
        let text = |key: &str| json[key].as_str().unwrap_or_else(|| panic!("{key} in {json}")).to_owned();
        Self {
            id: text("id"),
            short_id: text("shortId"),
            title: text("title"),
            culprit: text("culprit"),
            level: text("level"),
            count: text("count").parse().expect("a count"),
            users: json["userCount"].as_u64().expect("a count of users"),
        }
    }
}

impl Api {
    /// A client for the aggregator whose pages are at `address`.
    #[must_use]
    pub fn new(address: SocketAddr, token: &str) -> Self {
        Self { http: HttpClient::new(), address, authorization: format!("Bearer {token}") }
    }

    /// Gets a path.
    ///
    /// # Errors
    /// If nobody answers.
    pub fn get(&self, path: &str) -> Result<Answer, String> {
        self.http.get(self.address, path, &[("authorization", &self.authorization)]).map_err(|error| error.0)
    }

    /// All issues of all projects.
    ///
    /// # Panics
    /// If the API answers with something else.
    #[must_use]
    #[track_caller]
    pub fn issues(&self) -> Vec<Issue> {
        self.try_issues().expect("a list of issues")
    }

    fn try_issues(&self) -> Result<Vec<Issue>, String> {
        let mut issues = Vec::new();
        let mut cursor = Some("0:0:0".to_owned());
        while let Some(at) = cursor {
            let answer = self.get(&format!("/api/0/organizations/{ORGANISATION}/issues/?query=&cursor={at}"))?;
            holds(answer.status == 200, answer.text())?;
            issues.extend(answer.json().as_array().expect("a list").iter().map(Issue::read));
            cursor = next_cursor(answer.header("link").unwrap_or_default());
        }
        Ok(issues)
    }

    /// The issue with a title, if there is one.
    #[must_use]
    #[track_caller]
    pub fn issue_titled(&self, title: &str) -> Option<Issue> {
        self.issues().into_iter().find(|issue| issue.title == title)
    }

    /// Events in all issues together.
    #[must_use]
    #[track_caller]
    pub fn total_count(&self) -> u64 {
        self.issues().iter().map(|issue| issue.count).sum()
    }

    /// Waits until the issue with `title` has `count` events, and returns it.
    #[track_caller]
    pub fn wait_for_issue(&self, title: &str, count: u64, within: Duration) -> Issue {
        eventually(&format!("issue {title:?} has {count} events"), within, || {
            let issues = self.try_issues()?;
            issues
                .iter()
                .find(|issue| issue.title == title && issue.count == count)
                .cloned()
                .ok_or(format!("{issues:?}"))
        })
    }

    /// Waits until all issues together have `count` events.
    #[track_caller]
    pub fn wait_for_total(&self, count: u64, within: Duration) {
        eventually(&format!("all issues together have {count} events"), within, || {
            let total: u64 = self.try_issues()?.iter().map(|issue| issue.count).sum();
            holds(total == count, total)
        });
    }

    /// One event, if it is stored.
    ///
    /// # Errors
    /// If the API answers neither with it nor with 404.
    pub fn event(&self, project: &str, id: EventId) -> Result<Option<Value>, String> {
        let answer = self.get(&format!("/api/0/projects/{ORGANISATION}/{project}/events/{id}/"))?;
        match answer.status {
            200 => Ok(Some(answer.json())),
            404 => Ok(None),
            status => Err(format!("{status}: {}", answer.text())),
        }
    }

    /// Waits until an event is visible, and returns it.
    #[track_caller]
    pub fn wait_for_event(&self, project: &str, id: EventId, within: Duration) -> Value {
        eventually(&format!("event {id} is visible"), within, || {
            self.event(project, id)?.ok_or_else(|| "it is not".to_owned())
        })
    }

    /// The newest event of an issue.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    #[track_caller]
    pub fn latest_event(&self, issue: &Issue) -> Value {
        let answer = self.get(&format!("/api/0/issues/{}/events/latest/", issue.id)).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }
}

/// The cursor of the next page, out of a `Link` header, if there is a page.
fn next_cursor(link: &str) -> Option<String> {
    let next = link.split(", <").find(|part| part.contains("rel=\"next\"") && part.contains("results=\"true\""))?;
    let (_, cursor) = next.split_once("cursor=\"")?;
    Some(cursor.trim_end_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::next_cursor;

    #[test]
    fn the_next_page_is_found_in_a_link_header() {
        let link = |results: &str| {
            format!(
                "<http://h/?cursor=0:0:1>; rel=\"previous\"; results=\"true\"; cursor=\"0:0:1\", \
                 <http://h/?cursor=0:100:0>; rel=\"next\"; results=\"{results}\"; cursor=\"0:100:0\""
            )
        };
        assert_eq!(next_cursor(&link("true")).as_deref(), Some("0:100:0"));
        assert_eq!(next_cursor(&link("false")), None);
        assert_eq!(next_cursor(""), None);
    }
}
