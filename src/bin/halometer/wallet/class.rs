//! The charge class of calls, as their owner says it.

use super::trouble::Trouble;
use halometer::protocol::{Credits, Directory, Fault};
use halometer::wallet::Policy;

/// What a call may cost at most.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ClassArgs {
    /// The charge class of every call, micro-credits. Without it each call gets the class that it needs; what a call does not cost comes
    /// back.
    #[arg(long, value_name = "N", conflicts_with = "max_class")]
    pub class: Option<u64>,

    /// The most that a call may be charged, micro-credits: classes above it are not chosen.
    #[arg(long, value_name = "N")]
    pub max_class: Option<u64>,
}

impl ClassArgs {
    /// The policy of calls: this one with the class that is said, or with classes that are chosen.
    pub(crate) fn apply(&self, policy: Policy, directory: &Directory) -> Result<Policy, Trouble> {
        let mut classes = directory.classes().to_vec();
        classes.sort();
        let (Some(least), Some(largest)) = (classes.first().copied(), classes.last().copied()) else {
            return Err(Trouble::new("the issuer's directory has no charge class", Fault::Operator));
        };
        let list = || classes.iter().map(|class| class.grouped()).collect::<Vec<_>>().join("; ");
        match (self.class.map(Credits::from_micro), self.max_class.map(Credits::from_micro)) {
            (Some(class), _) if directory.has_class(class) => Ok(Policy { class, choose: false, ..policy }),
            (Some(class), _) => Err(Trouble::yours(format!("{} is no charge class of the directory", class.grouped()))
                .next(format!("choose one of {}; or leave out --class", list()))),
            (None, Some(ceiling)) if ceiling < least => {
                Err(Trouble::yours(format!("{} is less than the smallest charge class", ceiling.grouped()))
                    .next(format!("choose {} at least", least.grouped())))
            }
            (None, ceiling) => Ok(Policy { class: ceiling.unwrap_or(largest), ..policy }.choosing()),
        }
    }
}
