#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn hits(detector: &Detector, text: &str) -> Vec<String> {
    let mut out = Vec::new();
    detector.find(text, &mut out);
    let gated = detector.may_match(&TextFacts::of(text));
    assert!(gated || out.is_empty(), "the prefilter denied {text:?}");
    out.into_iter().map(|range| text[range].to_owned()).collect()
}

fn strict_names() -> Arc<SensitiveNames> {
    Arc::new(SensitiveNames::new(NameProfile::Strict))
}

fn check(detector: &Detector, table: &[(&str, &[&str])]) {
    for (text, expected) in table {
        assert_eq!(hits(detector, text), *expected, "{text}");
        let mut out = Vec::new();
        detector.find_bytes(text.as_bytes(), &mut out);
        let found: Vec<&str> = out.into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, *expected, "bytes of {text}");
    }
}

#[test]
fn cards_are_found_by_issuer() {
    check(
        &Detector::CreditCard(CardCheck::Issuer),
        &[
            ("card 4111111111111112, ok", &["4111111111111112"]),
            ("4111-1111-1111-1111", &["4111-1111-1111-1111"]),
            ("4111 1111 1111 1111 99", &["4111 1111 1111 1111"]),
            ("3782 822463 10005", &["3782 822463 10005"]),
            ("no 12 4111 1111 1111 1111", &["4111 1111 1111 1111"]),
            ("6011000990139424 and 5500005555555559", &["6011000990139424", "5500005555555559"]),
            ("411111111111111", &[]),
            ("x4111111111111111", &[]),
            ("41111111111111111111", &[]),
            ("1234567890123456", &[]),
            ("2223003122003222", &[]),
        ],
    );
}

#[test]
fn cards_are_found_by_check_digit() {
    check(
        &Detector::CreditCard(CardCheck::Luhn),
        &[
            ("4111111111111111", &["4111111111111111"]),
            ("4111111111111112", &[]),
            ("2223003122003222", &["2223003122003222"]),
            ("30569309025904", &["30569309025904"]),
            ("3530 1113 3330 0000", &["3530 1113 3330 0000"]),
            ("1700000000000", &[]),
        ],
    );
}

#[test]
fn numbers_of_devices_persons_and_accounts_are_found() {
    check(
        &Detector::Imei,
        &[
            ("imei 356938035643809.", &["356938035643809"]),
            ("35-693803-564380-9", &["35-693803-564380-9"]),
            ("3569", &[]),
        ],
    );
    check(&Detector::UsSsn, &[("ssn: 078-05-1120", &["078-05-1120"]), ("1078-05-1120", &[]), ("078-05-11201", &[])]);
    check(
        &Detector::Iban(IbanCheck::Form),
        &[
            ("pay DE89370400440532013000 now", &["DE89370400440532013000"]),
            ("DE89 3704 0044 0532 0130 00 end", &["DE89 3704 0044 0532 0130 00"]),
            ("GB82 WEST 1234 5698 7654 32", &["GB82 WEST 1234 5698 7654 32"]),
            ("BE71 0961 2345 6769 paid", &["BE71 0961 2345 6769"]),
            ("de89370400440532013000", &["de89370400440532013000"]),
            ("be12aaaaaaaaaaaaaaaaaaaaaaaaaaaa", &[]),
            ("ZZ89370400440532013000", &[]),
            ("ID 42 numbers", &[]),
        ],
    );
}

