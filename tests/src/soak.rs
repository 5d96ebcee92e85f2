//! Whether the whole of the fault tests is to run, or a sample (`make soak`).

/// The sample's number, or the whole's where `PICKET_SOAK` is set.
#[must_use]
pub fn sample_or_whole<T>(sample: T, whole: T) -> T {
    if std::env::var_os("PICKET_SOAK").is_some_and(|value| !value.is_empty()) { whole } else { sample }
}
