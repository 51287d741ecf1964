//! Checks evidence of a double spend offline: `cargo run --release --example verify`.
//!
//! A reviewer gets two files, the evidence and the issuer's signed directory, and pins the issuer's root key. No gateway, issuer or
//! network is asked. `halometer evidence verify` does the same for files.

// An example says what it does.
#![allow(clippy::print_stdout)]

use std::error::Error;

use halometer::gateway::AdmitError;
use halometer::lifecycle::Evidence;
use halometer::protocol::{RootKey, SignedDirectory};
use halometer::testing::world::{LANE0, T0, World, pay};

/// What a reviewer does. Both proofs are verified, and the account is solved from what the two spends reveal.
fn review(evidence: &[u8], directory: &[u8], root: &RootKey) -> Result<String, Box<dyn Error>> {
    let directory = SignedDirectory::from_bytes(directory)?.verify(root)?;
    let evidence = Evidence::from_bytes(evidence, &directory)?;
    Ok(format!("{:?}", evidence.account()))
}

fn main() -> Result<(), Box<dyn Error>> {
    // A wallet and a copy of it spend one note twice, and the gateway keeps the evidence.
    let world = World::new();
    let (mut wallet, mut copy) = (world.funded(1), world.funded(1));
    world.admit(&pay(&mut wallet, LANE0, 10, T0));
    let Err(AdmitError::DoubleSpend(evidence)) = world.open(&pay(&mut copy, LANE0, 20, T0), T0) else {
        return Err("the second spend should be refused".into());
    };

    let directory = world.issuer.signed_directory().to_bytes();
    let account = review(&evidence.to_bytes(), &directory, &world.root.public_key())?;
    println!("the evidence holds, and names {account}");

    // A byte that is changed is found.
    let mut forged = evidence.to_bytes();
    forged[7_000] ^= 1;
    let Err(error) = review(&forged, &directory, &world.root.public_key()) else {
        return Err("forged evidence should not hold".into());
    };
    println!("forged: {error}");
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn evidence_is_checked_offline() {
        super::main().unwrap();
    }
}
