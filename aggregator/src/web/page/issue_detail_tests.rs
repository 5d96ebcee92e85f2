#![allow(clippy::unwrap_used)]
use serde_json::{Value, json};

use super::*;
use crate::web::fixture::{NOW, issue_summary, stored_event};

fn page(event: &Value) -> String {
    let Html(html) = render("admin@localhost", issue_summary(), Some(stored_event(event)), NOW).unwrap();
    html
}

fn full_event(text: &str) -> Value {
    json!({
        "level": text, "release": text, "environment": text, "transaction": text, "server_name": text, "platform": text,
        "logentry": {"message": text, "formatted": format!("{text}!"), "params": [text]},
        "exception": {"values": [
            {"type": text, "value": text, "module": text, "mechanism": {"type": text, "handled": true, "source": text}},
            {"type": text, "value": text, "mechanism": {"handled": false}, "stacktrace": {"frames": [
                {"function": text, "filename": text, "lineno": text, "module": text, "in_app": false, "instruction_addr": text},
                {"function": text, "filename": text, "abs_path": text, "lineno": 7, "colno": 3, "in_app": true,
                 "pre_context": [text], "context_line": text, "post_context": [text], "vars": {text: text, "list": [text]}},
            ]}},
        ]},
        "threads": [{"id": text, "name": text, "crashed": true, "stacktrace": {"frames": [{"function": text}]}}],
        "stacktrace": {"frames": [{"function": text, "vars": text}]},
        "breadcrumbs": {"values": [
            {"timestamp": text, "type": text, "category": text, "level": text, "message": text, "data": {text: text}},
            {"timestamp": 1_763_820_306.789, "message": text},
        ]},
        "request": {
            "method": text, "url": text, "query_string": text, "fragment": text, "headers": [[text, text]],
            "cookies": {text: text}, "data": text, "env": {text: text}, "odd": text,
        },
        "tags": {text: text}, "user": {"id": text, text: text}, "contexts": {text: {"name": text, text: text}},
        "extra": {text: text}, "csp": {text: text}, "sdk": {"name": text, "packages": [{"name": text}]}, "modules": {text: text},
    })
}

#[test]
fn every_part_of_an_event_is_on_its_page() {
    let html = page(&full_event("MARK"));
    for part in [
        "Message",
        "Parameters",
        "caused by",
        "unhandled",
        "Local variables",
        "Stack trace",
        "Threads",
        "Breadcrumbs",
        "Request",
        "Headers",
        "Cookies",
        "Query",
        "Environment (1)",
        "Security report",
        "Additional data",
        "Summary",
        "Tags",
        "User",
        "Contexts",
        "SDK",
        "Modules (1)",
        "Mechanism",
        "<time datetime=\"2025-11-22T14:05:06.789Z\"",
        "fc6d8c0c43fc4630ad850ee518f1b9d0",
        "/issues/7/events/fc6d8c0c43fc4630ad850ee518f1b9d0/json",
        "MARK:7:3",
    ] {
        assert!(html.contains(part), "{part} is missing");
    }
    assert_eq!(html.matches("<details open>").count(), 2, "the in-app frame of the exception, and the lone frame's");
}

#[test]
fn nothing_of_an_event_becomes_markup_or_a_link() {
    for hostile in [
        "\"><script>alert(1)</script>",
        "'><img src=x onerror=alert(1)>",
        "</pre></table><iframe>",
        "javascript:alert(1)",
    ] {
        let html = page(&full_event(hostile));
        for forbidden in
            ["<script", "<img src=x", "<iframe", "</pre></table>", "href=\"javascript", "href='", "src=\"javascript"]
        {
            assert!(!html.contains(forbidden), "{forbidden} of {hostile}");
        }
        // Every link is one of the page's own.
        for link in html.split("href=\"").skip(1) {
            assert!(link.starts_with(['/', '#']), "{}", &link[..40]);
        }
    }
}

#[test]
fn odd_events_have_a_page_too() {
    for event in [json!({}), json!([]), json!(null), json!({"exception": 3, "tags": [[], 1], "request": "GET /"})] {
        assert!(page(&event).contains("SHOP-1"), "{event}");
    }
    let Html(gone) = render("a@b", issue_summary(), None, NOW).unwrap();
    assert!(gone.contains("older than their project keeps events for"));
}

#[test]
fn a_page_is_not_much_larger_than_its_event() {
    let frames = vec![json!({}); 20_000];
    let values = vec![json!({"stacktrace": {"frames": frames}}); 30];
    let event = json!({"exception": {"values": values}, "tags": vec![json!(["a", "b"]); 10_000], "breadcrumbs": vec![json!({}); 10_000]});
    let html = page(&event);
    assert!(html.len() < 1_500_000, "{}", html.len());
    assert!(
        html.contains("… 19900 more frames") && html.contains("… 10 more exceptions") && html.contains("… 9800 more")
    );
}
