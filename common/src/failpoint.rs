//! Places where a fault test ends or holds a program, between a step and the next one that relies on it.
//!
//! ```text
//! FAILPOINTS='uplink::after_send=3*off->return'   the fourth time it comes there, the program ends as by kill -9
//! FAILPOINTS='spool::after_commit=pause'          it stays there until it is killed
//! ```
//!
//! Invariants: without the feature `failpoints` a place is nothing, and the variable is not read; a program that ends at a place
//! says so on stderr first, so that a test can tell that end from any other (and ends by SIGABRT, not SIGKILL).

/// Reads `FAILPOINTS`, once a process; the places hold until it ends.
#[cfg(feature = "failpoints")]
pub fn set_up() {
    static SET_UP: std::sync::Once = std::sync::Once::new();
    // Dropping the scenario would take the failpoints down.
    SET_UP.call_once(|| std::mem::forget(fail::FailScenario::setup()));
}

/// Nothing: this build has no failpoints.
#[cfg(not(feature = "failpoints"))]
pub const fn set_up() {}

/// A place: `return` ends the process there at once, without unwinding or flushing anything.
#[cfg(feature = "failpoints")]
pub fn failpoint(name: &'static str) {
    fail::fail_point!(name, |_| {
        use std::io::Write as _;
        // The process is as good as dead, so nobody is left to be told of a failure to say so.
        let _ = writeln!(std::io::stderr(), "failpoint {name}: the process ends here");
        std::process::abort();
    });
}

/// Nothing: this build has no failpoints.
#[cfg(not(feature = "failpoints"))]
pub const fn failpoint(_name: &'static str) {}
