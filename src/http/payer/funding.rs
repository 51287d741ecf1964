//! Having a payment minted.

use super::{Client, ClientError};
use crate::protocol::{MintAnswer, MintRequest, Problem};

impl Client {
    /// Has a payment minted by one of its requests ([`Wallet::request_mint_anew`](crate::wallet::Wallet::request_mint_anew)): the first
    /// that the issuer does not refuse. One that it does not answer ends this: it may have minted it.
    ///
    /// # Errors
    /// [`ClientError`], of the last request that was sent. The same requests can be sent again.
    pub async fn mint_one_of(&self, issuer: &str, requests: &[MintRequest]) -> Result<MintAnswer, ClientError> {
        let mut refused = ClientError::Timeout;
        for request in requests {
            match self.mint(issuer, request).await {
                Err(ClientError::Problem(details)) if details.kind() == Some(Problem::Malformed) => {
                    refused = ClientError::Problem(details);
                }
                outcome => return outcome,
            }
        }
        Err(refused)
    }
}
