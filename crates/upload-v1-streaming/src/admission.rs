//! Limits how many uploads run at the same time, and how much of that one client may have.
//!
//! Uploads wait in a bounded queue until their turn, first come first served. If the queue is full, or an upload waits too long in it, or
//! its client has more than its share, the upload is refused before its body is read.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use upload_domain::UserId;

use crate::{
    shares::{Share, Shares},
    turns::{Turn, Turns},
};

/// How many uploads may be moving, open and waiting, how many bytes may be buffered, and how much of it one client may have.
#[derive(Debug, Clone, Copy)]
pub struct AdmissionLimits {
    /// Uploads whose bytes move at once: the turns.
    pub active: usize,
    /// Uploads that may have begun: the places.
    pub open: usize,
    /// Uploads that may wait for their first turn, or for room to be buffered.
    pub waiting: usize,
    /// The longest wait.
    pub wait: Duration,
    /// Bytes that all buffered forms may hold together.
    pub buffer_bytes: u64,
    /// The share of one user.
    pub per_user: ClientLimits,
    /// The share of one address.
    pub per_address: ClientLimits,
}

/// The most that one client may have.
#[derive(Debug, Clone, Copy)]
pub struct ClientLimits {
    /// Its uploads that wait or have begun.
    pub uploads: u64,
    /// Bytes that its buffered forms may hold together.
    pub buffer_bytes: u64,
}

/// Whose upload it is.
#[derive(Debug, Clone, Copy)]
pub struct Uploader {
    /// The image's owner.
    pub user: UserId,
    /// Where the request comes from, if that is known.
    pub address: Option<IpAddr>,
}

/// Why an upload is not admitted. The client should come back later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// No room for anybody.
    #[error("more uploads at the same time than this server accepts")]
    Overloaded,
    /// No room for this client.
    #[error("more uploads at the same time than one client may have")]
    TooMany,
}

/// The admission of one server; all its workers share it.
#[derive(Debug)]
pub struct Admission {
    limits: AdmissionLimits,
    turns: Arc<Turns>,
    waiting: AtomicUsize,
    /// In KiB, because a semaphore counts in `u32`.
    buffer_kib: Arc<Semaphore>,
    uploads: PerClient,
    buffered: PerClient,
}

/// Reserved memory. Dropping it gives it back.
#[derive(Debug)]
pub struct Room {
    _permit: OwnedSemaphorePermit,
    _shares: ClientShares,
}

/// What one user and one address have of one thing.
#[derive(Debug)]
struct PerClient {
    users: Arc<Shares<UserId>>,
    addresses: Arc<Shares<IpAddr>>,
}

/// What one upload takes of its client's share. Dropping it gives it back.
#[derive(Debug)]
pub struct ClientShares {
    _user: Share<UserId>,
    _address: Option<Share<IpAddr>>,
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    /// An admission without any uploads.
    pub fn new(limits: AdmissionLimits) -> Self {
        let (user, address) = (limits.per_user, limits.per_address);
        Self {
            limits,
            turns: Turns::new(limits.active, limits.open),
            waiting: AtomicUsize::new(0),
            buffer_kib: Arc::new(Semaphore::new(kib(limits.buffer_bytes) as usize)),
            uploads: PerClient::new(user.uploads, address.uploads),
            buffered: PerClient::new(user.buffer_bytes, address.buffer_bytes),
        }
    }

    /// Takes an upload from its client's share.
    pub fn share(&self, uploader: Uploader) -> Result<ClientShares, NotAdmitted> {
        self.uploads.take(uploader, 1)
    }

    /// Waits for a turn.
    pub async fn enter(&self) -> Result<Turn, NotAdmitted> {
        if let Some(turn) = self.turns.at_once() {
            return Ok(turn);
        }
        // It is not in the queue before it may wait.
        let turn = self.wait(async { self.turns.arrive().await }).await?;
        turn.map_err(|_dropped| NotAdmitted::Overloaded)
    }

    /// Waits for room to buffer `bytes`.
    pub async fn buffer(&self, uploader: Uploader, bytes: u64) -> Result<Room, NotAdmitted> {
        if bytes > self.limits.buffer_bytes {
            return Err(NotAdmitted::Overloaded);
        }
        let shares = self.buffered.take(uploader, bytes)?;
        // tokio's semaphore is fair: while one upload waits, a later one does not pass it.
        let permit = match self.buffer_kib.clone().try_acquire_many_owned(kib(bytes)) {
            Ok(permit) => permit,
            Err(_none_free) => {
                let permit = self.wait(self.buffer_kib.clone().acquire_many_owned(kib(bytes))).await?;
                permit.map_err(|_closed| NotAdmitted::Overloaded)?
            }
        };
        Ok(Room { _permit: permit, _shares: shares })
    }

    /// Waits as one of those that may wait.
    async fn wait<T>(&self, next: impl Future<Output = T>) -> Result<T, NotAdmitted> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.limits.waiting {
            return Err(NotAdmitted::Overloaded);
        }
        timeout(self.limits.wait, next).await.map_err(|_elapsed| NotAdmitted::Overloaded)
    }
}

impl PerClient {
    fn new(per_user: u64, per_address: u64) -> Self {
        Self { users: Shares::new(per_user), addresses: Shares::new(per_address) }
    }

