//! Hourly counts as a small bar chart in SVG: a rectangle an hour, oldest at the left.

/// Width of the drawing in its own units: 24 bars of 4 with 1 between.
pub(crate) const WIDTH: u32 = BARS_MAX as u32 * BAR_PITCH;
/// Height of the drawing in its own units.
pub(crate) const HEIGHT: u32 = 24;
/// Hours drawn, the last ones.
const BARS_MAX: usize = 24;
const BAR_PITCH: u32 = 5;

/// A chart ready to be laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sparkline {
    pub(crate) bars: Vec<Bar>,
    /// What the chart says, for those who don't see it.
    pub(crate) label: String,
}

/// One bar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bar {
    pub(crate) x: u32,
    pub(crate) y: u32,
    pub(crate) height: u32,
    /// Whether nothing happened in that hour; such a bar is a faint base line.
    pub(crate) is_empty: bool,
}

impl Sparkline {
    /// Draws counts by hour, oldest first.
    pub(crate) fn new(hourly: &[u64]) -> Self {
        let shown = &hourly[hourly.len().saturating_sub(BARS_MAX)..];
        let highest = shown.iter().copied().max().unwrap_or(0);
        let bars = (0..).step_by(BAR_PITCH as usize).zip(shown).map(|(x, count)| {
            let height = height_of(*count, highest);
            Bar { x, y: HEIGHT - height, height, is_empty: *count == 0 }
        });
        let total = shown.iter().copied().fold(0, u64::saturating_add);
        let label = match total {
            0 => "No events in the last 24 hours".to_owned(),
            1 => "1 event in the last 24 hours".to_owned(),
            _ => format!("{total} events in the last 24 hours, at most {highest} in an hour"),
        };
        Self { bars: bars.collect(), label }
    }
}

/// At least 1, so that the axis shows; at least 3 for an hour with events, so that a single one beside thousands is seen.
fn height_of(count: u64, highest: u64) -> u32 {
    if count == 0 || highest == 0 {
        return 1;
    }
    let share = u128::from(count) * u128::from(HEIGHT) / u128::from(highest);
    u32::try_from(share).unwrap_or(HEIGHT).clamp(3, HEIGHT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_hour_fills_the_height_and_a_single_event_is_seen() {
        let line = Sparkline::new(&[0, 1, 1_000]);
        let heights: Vec<_> = line.bars.iter().map(|bar| (bar.x, bar.height)).collect();
        assert_eq!(heights, [(0, 1), (5, 3), (10, HEIGHT)]);
        assert_eq!(line.label, "1001 events in the last 24 hours, at most 1000 in an hour");
    }

    #[test]
    fn any_counts_can_be_drawn() {
        for hourly in [vec![], vec![0; 24], vec![u64::MAX; 24], vec![7; 100]] {
            let line = Sparkline::new(&hourly);
            assert!(line.bars.len() <= BARS_MAX);
            assert!(line.bars.iter().all(|bar| bar.y + bar.height == HEIGHT && bar.x < WIDTH));
        }
        assert_eq!(Sparkline::new(&[0; 24]).label, "No events in the last 24 hours");
    }
}
