//! TLS handshakes, bounded in time and number, so that clients who begin one and stop neither hold
//! places of connections nor keep others from theirs.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Certificate, Tls};
use crate::error::Error;

/// Of how many handshakes one may be of the same address.
const SHARE_OF_ADDRESS: usize = 4;

/// The handshakes that are under way.
#[derive(Default)]
pub(in crate::transport::grpc) struct Handshakes {
    /// By the address of the client, or the network for IPv6.
    running: Mutex<HashMap<IpAddr, usize>>,
}

/// The place of one handshake; dropping it frees it.
pub(in crate::transport::grpc) struct Slot {
    handshakes: Arc<Handshakes>,
    from: IpAddr,
}

impl Handshakes {
    /// A place for a handshake with a client at `from`.
    ///
    /// # Errors
    /// `LimitExceeded` if there is none.
    pub(in crate::transport::grpc) fn take(
        self: &Arc<Self>,
        from: IpAddr,
        all: usize,
    ) -> Result<Slot, Error> {
        let from = network(from);
        let mut running = self.running();
        if running.values().sum::<usize>() >= all {
            return Err(Error::limit("tls.max_handshakes", all, "so many are under way"));
        }
        let share = (all / SHARE_OF_ADDRESS).max(1);
        let of_address = running.entry(from).or_default();
        if *of_address >= share {
            let problem = "so many are under way with the client's address, a quarter of all";
            return Err(Error::limit("tls.max_handshakes", share, problem));
        }
        *of_address += 1;
        Ok(Slot { handshakes: Arc::clone(self), from })
    }

    fn running(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Each change is one operation, so a panic elsewhere leaves nothing half-done.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut running = self.handshakes.running();
        if let Some(of_address) = running.get_mut(&self.from) {
            *of_address -= 1;
            if *of_address == 0 {
                running.remove(&self.from);
            }
        }
    }
}

/// The address that a client cannot change at will: for IPv6 the network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// Shakes hands with a client, and gives the certificate that was verified, if the client has one.
///
/// # Errors
/// What was wrong with the client's part, or that it took too long.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub(in crate::transport::grpc) async fn shake(
    stream: TcpStream,
    tls: &Tls,
) -> Result<(TlsStream<TcpStream>, Option<Certificate>), String> {
    let accepting = TlsAcceptor::from(Arc::clone(&tls.config)).accept(stream);
    let stream = match timeout(tls.handshake_timeout, accepting).await {
        Ok(outcome) => outcome.map_err(|error| format!("the TLS handshake failed: {error}"))?,
        Err(_) => return Err("the TLS handshake took too long".to_owned()),
    };
    let (_, connection) = stream.get_ref();
    let leaf = connection.peer_certificates().and_then(<[_]>::first);
    let certificate = leaf.map(|leaf| Certificate::read(leaf)).transpose()?;
    Ok((stream, certificate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_a_quarter_of_all_handshakes() {
        let handshakes = Arc::new(Handshakes::default());
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let take = |from: &str| handshakes.take(address(from), 8);
        let first = (take("192.0.2.1").unwrap(), take("192.0.2.1").unwrap());
        assert_eq!(
            take("::ffff:192.0.2.1").err().unwrap().fact("limit"),
            Some("tls.max_handshakes")
        );
        let second = (take("2001:db8::1").unwrap(), take("2001:db8::2:1").unwrap());
        assert!(take("2001:db8::3").is_err(), "the same network");
        let others: Vec<_> = (3..7).map(|n| take(&format!("192.0.2.{n}")).unwrap()).collect();
        assert!(take("192.0.2.9").is_err());
        drop((first, others));
        take("192.0.2.1").unwrap();
        drop(second);
        assert!(handshakes.running().is_empty());
    }
}