    fn take(&self, uploader: Uploader, amount: u64) -> Result<ClientShares, NotAdmitted> {
        let user = self.users.take(uploader.user, amount).ok_or(NotAdmitted::TooMany)?;
        let address = match uploader.address.map(network) {
            Some(address) => Some(self.addresses.take(address, amount).ok_or(NotAdmitted::TooMany)?),
            None => None,
        };
        Ok(ClientShares { _user: user, _address: address })
    }
}

/// An IPv6 client usually has a whole /64, so that counts as one address.
fn network(address: IpAddr) -> IpAddr {
    const NETWORK: u128 = u128::MAX << 64;
    match address {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
    }
}

fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use futures::FutureExt;
    use uuid::Uuid;

    use super::*;

    const NO_LIMIT: ClientLimits = ClientLimits { uploads: u64::MAX, buffer_bytes: u64::MAX };

    fn limits() -> AdmissionLimits {
        AdmissionLimits {
            active: 2,
            open: 4,
            waiting: 1,
            wait: Duration::from_secs(60),
            buffer_bytes: 2048,
            per_user: NO_LIMIT,
            per_address: NO_LIMIT,
        }
    }

    fn admission() -> Admission {
        Admission::new(limits())
    }

    fn uploader(user: u128, address: &str) -> Uploader {
        Uploader { user: UserId::from(Uuid::from_u128(user)), address: Some(address.parse().unwrap()) }
    }

    fn anybody() -> Uploader {
        uploader(1, "192.0.2.1")
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_first_come_first_served() {
        let doors = admission();
        let first = doors.enter().await.unwrap();
        let _second = doors.enter().await.unwrap();
        let mut third = Box::pin(doors.enter());
        assert!(third.as_mut().now_or_never().is_none(), "it waits");
        assert_eq!(doors.enter().await.err(), Some(NotAdmitted::Overloaded), "the queue is full");
        drop(first);
        assert!(third.await.is_ok());
    }

    #[tokio::test]
    async fn an_upload_that_stops_waiting_makes_room_in_the_queue() {
        let doors = admission();
        let _active = (doors.enter().await.unwrap(), doors.enter().await.unwrap());
        assert!(doors.enter().now_or_never().is_none());
        assert!(doors.enter().now_or_never().is_none(), "the first one's future was dropped");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends() {
        let doors = admission();
        let _active = (doors.enter().await.unwrap(), doors.enter().await.unwrap());
        assert_eq!(doors.enter().await.err(), Some(NotAdmitted::Overloaded));
    }

    #[tokio::test]
    async fn buffered_bytes_have_a_budget_of_their_own() {
        let doors = admission();
        let held = doors.buffer(anybody(), 1500).await.unwrap();
        assert!(doors.buffer(anybody(), 1500).now_or_never().is_none());
        assert!(doors.buffer(anybody(), 4096).await.is_err(), "more than the budget will ever be");
        drop(held);
        assert!(doors.buffer(anybody(), 2048).now_or_never().is_some());
    }

    #[tokio::test]
    async fn without_a_queue_an_upload_is_admitted_only_if_it_need_not_wait() {
        let doors = Admission::new(AdmissionLimits { waiting: 0, ..limits() });
        let held = doors.buffer(anybody(), 1500).await.unwrap();
        assert!(doors.buffer(anybody(), 1500).await.is_err(), "it would have to wait");
        drop(held);
        assert!(doors.buffer(anybody(), 2048).await.is_ok());
        let _turns = (doors.enter().await.unwrap(), doors.enter().await.unwrap());
        assert_eq!(doors.enter().await.err(), Some(NotAdmitted::Overloaded));
    }

    #[tokio::test]
    async fn a_small_buffer_does_not_pass_a_large_one_that_waits() {
        let doors = admission();
        let held = doors.buffer(anybody(), 1024).await.unwrap();
        let mut large = Box::pin(doors.buffer(anybody(), 2048));
        assert!(large.as_mut().now_or_never().is_none(), "it waits");
        assert!(doors.buffer(anybody(), 1024).await.is_err(), "the queue is full");
        drop(held);
        assert!(large.await.is_ok());
    }

    #[tokio::test]
    async fn nobody_has_more_than_a_share() {
        let per_user = ClientLimits { uploads: 2, buffer_bytes: 1024 };
        let doors = Admission::new(AdmissionLimits {
            per_user,
            per_address: ClientLimits { uploads: 3, ..per_user },
            ..limits()
        });
        let (first, other) = (uploader(1, "2001:db8::1"), uploader(2, "2001:db8::2"));
        let _shares = (doors.share(first).unwrap(), doors.share(first).unwrap());
        assert_eq!(doors.share(first).err(), Some(NotAdmitted::TooMany));
        let third = doors.share(other).unwrap();
        assert_eq!(doors.share(other).err(), Some(NotAdmitted::TooMany), "one /64 is one address");
        drop(third);
        assert!(doors.share(other).is_ok());

        let _room = doors.buffer(first, 1024).await.unwrap();
        assert_eq!(doors.buffer(first, 1).await.err(), Some(NotAdmitted::TooMany));
        let elsewhere = uploader(2, "192.0.2.7");
        assert!(doors.buffer(elsewhere, 1024).await.is_ok());
    }
}
