//! The strict profile: no secret stays, wherever it was planted, and texts keep what is none.

use super::*;

/// One of each kind, as it stands in a text.
const SECRETS: [&str; 6] =
    ["hunter2secret", "4111111111111111", "eve@example.org", "abcdef0123456789token", "pa55w0rd", "203.0.113.7"];

fn planted() -> String {
    let [password, card, mail, bearer, in_url, address] = SECRETS;
    format!(
        "login password={password} card {card} of {mail} Bearer {bearer} http://u:{in_url}@h.example/?token={password} from {address}"
    )
}

fn everywhere() -> Value {
    let text = planted();
    let frame = json!({"filename": "main.py", "abs_path": "/home/eve/main.py", "function": "main", "lineno": 1, "context_line": text,
        "pre_context": [text], "post_context": [text], "vars": {"local": text, "list": [text], "deep": {"a": {"b": text}}}});
    let stacktrace = json!({"frames": [frame]});
    json!({
        "event_id": "00000000000000000000000000000001", "platform": "python", "level": "error",
        "server_name": text, "transaction": text, "culprit": text, "logger": text, "fingerprint": [text], "site": text,
        "logentry": {"formatted": text, "message": text, "params": [text, {"a": text}]},
        "message": text,
        "extra": {"a": text, "b": [text], "c": {"d": {"e": text}}},
        "tags": [["a", text], ["b", text]],
        "user": {"id": "7", "data": {"x": text}, "username": "password=hunter2secret", "segment": text},
        "request": {"url": text, "query_string": [["q", text], ["token", "hunter2secret"]], "cookies": [["c", text]],
            "headers": [["X-Some", text], ["User-Agent", "password=hunter2secret"]], "env": {"E": text}, "data": {"d": text}, "fragment": text,
            "other": text},
        "contexts": {"state": {"s": text}, "os": {"name": text}, "device": {"model": text}, "trace": {"data": {"d": text}},
            "response": {"data": text, "headers": [["h", text]], "cookies": [["c", text]]},
            "feedback": {"message": text, "url": text, "name": text, "contact_email": "4111111111111111"}},
        "breadcrumbs": {"values": [{"message": text, "category": text, "data": {"url": text, "list": [text]}}]},
        "exception": {"values": [{"type": text, "module": text, "value": text, "stacktrace": stacktrace, "raw_stacktrace": stacktrace,
            "mechanism": {"type": "m", "data": {"d": text}, "description": text}}]},
        "threads": {"values": [{"name": text, "stacktrace": stacktrace}]},
        "stacktrace": stacktrace,
        "template": {"context_line": text},
        "debug_meta": {"images": [{"type": "elf", "code_file": "/home/eve/lib.so"}]},
        "spans": [{"description": text, "data": {"d": text}}],
        "csp": {"document_uri": text, "script_sample": text},
        "unknown_field": {"x": text}
    })
}

#[test]
fn no_secret_stays_wherever_it_was_planted() {
    let event = scrubbed(&strict(), &everywhere());
    let text = event.to_string();
    for secret in SECRETS {
        let excerpts: Vec<&str> =
            text.match_indices(secret).map(|(at, _)| &text[at.saturating_sub(120)..at + 20]).take(3).collect();
        assert!(excerpts.is_empty(), "{secret} stays: {excerpts:#?}");
    }
    assert!(!text.contains("/home/eve/"), "{text}");
}

