//! How many requests with a token one user and one address may make in a minute.
//!
//! The algorithm is GCRA: the first requests pass at once, as many as a minute has, and from then on one passes as soon as its part of
//! the minute is over. Each server counts alone, or all of them count together in Redis. If Redis does not answer in time, the request
//! passes: a limit protects the service, so it must not be what stops it. A metric counts these requests.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock as _};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use redis::{
    Client, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use secrecy::ExposeSecret as _;
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};
use tracing::{info, warn};
use upload_domain::UserId;

use crate::{ApiError, Code, HttpSettings, SettingsError, Shutdown};

/// The time in which the allowed requests may be made.
const MINUTE: Duration = Duration::from_secs(60);
/// How long a request waits for Redis.
const REDIS_LIMIT: Duration = Duration::from_millis(100);

/// GCRA in one step. `KEYS[1]` is the time at which all requests so far are paid for, in microseconds by Redis's clock. `ARGV[1]` is
/// what one request costs, and `ARGV[2]` how far that time may be ahead. Returns how long to wait, or 0 for a request that passes.
const SCRIPT: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local paid = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now) + ARGV[1]
local wait = paid - now - ARGV[2]
if wait > 0 then
    return wait
end
redis.call('SET', KEYS[1], string.format('%.0f', paid), 'PX', math.ceil((paid - now) / 1000))
return 0
";

/// The limits of one server; all its workers share them.
pub(crate) struct RateLimits {
    users: Option<Limit>,
    addresses: Option<Limit>,
}

/// The limit of each user, or of each address.
struct Limit {
    /// Of the keys in Redis, and for the client: `user` or `address`.
    subject: &'static str,
    per_minute: NonZeroU32,
    counted: Counted,
}

/// Where the requests are counted.
enum Counted {
    Here(DefaultKeyedRateLimiter<String>),
    InRedis(Arc<Redis>),
}

/// The Redis that all servers share.
struct Redis {
    connection: ConnectionManager,
    script: Script,
    /// The main runtime. A connection dies with the runtime that opened it, and workers end first.
    runtime: Handle,
    /// Requests that passed because Redis did not answer.
    failures: Counter,
    /// Whether the last answer is missing, so that the log has one line when Redis goes and one when it is back.
    away: AtomicBool,
}

impl RateLimits {
    /// The limits that are set. It does not contact Redis.
    pub(crate) fn new(
        settings: &HttpSettings,
        runtime: &Handle,
        registry: &mut Registry,
    ) -> Result<Self, SettingsError> {
        let redis = match &settings.redis_url {
            Some(url) => Some(Arc::new(Redis::new(url.expose_secret(), runtime, registry)?)),
            None => None,
        };
        Ok(Self {
            users: settings.rate_limit_per_user.map(|most| Limit::new("user", most, redis.as_ref())),
            addresses: settings.rate_limit_per_address.map(|most| Limit::new("address", most, redis.as_ref())),
        })
    }

    /// Whether there is any limit.
    pub(crate) fn is_set(&self) -> bool {
        self.users.is_some() || self.addresses.is_some()
    }

    /// Counts a request of this address, or refuses it with 429 `rate_limited`.
    pub(crate) async fn count_address(&self, address: IpAddr) -> Result<(), ApiError> {
        match &self.addresses {
            Some(limit) => limit.count(network(address).to_string()).await,
            None => Ok(()),
        }
    }

    /// Counts a request of this user, or refuses it with 429 `rate_limited`.
    pub(crate) async fn count_user(&self, user: UserId) -> Result<(), ApiError> {
        match &self.users {
            Some(limit) => limit.count(user.to_string()).await,
            None => Ok(()),
        }
    }

