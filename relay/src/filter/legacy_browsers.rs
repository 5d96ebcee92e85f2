//! Browsers that are too old for a project to care.

use picket_common::project_config::filters::LegacyBrowser;

use super::user_agent::{Browser, Family, browser};

/// Which family an option speaks of, and which major versions: from the first up to, not including, the second.
const VERSIONS: [(LegacyBrowser, Family, u32, u32); 22] = [
    (LegacyBrowser::Default, Family::InternetExplorer, 0, 9),
    (LegacyBrowser::Default, Family::Safari, 0, 6),
    (LegacyBrowser::Default, Family::Opera, 0, 15),
    (LegacyBrowser::Default, Family::OperaMini, 0, 8),
    (LegacyBrowser::Default, Family::Android, 0, 4),
    (LegacyBrowser::Ie, Family::InternetExplorer, 0, 12),
    (LegacyBrowser::IePre9, Family::InternetExplorer, 0, 9),
    (LegacyBrowser::Ie9, Family::InternetExplorer, 9, 10),
    (LegacyBrowser::Ie10, Family::InternetExplorer, 10, 11),
    (LegacyBrowser::Ie11, Family::InternetExplorer, 11, 12),
    (LegacyBrowser::Edge, Family::Edge, 0, 111),
    (LegacyBrowser::EdgePre79, Family::Edge, 0, 79),
    (LegacyBrowser::Chrome, Family::Chrome, 0, 111),
    (LegacyBrowser::Firefox, Family::Firefox, 0, 111),
    (LegacyBrowser::Safari, Family::Safari, 0, 16),
    (LegacyBrowser::SafariPre6, Family::Safari, 0, 6),
    (LegacyBrowser::Opera, Family::Opera, 0, 100),
    (LegacyBrowser::OperaPre15, Family::Opera, 0, 15),
    (LegacyBrowser::OperaMini, Family::OperaMini, 0, 35),
    (LegacyBrowser::OperaMiniPre8, Family::OperaMini, 0, 8),
    (LegacyBrowser::Android, Family::Android, 0, 4),
    (LegacyBrowser::AndroidPre4, Family::Android, 0, 4),
];

/// Whether a user agent is of a browser that one of the options speaks of.
pub(super) fn is_legacy(options: &[LegacyBrowser], user_agent: &str) -> bool {
    let Some(Browser { family, major }) = browser(user_agent) else { return false };
    VERSIONS
        .iter()
        .any(|(option, of, from, below)| options.contains(option) && *of == family && (*from..*below).contains(&major))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_takes_the_versions_it_names() {
        let ie = |version: u32| format!("Mozilla/5.0 (compatible; MSIE {version}.0; Windows NT 6.1; Trident/5.0)");
        let chrome =
            |version: u32| format!("Mozilla/5.0 (X11) AppleWebKit/537.36 Chrome/{version}.0.0.0 Safari/537.36");
        let table = [
            (LegacyBrowser::Default, ie(8), true),
            (LegacyBrowser::Default, ie(9), false),
            (LegacyBrowser::Default, chrome(10), false),
            (LegacyBrowser::Ie, ie(11), true),
            (LegacyBrowser::Ie9, ie(9), true),
            (LegacyBrowser::Ie9, ie(10), false),
            (LegacyBrowser::Ie10, ie(10), true),
            (LegacyBrowser::Ie11, ie(11), true),
            (LegacyBrowser::Chrome, chrome(110), true),
            (LegacyBrowser::Chrome, chrome(111), false),
            (LegacyBrowser::EdgePre79, format!("{} Edg/78.0", chrome(78)), true),
            (LegacyBrowser::Edge, format!("{} Edg/110.0", chrome(110)), true),
            (LegacyBrowser::Firefox, "Mozilla/5.0 (X11; rv:102.0) Gecko/20100101 Firefox/102.0".to_owned(), true),
            (LegacyBrowser::Safari, "Mozilla/5.0 (Mac) Version/15.6 Safari/605".to_owned(), true),
            (LegacyBrowser::SafariPre6, "Mozilla/5.0 (Mac) Version/15.6 Safari/605".to_owned(), false),
            (LegacyBrowser::OperaMini, "Opera/9.80 (Opera Mini/34.0; U) Version/12.16".to_owned(), true),
            (LegacyBrowser::OperaMiniPre8, "Opera/9.80 (Opera Mini/34.0; U) Version/12.16".to_owned(), false),
            (LegacyBrowser::OperaPre15, "Opera/9.80 (X11) Presto/2.12 Version/12.16".to_owned(), true),
            (LegacyBrowser::Opera, format!("{} OPR/99.0", chrome(113)), true),
            (LegacyBrowser::AndroidPre4, "Mozilla/5.0 (Linux; U; Android 3.2) Version/4.0 Safari/534".to_owned(), true),
            (LegacyBrowser::Android, "Mozilla/5.0 (Linux; U; Android 4.0) Version/4.0 Safari/534".to_owned(), false),
            (LegacyBrowser::Unknown, ie(5), false),
        ];
        for (option, user_agent, expected) in table {
            assert_eq!(is_legacy(&[option], &user_agent), expected, "{option:?} {user_agent}");
        }
    }
}
