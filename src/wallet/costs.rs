//! What calls of a kind have cost, and what they may need.

use core::fmt::Write as _;

use crate::protocol::Credits;

/// Kinds that are remembered, at most: those that were used last.
const MOST: usize = 64;
/// Longest name of a kind, bytes. A longer one is cut, and shared.
const LONGEST: usize = 160;
/// By what part a need falls with each call that did not have it.
const FALL: u64 = 16;

/// What calls of each kind have cost so far, the kind that was used last at the end. A kind is a route and a model; what was asked is
/// not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Costs(Vec<Kind>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Kind {
    name: String,
    /// Twice the highest cost of late.
    need: u64,
    /// Above a class that was too small.
    floor: u64,
}

impl Costs {
    /// Under what a journal [remembers](super::Journal::remembered) it.
    pub const NOTE: &str = "costs";

    /// What a call of this kind most likely costs at most: twice what such calls cost of late, and more than a class that was too small
    /// for one. None if there was none.
    pub fn likely(&self, kind: &str) -> Option<Credits> {
        let known = self.0.iter().find(|known| known.name == cut(kind))?;
        Some(Credits::from_micro(known.need.max(known.floor)))
    }

    /// More than a class that was too small for calls of this kind of late. None if none was.
    pub fn floor(&self, kind: &str) -> Option<Credits> {
        let known = self.0.iter().find(|known| known.name == cut(kind))?;
        Some(known.floor).filter(|floor| *floor > 0).map(Credits::from_micro)
    }

    /// Whether a call of this kind has cost more than this class of late, or the class was too small for one.
    pub fn have_cost_more(&self, kind: &str, class: Credits) -> bool {
        let twice = class.micro().saturating_mul(2);
        let of = |known: &&Kind| known.name == cut(kind);
        self.0.iter().find(of).is_some_and(|known| known.need > twice || (known.floor > 0 && known.floor >= twice))
    }

    /// The most that any kind of call to a route, a method and a path, most likely costs. None if there was none.
    pub fn of_route(&self, route: &str) -> Option<Credits> {
        let of = |kind: &&Kind| {
            kind.name.strip_prefix(cut(route)).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        self.0.iter().filter(of).map(|kind| Credits::from_micro(kind.need.max(kind.floor))).max()
    }

    /// A call of this kind cost so much, under a class that was enough.
    pub fn cost(&mut self, kind: &str, cost: Credits) {
        let known = self.used(kind);
        let fallen = |value: u64| value - value.div_ceil(FALL);
        known.need = fallen(known.need).max(cost.micro().saturating_mul(2));
        known.floor = fallen(known.floor);
    }

    /// This class was too small for a call of this kind.
    pub fn too_small(&mut self, kind: &str, class: Credits) {
        let known = self.used(kind);
        // High enough that a few cheap calls do not bring the same loss again.
        known.floor = known.floor.max(class.micro().saturating_mul(2));
        known.need = known.need.max(known.floor);
    }

    fn used(&mut self, kind: &str) -> &mut Kind {
        let name = cut(kind);
        let known = self.0.iter().position(|known| known.name == name).map(|at| self.0.remove(at));
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        let known = known.unwrap_or_else(|| Kind { name: name.to_owned(), need: 0, floor: 0 });
        self.0.push(known);
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    /// The needs of late, of the kinds that were used last first.
    pub fn needs(&self) -> impl Iterator<Item = Credits> + '_ {
        self.0.iter().rev().map(|known| Credits::from_micro(known.need.max(known.floor)))
    }

    /// Whether some kind has another class than before, as `class` numbers them.
    pub fn moved(&self, before: &Self, class: impl Fn(Credits) -> usize) -> bool {
        let class = |kind: &Kind| class(Credits::from_micro(kind.need.max(kind.floor)));
        let known = |kind: &Kind| before.0.iter().find(|known| known.name == kind.name).map(class);
        self.0.iter().any(|kind| known(kind) != Some(class(kind)))
    }

    /// As text, for a file.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for Kind { name, need, floor } in &self.0 {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{need} {floor} {name}");
        }
        text
    }

    /// Reads the text. What cannot be read is left out: it is learned again.
    pub fn from_text(text: &str) -> Self {
        let line = |line: &str| {
            let mut parts = line.splitn(3, ' ');
            let (need, floor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            Some(Kind { name: cut(parts.next()?).to_owned(), need, floor })
        };
        let mut kinds: Vec<_> = text.lines().filter_map(line).collect();
        kinds.drain(..kinds.len().saturating_sub(MOST));
        Self(kinds)
    }
}

/// The name of a kind, on one line and not too long.
fn cut(kind: &str) -> &str {
    let line = kind.lines().next().unwrap_or_default();
    let mut end = line.len().min(LONGEST);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micro(amount: u64) -> Credits {
        Credits::from_micro(amount)
    }

    #[test]
    fn a_need_rises_at_once_and_falls_slowly() {
        let mut costs = Costs::default();
        assert_eq!((costs.likely("a"), costs.floor("a")), (None, None));
        costs.cost("a", micro(100));
        assert_eq!(costs.likely("a"), Some(micro(200)));
        costs.cost("a", micro(10));
        assert_eq!(costs.likely("a"), Some(micro(187)));
        (0..200).for_each(|_| costs.cost("a", micro(10)));
        assert_eq!(costs.likely("a"), Some(micro(20)));
        assert_eq!(costs.likely("b"), None);
    }

    #[test]
    fn a_class_that_was_too_small_is_not_used_soon_again() {
        let mut costs = Costs::default();
        costs.too_small("a", micro(4_000));
        assert!(costs.likely("a") > Some(micro(4_000)) && costs.floor("a") > Some(micro(4_000)));
        for calls in 0..8 {
            costs.cost("a", micro(1));
            assert!(costs.floor("a") > Some(micro(4_000)), "{calls}");
        }
        (0..100).for_each(|_| costs.cost("a", micro(1)));
        assert_eq!(costs.floor("a"), None, "it is forgotten some time");
        costs.too_small("a", micro(u64::MAX));
        assert_eq!(costs.likely("a"), Some(micro(u64::MAX)));
    }

    #[test]
    fn a_kind_has_moved_when_its_class_is_another() {
        let (mut costs, class) = (Costs::default(), |cost: Credits| usize::from(cost > micro(100)));
        ["a", "b"].into_iter().for_each(|kind| costs.cost(kind, micro(10)));
        let before = costs.clone();
        assert!(before.moved(&Costs::default(), class));
        costs.cost("a", micro(20));
        assert!(costs != before && !costs.moved(&before, class), "in another order, of the same classes");
        costs.cost("a", micro(60));
        assert!(costs.moved(&before, class));
    }

    #[test]
    fn few_kinds_are_kept_and_read_back() {
        let mut costs = Costs::default();
        (0..100).for_each(|n| costs.cost(&format!("POST /v1/{n} a model"), micro(n)));
        costs.cost(&"é".repeat(200), micro(7));
        costs.cost("two\nlines", micro(9));
        assert_eq!((costs.0.len(), costs.likely("POST /v1/0 a model")), (MOST, None));
        assert_eq!(costs.likely("two\nother lines"), Some(micro(18)));
        assert_eq!(Costs::from_text(&costs.to_text()), costs);
        assert_eq!(Costs::from_text("x\n1 2\n1 x y\n\n\u{0}"), Costs::default());
        assert_eq!(costs.needs().next(), Some(micro(18)));
    }
}
