//! Robots: search engines, social networks' previews, monitors and what else fetches pages and runs their scripts.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

/// What robots call themselves, by their operators' own documentation; matched anywhere, in any case.
const CRAWLERS: [&str; 66] = [
    // Search engines.
    "googlebot",
    "google-inspectiontool",
    "googleother",
    "storebot-google",
    "adsbot-google",
    "mediapartners-google",
    "apis-google",
    "feedfetcher-google",
    "google favicon",
    "google-read-aloud",
    "bingbot",
    "bingpreview",
    "adidxbot",
    "msnbot",
    "slurp",
    "duckduckbot",
    "baiduspider",
    "yandexbot",
    "yandexmobilebot",
    "yandeximages",
    "yandexmetrika",
    "sogou web spider",
    "360spider",
    "petalbot",
    "applebot",
    "seznambot",
    "exabot",
    "qwantify",
    "naverbot",
    "yeti/",
    "ia_archiver",
    "archive.org_bot",
    "ccbot",
    "mojeekbot",
    "coccocbot",
    // Previews.
    "facebookexternalhit",
    "facebot",
    "meta-externalagent",
    "twitterbot",
    "linkedinbot",
    "pinterestbot",
    "slackbot",
    "slack-imgproxy",
    "discordbot",
    "telegrambot",
    "whatsapp/",
    "skypeuripreview",
    "redditbot",
    "embedly",
    // Analysis of sites.
    "ahrefsbot",
    "semrushbot",
    "mj12bot",
    "dotbot",
    "rogerbot",
    "screaming frog seo spider",
    "blexbot",
    "dataforseobot",
    "bytespider",
    "gptbot",
    "claudebot",
    "perplexitybot",
    "amazonbot",
    // Monitors and measurements.
    "chrome-lighthouse",
    "pingdom",
    "uptimerobot",
    "headlesscrawler",
];

/// Robots that act for a person who is waiting, or for this very purpose; their errors are wanted.
const WANTED: [&str; 3] = ["slackbot 1.", "sentryuptimebot", "chatgpt-user"];

#[expect(clippy::expect_used, reason = "a table of plain words always compiles; a test does so")]
static FOUND: LazyLock<AhoCorasick> =
    LazyLock::new(|| AhoCorasick::builder().ascii_case_insensitive(true).build(CRAWLERS).expect("the table compiles"));

/// Whether a user agent is a robot's.
pub(super) fn is_crawler(user_agent: &str) -> bool {
    FOUND.is_match(user_agent) && !is_wanted(user_agent)
}

fn is_wanted(user_agent: &str) -> bool {
    let lower = user_agent.to_ascii_lowercase();
    // "Slackbot 1.0 (+https://…)" delivers messages of people; "Slackbot-LinkExpanding 1.0" fetches previews.
    WANTED.iter().any(|name| lower.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn robots_are_known_by_name() {
        for user_agent in [
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm) Chrome/116 Safari/537.36",
            "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
            "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
            "Mozilla/5.0 (compatible; YANDEXBOT/3.0)",
            "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; GPTBot/1.1",
        ] {
            assert!(is_crawler(user_agent), "{user_agent}");
        }
    }

    #[test]
    fn people_and_wanted_robots_pass() {
        for user_agent in [
            "Mozilla/5.0 (X11; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/115.0",
            "Slackbot 1.0 (+https://api.slack.com/robots)",
            "SentryUptimeBot/1.0 (+http://docs.sentry.io/product/alerts/uptime-monitoring/)",
            "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; ChatGPT-User/1.0; +https://openai.com/bot",
            "",
        ] {
            assert!(!is_crawler(user_agent), "{user_agent}");
        }
    }
}
