//! What was minted for an account, for its owner who has nothing but the root secret (protocol, section 7).

use super::Issuer;
use crate::protocol::{AccountQuery, MintAnswer, MintFound, MintsFound};
use crate::store::{MintRecord, StoreError};

impl Issuer {
    /// What was minted for each of these accounts: the payment, its amounts, and the answer that its payer was given. It says what the
    /// issuer's book says and no more, and without the secret of the account it is worth nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn minted(&self, query: &AccountQuery) -> Result<MintsFound, StoreError> {
        let found = query
            .accounts()
            .iter()
            .map(|account| Ok(self.mints.by_account(account)?.and_then(|mint| self.shown(mint))));
        found.collect::<Result<_, _>>().map(MintsFound)
    }

    fn shown(&self, mint: MintRecord) -> Option<MintFound> {
        let MintRecord { payment, account, amounts, response, .. } = mint;
        let amounts = amounts?;
        let seal = self.sealer.seal(&payment, &account, &amounts, response.epoch);
        Some(MintFound { payment, amounts, answer: MintAnswer { response, seal } })
    }
}
