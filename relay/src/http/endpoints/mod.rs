//! The endpoints that take data, one file each. A file has its routes, its handlers and what is particular to what it takes.
//!
//! | file | takes |
//! | --- | --- |
//! | `check_in` | check-ins of cron jobs, in an address or as JSON |
//! | `envelope` | envelopes |
//! | `store` | single events of old SDKs, in a body or an image's address |
//! | `minidump` | crash dumps |
//! | `unreal` | crash reports of the Unreal Engine |
//! | `health` | nothing: says how the relay is |

pub(super) mod check_in;
pub(super) mod envelope;
pub(super) mod health;
pub(super) mod minidump;
pub(super) mod store;
pub(super) mod unreal;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;

/// The variable segments of a path. One that is not UTF-8 names nothing.
type Segments<T> = Result<Path<T>, PathRejection>;

fn segments<T: Default>(path: Segments<T>) -> T {
    path.map(|Path(segments)| segments).unwrap_or_default()
}
