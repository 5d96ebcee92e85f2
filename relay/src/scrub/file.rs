//! Which rules apply to the bytes of a file, and their application.
//!
//! ```text
//! $attachments.'name'                        rules of the project's own for a file
//! $minidump.heap_memory, $stack_memory, …    and for parts of a minidump
//! strict profile: the default rules of texts, for files that are text and for a minidump's parts but its stacks
//! ```
//!
//! Invariants:
//! - lengths never change, but for view hierarchies under the strict profile: those are JSON and walked like an event;
//! - under the compatible profile the switches of the data-scrubbing settings never reach into files, and a file is looked into
//!   only where a selector names it;
//! - a minidump that can't be read is scrubbed as a whole by the rules of all its parts.

use std::sync::Arc;

use bytes::Bytes;
use picket_common::envelope::{DetachedPayload, Item};
use picket_common::pii::attachment::{AttachmentScrubber, ByteRules, ScrubStream};
use picket_common::pii::minidump::{MinidumpRules, MinidumpScrubber, RegionKind, read_plan};
use picket_common::pii::selector::{TypeSet, ValueType};
use picket_common::pii::{CompiledRule, ScrubProfile};
use picket_common::tree::{Document, PythonFloats};

use super::file_kind::{FileKind, HEAD_BYTES};
use super::plan::{Frame, KeyId, Plan};
use super::schema::Sensitivity;
use super::scrubber::{Payload, Scrubber};
use crate::blob::{ScrubPieces, Unchanged};

impl Scrubber {
    /// Whether any rule can reach into files.
    #[must_use]
    pub fn looks_into_files(&self) -> bool {
        self.plan().has_advanced() || (self.profile() == ScrubProfile::Strict && !self.plan().is_empty())
    }

    /// A file in memory without what its rules find; nothing if it stays as it is.
    pub(super) fn scrub_file(&self, item: &Item) -> Option<Bytes> {
        if !self.looks_into_files() {
            return None;
        }
        let bytes = item.payload();
        let name = item.header_text("filename").unwrap_or_default();
        match kind_of(item, &name, &bytes[..bytes.len().min(HEAD_BYTES)]) {
            FileKind::Minidump => self.scrub_minidump(&name, bytes).map(Bytes::from),
            FileKind::ViewHierarchy => self.scrub_view_hierarchy(&name, bytes),
            kind => scrub_bytes(&self.file_rules(&name, kind), bytes).map(Bytes::from),
        }
    }

    /// What scrubs a file that is not in memory as it is read. Blocking, for some small reads.
    pub(super) fn file_stream(&self, item: &Item, payload: &Arc<dyn DetachedPayload>) -> Box<dyn ScrubPieces> {
        if !self.looks_into_files() {
            return Box::new(Unchanged);
        }
        let name = item.header_text("filename").unwrap_or_default();
        let mut head = vec![0; HEAD_BYTES];
        // What can't be read now can't be read later, when it counts.
        let count = payload.read_at(0, &mut head).unwrap_or(0);
        let kind = kind_of(item, &name, &head[..count]);
        if kind != FileKind::Minidump {
            return stream(self.file_rules(&name, kind));
        }
        let rules = self.minidump_rules(&name);
        if rules.is_empty() {
            return stream(self.broken_minidump_rules(&name));
        }
        match read_plan(payload.as_ref()) {
            Ok(plan) => Box::new(Pieces(Some(MinidumpScrubber::new(plan, rules)))),
            Err(_) => stream(self.broken_minidump_rules(&name)),
        }
    }

    /// The rules for a file that is no minidump.
    fn file_rules(&self, name: &str, kind: FileKind) -> ByteRules {
        let mut rules = self.named_rules(name);
        if kind != FileKind::Binary {
            rules.extend(self.default_rules());
        }
        ByteRules::new(rules)
    }

    /// The project's own rules for a file of this name. None where no selector begins with `$attachments` and a name.
    fn named_rules(&self, name: &str) -> Vec<&CompiledRule> {
        match self.names_attachments() {
            true => own_rules_at(self.plan(), &file_frames(self.plan(), name), Sensitivity::True),
            false => Vec::new(),
        }
    }

    /// Under the strict profile, the default rules of any text.
    fn default_rules(&self) -> Vec<&CompiledRule> {
        if self.profile() == ScrubProfile::Compat {
            return Vec::new();
        }
        self.plan().rules_of_any_text().into_iter().map(|planned| &planned.rule).collect()
    }

