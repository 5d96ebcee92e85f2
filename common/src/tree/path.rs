//! Where a value is: a list on the stack, from the value up to the root, made without allocation while a walk goes down.

use std::fmt;

/// One step of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment<'p> {
    /// Into an object.
    Key(&'p str),
    /// Into an array.
    Index(usize),
}

/// A way from the root to a value.
#[derive(Debug, Clone, Copy)]
pub struct Path<'p> {
    step: Option<(&'p Path<'p>, Segment<'p>)>,
    depth: usize,
}

// === impl Path ===

impl<'p> Path<'p> {
    /// The whole payload.
    pub const ROOT: Path<'static> = Path { step: None, depth: 0 };

    /// The path one key further down.
    #[must_use]
    pub const fn key<'q>(&'q self, key: &'q str) -> Path<'q>
    where
        'p: 'q,
    {
        Path { step: Some((self, Segment::Key(key))), depth: self.depth + 1 }
    }

    /// The path one element further down.
    #[must_use]
    pub const fn index<'q>(&'q self, index: usize) -> Path<'q>
    where
        'p: 'q,
    {
        Path { step: Some((self, Segment::Index(index))), depth: self.depth + 1 }
    }

    /// The path one level up and the step from there to here; `None` for the root.
    #[must_use]
    pub const fn split(&self) -> Option<(&'p Path<'p>, Segment<'p>)> {
        self.step
    }

    /// The last step; `None` for the root.
    #[must_use]
    pub fn segment(&self) -> Option<Segment<'p>> {
        self.step.map(|(_, segment)| segment)
    }

    /// The last step if it is a key.
    #[must_use]
    pub fn last_key(&self) -> Option<&'p str> {
        match self.segment() {
            Some(Segment::Key(key)) => Some(key),
            _ => None,
        }
    }

    /// The steps from the value up to the root.
    pub fn upwards(&self) -> impl Iterator<Item = Segment<'p>> + use<'p> {
        let mut step = self.step;
        std::iter::from_fn(move || {
            let (parent, segment) = step?;
            step = parent.step;
            Some(segment)
        })
    }

    /// How many steps the value is below the root.
    #[must_use]
    pub const fn depth(&self) -> usize {
        self.depth
    }
}

impl fmt::Display for Path<'_> {
    /// Dotted, as in `user.email` or `exception.values.0.value`. A key that holds a dot is not marked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((parent, segment)) = self.step else { return Ok(()) };
        if parent.step.is_some() {
            write!(f, "{parent}.")?;
        }
        match segment {
            Segment::Key(key) => f.write_str(key),
            Segment::Index(index) => write!(f, "{index}"),
        }
    }
}
