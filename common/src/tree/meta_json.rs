//! The JSON form of annotations: `_meta`.
//!
//! ```text
//! {"user": {"email": {"": {"rem": [["@email:replace", "s", 0, 7]], "len": 15}}}}
//! ```
//! What is said about a value stands under the empty key of its node: `rem` remarks `[rule, letter, start?, end?]`, `err` errors
//! `kind` or `[kind, {…}]`, `len` the original length, `val` the original value. What is not in this form is left out.

use std::borrow::Cow;

use super::meta::{Meta, MetaError, MetaTree, Remark, RemarkKind};
use super::value::{Object, Value};

/// The key of a node's own annotations. So what is said about the value of an empty payload key can't be written down.
const HERE: &str = "";

impl MetaTree {
    /// Reads the JSON form.
    #[must_use]
    pub fn from_value(value: &Value<'_>) -> Self {
        let mut tree = Self::default();
        for (key, below) in value.as_object().into_iter().flat_map(Object::iter) {
            if key == HERE {
                tree.meta = meta_of(below);
            } else {
                tree.set_child(key, Self::from_value(below));
            }
        }
        tree
    }

    /// The JSON form, without nodes that say nothing.
    #[must_use]
    pub fn to_value(&self) -> Value<'_> {
        let mut object = Object::new();
        if !self.meta.is_empty() {
            object.0.push((Cow::Borrowed(HERE), value_of(&self.meta)));
        }
        for (key, child) in self.children() {
            if key != HERE && !child.is_empty() {
                object.0.push((Cow::Borrowed(key), child.to_value()));
            }
        }
        Value::Object(object)
    }
}

fn meta_of(value: &Value<'_>) -> Meta {
    let list = |key| value.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    Meta {
        remarks: list("rem").iter().filter_map(remark_of).collect(),
        errors: list("err").iter().filter_map(error_of).collect(),
        original_length: value.get("len").and_then(Value::as_number).and_then(super::Number::as_u64),
        original_value: value.get("val").filter(|value| !value.is_null()).map(|value| value.clone().into_owned()),
    }
}

fn remark_of(value: &Value<'_>) -> Option<Remark> {
    let parts = value.as_array()?;
    let position = |index: usize| usize::try_from(parts.get(index)?.as_number()?.as_u64()?).ok();
    Some(Remark {
        rule: Cow::Owned(parts.first()?.as_str()?.to_owned()),
        kind: RemarkKind::from_letter(parts.get(1)?.as_str()?)?,
        range: position(2).zip(position(3)).filter(|(start, end)| start <= end),
    })
}

fn error_of(value: &Value<'_>) -> Option<MetaError> {
    if let Some(kind) = value.as_str() {
        return Some(MetaError::new(kind.to_owned()));
    }
    let parts = value.as_array()?;
    let data = parts.get(1).and_then(Value::as_object).into_iter().flat_map(Object::iter);
    Some(MetaError {
        kind: Cow::Owned(parts.first()?.as_str()?.to_owned()),
        data: data.map(|(key, value)| (Cow::Owned(key.to_owned()), value.clone().into_owned())).collect(),
    })
}

fn value_of(meta: &Meta) -> Value<'_> {
    let mut object = Object::new();
    let mut add = |key, value| object.0.push((Cow::Borrowed(key), value));
    if !meta.remarks.is_empty() {
        add("rem", Value::Array(meta.remarks.iter().map(value_of_remark).collect()));
    }
    if !meta.errors.is_empty() {
        add("err", Value::Array(meta.errors.iter().map(value_of_error).collect()));
    }
    if let Some(length) = meta.original_length {
        add("len", Value::from(length));
    }
    if let Some(value) = &meta.original_value {
        add("val", value.clone());
    }
    Value::Object(object)
}

fn value_of_remark(remark: &Remark) -> Value<'_> {
    let mut parts = vec![Value::from(remark.rule.as_ref()), Value::from(remark.kind.letter())];
    if let Some((start, end)) = remark.range {
        parts.extend([Value::from(start as u64), Value::from(end as u64)]);
    }
    Value::Array(parts)
}

fn value_of_error(error: &MetaError) -> Value<'_> {
    let kind = Value::from(error.kind.as_ref());
    if error.data.is_empty() {
        return kind;
    }
    let data = error.data.iter().map(|(key, value)| (Cow::Borrowed(key.as_ref()), value.clone())).collect();
    Value::Array(vec![kind, Value::Object(data)])
}