    /// The rules for one kind of a minidump's parts.
    fn region_rules(&self, name: &str, region: RegionKind) -> Vec<&CompiledRule> {
        let plan = self.plan();
        let binary = TypeSet::of(ValueType::Binary);
        let (key, types, sensitivity) = match region {
            RegionKind::HeapMemory => ("heap_memory", binary.with(ValueType::HeapMemory), Sensitivity::True),
            RegionKind::StackMemory => ("stack_memory", binary.with(ValueType::StackMemory), Sensitivity::Maybe),
            RegionKind::ProcessText => ("linux_environ", binary, Sensitivity::True),
            RegionKind::ModulePath => ("code_file", TypeSet::of(ValueType::String), Sensitivity::True),
        };
        let mut frames = file_frames(plan, name);
        if let Some(file) = frames.last_mut() {
            file.types = file.types.with(ValueType::Minidump);
        }
        frames.push(Frame { key: plan.key(key), index: None, types });
        let mut rules = own_rules_at(plan, &frames, sensitivity);
        if region != RegionKind::StackMemory {
            rules.extend(self.default_rules());
        }
        rules
    }

    /// The rules for the parts of a minidump that came under this name.
    fn minidump_rules(&self, name: &str) -> MinidumpRules {
        MinidumpRules::new(|region| ByteRules::new(self.region_rules(name, region)))
    }

    /// The rules for a minidump whose parts are not known: those of the file and of all parts, each once.
    fn broken_minidump_rules(&self, name: &str) -> ByteRules {
        let mut rules: Vec<&CompiledRule> = Vec::new();
        let of_parts = RegionKind::ALL.into_iter().flat_map(|region| self.region_rules(name, region));
        for rule in self.named_rules(name).into_iter().chain(of_parts) {
            if !rules.iter().any(|known| known.is_same_as(rule)) {
                rules.push(rule);
            }
        }
        ByteRules::new(rules)
    }

    fn scrub_minidump(&self, name: &str, bytes: &[u8]) -> Option<Vec<u8>> {
        let rules = self.minidump_rules(name);
        let plan = match read_plan(bytes) {
            Ok(plan) if !rules.is_empty() => plan,
            _ => return scrub_bytes(&self.broken_minidump_rules(name), bytes),
        };
        let mut scrubber = MinidumpScrubber::new(plan, rules);
        let mut scrubbed = Vec::with_capacity(bytes.len());
        scrubber.push(bytes, &mut scrubbed);
        scrubber.finish(&mut scrubbed);
        Some(scrubbed)
    }

    /// Under the strict profile a view hierarchy is walked, so that keys count; the project's own rules for the file run before.
    /// What is no JSON, or is none after them, is a text.
    fn scrub_view_hierarchy(&self, name: &str, bytes: &[u8]) -> Option<Bytes> {
        let walked = self.profile() == ScrubProfile::Strict;
        let own = if walked { scrub_bytes(&ByteRules::new(self.named_rules(name)), bytes) } else { None };
        match Document::read(own.as_deref().unwrap_or(bytes), PythonFloats::Refuse) {
            Ok(mut document) if walked => {
                self.scrub(Payload::FormData, &mut document);
                Some(Bytes::from(document.value.to_json()))
            }
            _ => scrub_bytes(&self.file_rules(name, FileKind::Text), bytes).map(Bytes::from),
        }
    }
}

fn kind_of(item: &Item, name: &str, head: &[u8]) -> FileKind {
    FileKind::of(item.attachment_type(), item.header_text("content_type").as_deref(), name, head)
}

fn scrub_bytes(rules: &ByteRules, bytes: &[u8]) -> Option<Vec<u8>> {
    (!rules.is_empty()).then(|| rules.scrub(bytes))
}

