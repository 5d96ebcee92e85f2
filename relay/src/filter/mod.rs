//! Inbound filters: drop what a project does not want (browser extensions, crawlers, releases, addresses, messages). Client
//! reports end here too: they are counts, and nothing further on has use for them.
//!
//! Invariants:
//! - the client hears 200: nothing that it could do differently would help;
//! - what is dropped is counted as [`filtered`](Outcome::Filtered) with the key of the first filter that hit;
//! - an event's companions (attachments, user reports, form data, profiles) go with it: without their event they mean nothing.
//!
//! | module | what |
//! | --- | --- |
//! | [`compiled`] | the project's filters in their order |
//! | `condition`, `version` | generic filters |
//! | `csp`, `localhost`, `browser_extensions`, `legacy_browsers`, `user_agent`, `web_crawlers` | one filter each |
//! | `event` | where events keep what filters ask for |

mod browser_extensions;
pub mod compiled;
mod condition;
mod csp;
mod event;
mod legacy_browsers;
mod localhost;
mod user_agent;
mod web_crawlers;

use picket_common::envelope::{Item, ItemType};
use picket_common::outcome::{Outcome, Reason};

use crate::client_report;
use crate::dropped::Dropped;
use crate::normalise::Normalised;
use crate::opened::{Opened, goes_with_an_event};
use compiled::Sent;

/// What the filters let through; it may have no items left.
#[derive(Debug)]
pub struct Filtered<'t> {
    opened: Opened<'t>,
    dropped: Dropped,
}

impl<'t> Filtered<'t> {
    /// For the next stage.
    pub(crate) fn into_opened(self) -> Opened<'t> {
        self.opened
    }

    #[cfg(test)]
    pub(crate) fn for_tests(opened: Opened<'t>) -> Self {
        Self { opened, dropped: Dropped::default() }
    }

    /// What was dropped.
    pub(crate) fn take_dropped(&mut self) -> Dropped {
        std::mem::take(&mut self.dropped)
    }
}

/// Applies the filters.
#[must_use]
pub fn apply(normalised: Normalised<'_>) -> Filtered<'_> {
    let mut opened = normalised.into_opened();
    let mut dropped = Dropped::default();
    drop_unwanted(&mut opened, &mut dropped);
    count_client_reports(&mut opened, &mut dropped);
    Filtered { opened, dropped }
}

/// Counts what client reports tell, and takes them out.
fn count_client_reports(opened: &mut Opened<'_>, dropped: &mut Dropped) {
    let is_report = |item: &Item| *item.item_type() == ItemType::ClientReport;
    for item in opened.bare_items().filter(|item| is_report(item)) {
        client_report::count(item, opened.submission.received_at, dropped);
    }
    opened.items.retain(|opened| !is_report(&opened.item));
}

/// Takes out what the project's filters hit.
fn drop_unwanted(opened: &mut Opened<'_>, dropped: &mut Dropped) {
    let project = std::sync::Arc::clone(&opened.submission.project);
    let filters = project.filters();
    let sender = &opened.submission.sender;
    let unwanted = opened.items.iter().find_map(|item| {
        let event = &item.document.as_ref().filter(|_| is_event(item.item.item_type()))?.value;
        let sent = Sent { event, client_address: sender.address, user_agent: sender.user_agent.as_deref() };
        filters.verdict(sent)
    });
    if let Some(reason) = unwanted {
        let goes = |item_type: &ItemType| is_event(item_type) || goes_with_an_event(item_type);
        return drop_items(opened, dropped, reason, goes);
    }
    if filters.blocks(sender.address) {
        // An address that nothing is taken from sends sessions and check-ins too. Client reports only count.
        let goes = |item_type: &ItemType| *item_type != ItemType::ClientReport;
        drop_items(opened, dropped, Reason::Borrowed("ip-address"), goes);
    }
}

fn drop_items(opened: &mut Opened<'_>, dropped: &mut Dropped, reason: Reason, goes: impl Fn(&ItemType) -> bool) {
    dropped.note(Outcome::Filtered, reason, opened.bare_items().filter(|item| goes(item.item_type())));
    opened.items.retain(|item| !goes(item.item.item_type()));
}

/// The types that filters look into.
const fn is_event(item_type: &ItemType) -> bool {
    matches!(
        item_type,
        ItemType::Event | ItemType::Transaction | ItemType::Security | ItemType::RawSecurity | ItemType::Feedback
    )
}
