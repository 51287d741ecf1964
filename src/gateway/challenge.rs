//! What an unpaid request is told.

use super::Gateway;
use crate::protocol::{Digest, GatewayId, IssuerId};

/// The challenge: the same for every caller, and with nothing in it that a credential would echo (protocol, sections 8 and 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Whose notes are taken.
    pub issuer: IssuerId,
    /// Digest of the directory. A wallet that knows another one of the same serial has caught the issuer.
    pub directory: Digest,
    /// The gateway to make a spend for.
    pub gateway: GatewayId,
}

impl Gateway {
    /// The challenge of this gateway.
    pub fn challenge(&self) -> Challenge {
        Challenge { issuer: self.directory.issuer(), directory: self.directory.digest(), gateway: self.id }
    }
}
