//! Who may be at a door at once: so many in all, and so many of one address, so that nobody fills it alone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Those who are at a door. Cloned freely; all clones speak of the same crowd.
#[derive(Clone)]
pub struct Crowd {
    count: Arc<Mutex<HashMap<IpAddr, usize>>>,
    total: usize,
    per_address: usize,
}

/// A place in a crowd, given back when it is dropped.
pub struct Place {
    crowd: Crowd,
    address: IpAddr,
}

impl Crowd {
    /// Nobody yet.
    pub fn new(total: usize, per_address: usize) -> Self {
        Self { count: Arc::default(), total, per_address }
    }

    /// A place for somebody at `address`, if there is one.
    pub fn enter(&self, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = count.values().sum();
        let here = count.get(&address).copied().unwrap_or_default();
        if total >= self.total || here >= self.per_address {
            return None;
        }
        count.insert(address, here + 1);
        drop(count);
        Some(Place { crowd: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut count = self.crowd.count.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = count.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                count.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c21_strangers_share_few_places() {
        let crowd = Crowd::new(64, 8);
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        let mut held: Vec<_> = std::iter::from_fn(|| crowd.enter(one)).collect();
        assert_eq!(held.len(), 8);
        assert!(crowd.enter("::ffff:10.0.0.1".parse().unwrap()).is_none(), "the same address, written otherwise");
        let other = crowd.enter("10.0.0.2".parse().unwrap());
        assert!(other.is_some(), "one address does not shut the others out");
        held.pop();
        assert!(crowd.enter(one).is_some());
        let many = (0..=255).filter_map(|n| crowd.enter(IpAddr::from([10, 0, 1, n]))).collect::<Vec<_>>();
        assert_eq!(many.len(), 64 - 8);
    }
}
