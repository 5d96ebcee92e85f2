//! Stack traces of exceptions, threads and events.
//!
//! Of very deep ones [`OLDEST_KEPT`] and [`NEWEST_KEPT`] frames are kept, because both ends tell a recursion. Variables and source
//! lines are kept for [`DETAILED_FRAMES`] of them: the newest always, then those of the application, then the others, each from both
//! ends.

use super::field::{self, Field};
use super::trim::TextLimit;
use super::{frame, interface_list, take_meta};
use crate::tree::{MetaTree, Object, Path, Remark, RemarkKind, Value};

/// Frames at the start of a deep stack trace that are kept.
const OLDEST_KEPT: usize = 50;
/// Frames at the end of a deep stack trace that are kept.
const NEWEST_KEPT: usize = 200;
/// Frames that keep their details.
const DETAILED_FRAMES: usize = 50;
/// What takes the room in a frame.
const DETAILS: [&str; 4] = ["vars", "pre_context", "context_line", "post_context"];

fn thread_field_of(key: &str) -> Field {
    match key {
        "name" => Field::Scalar(TextLimit::of(1024, 100)),
        "crashed" | "current" | "main" => Field::Truth,
        "stacktrace" | "raw_stacktrace" => Field::Object,
        _ => Field::Any,
    }
}

/// Settles the stack trace at the top of the event.
pub(super) fn normalise_single(event: &mut Object<'_>, meta: &mut MetaTree) {
    if let Some(Value::Object(trace)) = event.get_mut("stacktrace") {
        normalise(trace, meta, &Path::ROOT.key("stacktrace"));
    }
}

/// Settles the stack trace of an exception or thread, and the one from before symbolication.
pub(super) fn normalise_both(owner: &mut Object<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    for key in ["stacktrace", "raw_stacktrace"] {
        if let Some(Value::Object(trace)) = owner.get_mut(key) {
            normalise(trace, meta, &path.key(key));
        }
    }
}

/// Settles the threads.
pub(super) fn normalise_threads(event: &mut Object<'_>, meta: &mut MetaTree) {
    let path = Path::ROOT.key("threads");
    let path = path.key("values");
    let threads = interface_list::elements(event, "threads", meta);
    for (index, thread) in threads.into_iter().flatten().enumerate() {
        let Value::Object(thread) = thread else { continue };
        let path = path.index(index);
        field::apply(thread, thread_field_of, meta, &path);
        normalise_both(thread, meta, &path);
    }
}

fn normalise(trace: &mut Object<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    let path = path.key("frames");
    let Some(frames) = trace.get_mut("frames").filter(|frames| !frames.is_null()) else { return };
    field::settle(frames, Field::Array, meta, &path);
    let Value::Array(frames) = frames else { return };
    cut_middle(frames, meta, &path);
    for (index, value) in frames.iter_mut().enumerate() {
        match value {
            Value::Object(frame) => frame::normalise(frame, meta, &path.index(index)),
            Value::Null => {}
            other => field::invalid(other, "expected a frame", meta, &path.index(index)),
        }
    }
    drop_details(frames, meta, &path);
}

fn cut_middle(frames: &mut Vec<Value<'_>>, meta: &mut MetaTree, path: &Path<'_>) {
    let length = frames.len();
    if length <= OLDEST_KEPT + NEWEST_KEPT {
        return;
    }
    let first_newest = length - NEWEST_KEPT;
    frames.drain(OLDEST_KEPT..first_newest);
    let node = meta.node(path);
    if node.children().next().is_some() {
        for index in OLDEST_KEPT..length {
            let Some(moved) = node.remove_child(&index.to_string()) else { continue };
            if index >= first_newest {
                node.set_child(&(index - first_newest + OLDEST_KEPT).to_string(), moved);
            }
        }
    }
    node.meta.note_length(length);
}

