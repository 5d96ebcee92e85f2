//! Where the binaries under test are.

use std::path::{Path, PathBuf};

/// How a binary was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// As users get it.
    Normal,
    /// With failpoints.
    Failpoints,
}

/// The path of `picket-relay` or `picket-aggregator`.
///
/// # Panics
/// If it is not there; the message says what makes it.
#[must_use]
pub fn find(name: &str, build: Build) -> PathBuf {
    let (directory, variable, remedy) = match build {
        Build::Normal => (
            directory_in("PICKET_BIN_DIR").unwrap_or_else(profile_directory),
            "PICKET_BIN_DIR",
            "`make test` makes it, or by hand: cargo build --bins",
        ),
        Build::Failpoints => (
            directory_in("PICKET_FAILPOINT_BIN_DIR").unwrap_or_else(|| target_directory().join("failpoints")),
            "PICKET_FAILPOINT_BIN_DIR",
            "`make test` makes it",
        ),
    };
    existing(directory.join(name), variable, remedy)
}

/// The path of a binary of this crate, which cargo builds with the tests.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn find_own(name: &str) -> PathBuf {
    existing(
        profile_directory().join(name),
        "none",
        "cargo builds it with the tests: cargo build -p picket-tests --bins",
    )
}

/// Where `packaging/setup.sh` puts what it fetches.
///
/// # Panics
/// If neither `PICKET_CACHE_DIR` nor `HOME` is set.
#[must_use]
pub fn cache_directory() -> PathBuf {
    directory_in("PICKET_CACHE_DIR")
        .unwrap_or_else(|| directory_in("HOME").expect("PICKET_CACHE_DIR or HOME is set").join(".cache/picket"))
}

/// A file that `packaging/setup.sh test` fetches.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn fetched(path: &str) -> PathBuf {
    existing(
        cache_directory().join(path),
        "PICKET_CACHE_DIR",
        "`make test` fetches it, or packaging/setup.sh test alone",
    )
}

fn existing(path: PathBuf, variable: &str, remedy: &str) -> PathBuf {
    assert!(
        path.exists(),
        "{} is missing. {remedy}. (The variable that says where to look: {variable})",
        path.display()
    );
    path
}

fn directory_in(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// `<target directory>/<profile>`: this test is in `deps/` below it.
fn profile_directory() -> PathBuf {
    let this = std::env::current_exe().expect("the path of this test");
    let parent = this.parent().expect("an executable is in a directory");
    if parent.ends_with("deps") { parent.parent().map(Path::to_owned).unwrap_or_default() } else { parent.to_owned() }
}

fn target_directory() -> PathBuf {
    profile_directory().parent().map(Path::to_owned).unwrap_or_default()
}
