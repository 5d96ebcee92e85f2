//! Which browser a user agent names, as far as the filter of old browsers tells browsers apart.
//!
//! Only the tokens that the browsers themselves write are looked at, in the order in which they imitate each other: an Opera
//! says that it is a Chrome, a Chrome that it is a Safari. What merely embeds an engine (Samsung Internet, Vivaldi, …) is none
//! of the browsers here and is never too old. The crate `woothee` knows these families too, but not Opera Mini's version nor
//! that of Android's own browser.

/// A browser family whose versions matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    InternetExplorer,
    Edge,
    Chrome,
    Firefox,
    Safari,
    Opera,
    OperaMini,
    /// Android's own browser, before Chrome took its place; its version is Android's.
    Android,
}

/// A browser and its major version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Browser {
    pub(super) family: Family,
    pub(super) major: u32,
}

/// Browsers of other names that carry a token of those above.
const OTHERS: [&str; 9] = [
    "SamsungBrowser/",
    "YaBrowser/",
    "Vivaldi/",
    "UCBrowser/",
    "MiuiBrowser/",
    "Whale/",
    "DuckDuckGo/",
    "Electron/",
    "QQBrowser/",
];

/// A token that comes before the version, and what it means.
const TOKENS: [(&str, Family); 15] = [
    ("Opera Mini/", Family::OperaMini),
    ("OPR/", Family::Opera),
    ("OPiOS/", Family::Opera),
    ("Edg/", Family::Edge),
    ("EdgA/", Family::Edge),
    ("EdgiOS/", Family::Edge),
    ("Edge/", Family::Edge),
    ("MSIE ", Family::InternetExplorer),
    ("IEMobile/", Family::InternetExplorer),
    ("FxiOS/", Family::Firefox),
    ("Firefox/", Family::Firefox),
    ("CriOS/", Family::Chrome),
    ("HeadlessChrome/", Family::Chrome),
    ("Chrome/", Family::Chrome),
    ("Chromium/", Family::Chrome),
];

/// The browser of a user agent; `None` for anything else.
pub(super) fn browser(user_agent: &str) -> Option<Browser> {
    if OTHERS.iter().any(|token| user_agent.contains(token)) {
        return None;
    }
    let of = |family, major| Some(Browser { family, major });
    if let Some(old_opera) = major_after(user_agent, "Opera/").or_else(|| major_after(user_agent, "Opera "))
        && !user_agent.contains("Opera Mini/")
    {
        // From version 10 on it stands behind `Version/`, because pages took 10 for 1.
        return of(Family::Opera, major_after(user_agent, "Version/").unwrap_or(old_opera));
    }
    for (token, family) in TOKENS {
        if let Some(major) = major_after(user_agent, token) {
            return of(family, major);
        }
    }
    if user_agent.contains("Trident/") {
        return of(Family::InternetExplorer, major_after(user_agent, "rv:")?);
    }
    if user_agent.contains("Android") && user_agent.contains("Version/") {
        return of(Family::Android, major_after(user_agent, "Android ")?);
    }
    if user_agent.contains("Safari/") {
        return of(Family::Safari, major_after(user_agent, "Version/")?);
    }
    None
}

fn major_after(user_agent: &str, token: &str) -> Option<u32> {
    let (_, rest) = user_agent.split_once(token)?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_told_apart_by_their_own_tokens() {
        use Family::{Android, Chrome, Edge, Firefox, InternetExplorer, Opera, OperaMini, Safari};
        let table = [
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
                Chrome,
                120,
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36 Edg/119.0.2",
                Edge,
                119,
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/64.0.3282.140 Safari/537.36 Edge/18.17763",
                Edge,
                18,
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/100.0.0.0 Safari/537.36 OPR/86.0.4363.32",
                Opera,
                86,
            ),
            ("Opera/9.80 (Windows NT 6.1) Presto/2.12.388 Version/12.18", Opera, 12),
            ("Opera/9.25 (Windows NT 6.0; U; en)", Opera, 9),
            ("Opera/9.80 (J2ME/MIDP; Opera Mini/7.1.32052/29.3709; U; en) Presto/2.8.119 Version/11.10", OperaMini, 7),
            ("Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1; Trident/4.0)", InternetExplorer, 8),
            ("Mozilla/5.0 (Windows NT 6.1; Trident/7.0; rv:11.0) like Gecko", InternetExplorer, 11),
            ("Mozilla/5.0 (X11; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/115.0", Firefox, 115),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/15.4 Safari/605.1.15",
                Safari,
                15,
            ),
            (
                "Mozilla/5.0 (Linux; U; Android 2.3.5; en-us; HTC) AppleWebKit/533.1 (KHTML, like Gecko) Version/4.0 Mobile Safari/533.1",
                Android,
                2,
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 16_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/110.0 Mobile Safari/604.1",
                Chrome,
                110,
            ),
        ];
        for (user_agent, family, major) in table {
            assert_eq!(browser(user_agent), Some(Browser { family, major }), "{user_agent}");
        }
    }

    #[test]
    fn what_is_no_such_browser_is_none() {
        for user_agent in [
            "",
            "sentry.python/2.0",
            "curl/8.1",
            "Chrome/",
            "Mozilla/5.0 (Linux; Android 13) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/20.0 Chrome/106.0.5249.126 Mobile Safari/537.36",
        ] {
            assert_eq!(browser(user_agent), None, "{user_agent}");
        }
    }
}