#[test]
fn a_text_keeps_what_is_no_secret() {
    for (text, expected) in [
        ("the author signed in", "the author signed in"),
        ("user_id=5 password=hunter2", "user_id=5 password=[Filtered]"),
        ("my password is long", "my password is long"),
        ("order 4111111111111112 failed", "order 4111111111111112 failed"),
        ("order 4111111111111111 failed", "order [creditcard] failed"),
        ("GET http://h.example/x?token=abc&page=2", "GET http://h.example/x?token=[Filtered]&page=2"),
        ("unexpected token ; in line 4", "unexpected token ; in line 4"),
        ("can't open /home/eve/x.txt", "can't open /home/[user]/x.txt"),
        ("write to eve@example.org", "write to [email]"),
        ("run --password hunter2 now", "run --password [Filtered] now"),
        ("password is hunter2", "password is [Filtered]"),
        ("key AKIAABCDEFGHIJKLMNOP", "key [token]"),
        ("token=ghp_0123456789abcdefghij!rest end", "token=[token][Filtered] end"),
        ("see /reset?mail=eve%40example.org&x=1", "see /reset?mail=[email]&x=1"),
        ("the bearer of news at 12::30", "the bearer of news at 12::30"),
        ("Authorization: Bearer abc123 sent", "Authorization: Bearer [token] sent"),
        ("TokenExpiredError: jwt expired", "TokenExpiredError: jwt expired"),
        ("build DE12AB34CD56EF78AB12CD34EF56AB78", "build DE12AB34CD56EF78AB12CD34EF56AB78"),
    ] {
        let event = json!({
            "exception": {"values": [{"type": "E", "value": text}]}, "logentry": {"formatted": text},
            "tags": [["t", text]], "extra": {"e": text}, "breadcrumbs": {"values": [{"message": text}]}
        });
        let event = scrubbed(&strict(), &event);
        for path in
            ["exception/values/0/value", "logentry/formatted", "tags/0/1", "extra/e", "breadcrumbs/values/0/message"]
        {
            assert_eq!(at(&event, path), expected, "{path}");
        }
    }
}

/// `if token == self.token:` lost its second half.
#[test]
fn source_lines_lose_literals_and_keep_their_code() {
    let frame = json!({"function": "f", "pre_context": ["if token == self.token:", "  password = 'hunter2'"],
        "context_line": "user.password = request.form['password']", "post_context": ["  token: string", "key = 'AKIAABCDEFGHIJKLMNOP'"]});
    let event = json!({"exception": {"values": [{"type": "E", "stacktrace": {"frames": [frame]}}]}});
    let event = scrubbed(&strict(), &event);
    let frame = at(&event, "exception/values/0/stacktrace/frames/0");
    assert_eq!(frame["pre_context"], json!(["if token == self.token:", "  password = '[Filtered]'"]));
    assert_eq!(frame["context_line"], "user.password = request.form['password']");
    assert_eq!(frame["post_context"], json!(["  token: string", "key = '[token]'"]));
}

/// `sys.argv` kept `hunter2` in both profiles; in the strict one a flag names what follows it.
#[test]
fn arguments_go_by_the_flag_before_them() {
    let arguments =
        json!(["run", "--password", "hunter2", "--verbose", "--password-file", "/x", "--token=abc", "--auth", "--x"]);
    let event = json!({"extra": {"sys.argv": arguments}});
    let expected = json!([
        "run",
        "--password",
        "[Filtered]",
        "--verbose",
        "--password-file",
        "/x",
        "--token=[Filtered]",
        "--auth",
        "--x"
    ]);
    assert_eq!(scrubbed(&strict(), &event)["extra"]["sys.argv"], expected);
}

#[test]
fn card_numbers_that_came_as_floats_go() {
    let event = json!({"extra": {"card": 4_111_111_111_111_111.0, "amount": 4_111_111_111_111_112.0, "x": 4_111_111_111_111.5}});
    let event = scrubbed(&strict(), &event);
    assert!(is_null_or_missing(&event["extra"]["card"]));
    assert!(event["extra"]["amount"].is_number() && event["extra"]["x"].is_number());
}

#[test]
fn values_under_sensitive_names_go_as_a_whole() {
    let event = scrubbed(
        &strict(),
        &json!({"extra": {"password": "x y", "author": "Eve", "auth": {"user": "eve"}, "authToken": "x", "flag": {"secret": true},
            "card": 4_111_111_111_111_111_u64, "number": 4_111_111_111_111_112_u64},
            "exception": {"values": [{"stacktrace": {"frames": [{"vars": {"api_key": "'x'", "path": "'y'"}}]}}]},
            "tags": [["session_token", "abc"]]}),
    );
    assert_eq!(
        event["extra"],
        json!({"password": "[Filtered]", "author": "Eve", "auth": {"user": "eve"}, "authToken": "[Filtered]", "flag": {"secret": true},
            "card": null, "number": 4_111_111_111_111_112_u64})
    );
    assert_eq!(
        at(&event, "exception/values/0/stacktrace/frames/0/vars"),
        &json!({"api_key": "[Filtered]", "path": "'y'"})
    );
    assert_eq!(event["tags"], json!([["session_token", "[Filtered]"]]));
}