#[test]
fn network_addresses_are_found() {
    check(
        &Detector::Mac,
        &[
            ("at 4a:00:04:10:9b:50!", &["4a:00:04:10:9b:50"]),
            ("4A-00-04-10-9B-50", &["4A-00-04-10-9B-50"]),
            ("12:34:56", &[]),
        ],
    );
    check(
        &Detector::Uuid,
        &[
            ("id ceee0822-ed8f-4622-b2a3-789e73e75cd1", &["ceee0822-ed8f-4622-b2a3-789e73e75cd1"]),
            ("ceee0822ed8f4622b2a3789e73e75cd1", &["ceee0822ed8f4622b2a3789e73e75cd1"]),
            ("ceee0822ed8f4622b2a3789e73e75cd1a", &[]),
        ],
    );
    check(
        &Detector::Ip(IpCheck::Form),
        &[
            ("from 192.168.0.1:8080", &["192.168.0.1"]),
            ("[2001:db8::8a2e:370:7334]:443", &["2001:db8::8a2e:370:7334"]),
            ("fe80::1%eth0 ::1, ::ffff:10.0.0.1", &["fe80::1", "::1", "::ffff:10.0.0.1"]),
            ("peer: 2001:0db8:0000:0000:0000:ff00:0042:8329.", &["2001:0db8:0000:0000:0000:ff00:0042:8329"]),
            ("at 12:34:56 on 2026-11-22T17:13:00", &[]),
            ("Chrome/126.0.0.0 v1.2.3.4 version 1.2.3.4 1.2.3.4.5 300.1.1.1", &[]),
            ("std::vec Abc::Def dead::beef a::b::c", &[]),
            ("01.02.03.04", &[]),
        ],
    );
}

#[test]
fn mail_addresses_are_found() {
    check(
        &Detector::Email,
        &[
            ("mail to john.doe+x@mail.example.co.uk.", &["john.doe+x@mail.example.co.uk"]),
            ("mailto:a@b.de?x", &["a@b.de"]),
            ("müller@straße.example", &["müller@straße.example"]),
            ("x@xn--bcher-kva.xn--p1ai", &["x@xn--bcher-kva.xn--p1ai"]),
            ("root@localhost lodash@4.17.21 icon@2x.png jquery@3.6.0.min.js @user @.de", &[]),
        ],
    );
}

#[test]
fn users_in_paths_are_found() {
    check(
        &Detector::UserPath(HomePath::Anywhere),
        &[
            ("/home/jane/app.py", &["jane"]),
            (r"C:\Users\Jane Doe\app.exe", &["Jane Doe"]),
            (r"C:\\Users\\jane\\x", &["jane"]),
            (r"c:/documents and settings/jane", &["jane"]),
            (r"C:\WINNT\Profiles\jane\x", &["jane"]),
            ("/Users/jane failed", &["jane"]),
            ("GET /api/users/7", &["7"]),
            ("/usr/lib/homes", &[]),
        ],
    );
    check(
        &Detector::UserPath(HomePath::AtRoot),
        &[
            ("/home/jane/app.py", &["jane"]),
            ("open '/Users/jane/x' from file:///home/joe/y", &["jane", "joe"]),
            (r"at C:\Users\Jane Doe\app.exe", &["Jane Doe"]),
            ("GET /api/users/7 src/home/index.ts /users/7", &[]),
        ],
    );
}

#[test]
fn keys_and_tokens_are_found() {
    check(
        &Detector::PemKey,
        &[
            ("a\n-----BEGIN RSA PRIVATE KEY-----\nMIIB\nab==\n-----END RSA PRIVATE KEY-----\nb", &["MIIB\nab=="]),
            ("-----BEGIN PUBLIC KEY-----\nMIIB", &["MIIB"]),
            ("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----", &[]),
        ],
    );
    check(
        &Detector::Bearer(BearerCheck::Word),
        &[("Authorization: bearer ab.c-d==, x", &["bearer ab.c-d=="]), ("forbearer x", &[])],
    );
    check(
        &Detector::UrlAuth(UrlAuthPart::UserAndPassword),
        &[
            ("redis://jane:s3cret@db:6379/0", &["jane:s3cret"]),
            ("https://token@host/x http://:pw@host", &["token", ":pw"]),
            ("https://host/a@b http://host:80/x", &[]),
        ],
    );
    check(
        &Detector::UrlAuth(UrlAuthPart::Password),
        &[("redis://jane:s3cret@db", &["s3cret"]), ("https://token@host", &[])],
    );
}

