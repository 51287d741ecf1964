//! The charges of records that this process admitted lately: they are in no row that stays, and settling must know them.

use std::collections::HashMap;

use crate::protocol::{Credits, SpendTag};
use crate::store::RecordKey;

/// How many are kept at least. What is not kept is read.
const KEPT: usize = 1 << 16;

type Place = (u32, [u8; 32]);

/// A record's charge never changes, so that nothing here can be out of date.
#[derive(Default)]
pub(super) struct Charges {
    young: HashMap<Place, (SpendTag, Credits)>,
    old: HashMap<Place, (SpendTag, Credits)>,
}

fn place(key: &RecordKey) -> Place {
    (key.epoch.number(), key.nullifier.to_bytes())
}

impl Charges {
    pub(super) fn add(&mut self, key: &RecordKey, charge: Credits) {
        if self.young.len() >= KEPT {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(place(key), (key.tag, charge));
    }

    pub(super) fn find(&self, key: &RecordKey) -> Option<Credits> {
        let place = place(key);
        let found = self.young.get(&place).or_else(|| self.old.get(&place));
        found.filter(|(tag, _)| *tag == key.tag).map(|(_, charge)| *charge)
    }

    pub(super) fn remove(&mut self, key: &RecordKey) {
        let place = place(key);
        self.young.remove(&place);
        self.old.remove(&place);
    }
}