    /// Forgets every minute who has made no request for so long that it no longer counts. Ends when the server stops.
    pub(crate) async fn forget(&self, shutdown: &Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.begun() => return,
                () = sleep(MINUTE) => {}
            }
            for limit in [&self.users, &self.addresses].into_iter().flatten() {
                if let Counted::Here(limiter) = &limit.counted {
                    limiter.retain_recent();
                }
            }
        }
    }
}

impl Limit {
    fn new(subject: &'static str, per_minute: NonZeroU32, redis: Option<&Arc<Redis>>) -> Self {
        let counted = match redis {
            Some(redis) => Counted::InRedis(Arc::clone(redis)),
            None => Counted::Here(RateLimiter::keyed(Quota::per_minute(per_minute))),
        };
        Self { subject, per_minute, counted }
    }

    async fn count(&self, key: String) -> Result<(), ApiError> {
        let wait = match &self.counted {
            Counted::Here(limiter) => match limiter.check_key(&key) {
                Ok(()) => Duration::ZERO,
                Err(until) => until.wait_time_from(limiter.clock().now()).max(Duration::from_millis(1)),
            },
            Counted::InRedis(redis) => redis.wait(format!("rate:{}:{key}", self.subject), self.per_minute).await,
        };
        if wait.is_zero() {
            return Ok(());
        }
        let detail =
            format!("This {} has made too many requests; at most {} pass in a minute.", self.subject, self.per_minute);
        Err(ApiError::new(Code::RateLimited, detail).retry_after(wait))
    }
}

impl Redis {
    fn new(url: &str, runtime: &Handle, registry: &mut Registry) -> Result<Self, SettingsError> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(REDIS_LIMIT))
            .set_response_timeout(Some(REDIS_LIMIT))
            .set_number_of_retries(0);
        // The cause may repeat the URL, which may have a password.
        let connection = Client::open(url)
            .and_then(|client| ConnectionManager::new_lazy_with_config(client, config))
            .map_err(|_cause| {
            let sentence = "REDIS_URL cannot be used: it must be a URL such as redis://user:password@host:6379/0";
            SettingsError(sentence.to_owned())
        })?;
        let failures = Counter::default();
        registry.register(
            "rate_limit_failures",
            "Requests that passed because Redis did not answer in time",
            failures.clone(),
        );
        let (script, runtime, away) = (Script::new(SCRIPT), runtime.clone(), AtomicBool::new(false));
        Ok(Self { connection, script, runtime, failures, away })
    }

    /// How long the next request of `key` must wait: zero if it passes, and if Redis does not answer.
    async fn wait(self: &Arc<Self>, key: String, per_minute: NonZeroU32) -> Duration {
        let redis = Arc::clone(self);
        let asked = self.runtime.spawn(async move {
            let minute = u64::try_from(MINUTE.as_micros()).unwrap_or(u64::MAX);
            let mut script = redis.script.prepare_invoke();
            script.key(key).arg(minute / u64::from(per_minute.get())).arg(minute);
            script.invoke_async::<u64>(&mut redis.connection.clone()).await
        });
        let failure = match timeout(REDIS_LIMIT, asked).await {
            Ok(Ok(Ok(microseconds))) => {
                if self.away.swap(false, Ordering::Relaxed) {
                    info!("Redis answers again: rate limits count");
                }
                return Duration::from_micros(microseconds);
            }
            // Only the kind: a message may repeat an address or a name.
            Ok(Ok(Err(error))) => error.category().to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(elapsed) => elapsed.to_string(),
        };
        self.failures.inc();
        if !self.away.swap(true, Ordering::Relaxed) {
            warn!(cause = failure, "Redis does not answer: requests pass without rate limits");
        }
        Duration::ZERO
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_one_ipv6_network_count_as_one() {
        let network_of = |text: &str| text.parse().map(network).map(|network| network.to_string());
        assert_eq!(network_of("2001:db8::1:2:3:4"), Ok("2001:db8::".to_owned()));
        assert_eq!(network_of("192.0.2.1"), Ok("192.0.2.1".to_owned()));
    }
}
