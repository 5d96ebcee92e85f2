//! Stories of secrets that stayed and of texts that were destroyed.

use std::ops::Range;

use super::super::names::NameProfile;
use super::*;

fn strict() -> SensitiveNames {
    SensitiveNames::new(NameProfile::Strict)
}

fn filtered(text: &str, find: impl Fn(&[u8], &mut Vec<Range<usize>>)) -> String {
    let mut hits = Vec::new();
    find(text.as_bytes(), &mut hits);
    let mut out = String::new();
    let mut at = 0;
    for hit in hits {
        out.push_str(&text[at..hit.start]);
        out.push('§');
        at = hit.end;
    }
    out + &text[at..]
}

/// Each text with `§` in the place of what is found.
fn check(reading: Reading, table: &[(&str, &str)]) {
    for (text, expected) in table {
        let find = |bytes: &[u8], out: &mut Vec<Range<usize>>| named_values(bytes, &strict(), reading, out);
        assert_eq!(filtered(text, find), *expected, "{text}");
    }
}

fn check_phrases(table: &[(&str, &str)]) {
    for (text, expected) in table {
        let mut out = Vec::new();
        named_phrases(text.as_bytes(), &strict(), &mut out);
        out.sort_by_key(|hit| hit.start);
        assert_eq!(filtered(text, |_, hits| hits.extend(out.iter().cloned())), *expected, "{text}");
    }
}

