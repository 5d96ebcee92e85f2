//! What annotations quote: values that were not fit to be stored, and what is told about errors.

use picket_common::pii::ScrubProfile;
use picket_common::tree::{MetaTree, Path, Value};

use super::super::fields::Fields;
use super::super::plan::Frame;
use super::super::schema::{Sensitivity, Shape};
use super::{Place, Spot, Walk, pair_key};

impl Walk<'_> {
    /// Scrubs the original values that annotations keep, as if they stood where they were. `value` is what stands there now.
    pub(in crate::scrub) fn originals(
        &mut self,
        node: &mut MetaTree,
        value: Option<&Value<'_>>,
        key: Option<&str>,
        spot: Spot,
    ) {
        // What was not fit to be stored can be anything, so the strict profile looks at it wherever it was.
        let spot = match self.profile {
            ScrubProfile::Strict => Spot { access: Sensitivity::True, ..spot },
            ScrubProfile::Compat => spot,
        };
        let path = Path::ROOT;
        let place = Place { path: &path, key, index: None, known: None };
        if let Some(original) = &mut node.meta.original_value {
            self.value(original, place, spot);
        }
        let frame_key = self.key_facts(key).id;
        let data = node.meta.errors.iter_mut().flat_map(|error| &mut error.data);
        data.for_each(|(name, datum)| self.datum(name, datum, place, spot));
        self.enter(Frame { key: frame_key, index: None, types: spot.types });
        let fields = Fields::of(value, node.children().count());
        let elements_are = |segment: &str| matches!(value, Some(Value::Array(_))) && segment.parse::<usize>().is_ok();
        for (segment, child) in node.children_mut() {
            let below = fields.get(segment);
            if !elements_are(segment) {
                self.originals(child, below, Some(segment), spot.at_key(segment, self.profile));
                continue;
            }
            match below.and_then(pair_key).zip(child.child_mut("1")) {
                Some((key, node)) => {
                    let value = below.and_then(|pair| pair.as_array()?.get(1));
                    self.originals(node, value, Some(key), spot.at_key(key, self.profile));
                }
                None => self.originals(child, below, None, spot.at_index(self.profile)),
            }
        }
        self.leave();
    }

    /// What is told about an error: as part of the value, and as what its own name says.
    fn datum(&mut self, name: &str, datum: &mut Value<'_>, place: Place<'_>, spot: Spot) {
        let spot = Spot { shape: Shape::Any, ..spot };
        let before = datum.clone();
        self.value(datum, place, spot);
        if *datum == before {
            self.value(datum, Place { key: Some(name), ..place }, spot);
        }
    }
}
