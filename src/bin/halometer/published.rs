//! The directory that an issuer published, from a file.

use std::path::PathBuf;

use halometer::protocol::{Digest, Directory, RootKey, SignedDirectory};

/// Where the directory is and whose it has to be.
#[derive(Clone, Debug, clap::Args)]
pub struct Published {
    /// The signed directory, as a gateway serves it under `/.well-known/halometer/directory`.
    #[arg(long, value_name = "FILE")]
    pub directory: PathBuf,

    /// The issuer's root key, 64 hexadecimal digits, from a place that you trust.
    #[arg(long, value_name = "HEX")]
    pub root_key: Digest,
}

impl Published {
    /// Reads the directory and checks that the root key signed it.
    pub(super) fn read(&self) -> Result<Directory, Box<dyn std::error::Error>> {
        let root = RootKey::from_bytes(&self.root_key.to_bytes()).ok_or("the root key is no Ed25519 key")?;
        let bytes = halometer::sealed::read_bounded(&self.directory, SignedDirectory::MAX_LENGTH)
            .map_err(|error| format!("{}: {error}", self.directory.display()))?;
        let signed = SignedDirectory::from_bytes(&bytes).map_err(|error| error.to_string())?;
        Ok(signed.verify(&root)?)
    }
}