fn drop_details(frames: &mut [Value<'_>], meta: &mut MetaTree, path: &Path<'_>) {
    if frames.len() <= DETAILED_FRAMES {
        return;
    }
    let is_detailed = detailed(frames);
    let plain = frames.iter_mut().enumerate().zip(is_detailed).filter(|(_, is_detailed)| !is_detailed);
    for ((index, value), _) in plain {
        let Value::Object(frame) = value else { continue };
        let path = path.index(index);
        for key in DETAILS {
            // Null is what is left where it was dropped before.
            let Some(detail) = frame.get_mut(key).filter(|detail| !detail.is_null()) else { continue };
            *detail = Value::Null;
            drop(take_meta(meta, &path.key(key)));
            meta.at(&path.key(key)).remarks.push(Remark::whole("!limit", RemarkKind::Removed));
        }
    }
}

/// Which frames keep their details.
fn detailed(frames: &[Value<'_>]) -> Vec<bool> {
    let mut is_detailed = vec![false; frames.len()];
    let newest = frames.len() - 1;
    is_detailed[newest] = true;
    let mut left = DETAILED_FRAMES - 1;
    for wants_in_app in [true, false] {
        let of_kind: Vec<usize> =
            (0..newest).filter(|index| frame::is_in_app(&frames[*index]) == wants_in_app).collect();
        let taken = left.min(of_kind.len());
        let from_end = taken.div_ceil(2);
        let (start, end) = (&of_kind[..taken - from_end], &of_kind[of_kind.len() - from_end..]);
        start.iter().chain(end).for_each(|index| is_detailed[*index] = true);
        left -= taken;
    }
    is_detailed
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tree::Document;

    fn settled(frames: Vec<String>) -> Document<'static> {
        let json = format!(r#"{{"stacktrace":{{"frames":[{}]}}}}"#, frames.join(","));
        let value = crate::tree::read(json.as_bytes()).unwrap().into_owned();
        let mut document = Document { value, meta: MetaTree::default() };
        normalise_single(document.value.as_object_mut().unwrap(), &mut document.meta);
        document
    }

    fn frames<'d>(document: &'d Document<'static>) -> &'d [Value<'static>] {
        document.value.get("stacktrace").unwrap().get("frames").unwrap().as_array().unwrap()
    }

    #[test]
    fn a_deep_stack_keeps_its_oldest_50_and_newest_200_frames() {
        let document = settled((0..300).map(|number| format!(r#"{{"lineno":{number}}}"#)).collect());
        let lines: Vec<u64> = frames(&document)
            .iter()
            .map(|frame| frame.get("lineno").unwrap().as_number().unwrap().as_u64().unwrap())
            .collect();
        assert_eq!(lines, (0..50).chain(100..300).collect::<Vec<_>>());
        let path = Path::ROOT.key("stacktrace");
        assert_eq!(document.meta.get(&path.key("frames")).unwrap().original_length, Some(300));
    }

    #[test]
    fn details_are_kept_for_the_top_frame_and_for_those_of_the_application() {
        let frame = |number: usize| format!(r#"{{"vars":{{"n":{number}}},"in_app":{}}}"#, number.is_multiple_of(2));
        let document = settled((0..101).map(frame).chain([r#"{"vars":{"n":101}}"#.to_owned()]).collect());
        let kept: Vec<usize> =
            (0..102).filter(|index| frames(&document)[*index].get("vars").unwrap().as_object().is_some()).collect();
        assert_eq!(kept.len(), DETAILED_FRAMES);
        assert_eq!(*kept.last().unwrap(), 101);
        assert!(kept[..49].iter().all(|index| index % 2 == 0));
        assert!(kept.contains(&0) && kept.contains(&100) && !kept.contains(&50));
        let (trace, dropped) = (Path::ROOT.key("stacktrace"), 1);
        let trace = trace.key("frames");
        let dropped = trace.index(dropped);
        let remarks = &document.meta.get(&dropped.key("vars")).unwrap().remarks;
        assert_eq!(*remarks, [Remark::whole("!limit", RemarkKind::Removed)]);
    }
}
