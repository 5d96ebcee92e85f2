//! Quotas: how much of which category a project, a key or the organisation may send, and protection against sudden floods.
//!
//! Invariants:
//! - quota is counted here, before any queue, and nowhere else; what is refused costs no disk;
//! - an item is charged to all quotas that count it or to none;
//! - a request goes on with the items that are admitted. The others are counted as
//!   [`rate_limited`](Outcome::RateLimited) with the quota's reason, and the client hears of the limits (429 where the endpoint
//!   answers that) although the rest is stored;
//! - what is charged for a request that is refused further on is given back;
//! - the answer comes from memory, whether or not an aggregator can be reached. How relays share a limit is told in
//!   [`picket_common::quota`].
//!
//! | module | what |
//! | --- | --- |
//! | here | which items are charged for what, and what goes with a refused event |
//! | [`charge`] | what a request was charged, until it is stored |
//! | [`compiled`] | a project's quotas, by key |
//! | [`table`] | the shares of all windows, and the baselines of projects |
//! | [`spike`] | what is usual for a project, and what is a flood |
//! | [`keeper`] | writes the table down, so that a restart does not double a share |

pub mod charge;
pub mod compiled;
pub mod keeper;
pub mod spike;
pub mod table;

use picket_common::category::DataCategory;
use picket_common::envelope::{Item, ItemType};
use picket_common::outcome::{Outcome, Reason};

use crate::dropped::Dropped;
use crate::filter::Filtered;
use crate::limit::rates::Rates;
use crate::opened::{Opened, goes_with_an_event};
use crate::rate_limit::{RateLimit, RateLimits};
use crate::tally::Tally;
use charge::Charge;
use table::Quotas;

/// A submission whose items are within their quotas; it may have none left.
#[derive(Debug)]
pub struct Admitted<'t> {
    opened: Opened<'t>,
    dropped: Dropped,
    limits: RateLimits,
    charge: Option<Charge>,
}

impl<'t> Admitted<'t> {
    /// For the next stage.
    pub(crate) fn into_opened(self) -> Opened<'t> {
        self.opened
    }

    /// What was charged, to be given back if a later stage refuses the request; `None` if nothing was.
    pub(crate) const fn take_charge(&mut self) -> Option<Charge> {
        self.charge.take()
    }

    /// What was refused.
    pub(crate) fn take_dropped(&mut self) -> Dropped {
        std::mem::take(&mut self.dropped)
    }

    /// The limits that were met.
    pub(crate) fn take_limits(&mut self) -> RateLimits {
        std::mem::take(&mut self.limits)
    }
}

/// Checks and charges the rates of categories and the quotas.
#[must_use]
pub fn admit<'t>(filtered: Filtered<'t>, quotas: &Quotas, rates: &Rates) -> Admitted<'t> {
    let mut admission = Admission {
        admitted: Admitted {
            opened: filtered.into_opened(),
            dropped: Dropped::default(),
            limits: RateLimits::default(),
            charge: None,
        },
        quotas,
        rates,
    };
    let event = admission.charge_event();
    admission.charge_others(event);
    admission.admitted
}

/// A request on its way through the quotas.
struct Admission<'q, 't> {
    admitted: Admitted<'t>,
    quotas: &'q Quotas,
    rates: &'q Rates,
}

impl Admission<'_, '_> {
    /// The event of the request, as one: whatever it is made of, it counts once. Says which item it is; `None` if there is none,
    /// or none is left. Feedback is one only where there is no other; beside another it stands for itself.
    fn charge_event(&mut self) -> Option<usize> {
        let items = &self.admitted.opened.items;
        let position = items.iter().position(|opened| is_event(&opened.item) && !is_feedback(&opened.item));
        let position = position.or_else(|| items.iter().position(|opened| is_feedback(&opened.item)))?;
        let event = &items[position].item;
        let (category, event_is_feedback) = (event_category(event), is_feedback(event));
        match self.charge(&[(category, 1)]) {
            Ok(()) => Some(position),
            Err(limit) => {
                let is_part = |item: &Item| is_event(item) && is_feedback(item) == event_is_feedback;
                self.refuse(limit, |item| is_part(item) || goes_with_an_event(item.item_type()));
                None
            }
        }
    }

