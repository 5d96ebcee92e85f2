//! Browsers' own reports in envelopes: `raw_security` items become `security` items, which hold an event.

use bytes::Bytes;
use picket_common::envelope::{Envelope, Item, ItemType};
use picket_common::security_report::{Reporter, SecurityReportError, event_of};
use picket_common::timestamp::Timestamp;

use crate::config::LimitsConfig;
use crate::refusal::Refusal;

/// Header of a `raw_security` item: the release that the report is for.
pub(crate) const RELEASE: &str = "sentry_release";
/// Header of a `raw_security` item: the environment that the report is from.
pub(crate) const ENVIRONMENT: &str = "sentry_environment";

/// Converts all reports of an envelope. Those beyond the limit of events stay as they are, for the limits to refuse.
///
/// # Errors
/// 400 for the first report that is none.
pub(crate) fn convert(
    envelope: &mut Envelope,
    user_agent: Option<&str>,
    received_at: Timestamp,
    limits: &LimitsConfig,
) -> Result<(), Refusal> {
    let is_report = |item: &Item| {
        *item.item_type() == ItemType::RawSecurity && item.payload_len() <= limits.max_event_bytes.as_u64()
    };
    if !envelope.items().iter().any(is_report) {
        return Ok(());
    }
    let converted: Result<Vec<_>, _> = envelope
        .items()
        .iter()
        .map(|item| if is_report(item) { converted(item, user_agent, received_at) } else { Ok(item.clone()) })
        .collect();
    let converted = converted?;
    envelope.retain_items(|_| false);
    converted.into_iter().for_each(|item| envelope.push(item));
    Ok(())
}

fn converted(item: &Item, user_agent: Option<&str>, received_at: Timestamp) -> Result<Item, Refusal> {
    let (release, environment) = (item.header_text(RELEASE), item.header_text(ENVIRONMENT));
    let reporter =
        Reporter { user_agent, release: release.as_deref(), environment: environment.as_deref(), received_at };
    let event = event_of(item.payload(), &reporter).map_err(refusal)?;
    Ok(Item::new(ItemType::Security, Bytes::from(event)))
}

fn refusal(error: SecurityReportError) -> Refusal {
    let reason = match error {
        SecurityReportError::NotJson => "invalid_json",
        SecurityReportError::UnknownKind => "security_report_type",
        SecurityReportError::Incomplete { .. } => "security_report",
    };
    Refusal::malformed(reason, error.to_string())
}
