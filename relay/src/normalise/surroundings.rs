//! What the request and the project tell normalisation.

use picket_common::normalise::{ClientHints, EventContext, IpInference};

use crate::submission::Submission;

/// The context of everything in a submission.
pub(super) fn context_of(submission: &Submission) -> EventContext<'_> {
    let settings = &submission.project.config.settings;
    let hint = |name: &str| {
        let mut hints = submission.sender.client_hints.iter();
        hints.find(|(known, _)| &**known == name).map(|(_, value)| &**value)
    };
    EventContext {
        event_id: submission.envelope.event_id(),
        received_at: submission.received_at,
        sent_at: submission.envelope.sent_at(),
        client_address: submission.sender.address,
        ip_inference: match settings.scrub_profile.is_on(settings.datascrubbing_settings.scrub_ip_addresses) {
            true => IpInference::Forbidden,
            false => IpInference::Allowed,
        },
        user_agent: submission.sender.user_agent.as_deref(),
        client_hints: ClientHints {
            brands: hint("sec-ch-ua"),
            platform: hint("sec-ch-ua-platform"),
            platform_version: hint("sec-ch-ua-platform-version"),
            model: hint("sec-ch-ua-model"),
        },
        client: submission.client.as_deref(),
        retention_days: settings.retention_days,
    }
}
