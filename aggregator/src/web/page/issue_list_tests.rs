#![allow(clippy::unwrap_used)]
use picket_common::ids::ProjectId;

use super::*;
use crate::issues::IssueMetadata;
use crate::query::IssueSummary;
use crate::web::fixture::{NOW, issue_summary};

fn project() -> Project {
    Project {
        id: ProjectId::new(3),
        name: "Shop".to_owned(),
        slug: "shop".to_owned(),
        platform: Some("python".to_owned()),
        dsn: "http://0123456789abcdef0123456789abcdef@127.0.0.1:3000/3".to_owned(),
        created_at: Timestamp::EPOCH,
    }
}

fn page(issues: Vec<IssueSummary>, offset: u32, next_offset: Option<u32>) -> String {
    let projects = [project()];
    let choice = Choice { project: None, text: "", offset };
    let Html(html) = render("admin@localhost", &projects, &choice, IssuePage { issues, next_offset }, NOW).unwrap();
    html
}

#[test]
fn an_issue_has_its_facts_on_the_list() {
    let html = page(vec![issue_summary()], 0, None);
    for expected in [
        "<b>ValueError</b>",
        "<span>bad input</span>",
        "shop.checkout in pay",
        "SHOP-1",
        "href=\"/issues/7/\"",
        "title=\"1234\">1.2k<",
        "1 day ago",
        "title=\"2025-11-22 14:05:06 UTC\"",
        "276 events in the last 24 hours, at most 23 in an hour",
        "<span class=\"level error\">error</span>",
        "admin@localhost",
    ] {
        assert!(html.contains(expected), "{expected} is missing in {html}");
    }
}

#[test]
fn nothing_of_an_issue_becomes_markup() {
    let hostile = "\"><script>alert(1)</script><b onmouseover='x'>";
    let mut issue = issue_summary();
    issue.title = format!("{hostile}: {hostile}");
    issue.culprit = hostile.to_owned();
    issue.level = hostile.to_owned();
    issue.short_id = hostile.to_owned();
    issue.status = hostile.to_owned();
    issue.project.name = hostile.to_owned();
    issue.project.slug = hostile.to_owned();
    issue.metadata = IssueMetadata::default();
    let html = page(vec![issue], 0, None);
    assert!(!html.contains("<script") && !html.contains("<b onmouseover"));
}

#[test]
fn pages_carry_neither_scripts_nor_inline_styles() {
    let html = page(vec![issue_summary()], 50, Some(100));
    for forbidden in ["<script", "style=", "<style", " onclick", "javascript:"] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn the_neighbouring_pages_are_linked() {
    let html = page(vec![issue_summary()], 50, Some(100));
    assert!(
        html.contains("href=\"/?project=&amp;text=&amp;offset=0\"")
            && html.contains("href=\"/?project=&amp;text=&amp;offset=100\"")
    );
    let only = page(vec![issue_summary()], 0, None);
    assert!(!only.contains("offset="));
}

#[test]
fn without_an_issue_the_page_says_how_to_send_one() {
    let html = page(Vec::new(), 0, None);
    assert!(html.contains("http://0123456789abcdef0123456789abcdef@127.0.0.1:3000/3"));
    assert!(
        html.contains("pip install sentry-sdk") && html.contains("curl &#39;http://127.0.0.1:3000/api/3/envelope/")
    );
    assert!(page(Vec::new(), 50, None).contains("No issues here"));
}

#[test]
fn a_search_without_a_hit_keeps_the_text_and_escapes_it() {
    let choice = Choice { project: None, text: "\"><script>&a=b", offset: 0 };
    let nothing = IssuePage { issues: Vec::new(), next_offset: Some(50) };
    let Html(html) = render("a@b", &[project()], &choice, nothing, NOW).unwrap();
    assert!(html.contains("value=\"&#34;&#62;&#60;script&#62;&#38;a=b\"") && !html.contains("<script"), "{html}");
    assert!(html.contains("text=%22%3E%3Cscript%3E%26a%3Db&amp;offset=50"));
    assert!(html.contains("No issues here") && !html.contains("pip install"));
}