#[test]
fn who_the_user_is_stays_and_the_address_goes_by_its_switch() {
    let event = json!({"user": {"id": "7", "email": "eve@example.org", "username": "eve", "ip_address": "203.0.113.7"},
        "extra": {"from": "203.0.113.7"}});
    let on = scrubbed(&strict(), &event);
    assert_eq!(on["user"]["email"], "eve@example.org");
    assert!(is_null_or_missing(&on["user"]["ip_address"]));
    assert_eq!(on["extra"]["from"], "[ip]");
    let mut settings = strict();
    settings.datascrubbing_settings.scrub_ip_addresses = Some(false);
    assert_eq!(scrubbed(&settings, &event), event);
}

#[test]
fn a_projects_names_count_as_keys_and_inside_of_texts() {
    let mut settings = strict();
    settings.datascrubbing_settings.sensitive_fields = vec!["badge".to_owned()];
    settings.datascrubbing_settings.exclude_fields = vec!["extra.kept".to_owned()];
    let event = scrubbed(
        &settings,
        &json!({"extra": {"badge_no": "7", "say": "the badge of Eve, badge=77", "url": "http://h.example/?badge=77&x=1", "kept": "password=x"}}),
    );
    assert_eq!(
        event["extra"],
        json!({"badge_no": "[Filtered]", "say": "the badge of Eve, badge=[Filtered]",
            "url": "http://h.example/?badge=[Filtered]&x=1", "kept": "password=x"})
    );
}

#[test]
fn of_cookies_only_those_that_keep_a_session_go() {
    let event = json!({
        "request": {"cookies": [["theme", "dark"], ["sessionid", "s3cr3t"]], "headers": [["Cookie", "theme=dark; PHPSESSID=s3cr3t"]]},
        "contexts": {"response": {"cookies": [["lang", "de"], ["csrftoken", "s3cr3t"]], "headers": [["Set-Cookie", "sid=s3cr3t; Path=/"]]}},
        "extra": {"cookies": {"theme": "dark", "auth_token": "s3cr3t"}, "cookie": "theme=dark; session=s3cr3t", "session_cookie": "s3cr3t"}
    });
    let event = scrubbed(&strict(), &event);
    assert!(!event.to_string().contains("s3cr3t"), "{event}");
    assert_eq!(event["request"]["cookies"], json!([["theme", "dark"], ["sessionid", "[Filtered]"]]));
    assert_eq!(event["request"]["headers"], json!([["Cookie", "theme=dark; PHPSESSID=[Filtered]"]]));
    assert_eq!(event["contexts"]["response"]["cookies"], json!([["lang", "de"], ["csrftoken", "[Filtered]"]]));
    assert_eq!(event["contexts"]["response"]["headers"], json!([["Set-Cookie", "sid=[Filtered]; Path=/"]]));
    assert_eq!(
        event["extra"],
        json!({"cookies": {"theme": "dark", "auth_token": "[Filtered]"}, "cookie": "theme=dark; session=[Filtered]",
            "session_cookie": "[Filtered]"})
    );
}

#[test]
fn what_is_told_about_secrets_stays() {
    let event = json!({
        "tags": [["auth.method", "ldap"], ["oauth_provider", "github"], ["jwt.alg", "RS256"], ["cookie_enabled", "yes"], ["secret_name", "db-main"]],
        "extra": {"auth_duration_ms": 12, "pass_count": 3, "tokens": 1500, "pass_rate": "0.9"},
        "contexts": {"auth": {"method": "ldap", "realm": "staff"}}
    });
    assert_eq!(scrubbed(&strict(), &event), event);
    let secret = json!({"extra": {"auth": ["eve", "hunter2"], "token": {"value": "hunter2"}, "otp": 123_456, "token_2": {"x": "hunter2"}},
        "contexts": {"auth": {"pass": "hunter2", "password": 5}}});
    let text = scrubbed(&strict(), &secret).to_string();
    assert!(!text.contains("hunter2") && !text.contains("123456"), "{text}");
}

#[test]
fn versions_and_modules_are_no_addresses() {
    let event = json!({"contexts": {"os": {"version": "10.0.19041.1"}, "browser": {"version": "120.0.0.0"}}, "modules": {"x": "1.2.3.4"},
        "release": "app@1.2.3.4", "request": {"headers": [["User-Agent", "Chrome/120.0.0.0"]]}});
    assert_eq!(scrubbed(&strict(), &event), event);
}
