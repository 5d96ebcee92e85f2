//! The pending insert plan and the cursor: what the worker leaves in the journal.
//!
//! Invariant: each is changed in one synced write, by one writer at a time.

use picket_common::timestamp::Timestamp;

use super::store::Transaction;
use super::{EventKey, Journal, JournalError, JournalPosition, NewDeadLetter, lock};

/// What a finished plan leaves besides its cursor.
#[derive(Debug, Clone, Copy, Default)]
pub struct Finished<'a> {
    /// The events that are stored now.
    pub events: &'a [EventKey],
    /// What is set aside.
    pub dead_letters: &'a [NewDeadLetter],
}

// === impl Journal ===

impl Journal {
    /// Makes an insert plan durable, before anything is inserted by it.
    ///
    /// # Errors
    /// [`JournalError::PlanPending`] if another plan is; the same one again is fine. [`JournalError::Write`].
    pub fn put_plan(&self, plan: &[u8]) -> Result<(), JournalError> {
        let _writing = lock(&self.shared.state_writes);
        self.shared.heal()?;
        match self.shared.store.plan()? {
            Some(pending) if pending == plan => return Ok(()),
            Some(_) => return Err(JournalError::PlanPending),
            None => {}
        }
        let mut transaction = Transaction::default();
        self.shared.store.put_plan(&mut transaction, plan);
        self.shared.store.commit(transaction)
    }

    /// Puts a plan in the place of the pending one, durably: the same plan, with what was learnt while it was carried out.
    ///
    /// # Errors
    /// [`JournalError::NoPlan`] if none is pending; [`JournalError::Write`].
    pub fn amend_plan(&self, plan: &[u8]) -> Result<(), JournalError> {
        let _writing = lock(&self.shared.state_writes);
        self.shared.heal()?;
        if self.shared.store.plan()?.is_none() {
            return Err(JournalError::NoPlan);
        }
        let mut transaction = Transaction::default();
        self.shared.store.put_plan(&mut transaction, plan);
        self.shared.store.commit(transaction)
    }

    /// The pending insert plan. Opens the database anew where a write has failed: who reads goes on after a fault also while nobody
    /// writes.
    ///
    /// # Errors
    /// [`JournalError::Read`], [`JournalError::Closed`].
    pub fn plan(&self) -> Result<Option<Vec<u8>>, JournalError> {
        {
            let _writing = lock(&self.shared.state_writes);
            self.shared.heal()?;
        }
        self.shared.store.plan()
    }

    /// Finishes the plan: the cursor moves, the plan and the entries before the cursor go, in one synced write. Also
    /// without a plan, to step over damaged entries.
    ///
    /// # Errors
    /// [`JournalError::CursorOutOfRange`] if the cursor would go back or beyond the end; [`JournalError::Write`].
    pub fn finish_plan(&self, new_cursor: JournalPosition) -> Result<(), JournalError> {
        self.finish_plan_with(new_cursor, &Finished::default(), Timestamp::now())
    }

    /// Which of these events a finished plan stored in the 48 hours before `at`, in their order. The same answer whenever it
    /// is asked within two days of `at`, but for plans finished meanwhile.
    ///
    /// # Errors
    /// [`JournalError::Read`].
    pub fn known_events(&self, events: &[EventKey], at: Timestamp) -> Result<Vec<bool>, JournalError> {
        self.shared.store.known_events(events, at)
    }

    /// As [`Self::finish_plan`], and notes in the same write which events are stored and what is set aside.
    ///
    /// # Errors
    /// As [`Self::finish_plan`].
    pub fn finish_plan_with(
        &self,
        new_cursor: JournalPosition,
        finished: &Finished<'_>,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let _writing = lock(&self.shared.state_writes);
        self.shared.heal()?;
        let (cursor, end, appended_bytes) = {
            let progress = lock(&self.shared.progress);
            (progress.cursor, progress.end, progress.appended_bytes)
        };
        if new_cursor < cursor || new_cursor > end {
            return Err(JournalError::CursorOutOfRange { cursor, wanted: new_cursor, end });
        }
        // Unknown only where the entry there is damaged; the next finish corrects the backlog's size.
        let finished_bytes = if new_cursor == end {
            Some(appended_bytes)
        } else {
            self.shared.store.bytes_before(new_cursor).unwrap_or_default()
        };
        let mut transaction = Transaction::default();
        self.shared.store.put_finished(&mut transaction, cursor, new_cursor);
        self.shared.store.put_known_events(&mut transaction, finished.events, now);
        let set_aside = match finished.dead_letters {
            [] => None,
            letters => Some(self.shared.store.put_dead_letters(
                &mut transaction,
                letters,
                self.shared.dead_letter_max_bytes,
                now,
            )?),
        };
        self.shared.store.commit(transaction)?;
        if let Some(set_aside) = set_aside {
            self.shared.count_dead_letters(finished.dead_letters, &set_aside);
        }
        {
            let mut progress = lock(&self.shared.progress);
            progress.cursor = new_cursor;
            progress.finished_bytes = finished_bytes.unwrap_or(progress.finished_bytes);
        }
        self.shared.show_backlog();
        Ok(())
    }
}
