//! Back-pressure: how much a relay may have in flight, by how full the journal is.
//!
//! ```text
//! window
//! full ─────────────┐
//!                   └──┐ eight steps
//! 1 batch              └──┐────────────
//!      0 %     50 %     90 %   100 %      of journal.max_bytes
//! ```
//!
//! In steps, so that relays hear of it when it matters and not with each batch. Beyond 100 % batches are refused.

use picket_common::wire::control::Window;

use super::config::LinkConfig;
use crate::journal::Backlog;

const STEPS: u64 = 8;
/// In percent of the journal's budget.
const NARROWS_FROM: u64 = 50;
const NARROWEST_FROM: u64 = 90;
/// The narrowest window still lets one ordinary batch through.
const LEAST_BYTES: u64 = 1024 * 1024;

/// The widest window.
pub(super) fn widest(config: &LinkConfig) -> Window {
    Window { batches: config.window_batches, bytes: config.window_bytes.as_u64() }
}

/// The narrower of both in each regard.
pub(super) fn narrower(one: Window, other: Window) -> Window {
    Window { batches: one.batches.min(other.batches), bytes: one.bytes.min(other.bytes) }
}

/// The window at this backlog.
pub(super) fn window(config: &LinkConfig, backlog: Backlog) -> Window {
    let percent = backlog.bytes.saturating_mul(100) / backlog.max_bytes.max(1);
    let steps_left = match percent {
        ..NARROWS_FROM => STEPS,
        NARROWEST_FROM.. => 0,
        _ => STEPS - 1 - (percent - NARROWS_FROM) * (STEPS - 1) / (NARROWEST_FROM - NARROWS_FROM),
    };
    let batches = u64::from(config.window_batches) * steps_left / STEPS;
    let bytes = config.window_bytes.as_u64() / STEPS * steps_left;
    Window { batches: u32::try_from(batches).unwrap_or(u32::MAX).max(1), bytes: bytes.max(LEAST_BYTES) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(percent: u64) -> Window {
        window(&LinkConfig::default(), Backlog { batches: 1, bytes: percent, max_bytes: 100 })
    }

    #[test]
    fn the_window_is_full_below_half_and_one_batch_from_nine_tenths_on() {
        let config = LinkConfig::default();
        let full = Window { batches: config.window_batches, bytes: config.window_bytes.as_u64() };
        for percent in [0, 49] {
            assert_eq!(at(percent), full, "{percent}");
        }
        for percent in [90, 100, 1000] {
            assert_eq!(at(percent), Window { batches: 1, bytes: LEAST_BYTES }, "{percent}");
        }
    }

    #[test]
    fn the_window_only_narrows_as_the_journal_fills() {
        let batches: Vec<_> = (0..=100).map(|percent| at(percent).batches).collect();
        assert!(batches.is_sorted_by(|earlier, later| earlier >= later), "{batches:?}");
        assert!(at(50).batches < at(49).batches);
    }
}
