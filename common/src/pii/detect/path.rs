//! Names of users in paths.

use std::ops::Range;
use std::sync::LazyLock;

use regex::bytes::Regex;

use super::{HomePath, constant};

/// A segment. It may hold spaces where a separator closes it; at the end of a path the first space ends it.
const NAME: &str = concat!(
    r#"(?:([^/\\\s"'<>|:*?\x00-\x1f](?:[^/\\"'<>|:*?\x00-\x1f]{0,62}[^/\\\s"'<>|:*?\x00-\x1f])?)[/\\]"#,
    r#"|([^/\\\s"'<>|:*?,;)\x00-\x1f]+))"#,
);

/// Directories that hold home directories, anywhere.
const ANYWHERE: &str = r"\b(?:users|home|documents and settings|[^/\\\x00-\x1f]{1,64}[/\\]{1,4}profiles)[/\\]{1,4}";

/// The same where a path begins. Without a drive letter the capital of `/Users` tells macOS from the routes of web servers.
const AT_ROOT: &str = concat!(
    r#"(?:^|[^a-z0-9_/\\.-]|file://|\\[\\?]\?\\)(?:(?-i:/Users|/home|/var/home)|"#,
    r"(?:[a-z]:|\\device\\harddiskvolume[0-9]{1,4})[/\\]{1,4}(?:users|documents and settings|winnt[/\\]{1,4}profiles))[/\\]{1,4}",
);

/// The segment after the directory that holds home directories.
pub(super) fn user_path(bytes: &[u8], which: HomePath, out: &mut Vec<Range<usize>>) {
    static HOME_ANYWHERE: LazyLock<Regex> = LazyLock::new(|| constant(&[ANYWHERE, NAME].concat()));
    static HOME_AT_ROOT: LazyLock<Regex> = LazyLock::new(|| constant(&[AT_ROOT, NAME].concat()));
    let pattern = match which {
        HomePath::Anywhere => &HOME_ANYWHERE,
        HomePath::AtRoot => &HOME_AT_ROOT,
    };
    let mut at = 0;
    while let Some(captures) = pattern.captures_at(bytes, at) {
        let Some(name) = captures.get(1).or_else(|| captures.get(2)) else { return };
        out.push(name.range());
        // The separator after the name may open the next match.
        at = name.end();
    }
}
