//! An attack by name, and the constraint that refuses it.

use std::collections::BTreeSet;

use super::cheater::{Cheater, Filling};
use super::constraints::Constraint;

/// Cells that break one constraint and no other.
pub(super) struct Attack {
    pub(super) name: &'static str,
    pub(super) refused_by: Constraint,
    pub(super) filling: Filling,
}

impl Attack {
    /// What refuses it, which must be what it is said to be.
    pub(super) fn carry_out(self, cheater: &Cheater) -> BTreeSet<Constraint> {
        let refusals = cheater.refusals(self.filling);
        assert_eq!(refusals, [self.refused_by].into(), "{}", self.name);
        refusals
    }
}

/// Makes a test of each attack, and `all`, the list of them. The attacks are functions of the cheater; after the name stands
/// the constraint that alone refuses the attack.
macro_rules! attacks {
    ($($name:ident by $constraint:expr;)*) => {
        /// All attacks of this file.
        pub(super) fn all(cheater: &Cheater) -> Vec<Attack> {
            vec![$(Attack { name: stringify!($name), refused_by: $constraint, filling: $name(cheater) }),*]
        }

        mod refused {
            use super::*;
            $(
                #[test]
                fn $name() {
                    let cheater = Cheater::new(2);
                    let filling = super::$name(&cheater);
                    assert_eq!(cheater.refusals(filling), [$constraint].into());
                }
            )*
        }
    };
}
pub(super) use attacks;
