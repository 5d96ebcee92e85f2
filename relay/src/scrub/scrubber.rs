//! A project's scrubbing, ready to run.

use std::sync::{Mutex, MutexGuard, PoisonError};

use picket_common::pii::{PiiError, ScrubProfile, ScrubSettings, compile};
use picket_common::tree::{Document, MetaTree, Path};

use super::belief::leave_what_is_believed;
use super::graphql;
use super::memory::WalkMemory;
use super::plan::Plan;
use super::schema::{self, Field};
use super::walk::{Place, Spot, Walk};

/// Compiled settings. Made once for each version of them, shared by all requests.
#[derive(Debug)]
pub struct Scrubber {
    plan: Plan,
    profile: ScrubProfile,
    graphql: Graphql,
    files: Files,
    /// What walks that have ended leave for the next ones.
    memories: Mutex<Vec<WalkMemory>>,
}

/// Whether a selector names a file; looking into each costs too much else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Files {
    Named,
    NotNamed,
}

/// Whether GraphQL variables are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Graphql {
    Scrubbed,
    Left,
}

/// What a payload is, which says what its fields mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// An event; feedback and browsers' security reports too.
    Event,
    /// A user's report about an event.
    UserReport,
    /// A session or many.
    Session,
    /// A check-in.
    CheckIn,
    /// Fields of a form.
    FormData,
    /// Values in a header of an envelope or item.
    Headers,
}

impl Scrubber {
    /// Compiles settings.
    ///
    /// # Errors
    /// [`PiiError`] naming the rule or selector that can't be used.
    pub fn compile(settings: &ScrubSettings) -> Result<Self, PiiError> {
        let is_on = settings.scrub_profile.is_on(settings.datascrubbing_settings.scrub_data);
        let compiled = compile(settings)?;
        let names_file = compiled.advanced.iter().any(|application| application.selector.names_attachment());
        Ok(Self {
            plan: Plan::new(&compiled),
            files: if names_file { Files::Named } else { Files::NotNamed },
            profile: settings.scrub_profile,
            graphql: if is_on { Graphql::Scrubbed } else { Graphql::Left },
            memories: Mutex::default(),
        })
    }

    pub(super) const fn profile(&self) -> ScrubProfile {
        self.profile
    }

    pub(super) const fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn names_attachments(&self) -> bool {
        self.files == Files::Named
    }

    /// Scrubs an event.
    pub fn scrub_event(&self, document: &mut Document<'_>) {
        self.scrub(Payload::Event, document);
    }

    /// Scrubs a payload.
    pub fn scrub(&self, payload: Payload, document: &mut Document<'_>) {
        if payload == Payload::Event && self.graphql == Graphql::Scrubbed {
            graphql::scrub(document);
        }
        if self.plan.is_empty() {
            return;
        }
        let spot = Spot::of(payload.field(), self.profile);
        let mut memory = self.memories().pop().unwrap_or_else(WalkMemory::new);
        let mut walk = Walk::new(&self.plan, self.profile, &mut memory);
        let Document { value, meta } = document;
        if !meta.is_empty() {
            leave_what_is_believed(meta, Some(value), &self.plan);
        }
        let root = Path::ROOT;
        let known = (!meta.is_empty()).then_some(&*meta);
        walk.value(value, Place::root(&root, known), spot);
        let said = walk.into_said();
        if known.is_some() {
            Walk::new(&self.plan, self.profile, &mut memory).originals(meta, Some(value), None, spot);
        }
        take_over(meta, said);
        self.memories().push(memory);
    }

    /// As many as there were walks at once.
    fn memories(&self) -> MutexGuard<'_, Vec<WalkMemory>> {
        // Whoever panicked has left whole memories only.
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the walk said of a value takes the place of what was said before, which it repeats.
fn take_over(meta: &mut MetaTree, mut said: MetaTree) {
    if !said.meta.remarks.is_empty() {
        meta.clear_children();
        meta.meta.remarks = std::mem::take(&mut said.meta.remarks);
        meta.meta.original_length = meta.meta.original_length.or(said.meta.original_length);
    }
    let keys: Vec<String> = said.children().map(|(key, _)| key.to_owned()).collect();
    for key in keys {
        let Some(below) = said.remove_child(&key) else { continue };
        match meta.child_mut(&key) {
            Some(known) => take_over(known, below),
            None => meta.set_child(&key, below),
        }
    }
}

impl Payload {
    const fn field(self) -> &'static Field {
        match self {
            Self::Event => &schema::EVENT,
            Self::UserReport => &schema::USER_REPORT,
            Self::Session => &schema::SESSION,
            Self::CheckIn => &schema::CHECK_IN,
            Self::FormData => &schema::FORM_DATA,
            Self::Headers => &schema::HEADERS,
        }
    }
}
