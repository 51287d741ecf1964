//! This process among the replicas: where they reach it, and how it leaves them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::warn;

use super::config::{ClusterConfig, Config};
use super::start::Records;
use super::vault::VaultError;
use halometer::http::gateway::GatewayService;
use halometer::http::layer::PaymentLayer;
use halometer::http::peers::{Peers, PeersError, PeersParts};
use halometer::http::server::{Listener, Server};
use halometer::protocol::OwnerId;

/// How often it is looked whether sessions are open.
const LOOK: Duration = Duration::from_millis(200);

/// Why this process is no replica. The operator has to act.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum JoinError {
    /// The address is not said where it should be.
    #[error("`cluster.address_env`: {0}")]
    Address(#[source] VaultError),
    /// The book, or what speaks to the others.
    #[error("`cluster`: {0}")]
    Peers(#[from] PeersError),
}

/// Writes this process into the book of the records, if it is one of several. `bound` is where the others come in.
pub(super) async fn join(
    config: &Config,
    bound: Option<SocketAddr>,
    owner: OwnerId,
    records: &Records,
) -> Result<Option<Peers>, JoinError> {
    let (Some(cluster), Some(bound), Some(book)) = (config.replica(), bound, &records.replicas) else {
        return Ok(None);
    };
    let address = own_address(&cluster, bound).map_err(JoinError::Address)?;
    Ok(Some(Peers::start(PeersParts::new(owner, Arc::clone(book), address)).await?))
}

/// Where the other replicas reach this one, which is bound there.
fn own_address(cluster: &ClusterConfig, bound: SocketAddr) -> Result<String, VaultError> {
    let said = match (&cluster.address, &cluster.address_env) {
        (Some(address), _) => address.clone(),
        (None, Some(name)) => std::env::var(name).map_err(|_| VaultError::SecretEnv(name.clone()))?,
        (None, None) => return Ok(bound.to_string()),
    };
    Ok(match said.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, bound.port()).to_string(),
        Err(_) if !said.contains(':') => format!("{said}:{}", bound.port()),
        Err(_) => said,
    })
}

/// The other replicas, and where they come in.
pub(super) struct Door {
    peers: Peers,
    server: Server,
}

impl Door {
    /// Lets the others in; none if there are none.
    pub(super) fn open(service: &GatewayService, listener: Option<Listener>) -> Option<Self> {
        let (peers, listener) = service.layer().peers().zip(listener)?;
        let server = listener.serve_peers(service.router(), &peers);
        Some(Self { peers, server })
    }

    /// Tells the others that this one ends, and waits until balancers have noticed that it takes no more.
    pub(super) async fn drain(&self, notice: Duration) {
        if let Err(error) = self.peers.drain().await {
            warn!(%error, "the other replicas are not told: they find out by themselves");
        }
        sleep(notice).await;
    }

    /// Waits until the sessions of this one are closed: what follows them is passed on from the others, as long as there are some.
    pub(super) async fn outlast_sessions(&self, layer: &PaymentLayer, patience: Duration) {
        let view = self.peers.view();
        let others = view.replicas.iter().any(|replica| replica.owner != view.owner && !replica.draining);
        let closed = async {
            while others && layer.load().sessions > 0 {
                sleep(LOOK).await;
            }
        };
        let _ = timeout(patience, closed).await;
    }

    /// Leaves the book, and lets nobody in any more.
    pub(super) async fn leave(self) {
        if let Err(error) = self.peers.withdraw().await {
            warn!(%error, "this replica stays in the book: the others find out by its silence");
        }
        self.server.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_said_with_or_without_its_port() {
        let bound = SocketAddr::from(([0, 0, 0, 0], 8_402));
        let of = |address: Option<&str>| {
            let cluster = ClusterConfig { address: address.map(str::to_owned), ..ClusterConfig::default() };
            own_address(&cluster, bound).unwrap()
        };
        assert_eq!(of(None), "0.0.0.0:8402");
        assert_eq!(of(Some("10.0.0.7")), "10.0.0.7:8402");
        assert_eq!(of(Some("fd00::7")), "[fd00::7]:8402");
        assert_eq!(of(Some("gateway-0.gateways")), "gateway-0.gateways:8402");
        assert_eq!(of(Some("gateway-0.gateways:1")), "gateway-0.gateways:1");
        let nowhere = ClusterConfig { address_env: Some("HALOMETER_NO_SUCH".into()), ..ClusterConfig::default() };
        assert!(matches!(own_address(&nowhere, bound), Err(VaultError::SecretEnv(_))));
    }
}
