//! Which aggregator a relay prefers: rendezvous hashing (highest random weight) of its spool's id with each address.
//!
//! Relays spread evenly over the addresses, each comes back to the same one, and an address that joins or leaves the list moves
//! only the relays that prefer it.

use picket_common::ids::SpoolId;
use ring::digest::{SHA256, digest};

/// The addresses, the preferred one first.
pub(super) fn ranked(spool_id: SpoolId, addresses: &[String]) -> Vec<String> {
    let mut ranked = addresses.to_vec();
    ranked.sort_by_cached_key(|address| std::cmp::Reverse(weight(spool_id, address)));
    ranked
}

/// The addresses of a list that was pushed, the preferred one first, and behind them those that the relay joined by. A list with a
/// slip in it would otherwise keep the relay away for ever, as nobody could tell it the right one. Whoever answers at an old
/// address must still be of a trusted authority.
pub(super) fn ranked_with_fallback(spool_id: SpoolId, pushed: &[String], joined: &[String]) -> Vec<String> {
    let mut ranked = ranked(spool_id, pushed);
    let others: Vec<_> = joined.iter().filter(|address| !pushed.contains(address)).cloned().collect();
    ranked.extend(self::ranked(spool_id, &others));
    ranked
}

fn weight(spool_id: SpoolId, address: &str) -> Vec<u8> {
    digest(&SHA256, format!("{spool_id} {address}").as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(count: u16) -> Vec<String> {
        (0..count).map(|number| format!("node-{number}.example:7443")).collect()
    }

    fn spool(number: u16) -> SpoolId {
        let [high, low] = number.to_be_bytes();
        SpoolId::from_random([high, low, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16])
    }

    #[test]
    fn relays_spread_evenly_and_only_those_of_a_lost_address_move() {
        let (all, fewer) = (addresses(4), addresses(3));
        let mut counts = [0; 4];
        for number in 0..1000 {
            let preferred = ranked(spool(number), &all).swap_remove(0);
            let place = all.iter().position(|address| *address == preferred).unwrap_or_default();
            counts[place] += 1;
            let moved = ranked(spool(number), &fewer).swap_remove(0);
            assert!(moved == preferred || place == 3, "a relay left an address that is still there");
        }
        // 250 each; four standard deviations are 55.
        assert!(counts.iter().all(|count| (195..=305).contains(count)), "{counts:?}");
    }

    #[test]
    fn an_address_that_the_relay_joined_by_stays_the_last_resort() {
        let (pushed, joined) = (addresses(3), ["first.example:7443".to_owned(), "node-1.example:7443".to_owned()]);
        let ranked = ranked_with_fallback(spool(7), &pushed, &joined);
        assert_eq!(ranked[..3], super::ranked(spool(7), &pushed));
        assert_eq!(ranked[3..], joined[..1]);
        let unheard = ranked_with_fallback(spool(7), &[], &joined);
        assert_eq!(unheard, super::ranked(spool(7), &joined));
    }

    #[test]
    fn the_order_of_the_list_makes_no_difference() {
        let mut turned = addresses(5);
        turned.reverse();
        assert_eq!(ranked(spool(7), &addresses(5)), ranked(spool(7), &turned));
    }
}
