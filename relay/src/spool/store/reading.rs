//! Finding batches: by sequence and by lane, also where a part of the headers can't be read.

use picket_common::ids::Sequence;
use rocksdb::{Direction, IteratorMode, ReadOptions};

use super::super::error::SpoolError;
use super::super::lanes::Lane;
use super::{CF_HEADERS, CF_LANES, RawHeader, Store, is_damage};

impl Store {
    /// The headers of batches whose first sequence is in `from..=last`, in order. Where a block of them is damaged, the batches in
    /// it are found by the lanes, which are in other files; their headers then are no headers.
    pub(in super::super) fn headers(
        &self,
        from: Sequence,
        last: Sequence,
    ) -> impl Iterator<Item = Result<RawHeader, SpoolError>> + '_ {
        let mut next = from;
        let mut entries = self.intact_headers(from, last);
        std::iter::from_fn(move || {
            let found = match entries.next()? {
                Ok(raw) => Ok(raw),
                Err(source) if is_damage(&source) => match self.first_in_any_lane(next, last) {
                    Ok(Some(first)) => {
                        entries = self.intact_headers(first.advanced_by(1), last);
                        self.header_or_none(first)
                    }
                    Ok(None) => return None,
                    Err(error) => Err(error),
                },
                Err(source) => Err(SpoolError::Storage { action: "read its headers", source }),
            };
            if let Ok(raw) = &found {
                next = raw.first.advanced_by(1);
            }
            Some(found)
        })
    }

    fn intact_headers(
        &self,
        from: Sequence,
        last: Sequence,
    ) -> impl Iterator<Item = Result<RawHeader, rocksdb::Error>> + use<'_> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(last.advanced_by(1).to_key());
        let start = from.to_key();
        let mode = IteratorMode::From(&start, Direction::Forward);
        self.db.iterator_cf_opt(self.family(CF_HEADERS), options, mode).map(|entry| {
            let (key, json) = entry?;
            // A key that is no sequence can't come from us; as sequence 0 it fails the header's own check.
            let first = Sequence::from_key(&key).unwrap_or(Sequence::new(0));
            Ok(RawHeader { first, json })
        })
    }

    /// The header of the batch that starts at `first`, if it is still there; none that can be parsed where it is damaged.
    pub(in super::super) fn header(&self, first: Sequence) -> Result<Option<RawHeader>, SpoolError> {
        match self.db.get_cf(self.family(CF_HEADERS), first.to_key()) {
            Ok(json) => Ok(json.map(|json| RawHeader { first, json: json.into_boxed_slice() })),
            Err(source) if is_damage(&source) => Ok(Some(RawHeader { first, json: Box::default() })),
            Err(source) => Err(SpoolError::Storage { action: "read its headers", source }),
        }
    }

    fn header_or_none(&self, first: Sequence) -> Result<RawHeader, SpoolError> {
        Ok(self.header(first)?.unwrap_or(RawHeader { first, json: Box::default() }))
    }

    /// The first sequence of the first batch of a lane that begins in `from..=last`.
    pub(in super::super) fn first_in_lane(
        &self,
        lane: Lane,
        from: Sequence,
        last: Sequence,
    ) -> Result<Option<Sequence>, SpoolError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(lane.key(last.advanced_by(1)));
        let start = lane.key(from);
        let mode = IteratorMode::From(&start, Direction::Forward);
        let mut entries = self.db.iterator_cf_opt(self.family(CF_LANES), options, mode);
        let entry = entries.next().transpose();
        let entry = entry.map_err(|source| SpoolError::Storage { action: "read its lanes", source })?;
        Ok(entry.and_then(|(key, _)| Sequence::from_key(key.get(8..)?)))
    }

    /// The lane in which the batch that begins at `first` is read.
    pub(in super::super) fn lane_of(&self, first: Sequence) -> Result<Option<Lane>, SpoolError> {
        for lane in self.lanes_in_use()? {
            if self.is_in_lane(lane, first)? {
                return Ok(Some(lane));
            }
        }
        Ok(None)
    }

    fn first_in_any_lane(&self, from: Sequence, last: Sequence) -> Result<Option<Sequence>, SpoolError> {
        let mut first = None;
        for lane in self.lanes_in_use()? {
            let of_lane = self.first_in_lane(lane, from, last)?;
            first = first.into_iter().chain(of_lane).min();
        }
        Ok(first)
    }

    /// The lanes that have entries: a handful.
    fn lanes_in_use(&self) -> Result<Vec<Lane>, SpoolError> {
        let mut lanes = Vec::new();
        let mut start = Lane::SHARED.key(Sequence::new(0));
        loop {
            let mode = IteratorMode::From(&start, Direction::Forward);
            let entry = self.db.iterator_cf(self.family(CF_LANES), mode).next().transpose();
            let entry = entry.map_err(|source| SpoolError::Storage { action: "read its lanes", source })?;
            let Some(lane) = entry.and_then(|(key, _)| Lane::of_key(&key)) else { return Ok(lanes) };
            lanes.push(lane);
            let Some(next) = lane.next() else { return Ok(lanes) };
            start = next.key(Sequence::new(0));
        }
    }
}
