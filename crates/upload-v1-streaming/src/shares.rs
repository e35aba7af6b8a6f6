//! The most that one client may have of something that all clients share, so that none of them can take all of it.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

/// Who has how much.
#[derive(Debug)]
pub struct Shares<K> {
    most: u64,
    taken: Mutex<HashMap<K, u64>>,
}

/// What one client has taken. Dropping it gives it back.
#[derive(Debug)]
pub struct Share<K: Hash + Eq> {
    shares: Arc<Shares<K>>,
    client: K,
    amount: u64,
}

impl<K: Copy + Hash + Eq> Shares<K> {
    /// Each client may have `most`.
    pub fn new(most: u64) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// Takes `amount` for the client, or nothing if it would then have more than its share.
    pub fn take(self: &Arc<Self>, client: K, amount: u64) -> Option<Share<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let after = taken.get(&client).copied().unwrap_or_default().checked_add(amount)?;
        (after <= self.most).then(|| {
            taken.insert(client, after);
            Share { shares: Arc::clone(self), client, amount }
        })
    }
}

impl<K: Hash + Eq> Drop for Share<K> {
    fn drop(&mut self) {
        let mut taken = self.shares.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(amount) = taken.get_mut(&self.client) {
            *amount -= self.amount;
            if *amount == 0 {
                taken.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_its_share_and_no_more() {
        let shares = Shares::new(10);
        let first = shares.take('a', 6);
        assert!(first.is_some() && shares.take('a', 5).is_none());
        let second = shares.take('a', 4);
        assert!(second.is_some() && shares.take('b', 10).is_some());
        drop(first);
        assert!(shares.take('a', 7).is_none() && shares.take('a', 6).is_some());
        drop(second);
        assert!(shares.taken.lock().is_ok_and(|taken| taken.is_empty()), "who has nothing needs no memory");
    }
}
