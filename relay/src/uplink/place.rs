//! Where the relay is connected, and the search for a better place.
//!
//! A place is better where it is the preferred aggregator's, or where it is QUIC instead of TCP. The search dials, and says nothing
//! on what it finds: the session in force ends first, so that a spool never has two.

use std::time::Duration;

use picket_common::transport::TransportKind;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::Link;
use super::dial::{DialError, Dialled, Dialler};
use super::race::{DialTimes, TransportChoice, connect};

/// A connection and whose it is.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) address: String,
    pub(super) dialled: Dialled,
}

// === impl Place ===

impl Place {
    pub(super) const fn kind(&self) -> TransportKind {
        self.dialled.connection.kind()
    }
}

impl Link {
    /// Connects to an aggregator by whichever transport gets through, and remembers which did.
    pub(super) async fn reach(&self, dialler: &Dialler, address: &str) -> Result<Place, DialError> {
        let remembered = self.transport();
        let times = DialTimes { patience: self.config.connect_timeout.get(), head_start: self.config.tcp_after.get() };
        let won = connect(dialler, address, self.config.transport, remembered, times).await?;
        let kind = won.dialled.connection.kind();
        if let Some(trouble) = won.quic_trouble {
            tracing::warn!(
                address,
                trouble,
                "UDP to {address} gets no answer, a firewall probably drops it; connected by TCP instead"
            );
        }
        self.learn_transport(kind).await;
        Ok(Place { address: address.to_owned(), dialled: won.dialled })
    }

    /// Returns when there is a better place than this; else never.
    pub(super) async fn better_place(&self, dialler: &Dialler, address: &str, kind: TransportKind) -> Place {
        let mut quic_ticks = ticks(self.config.quic_probe_interval.get());
        let mut home_ticks = ticks(self.config.failback_interval.get());
        let is_fallback = kind == TransportKind::Tcp && self.config.transport == TransportChoice::Auto;
        loop {
            tokio::select! {
                _ = quic_ticks.tick(), if is_fallback => {
                    let patience = self.config.connect_timeout.get();
                    match dialler.dial(address, TransportKind::Quic, patience).await {
                        Ok(dialled) => {
                            tracing::info!(address, "UDP gets through again, changing from TCP to QUIC");
                            self.learn_transport(TransportKind::Quic).await;
                            return Place { address: address.to_owned(), dialled };
                        }
                        Err(error) => tracing::debug!(address, %error, "still no way by QUIC"),
                    }
                }
                _ = home_ticks.tick() => {
                    let Some(home) = self.preferred().filter(|home| home != address) else { continue };
                    match self.reach(dialler, &home).await {
                        Ok(place) => {
                            tracing::info!(from = address, to = home, "the preferred aggregator is back");
                            return place;
                        }
                        Err(error) => tracing::debug!(address = home, %error, "the preferred aggregator is still away"),
                    }
                }
            }
        }
    }
}

/// The first one after `period`, not at once.
fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
