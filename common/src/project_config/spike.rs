//! Protection against sudden floods, as a project is configured with it.

use serde::{Deserialize, Serialize};

use super::filter_entry::InvalidFilter;

/// Whether and from when on a project's events are refused because they come far more often than usual.
///
/// Off by default: a new project has no limits but the relay's own. A relay learns what is usual from what the project sends
/// it, minute by minute; the numbers are of one relay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SpikeProtection {
    /// On.
    pub enabled: bool,
    /// A flood begins at this many times the usual number of events a minute.
    pub multiplier: f64,
    /// Never refuse below this many events a minute, however few are usual.
    pub floor: u64,
}

impl Default for SpikeProtection {
    fn default() -> Self {
        Self { enabled: false, multiplier: 5.0, floor: 600 }
    }
}

impl SpikeProtection {
    /// Checks what an operator sets.
    ///
    /// # Errors
    /// The key that can't be used, and why.
    pub fn validate(&self) -> Result<(), InvalidFilter> {
        if !(1.0..=1000.0).contains(&self.multiplier) {
            return Err(InvalidFilter::new("multiplier", format!("{}, expected 1 to 1000", self.multiplier)));
        }
        if self.floor == 0 {
            return Err(InvalidFilter::new("floor", "expected at least 1 event a minute"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_is_off_unless_switched_on_and_its_numbers_are_checked() {
        let read = |text: &str| serde_json::from_str::<SpikeProtection>(text).unwrap();
        assert!(!read("{}").enabled && read(r#"{"enabled":true}"#).enabled);
        read(r#"{"enabled":true,"multiplier":3}"#).validate().unwrap();
        assert_eq!(read(r#"{"multiplier":0.5}"#).validate().unwrap_err().at, "multiplier");
        assert_eq!(read(r#"{"floor":0}"#).validate().unwrap_err().at, "floor");
    }
}
