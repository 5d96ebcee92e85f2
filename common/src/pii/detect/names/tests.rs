use super::{COMPAT_PARTS, Held, NameProfile, STRICT_PARTS, STRICT_WORDS, SUBJECT_WORDS, SensitiveNames, TEXT_WORDS};

#[test]
fn every_listed_word_makes_a_name_sensitive() {
    let compat = SensitiveNames::new(NameProfile::Compat);
    let strict = SensitiveNames::new(NameProfile::Strict);
    for part in COMPAT_PARTS {
        assert!(compat.contains(&format!("x{part}y")), "{part}");
    }
    for part in STRICT_PARTS {
        assert!(strict.contains(&format!("x_{part}")), "{part}");
    }
    for word in STRICT_WORDS.into_iter().chain(TEXT_WORDS).chain(SUBJECT_WORDS) {
        assert!(strict.contains(&format!("my-{word}")), "{word}");
    }
}

#[test]
fn names_are_told_apart_by_words_in_the_strict_profile() {
    let names = SensitiveNames::new(NameProfile::Strict);
    for sensitive in [
        "password",
        "userPassword",
        "DB_PASSWORD",
        "authToken",
        "X-Api-Key",
        "x-auth",
        "OAuth",
        "refresh_token",
        "accesstoken",
        "JWT",
        "client.secret",
        "session_cookie",
        "auth_code",
        "smtp_pass",
        "proxy-authorization",
        "tokens",
        "userJWT",
        "otp",
    ] {
        assert!(names.contains(sensitive), "{sensitive}");
    }
    for plain in [
        "author",
        "authors",
        "authored_by",
        "tokenizer",
        "max_tokens",
        "promptTokenCount",
        "compass",
        "passenger",
        "key",
        "name",
        "side",
        "",
        "keyboard",
        "usage.total_tokens",
        // Which cookies are secret follows from their own names.
        "cookie",
        "Set-Cookie",
        "cookies",
        "cookie_enabled",
        "auth.method",
        "oauth_provider",
        "jwt.alg",
        "pass_rate",
        "secret_name",
        "authDurationMs",
        "token_type",
        "token_expires_at",
    ] {
        assert!(!names.contains(plain), "{plain}");
    }
}

#[test]
fn numbers_and_objects_go_only_where_the_name_means_them() {
    let names = SensitiveNames::new(NameProfile::Strict).and_containing(&["badge"]);
    for (name, number, fields) in [
        ("password", true, true),
        ("user_password", true, true),
        ("otp", true, true),
        ("reset_token", true, true),
        ("badge_auth", true, true),
        ("token", true, true),
        ("tokens", false, true),
        ("auth_3", false, false),
        ("pass", true, false),
        ("auth", true, false),
        ("auth_duration_ms", false, false),
    ] {
        assert_eq!(names.contains_holding(name, Held::Number), number, "{name}");
        assert_eq!(names.contains_holding(name, Held::Fields), fields, "{name}");
        assert_eq!(names.contains_holding(name, Held::Text), names.contains(name), "{name}");
    }
    assert!(SensitiveNames::new(NameProfile::Compat).contains_holding("author", Held::Number));
}

#[test]
fn names_are_told_by_any_part_in_the_compat_profile() {
    let names = SensitiveNames::new(NameProfile::Compat);
    for sensitive in ["author", "myPassWord1", "xsrf_token", "OTP", "two_factor", "secretary", "token_auth_count"] {
        assert!(names.contains(sensitive), "{sensitive}");
    }
    for plain in ["otp_code", "two_factors", "max_tokens", "pwd", "session", "cookie", ""] {
        assert!(!names.contains(plain), "{plain}");
    }
}

/// `sensitiveFields: ["bär"]` missed `BÄR`, which the reference finds.
#[test]
fn a_projects_names_are_found_in_any_case_of_any_script() {
    let names = SensitiveNames::new(NameProfile::Strict).and_containing(&["bär", "пин", "pin"]);
    for sensitive in ["BÄR", "meinBÄRname", "bär", "ПИН", "Пин-код", "userPIN"] {
        assert!(names.contains(sensitive), "{sensitive}");
    }
    assert!(!names.contains("bar") && !names.contains("BA"));
}

#[test]
fn a_project_adds_and_excludes_names() {
    let names = SensitiveNames::new(NameProfile::Strict).and_containing(&["iban", ""]).but_not(&["Token", "my_iban"]);
    assert!(names.contains("customerIBAN"));
    assert!(!names.contains("MY_IBAN"));
    assert!(!names.contains("token"));
    assert!(names.contains("user_token"));
}
