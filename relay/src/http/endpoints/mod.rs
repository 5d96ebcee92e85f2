//! The endpoints that take data, one file each. A file has its routes, its handlers and what is particular to what it takes.
//!
//! | file | takes |
//! | --- | --- |
//! | `attachments` | files for an event that was sent before |
//! | `check_in` | check-ins of cron jobs, in an address or as JSON |
//! | `envelope` | envelopes |
//! | `health` | nothing: says how the relay is |
//! | `minidump` | crash dumps |
//! | `nel` | network errors, reported by browsers; counted only |
//! | `otlp` | spans and logs of OpenTelemetry; counted only |
//! | `security` | broken policies, reported by browsers |
//! | `store` | single events of old SDKs, in a body or an image's address |
//! | `unreal` | crash reports of the Unreal Engine |
//! | `vercel` | logs of Vercel's drain; counted only |

pub(super) mod attachments;
pub(super) mod check_in;
pub(super) mod envelope;
pub(super) mod health;
pub(super) mod minidump;
pub(super) mod nel;
pub(super) mod otlp;
pub(super) mod security;
pub(super) mod store;
pub(super) mod unreal;
mod unstored;
pub(super) mod vercel;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;

/// The variable segments of a path. One that is not UTF-8 names nothing.
type Segments<T> = Result<Path<T>, PathRejection>;

fn segments<T: Default>(path: Segments<T>) -> T {
    path.map(|Path(segments)| segments).unwrap_or_default()
}
