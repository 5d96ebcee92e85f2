//! One path of a selector, compared with the way to a value.

use picket_common::pii::selector::{SelectorItem, SelectorPath, ValueType};

use super::Frame;
use super::keys::{KeyId, KeyTable};

/// One item of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::scrub) enum Step {
    /// A value of this type.
    Type(ValueType),
    /// The value at this key.
    Key(KeyId),
    /// The element at this index.
    Index(usize),
    /// Any value.
    Any,
    /// Any values, or none.
    Deep,
}

/// A path with its keys numbered and its `**` found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PlannedPath {
    /// What stands somewhere above, in one piece: the items before `**`. Without `**` there is nothing.
    above: Box<[Step]>,
    has_deep: bool,
    /// What the way ends with.
    end: Box<[Step]>,
    /// Whether it reaches values that generic selectors don't.
    pub(super) is_specific: bool,
}

impl PlannedPath {
    pub(super) fn new(path: &SelectorPath, keys: &mut KeyTable) -> Self {
        let steps: Vec<Step> = path.items().iter().map(|item| Step::new(item, keys)).collect();
        let deep = steps.iter().position(|step| *step == Step::Deep);
        let (above, end) = match deep {
            Some(position) => (&steps[..position], &steps[position + 1..]),
            None => (&[][..], &steps[..]),
        };
        Self { above: above.into(), has_deep: deep.is_some(), end: end.into(), is_specific: path.is_specific() }
    }

    pub(super) fn last(&self) -> Step {
        self.end.last().copied().unwrap_or(Step::Deep)
    }

    /// Whether it consists of its last step.
    pub(super) fn is_single(&self) -> bool {
        !self.has_deep && self.end.len() == 1
    }

    pub(super) fn names_index(&self) -> bool {
        self.above.iter().chain(&self.end).any(|step| matches!(step, Step::Index(_)))
    }

    /// Whether the way ends so.
    pub(super) fn matches(&self, frames: &[Frame]) -> bool {
        let Some(rest) = frames.len().checked_sub(self.end.len()) else {
            return false;
        };
        if !frames[rest..].iter().zip(&self.end).all(|(frame, step)| step.matches(frame)) {
            return false;
        }
        if self.above.is_empty() {
            return true;
        }
        // `a.**` is for what is below `a`, not for `a` itself.
        let frames_above = &frames[..rest.min(frames.len() - 1)];
        frames_above
            .windows(self.above.len())
            .rev()
            .any(|window| window.iter().zip(&self.above).all(|(frame, step)| step.matches(frame)))
    }
}

impl Step {
    fn new(item: &SelectorItem, keys: &mut KeyTable) -> Self {
        match item {
            SelectorItem::Type(kind) => Self::Type(*kind),
            SelectorItem::Index(index) => Self::Index(*index),
            SelectorItem::Key(key) => Self::Key(keys.add(key)),
            SelectorItem::Wildcard => Self::Any,
            SelectorItem::DeepWildcard => Self::Deep,
        }
    }

    fn matches(self, frame: &Frame) -> bool {
        match self {
            Self::Type(kind) => frame.types.contains(kind),
            Self::Key(key) => frame.key == key,
            Self::Index(index) => frame.index == Some(index),
            Self::Any | Self::Deep => true,
        }
    }
}