fn stream(rules: ByteRules) -> Box<dyn ScrubPieces> {
    if rules.is_empty() { Box::new(Unchanged) } else { Box::new(Pieces(Some(AttachmentScrubber::new(rules)))) }
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

/// The project's own rules at a place, without the defaults.
fn own_rules_at<'p>(plan: &'p Plan, frames: &[Frame], sensitivity: Sensitivity) -> Vec<&'p CompiledRule> {
    let mut found = Vec::new();
    plan.match_paths(frames, sensitivity, &mut found);
    let applying = plan.applying(&found);
    applying.rules[..applying.advanced].iter().map(|planned| &planned.rule).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use picket_common::envelope::Envelope;
    use picket_common::pii::ScrubSettings;
    use serde_json::{Value, json};

    use super::*;

    fn scrubber(profile: ScrubProfile, applications: Value) -> Scrubber {
        let pii_config = Some(serde_json::from_value(json!({"applications": applications})).unwrap());
        Scrubber::compile(&ScrubSettings { pii_config, scrub_profile: profile, ..ScrubSettings::of_new_project() })
            .unwrap()
    }

    fn compat(selector: &str) -> Scrubber {
        scrubber(ScrubProfile::Compat, json!({selector: ["@ip:mask"]}))
    }

    fn file(header: Value, payload: &[u8]) -> Item {
        let mut header = header;
        header["type"] = "attachment".into();
        header["length"] = payload.len().into();
        let mut envelope = format!("{{}}\n{header}\n").into_bytes();
        envelope.extend_from_slice(payload);
        Envelope::parse(Bytes::from(envelope), 1).unwrap().take_items().remove(0)
    }

    fn scrubbed(scrubber: &Scrubber, header: Value, payload: &[u8]) -> Vec<u8> {
        let item = file(header, payload);
        scrubber.scrub_file(&item).map_or(payload.to_vec(), |bytes| bytes.to_vec())
    }

    #[test]
    fn a_file_is_scrubbed_where_a_selector_names_it() {
        let text = b"from 127.0.0.1 on";
        let of = |selector: &str| scrubbed(&compat(selector), json!({"filename": "log.txt"}), text);
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
            assert_eq!(!compat(selector).minidump_rules("x.dmp").is_empty(), reaches, "{selector}");
        }
    }

    #[test]
    fn under_strict_text_files_get_the_default_rules_at_their_length() {
        let strict = scrubber(ScrubProfile::Strict, json!({}));
        let text = b"login jane@example.com password=hunter2 host=db";
        for header in [json!({"filename": "x.log"}), json!({"content_type": "text/plain"}), json!({})] {
            let out = scrubbed(&strict, header, text);
            assert_eq!(out.len(), text.len());
            let out = String::from_utf8(out).unwrap();
            assert!(!out.contains("jane@") && !out.contains("hunter2") && out.ends_with("host=db"), "{out}");
        }
        let picture = b"\x89PNG\r\n\x1a\n\0jane@example.com";
        assert_eq!(scrubbed(&strict, json!({"filename": "x.png"}), picture), picture);
        assert_eq!(scrubbed(&compat("x"), json!({"filename": "x.log"}), text), text);
    }

    #[test]
    fn under_strict_a_view_hierarchy_is_walked_and_stays_json() {
        let strict = scrubber(ScrubProfile::Strict, json!({}));
        let tree =
            br#"{"rendering_system":"x","windows":[{"type":"TextField","password":"hunter2","text":"a@example.com"}]}"#;
        let header = json!({"filename": "view-hierarchy.json", "attachment_type": "event.view_hierarchy"});
        let out: Value = serde_json::from_slice(&scrubbed(&strict, header.clone(), tree)).unwrap();
        assert_eq!(out["windows"][0]["type"], "TextField");
        assert!(!out.to_string().contains("hunter2") && !out.to_string().contains("a@example"), "{out}");
        assert_eq!(scrubbed(&compat("x"), header.clone(), tree), tree);
        let broken = scrubbed(&strict, header, b"{a@example.com");
        assert_eq!(broken.len(), 14);
        assert!(!broken.ends_with(b"a@example.com"));
    }

    #[test]
    fn under_strict_a_projects_own_rules_for_a_view_hierarchy_run_too() {
        let own = json!({"$attachments.'view-hierarchy.json'": ["@mac:mask"]});
        let header = json!({"filename": "view-hierarchy.json", "attachment_type": "event.view_hierarchy"});
        let tree = br#"{"windows":[{"text":"4a:00:04:10:9b:50","password":"hunter2"}]}"#;
        let out = scrubbed(&scrubber(ScrubProfile::Strict, own.clone()), header.clone(), tree);
        assert_eq!(out, br#"{"windows":[{"text":"*****************","password":"[Filtered]"}]}"#);
        let out = scrubbed(&scrubber(ScrubProfile::Compat, own), header, tree);
        assert_eq!(out, br#"{"windows":[{"text":"*****************","password":"hunter2"}]}"#);
    }

    #[test]
    fn a_broken_minidump_is_scrubbed_as_a_whole_by_the_rules_of_its_parts() {
        let header = json!({"filename": "x.dmp", "attachment_type": "event.minidump"});
        let dump = b"MDMP\x01\x02 from 127.0.0.1 on";
        assert_eq!(scrubbed(&compat("$heap_memory"), header.clone(), dump), b"MDMP\x01\x02 from ********* on");
        assert_eq!(scrubbed(&compat("extra.**"), header, dump), dump);
    }
}