/// `password=u's3cr3t'` became `password=[Filtered]'s3cr3t'`: the value ended at the quote.
#[test]
fn literals_of_every_language_are_found_between_their_quotes() {
    check(
        Reading::Text,
        &[
            ("password=u's3cr3t' x", "password=u'§' x"),
            ("{'password': b's3cr3t', 'a': 1}", "{'password': b'§', 'a': 1}"),
            (r#"Login { password: Some("s3 cr3t"), user: "jo" }"#, r#"Login { password: Some("§"), user: "jo" }"#),
            ("User(password=SecretStr('s3cr3t'), id=1)", "User(password=SecretStr('§'), id=1)"),
            (r#"password = @"s3cr3t";"#, r#"password = @"§";"#),
            ("[\"password\"]=>\n  string(6) \"s3cr3t\"\n", "[\"password\"]=>\n  string(6) \"§\"\n"),
            (r#"'password' => string(6) "s3cr3t""#, r#"'password' => string(6) "§""#),
            (r#"password: ("s3cr3t",) end"#, "password: § end"),
            ("password=r#\"s3\"# x", "password=r#\"§\"# x"),
            ("secret = String::from(\"s3cr3t\");", "secret = String::from(\"§\");"),
            ("password=pa'ss\"word x", "password=§ x"),
            ("msg=\"login password=s3cr3t\" next", "msg=\"login password=§\" next"),
            (r#"{\"m\":\"password=s3cr3t\",\"n\":1}"#, r#"{\"m\":\"password=§\",\"n\":1}"#),
            ("password=\"\"\"two\nlines\"\"\" x", "password=\"\"\"§\"\"\" x"),
            (r#""a ""password"": ""s3"" b""#, r#""a ""password"": ""§"" b""#),
            ("password = 'it''s' and", "password = '§' and"),
            ("password=\"\" user=''", "password=\"\" user=''"),
            ("password=f(a) c", "password=§ c"),
            ("token = request.form['token'] x", "token = § x"),
        ],
    );
}

/// `Authorization: JWT eyJ…` became `Authorization: [Filtered] eyJ…`: the unknown scheme was taken for the value.
#[test]
fn authorization_takes_the_credentials_of_any_scheme() {
    check(
        Reading::Text,
        &[
            ("Authorization: JWT eyJhbGciOi.x\nHost: a", "Authorization: §\nHost: a"),
            ("authorization: NTLM TlRMTVNTUAAB", "authorization: §"),
            ("Authorization: GenieKey 1234-5678", "Authorization: §"),
            (
                "Authorization: AWS4-HMAC-SHA256 Credential=AK/2026, SignedHeaders=host;x, Signature=abc\r\nX: y",
                "Authorization: §\r\nX: y",
            ),
            ("Authorization: Token token=\"abc\", email=\"x\"", "Authorization: §"),
            ("curl -H 'Authorization: ApiKey a b' http://h", "curl -H 'Authorization: §' http://h"),
            (r#"{"Authorization": "Custom a b", "x": 1}"#, r#"{"Authorization": "§", "x": 1}"#),
            ("Authorization: Basic dXNlcjpwYXNz next", "Authorization: § next"),
            ("Authorization: Bearer [token] next", "Authorization: Bearer [token] next"),
            ("Authorization: Basic \0\0\0 next", "Authorization: Basic \0\0\0 next"),
            ("HTTP_AUTHORIZATION=hunter2", "HTTP_AUTHORIZATION=§"),
            ("Authorization: user is not allowed here", "Authorization: user is not allowed here"),
        ],
    );
}

/// `Cookie: theme=dark; laravel_session=s3` lost `theme=dark` and kept the session.
#[test]
fn session_cookies_are_found_in_headers_inside_of_texts_and_alone() {
    check(
        Reading::Text,
        &[
            (
                "Cookie: theme=dark; laravel_session=s3; PHPSESSID=s4\nHost: x",
                "Cookie: theme=dark; laravel_session=§; PHPSESSID=§\nHost: x",
            ),
            ("Set-Cookie: session=s3; Path=/; HttpOnly", "Set-Cookie: session=§; Path=/; HttpOnly"),
            (r#"{"cookie": "a=b; su=s3; auth_token=q"}"#, r#"{"cookie": "a=b; su=§; auth_token=§"}"#),
            ("{'cookies': {'session': 's3', 'theme': 'dark'}}", "{'cookies': {'session': '§', 'theme': 'dark'}}"),
            ("sent PHPSESSID=s3 and more", "sent PHPSESSID=§ and more"),
            ("/page;jsessionid=ABC?x=1", "/page;jsessionid=§"),
            ("session=4f1c8be2a90d7731 theme=dark", "session=§ theme=dark"),
            ("session=<Session object> of 5", "session=<Session object> of 5"),
        ],
    );
}

/// A `}` in a quoted text closed the object, eight kilobytes ended a text, a blank ended a password of a connection string.
#[test]
fn values_reach_as_far_as_their_own_form_says() {
    let long = "x".repeat(12_000);
    check(
        Reading::Text,
        &[
            (r#"{"password":{"old":"x","n":"}s3cr3t"}} end"#, r#"{"password":§} end"#),
            (r#"{\"auth\":{\"a\":\"}s3\"}} end"#, r#"{\"auth\":§} end"#),
            ("tokens: [it's, fine] end", "tokens: § end"),
            (&format!("secret=\"{long}\" end"), "secret=\"§\" end"),
            ("Server=db;Password=abc def;Encrypt=yes", "Server=db;Password=§;Encrypt=yes"),
            ("Password=abc def;", "Password=§;"),
            ("password=abc failed for jo; retrying", "password=§ failed for jo; retrying"),
            ("password=abc\0def x", "password=§ x"),
        ],
    );
}

#[test]
fn values_on_the_line_below_are_found() {
    check(
        Reading::Text,
        &[
            ("password:\n  s3cr3t\nuser: jo", "password:\n  §\nuser: jo"),
            ("a:\n  private_key: |\n    line one\n    line two\n  b: 1", "a:\n  private_key: |\n    §\n  b: 1"),
            ("password:\n  \"s3cr3t\"\n", "password:\n  \"§\"\n"),
            ("passwords:\n  - s3cr3t\n", "passwords:\n  - §\n"),
            ("auth:\n  user: jo\n  password: x", "auth:\n  user: jo\n  password: §"),
            ("password:\nuser: jo", "password:\nuser: jo"),
            ("token:\n    at run (x.js:1)", "token:\n    at run (x.js:1)"),
        ],
    );
}

/// `jwt.exceptions.DecodeError: Not enough segments` became `…: [Filtered] enough segments`.
#[test]
fn names_of_errors_modules_and_public_keys_are_no_names_of_secrets() {
    for text in [
        "jwt.exceptions.DecodeError: Not enough segments",
        "AuthError: user 7 unknown",
        "TokenExpiredError: jwt expired",
        "myapp.auth: user jane signed in",
        "Unexpected token: punc (})",
        "token: invalid signature",
        "TokenExpired: signature has expired",
        "cannot fetch token: 401 Unauthorized",
        "pass: 3, fail: 2",
        "clone https://x-token:abc@host/x",
        "Could not load 'A, Version=1.0.0.0, Culture=neutral, PublicKeyToken=30ad4fe6b2a6aeed'",
        "login %s password=%s",
        "password={password} token=${TOKEN} auth=%(auth)s",
    ] {
        check(Reading::Text, &[(text, text)]);
    }
    check(
        Reading::Text,
        &[
            ("spring.datasource.password: s3cr3t", "spring.datasource.password: §"),
            ("app.token: abc123", "app.token: §"),
            ("//password: hunter2", "//password: §"),
            ("cvv: 123", "cvv: §"),
            ("token: abc123 is bad", "token: § is bad"),
            ("invalid token: abc123", "invalid token: §"),
            ("password: hunter two", "password: § two"),
        ],
    );
}

/// `if token == self.token:` became `if token == [Filtered]`.
#[test]
fn in_source_text_only_literals_are_taken() {
    for text in [
        "if token == self.token:",
        "user.password = request.form['password']",
        "  token: string",
        "password = os.environ[\"DB_PASSWORD\"]",
        "password = config.get('password')",
        "const FIELD_PASSWORD = 'password'",
        "auth: AuthService,",
        "password: u'open",
        "token = \"",
        "connect(user=user, password=password, auth=self.auth2)",
        "token=get_token1()",
        "  token: Uint8Array;",
        "headers: { Authorization: `Bearer ${token}` },",
        "auth_header = \"Basic \" + encoded",
        "String PASSWORD_KEY = \"user.password\";",
        "auth = OAuth2Session",
    ] {
        check(Reading::Source, &[(text, text)]);
    }
    check(
        Reading::Source,
        &[
            ("password = \"hunter2\"", "password = \"§\""),
            ("connect(user='jo', password=b'hunter2')", "connect(user='jo', password=b'§')"),
            ("let secret = SecretString::new(\"hunter2\");", "let secret = SecretString::new(\"§\");"),
            ("  'api_key' => 'abc',", "  'api_key' => '§',"),
            ("export PASSWORD=hunter2", "export PASSWORD=§"),
            ("  secret: zQ02f5a7be11c9 # yaml", "  secret: § # yaml"),
            ("if (password == \"hunter2\") {", "if (password == \"§\") {"),
        ],
    );
}

/// Texts that speak of a secret stayed as they were where no `=` or `:` joins name and value.
#[test]
fn secrets_on_command_lines_in_elements_pairs_and_sentences_are_found() {
    check_phrases(&[
        ("mysql --user jo --password hunter2 db", "mysql --user jo --password § db"),
        ("run --api-key 'a b' --verbose", "run --api-key '§' --verbose"),
        (r#"["run","--password","hunter2","--verbose"]"#, r#"["run","--password","§","--verbose"]"#),
        ("['--token', 'abc']", "['--token', '§']"),
        (
            "--password --verbose --password-file /x --no-auth y --auth-type basic",
            "--password --verbose --password-file /x --no-auth y --auth-type basic",
        ),
        ("<user>jo</user><password>x y</password>", "<user>jo</user><password>§</password>"),
        ("<ns:Password type=\"t\">\n x </ns:Password>", "<ns:Password type=\"t\">\n § </ns:Password>"),
        ("<password><![CDATA[x]]></password>", "<password><![CDATA[§]]></password>"),
        ("expected Vec<Token> found Vec<String>", "expected Vec<Token> found Vec<String>"),
        ("<password/><a>b</a>", "<password/><a>b</a>"),
        (r#"[["user","jo"],["password","x"]]"#, r#"[["user","jo"],["password","§"]]"#),
        ("[('password', 'x')]", "[('password', '§')]"),
        (r#"[\"password\",\"x\"]"#, r#"[\"password\",\"§\"]"#),
        (r#"a:1:{s:8:"password";s:1:"x";}"#, r#"a:1:{s:8:"password";s:1:"§";}"#),
        (r#"[{"name":"password","value":"x"}]"#, r#"[{"name":"password","value":"§"}]"#),
        (r#"<add key="ApiSecret" value="x"/>"#, r#"<add key="ApiSecret" value="§"/>"#),
        (r#"["user","password","age"]"#, r#"["user","password","age"]"#),
        (r#"{"type":"password","label":"x"}"#, r#"{"type":"password","label":"x"}"#),
        ("my password is hunter2.", "my password is §."),
        ("the token was \"abc\", sorry", "the token was \"§\", sorry"),
        ("my password is long, the token was refused", "my password is long, the token was refused"),
        ("password is 8 characters", "password is 8 characters"),
    ]);
}

#[test]
fn what_was_filtered_once_is_not_filtered_again() {
    for text in [
        "password=u'[Filtered]' Some(\"[Filtered]\")",
        "Authorization: [Filtered]",
        "Cookie: theme=dark; laravel_session=[Filtered]",
        "password:\n  [Filtered]\n",
        "Authorization: Basic [token] x",
    ] {
        check(Reading::Text, &[(text, text)]);
    }
    check_phrases(&[
        ("--password [Filtered] x", "--password [Filtered] x"),
        ("<password>[Filtered]</password>", "<password>[Filtered]</password>"),
        ("[\"password\",\"[Filtered]\"]", "[\"password\",\"[Filtered]\"]"),
        ("password is [Filtered]", "password is [Filtered]"),
    ]);
}

/// What is looked at a few times a byte takes milliseconds here; at thousands of times, minutes.
#[test]
fn no_repetition_makes_the_scanners_look_at_anything_often() {
    for piece in [
        "password=",
        "password=[",
        "password=(\"",
        "password=f(''a",
        "token:",
        "cookie:",
        "cookie:[",
        "cookie:\"",
        "Authorization: a b ",
        "<password>",
        "--password ",
        "--password '",
        "[\"password\",",
        "\"password\",\"value\":x",
        "=\"password\" value=[",
        "password is ",
        "password:\n  ",
        "password: |\n  ",
        "password=u'",
        "password=\\\"",
        "pwd=a b;",
        "secret=a\\",
    ] {
        let text = piece.repeat(100_000 / piece.len());
        for reading in [Reading::Pairs, Reading::Text, Reading::Source] {
            named_values(text.as_bytes(), &strict(), reading, &mut Vec::new());
        }
        named_phrases(text.as_bytes(), &strict(), &mut Vec::new());
    }
}
