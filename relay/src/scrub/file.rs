//! Which rules apply to the bytes of a file: those whose selectors name it.
//!
//! ```text
//! $attachments.'name'                        a file
//! $minidump.heap_memory, $stack_memory, …    parts of a minidump
//! ```
//!
//! The switches of the data-scrubbing settings never reach into files.

use picket_common::envelope::DetachedPayload;
use picket_common::pii::CompiledRule;
use picket_common::pii::attachment::{AttachmentScrubber, ByteRules, ScrubStream};
use picket_common::pii::minidump::{MinidumpRules, MinidumpScrubber, RegionKind, read_plan};
use picket_common::pii::selector::{TypeSet, ValueType};

use super::plan::{Frame, KeyId, Plan};
use super::schema::Sensitivity;
use super::scrubber::Scrubber;
use crate::blob::{ScrubPieces, Unchanged};

impl Scrubber {
    /// Whether any rule can reach into files.
    #[must_use]
    pub const fn looks_into_files(&self) -> bool {
        self.plan().has_advanced()
    }

    /// The rules for a file of this name. Empty where no selector begins with `$attachments` and a name.
    #[must_use]
    pub fn file_rules(&self, name: &str) -> ByteRules {
        if !self.names_attachments() {
            return ByteRules::default();
        }
        ByteRules::new(rules_at(self.plan(), &file_frames(self.plan(), name), Sensitivity::True))
    }

    /// The rules for the parts of a minidump that came under this name.
    #[must_use]
    pub fn minidump_rules(&self, name: &str) -> MinidumpRules {
        let plan = self.plan();
        MinidumpRules::new(|region| {
            let (key, types, sensitivity) = match region {
                RegionKind::HeapMemory => {
                    ("heap_memory", TypeSet::of(ValueType::Binary).with(ValueType::HeapMemory), Sensitivity::True)
                }
                RegionKind::StackMemory => {
                    ("stack_memory", TypeSet::of(ValueType::Binary).with(ValueType::StackMemory), Sensitivity::Maybe)
                }
                RegionKind::ProcessText => ("linux_environ", TypeSet::of(ValueType::Binary), Sensitivity::True),
                RegionKind::ModulePath => ("code_file", TypeSet::of(ValueType::String), Sensitivity::True),
            };
            let mut frames = file_frames(plan, name);
            if let Some(file) = frames.last_mut() {
                file.types = file.types.with(ValueType::Minidump);
            }
            frames.push(Frame { key: plan.key(key), index: None, types });
            ByteRules::new(rules_at(plan, &frames, sensitivity))
        })
    }

    /// What scrubs a file of this name as it is read.
    pub(super) fn file_scrubber(&self, name: &str) -> Box<dyn ScrubPieces> {
        let rules = if self.looks_into_files() { self.file_rules(name) } else { ByteRules::default() };
        if rules.is_empty() { Box::new(Unchanged) } else { Box::new(Pieces(Some(AttachmentScrubber::new(rules)))) }
    }

    /// What scrubs a minidump as it is read; its plan is read from it now. Blocking, for a few small reads.
    pub(super) fn minidump_scrubber(&self, name: &str, dump: &(dyn DetachedPayload + 'static)) -> Box<dyn ScrubPieces> {
        if !self.looks_into_files() {
            return Box::new(Unchanged);
        }
        let rules = self.minidump_rules(name);
        if rules.is_empty() {
            return Box::new(Unchanged);
        }
        match read_plan(dump) {
            Ok(plan) => Box::new(Pieces(Some(MinidumpScrubber::new(plan, rules)))),
            Err(_) => self.file_scrubber(name),
        }
    }

    /// A file without what its rules find; nothing if there are none.
    pub(super) fn scrub_file(&self, name: &str, bytes: &[u8]) -> Option<Vec<u8>> {
        let rules = self.file_rules(name);
        (!rules.is_empty()).then(|| rules.scrub(bytes))
    }

    /// A minidump without what the rules of its parts find. One that can't be read is a file like any other.
    pub(super) fn scrub_minidump(&self, name: &str, bytes: &[u8]) -> Option<Vec<u8>> {
        let rules = self.minidump_rules(name);
        if rules.is_empty() {
            return None;
        }
        let Ok(plan) = read_plan(bytes) else {
            return self.scrub_file(name, bytes);
        };
        let mut scrubber = MinidumpScrubber::new(plan, rules);
        let mut scrubbed = Vec::with_capacity(bytes.len());
        scrubber.push(bytes, &mut scrubbed);
        scrubber.finish(&mut scrubbed);
        Some(scrubbed)
    }
}

/// A stream's scrubber for one that comes in pieces.
struct Pieces<S>(Option<S>);

impl<S: ScrubStream + Send> ScrubPieces for Pieces<S> {
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        if let Some(scrubber) = &mut self.0 {
            scrubber.push(piece, out);
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(scrubber) = self.0.take() {
            scrubber.finish(out);
        }
    }
}

fn file_frames(plan: &Plan, name: &str) -> Vec<Frame> {
    let frame = |key, types| Frame { key, index: None, types };
    vec![
        frame(KeyId::OTHER, TypeSet::of(ValueType::Attachments)),
        frame(plan.key(name), TypeSet::of(ValueType::Binary)),
    ]
}

fn rules_at<'p>(plan: &'p Plan, frames: &[Frame], sensitivity: Sensitivity) -> Vec<&'p CompiledRule> {
    let mut found = Vec::new();
    plan.match_paths(frames, sensitivity, &mut found);
    let applying = plan.applying(&found);
    applying.rules[..applying.advanced].iter().map(|planned| &planned.rule).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use picket_common::pii::{ScrubProfile, ScrubSettings};
    use serde_json::json;

    use super::*;

    fn scrubber(selector: &str) -> Scrubber {
        Scrubber::compile(&ScrubSettings {
            pii_config: Some(serde_json::from_value(json!({"applications": {selector: ["@ip:mask"]}})).unwrap()),
            scrub_profile: ScrubProfile::Compat,
            ..ScrubSettings::of_new_project()
        })
        .unwrap()
    }

    #[test]
    fn a_file_is_scrubbed_where_a_selector_names_it() {
        let text = b"from 127.0.0.1 on";
        let of = |selector: &str| scrubber(selector).scrub_file("log.txt", text).unwrap_or(text.to_vec());
        assert_eq!(of("$attachments.'log.txt'"), b"from ********* on");
        assert_eq!(of("$attachments.'LOG.TXT'"), b"from ********* on");
        for selector in ["$attachments.**", "$attachments.'other.txt'", "$string", "**"] {
            assert_eq!(of(selector), text, "{selector}");
        }
    }

    #[test]
    fn parts_of_a_minidump_are_named_by_key_or_type() {
        for (selector, reaches) in [
            ("$minidump.heap_memory", true),
            ("$minidump.$heap_memory", true),
            ("$heap_memory", true),
            ("$minidump.$binary", true),
            ("$minidump.stack_memory", true),
            ("$stack_memory", true),
            ("$attachments.**", true),
            ("$string.x", false),
            ("extra.**", false),
        ] {
            assert_eq!(!scrubber(selector).minidump_rules("x.dmp").is_empty(), reaches, "{selector}");
        }
    }
}