#[test]
fn a_text_that_speaks_of_a_password_is_found_whole() {
    for text in ["my Password is x", "author", "token_x = 1", "\"token\": 1", "use bearer abc", "X-API-KEY"] {
        assert_eq!(hits(&Detector::Password, text), [text]);
    }
    for text in ["", "true", "null", "tokens are short", "hello", "UNDEFINED"] {
        assert!(hits(&Detector::Password, text).is_empty(), "{text}");
    }
    let mut out = Vec::new();
    Detector::Password.find_bytes(b"user=jo password=abc; x=bearer q1", &mut out);
    assert_eq!(out, [17..20, 24..33]);
}

#[test]
fn session_cookies_are_found_by_name() {
    check(
        &Detector::Cookies,
        &[
            ("theme=dark; sessionid=abc; PHPSESSID=\"q\"; __Host-session=1", &["abc", "\"q\"", "1"]),
            ("Cookie: csrftoken=xyz; a=b", &["xyz"]),
            ("session__2=part; sessions=x; su=", &["part"]),
            ("sid=1; Path=/; HttpOnly", &["1"]),
        ],
    );
}

#[test]
fn values_of_sensitive_names_are_found_in_texts() {
    check(
        &Detector::NamedValue(strict_names()),
        &[
            ("login failed: user=jo password=hunter2, host=x", &["hunter2"]),
            (r#"{"password": "a b\"c", "x": 1}"#, &[r#"a b\"c"#]),
            (r#"body {\"token\": \"abc\", \"y\": 1}"#, &["abc"]),
            ("Authorization: Basic dXNlcjpwYXNz next", &["Basic dXNlcjpwYXNz"]),
            ("Proxy-Authorization: Digest a=\"b\", c=\"d\"\nHost: x", &["Digest a=\"b\", c=\"d\""]),
            ("['api_key'] => 'q1'", &["q1"]),
            ("tokens: [\"a\", [\"b\"]] rest", &["[\"a\", [\"b\"]]"]),
            ("secret=\"never closed", &["never closed"]),
            ("password=null token: true secret=[Filtered] password: [password] auth=****", &[]),
            ("Authorization: Bearer [token]", &[]),
            ("password=[Filter host=db secret=[em x token=[Filtered] y", &[]),
            ("tokens=[\"a\" x", &["[\"a\" x"]),
            ("author: jo token::new secret://x max_tokens=5 a: b", &[]),
            ("password := \"x\"", &["x"]),
            ("пароль password=тайна.", &["тайна."]),
        ],
    );
}

#[test]
fn values_of_sensitive_url_parameters_are_found() {
    check(
        &Detector::QueryParameter(strict_names()),
        &[
            ("https://x/y?a=1&token=abc&b=2#access_token=q", &["abc", "q"]),
            ("sig=abc&x=1", &["abc"]),
            ("/p?user%5Bpassword%5D=x&user[password]=y", &["x", "y"]),
            ("token=[Filtered]&apiKey=", &[]),
            ("key=value", &[]),
            ("Password=two words;x=1", &[]),
            ("a=b;Password={a;b};x=1", &[]),
            ("hash=abc failed", &[]),
            ("?hash=abc", &["abc"]),
            ("token=abc", &["abc"]),
            ("see token=abc", &[]),
        ],
    );
}

/// `redis://u:p@ss@host` became `redis://[auth]@ss@host`.
#[test]
fn a_password_in_a_url_may_hold_the_sign_that_ends_it() {
    check(
        &Detector::UrlAuth(UrlAuthPart::UserAndPassword),
        &[
            ("postgres://u:p@ss@host/db?x=a@b", &["u:p@ss"]),
            ("http://u:p@host?mail=jane@example.com", &["u:p"]),
            ("see //a@b@c and //x", &["a@b"]),
        ],
    );
    check(&Detector::UrlAuth(UrlAuthPart::Password), &[("postgres://u:p@ss@host/db", &["p"])]);
}

/// `DE12AB34…`, a hash in capitals, became `[iban]`.
#[test]
fn the_check_digits_tell_an_account_from_a_hash() {
    check(
        &Detector::Iban(IbanCheck::Digits),
        &[
            ("DE12AB34CD56EF78AB12CD34EF56AB78", &[]),
            (
                "DE89370400440532013000 MT84MALT011000012345MTLCAST001S",
                &["DE89370400440532013000", "MT84MALT011000012345MTLCAST001S"],
            ),
            ("DE89 3704 0044 0532 0130 00", &["DE89 3704 0044 0532 0130 00"]),
        ],
    );
    check(
        &Detector::Iban(IbanCheck::Form),
        &[("DE12AB34CD56EF78AB12CD34EF56AB78", &["DE12AB34CD56EF78AB12CD34EF56AB78"])],
    );
}

/// `jane%40example.com` stayed in the addresses of pages.
#[test]
fn mail_addresses_are_found_in_the_form_they_have_in_urls() {
    check(
        &Detector::EncodedEmail,
        &[
            ("https://h/?mail=jane%40example.com&x=1", &["jane%40example.com"]),
            ("?next=%2Fp%3Fm%3Djane%2Bx.y%2540example.co.uk%26a", &["jane%2Bx.y%2540example.co.uk"]),
            ("icon%402x.png %40user %40example.com a%40b", &[]),
        ],
    );
}

/// Cards with the blanks that web pages and tables put between groups stayed.
#[test]
fn cards_are_found_whatever_joins_their_groups() {
    check(
        &Detector::CreditCard(CardCheck::Luhn),
        &[
            ("4111\u{a0}1111\u{a0}1111\u{a0}1111", &["4111\u{a0}1111\u{a0}1111\u{a0}1111"]),
            ("a 4111\u{202f}1111 1111  1111\u{a0}b", &["4111\u{202f}1111 1111  1111"]),
            ("4111.1111.1111.1111.", &["4111.1111.1111.1111"]),
            ("4111   1111 1111 1111 4.1.1.1.1", &[]),
        ],
    );
    check(&Detector::CreditCard(CardCheck::Issuer), &[("4111.1111.1111.1111 4111  1111 1111 1111", &[])]);
}

/// `12::30` and `nginx/1.2.3.4` became `[ip]`.
#[test]
fn times_names_and_versions_are_no_addresses() {
    check(
        &Detector::Ip(IpCheck::NoNames),
        &[
            ("12::30 bad::1 nginx/1.2.3.4 PHP/8.1.2.3", &[]),
            ("db.local/10.0.0.5:80 ::1 fe80::1 1:2::3", &["10.0.0.5", "::1", "fe80::1", "1:2::3"]),
        ],
    );
    check(&Detector::Ip(IpCheck::Form), &[("bad::1 nginx/1.2.3.4", &["bad::1", "1.2.3.4"])]);
}

/// `the bearer of news` became `the Bearer [token] news`.
#[test]
fn a_bearer_of_something_carries_no_token() {
    check(
        &Detector::Bearer(BearerCheck::Token),
        &[
            ("the bearer of news; Bearer abc123 bearer a.b", &["Bearer abc123", "bearer a.b"]),
            ("bearer ABCDEFGHIJKLMNOPQRST", &["bearer ABCDEFGHIJKLMNOPQRST"]),
        ],
    );
}

/// Tokens without a name before them stayed.
#[test]
fn tokens_are_known_by_their_form() {
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
    check(
        &Detector::KnownToken,
        &[
            (&format!("got {jwt}, x"), &[jwt]),
            ("key AKIAABCDEFGHIJKLMNOP used", &["AKIAABCDEFGHIJKLMNOP"]),
            (
                "ghp_0123456789abcdefghij0123 gho_0123456789abcdefghij",
                &["ghp_0123456789abcdefghij0123", "gho_0123456789abcdefghij"],
            ),
            ("github_pat_0123456789abcdefghij_x", &["github_pat_0123456789abcdefghij_x"]),
            (
                "xoxb-1234567890-abc sk_live_0123456789 glpat-0123456789abcdef_-",
                &["xoxb-1234567890-abc", "sk_live_0123456789", "glpat-0123456789abcdef_-"],
            ),
            ("auth Basic dXNlcjpwYXNz now basic dXNlcjpwYXM=", &["dXNlcjpwYXNz", "dXNlcjpwYXM="]),
            ("Basic authentication, basic functionality, Asia/Tokyo, task_live_0123456789, eyJh.b.c", &[]),
        ],
    );
}

/// Each of many `?sig=` looked through the next eight kilobytes: four seconds for a megabyte.
#[test]
fn a_parameter_that_holds_others_is_looked_at_once() {
    let text = "?sig=".repeat(100_000);
    assert_eq!(hits(&Detector::QueryParameter(strict_names()), &text), [&text[5..]]);
    let urls = "//a:b@".repeat(100_000);
    assert_eq!(hits(&Detector::UrlAuth(UrlAuthPart::UserAndPassword), &urls).len(), 100_000);
}

#[test]
fn patterns_of_a_project_replace_their_groups() {
    let pattern = CustomPattern::new("key (\\d+)-(\\d+)", &[2, 1, 2], Case::Sensitive).unwrap();
    check(&Detector::Pattern(Arc::new(pattern)), &[("key 12-34, Key 1-2", &["12", "34"])]);
    let whole = CustomPattern::new("ä+", &[], Case::Ignored).unwrap();
    assert_eq!(hits(&Detector::Pattern(Arc::new(whole)), "xÄäy"), ["Ää"], "case folding knows Unicode in texts");
    let nothing = CustomPattern::new("a*", &[], Case::Sensitive).unwrap();
    check(&Detector::Pattern(Arc::new(nothing)), &[("baab", &["aa"])]);
    let nested = CustomPattern::new("(a(b))", &[1, 2], Case::Sensitive).unwrap();
    check(&Detector::Pattern(Arc::new(nested)), &[("ab", &["ab"])]);
}

#[test]
fn bad_patterns_are_refused_without_repeating_them() {
    let syntax = CustomPattern::new("hunter2(", &[], Case::Sensitive).unwrap_err();
    assert!(!syntax.to_string().contains("hunter2"), "{syntax}");
    assert_eq!(CustomPattern::new("(a)", &[2], Case::Sensitive).unwrap_err(), InvalidPattern::NoSuchGroup(2, 1));
    assert_eq!(CustomPattern::new(r"\w{1000}{10}", &[], Case::Sensitive).unwrap_err(), InvalidPattern::TooLarge);
    assert_eq!(KeyPattern::new(r"\w{1000}{10}", Case::Ignored).unwrap_err(), InvalidPattern::TooLarge);
}

#[test]
fn a_key_pattern_finds_the_whole_text() {
    let pattern = Arc::new(KeyPattern::new("foo|b.r", Case::Ignored).unwrap());
    assert_eq!(hits(&Detector::PairValue(Arc::clone(&pattern)), "x FOO y"), ["x FOO y"]);
    assert!(hits(&Detector::PairValue(pattern), "x").is_empty());
}

fn all_detectors() -> Vec<Detector> {
    vec![
        Detector::Imei,
        Detector::Mac,
        Detector::Uuid,
        Detector::Email,
        Detector::Ip(IpCheck::Form),
        Detector::CreditCard(CardCheck::Issuer),
        Detector::CreditCard(CardCheck::Luhn),
        Detector::Iban(IbanCheck::Form),
        Detector::UserPath(HomePath::Anywhere),
        Detector::UserPath(HomePath::AtRoot),
        Detector::PemKey,
        Detector::UrlAuth(UrlAuthPart::UserAndPassword),
        Detector::UrlAuth(UrlAuthPart::Password),
        Detector::UsSsn,
        Detector::Bearer(BearerCheck::Word),
        Detector::Password,
        Detector::Cookies,
        Detector::NamedValue(strict_names()),
        Detector::NamedValue(Arc::new(SensitiveNames::new(NameProfile::Compat).and_containing(&["ü"]))),
        Detector::QueryParameter(strict_names()),
        Detector::EncodedEmail,
        Detector::Ip(IpCheck::NoNames),
        Detector::Iban(IbanCheck::Digits),
        Detector::Bearer(BearerCheck::Token),
        Detector::KnownToken,
        Detector::NamedLiteral(strict_names()),
        Detector::NamedPhrase(strict_names()),
        Detector::NamedPhrase(Arc::new(SensitiveNames::new(NameProfile::Strict).and_containing(&["badge"]))),
    ]
}

/// Texts made of pieces that mean something to some detector, so that hits are frequent.
fn telling_text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "4111111111111111",
        "4111 ",
        "1111-",
        "356938035643809",
        "078-05-1120",
        "DE89 3704 0044 0532 0130 00",
        "DE89",
        "370400440532013000",
        "4a:00:04:10:9b:50",
        "ceee0822-ed8f-4622-b2a3-789e73e75cd1",
        "10.0.0.1",
        "fe80::1",
        "::",
        ":",
        "jane@",
        "example.com",
        "@",
        "//",
        "/home/",
        "C:\\Users\\",
        "jane",
        "-----BEGIN PRIVATE KEY-----",
        "-----END",
        "bearer ",
        "Bearer ab",
        "password",
        "token",
        "secret",
        "=",
        "\"",
        "\\\"",
        "'",
        " ",
        ";",
        "sessionid=",
        "?",
        "&",
        "[",
        "]",
        "{",
        "ü",
        "日本",
        ".",
        "0",
        "\n",
        "/",
        "profiles/",
        "x/",
        "auth: ",
        "API_KEY",
        "--",
        "--password ",
        "<pwd>",
        "</",
        ">",
        "otp",
        "badge",
        " is ",
        "hunter2",
        ",",
        "Authorization: ",
        "Cookie: ",
        "session=",
        "Some(",
        "u'",
        "\\",
        "eyJhbGciOiJIUzI1NiJ9",
        ".eyJzdWIiOiIxIn0",
        "Basic ",
        "dXNlcjpwYXNz",
        "%40",
        ";s:6:",
        "\u{a0}",
        "|\n",
        "  ",
    ]);
    prop::collection::vec(prop_oneof![4 => pieces.prop_map(str::to_owned), 1 => ".{0,6}"], 0..14)
        .prop_map(|p| p.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_prefilter_never_changes_a_result_and_ranges_are_tidy(text in telling_text()) {
        let facts = TextFacts::of(&text);
        for detector in all_detectors() {
            let mut out = Vec::new();
            detector.find(&text, &mut out);
            prop_assert!(out.is_empty() || detector.may_match(&facts), "{detector:?} in {text:?}");
            let mut end = 0;
            for range in &out {
                prop_assert!(range.start >= end && range.end > range.start, "{detector:?}");
                prop_assert!(text.get(range.clone()).is_some(), "{detector:?} cuts a character of {text:?}");
                end = range.end;
            }
        }
    }

    #[test]
    fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for detector in all_detectors() {
            let mut out = Vec::new();
            detector.find_bytes(&bytes, &mut out);
            prop_assert!(out.iter().all(|range| range.end <= bytes.len() && range.start < range.end));
            prop_assert!(out.windows(2).all(|pair| pair[0].end <= pair[1].start));
            prop_assert!(out.is_empty() || detector.may_match(&TextFacts::of_bytes(&bytes)), "{detector:?}");
        }
    }
}