    /// Everything but the event, item by item.
    fn charge_others(&mut self, event: Option<usize>) {
        let items = self.admitted.opened.bare_items().enumerate();
        let amounts: Vec<_> = items
            .map(|(position, item)| if is_feedback(item) && event == Some(position) { None } else { amounts_of(item) })
            .collect();
        let refused: Vec<Option<RateLimit>> = amounts.into_iter().map(|amounts| self.charge(&amounts?).err()).collect();
        if refused.iter().all(Option::is_none) {
            return;
        }
        let Admitted { opened, dropped, limits, .. } = &mut self.admitted;
        let mut refused = refused.into_iter();
        opened.items.retain(|opened| {
            let Some(limit) = refused.next().flatten() else { return true };
            // A crash dump stays, and its sender hears of the limit: without it nobody can see what happened.
            let stays = is_event(&opened.item) && !is_feedback(&opened.item);
            if !stays {
                dropped.note(Outcome::RateLimited, reason_of(&limit), [&opened.item]);
            }
            note(limits, limit);
            stays
        });
    }

    fn charge(&mut self, amounts: &[(DataCategory, u64)]) -> Result<(), RateLimit> {
        let Admitted { opened, charge, .. } = &mut self.admitted;
        let submission = &opened.submission;
        let project = &submission.project.config;
        self.rates.check_item(project.id, amounts)?;
        let of_key = submission.project.quotas().of(&submission.public_key);
        self.quotas.charge(project, of_key, amounts, submission.received_at)?;
        if !of_key.is_empty() || project.settings.spike_protection.enabled {
            charge.get_or_insert_with(|| Charge::of(submission)).add(amounts);
        }
        Ok(())
    }

    fn refuse(&mut self, limit: RateLimit, goes: impl Fn(&Item) -> bool) {
        let Admitted { opened, dropped, limits, .. } = &mut self.admitted;
        dropped.note(Outcome::RateLimited, reason_of(&limit), opened.bare_items().filter(|item| goes(item)));
        opened.items.retain(|opened| !goes(&opened.item));
        note(limits, limit);
    }
}

/// Several items may have met the same limit.
fn note(limits: &mut RateLimits, limit: RateLimit) {
    if !limits.iter().any(|noted| *noted == limit) {
        limits.push(limit);
    }
}

fn reason_of(limit: &RateLimit) -> Reason {
    limit.reason_code.clone().unwrap_or(Reason::Borrowed("quota_exceeded"))
}

/// Whether an item is an event, or becomes one, as crash dumps do.
fn is_event(item: &Item) -> bool {
    item.creates_event()
}

/// Whether an item is feedback: an event by its form, of which an envelope may bring several.
fn is_feedback(item: &Item) -> bool {
    *item.item_type() == ItemType::Feedback
}

/// What an event counts as: a crash dump that is to become an event counts as an error.
const fn event_category(item: &Item) -> DataCategory {
    match item.item_type() {
        ItemType::Attachment | ItemType::UnrealReport => DataCategory::Error,
        other => other.category(),
    }
}

/// What an item counts as beside the event; `None` for what is not counted, or was counted with it. A crash dump is an
/// attachment, too, whatever the event is that it belongs to.
fn amounts_of(item: &Item) -> Option<Vec<(DataCategory, u64)>> {
    let is_counted = match item.item_type() {
        ItemType::ClientReport | ItemType::FormData => false,
        ItemType::Attachment | ItemType::UnrealReport | ItemType::Feedback => true,
        _ => !is_event(item),
    };
    is_counted.then(|| Tally::of_item(item, item.payload_len()).iter().collect())
}

#[cfg(test)]
mod tests;
