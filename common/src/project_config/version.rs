//! Tests on releases: a glob, or a comparison with the release's version. Settings are checked with what applies them, so that none
//! is taken that would never apply.

use std::cmp::Ordering;

use crate::glob::{Glob, InvalidGlob};

/// A test on a release of the form `package@version`, or of a version alone.
#[derive(Debug)]
pub enum VersionTest {
    /// The whole release, or its version, looks like this.
    Glob(Glob),
    /// The version is one of these to that one.
    Compare(Vec<Ordering>, Version),
}

/// Why a text is no test.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionTestError {
    /// What follows `<`, `>` or `=` is no version.
    #[error("expected a version such as 1.2.3 after <, <=, >, >= or =; a pattern with * stands alone")]
    NoVersion,
    /// The glob can't be used.
    #[error(transparent)]
    Glob(#[from] InvalidGlob),
}

/// The numbers of a version, and whether it is one of those before the release of that number (`2.0.0-beta`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    numbers: Vec<u64>,
    is_preliminary: bool,
}

impl VersionTest {
    /// Reads `<2.1`, `>=2`, `=2.0` or a glob.
    ///
    /// # Errors
    /// [`VersionTestError`]: neither a comparison nor a glob.
    pub fn read(text: &str) -> Result<Self, VersionTestError> {
        let relations = [
            ("<=", vec![Ordering::Less, Ordering::Equal]),
            (">=", vec![Ordering::Greater, Ordering::Equal]),
            ("<", vec![Ordering::Less]),
            (">", vec![Ordering::Greater]),
            ("=", vec![Ordering::Equal]),
        ];
        for (sign, allowed) in relations {
            if let Some(version) = text.strip_prefix(sign) {
                let version = Version::read(version.trim()).ok_or(VersionTestError::NoVersion)?;
                return Ok(Self::Compare(allowed, version));
            }
        }
        Ok(Self::Glob(Glob::new(text)?))
    }

    /// Whether a release passes.
    #[must_use]
    pub fn matches(&self, release: &str) -> bool {
        let version = release.rsplit_once('@').map_or(release, |(_, version)| version);
        match self {
            Self::Glob(glob) => {
                glob.matches_lowercase(&release.to_lowercase()) || glob.matches_lowercase(&version.to_lowercase())
            }
            Self::Compare(allowed, bound) => {
                Version::read(version).is_some_and(|version| allowed.contains(&version.compare(bound)))
            }
        }
    }
}

impl Version {
    /// Reads the numbers at the beginning; `None` if there are none.
    fn read(text: &str) -> Option<Self> {
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        // What follows a plus sign is about the build, not the version.
        let text = text.split('+').next().unwrap_or_default();
        let (numbers, rest) = text.split_once('-').map_or((text, None), |(numbers, rest)| (numbers, Some(rest)));
        let numbers: Option<Vec<u64>> = numbers.split('.').map(|number| number.parse().ok()).collect();
        Some(Self { numbers: numbers?, is_preliminary: rest.is_some() })
    }

    /// `2.1` and `2.1.0` are equal; two preliminary versions of one number are too.
    fn compare(&self, other: &Self) -> Ordering {
        let length = self.numbers.len().max(other.numbers.len());
        let number = |version: &Self, position: usize| version.numbers.get(position).copied().unwrap_or_default();
        let numbers = (0..length).map(|position| number(self, position).cmp(&number(other, position)));
        let ordering = numbers.fold(Ordering::Equal, Ordering::then);
        ordering.then(other.is_preliminary.cmp(&self.is_preliminary))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn releases_are_compared_by_their_numbers() {
        let table = [
            ("<2.1", "shop@2.0.9", true),
            ("<2.1", "shop@2.1.0", false),
            ("<2.10", "2.9", true),
            (">=2", "v2.0.0", true),
            (">2", "2.0.0", false),
            (">=2", "2.0.0-beta", false),
            ("=2.0", "shop@2.0.0+build.7", true),
            ("<=3", "shop@abcdef", false),
            ("1.*", "shop@1.4", true),
            ("shop@*", "shop@1.4", true),
            ("other@*", "shop@1.4", false),
        ];
        for (test, release, expected) in table {
            assert_eq!(VersionTest::read(test).unwrap().matches(release), expected, "{test} {release}");
        }
        assert!(VersionTest::read(">=x").is_err() && VersionTest::read(">=1.0.*").is_err());
    }
}
