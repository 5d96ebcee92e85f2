//! What a request was charged, so that it can be given back if nothing of it is stored after all.
//!
//! A request is charged before it is scrubbed and spooled: what is over a quota must cost neither. If the spool then refuses it,
//! the client sends it again, and would be charged twice for what is stored once.
//!
//! Not given back are the rates of categories, which are per second.

use std::sync::Arc;

use picket_common::category::DataCategory;
use picket_common::ids::PublicKey;
use picket_common::timestamp::Timestamp;

use super::table::Quotas;
use crate::projects::Project;
use crate::submission::Submission;
use crate::tally::Tally;

/// What one request was charged.
#[derive(Debug)]
pub struct Charge {
    project: Arc<Project>,
    public_key: PublicKey,
    at: Timestamp,
    amounts: Tally,
}

impl Charge {
    /// Nothing yet.
    pub(super) fn of(submission: &Submission) -> Self {
        Self {
            project: Arc::clone(&submission.project),
            public_key: submission.public_key,
            at: submission.received_at,
            amounts: Tally::default(),
        }
    }

    /// Adds what one item was charged.
    pub(super) fn add(&mut self, amounts: &[(DataCategory, u64)]) {
        for (category, quantity) in amounts {
            self.amounts.add(*category, *quantity);
        }
    }

    /// Gives all of it back. The request must not be charged for again: it is refused.
    pub fn give_back(&self, quotas: &Quotas) {
        let of_key = self.project.quotas().of(&self.public_key);
        let amounts: Vec<_> = self.amounts.iter().collect();
        quotas.give_back(&self.project.config, of_key, &amounts, self.at);
    }
}
