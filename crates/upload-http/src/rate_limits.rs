//! How many requests with a token one user and one address may make in a minute.
//!
//! The algorithm is GCRA: the first requests pass at once, as many as a minute has, and from then on one passes as soon as its part of
//! the minute is over. Each server counts alone, or all of them count together in Redis. If Redis does not answer in time, the request
//! passes: a limit protects the service, so it must not be what stops it. A metric counts these requests. From then on one request a
//! second asks, and the others pass at once. A connection that gives no answer is replaced: nothing else ends one whose other side is gone.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock as _};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use redis::{
    Client, IntoConnectionInfo as _, RedisError, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
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
/// How long Redis may be silent until its connection is replaced, and how long nobody asks while it is away. A new connection takes
/// several round trips until its first answer, so this is longer than a request waits.
const SILENCE: Duration = Duration::from_secs(1);
/// How long a connection may be idle until TCP asks whether the other side is there.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// GCRA of all limits of a request in one step. A key of `KEYS` is the time at which all its requests so far are paid for, in microseconds
/// by Redis's clock. `ARGV` has what one request of each key costs, and then how far these times may be ahead. Returns which key refuses the
/// request, from 1, and how long to wait; 0 and 0 for a request that passes. The keys after one that refuses do not count the request.
const SCRIPT: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
for place, key in ipairs(KEYS) do
    local paid = math.max(tonumber(redis.call('GET', key) or 0), now) + ARGV[place]
    local wait = paid - now - ARGV[#KEYS + 1]
    if wait > 0 then
        return {place, wait}
    end
    redis.call('SET', key, string.format('%.0f', paid), 'PX', math.ceil((paid - now) / 1000))
end
return {0, 0}
";

/// The limits of one server; all its workers share them.
pub(crate) struct RateLimits {
    users: Option<Limit>,
    addresses: Option<Limit>,
    /// Where all servers count together.
    redis: Option<Arc<Redis>>,
}

/// The limit of each user, or of each address.
struct Limit {
    /// Of the keys in Redis, and for the client: `user` or `address`.
    subject: &'static str,
    per_minute: NonZeroU32,
    /// Where this server counts alone.
    here: DefaultKeyedRateLimiter<String>,
}

/// The Redis that all servers share.
struct Redis {
    client: Client,
    script: Script,
    /// The main runtime. A connection dies with the runtime that opened it, and workers end first.
    runtime: Handle,
    /// Requests that passed because Redis did not answer.
    failures: Counter,
    line: Mutex<Line>,
}

/// The connection to Redis, and whether it answers.
struct Line {
    connection: ConnectionManager,
    /// How often the connection has been replaced.
    number: u64,
    /// When Redis was last asked without an answer in time; `None` while it answers.
    asked_at: Option<Instant>,
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
            users: settings.rate_limit_per_user.map(|most| Limit::new("user", most)),
            addresses: settings.rate_limit_per_address.map(|most| Limit::new("address", most)),
            redis,
        })
    }

    /// Whether there is any limit.
    pub(crate) fn is_set(&self) -> bool {
        self.users.is_some() || self.addresses.is_some()
    }

    /// Counts a request of this address and user, or refuses it with 429 `rate_limited`. What the address has too many of does not count for
    /// the user.
    pub(crate) async fn count(&self, address: Option<IpAddr>, user: Option<UserId>) -> Result<(), ApiError> {
        let address = self.addresses.as_ref().zip(address.map(|address| network(address).to_string()));
        let user = self.users.as_ref().zip(user.map(|user| user.to_string()));
        let counted: Vec<(&Limit, String)> = address.into_iter().chain(user).collect();
        if counted.is_empty() {
            return Ok(());
        }
        let refused = match &self.redis {
            Some(redis) => redis.refused(&counted).await,
            None => counted.iter().find_map(|(limit, key)| Some((*limit, limit.wait_here(key)?))),
        };
        refused.map_or(Ok(()), |(limit, wait)| Err(limit.refusal(wait)))
    }

    /// Forgets every minute who has made no request for so long that it no longer counts. Ends when the server stops.
    pub(crate) async fn forget(&self, shutdown: &Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.begun() => return,
                () = sleep(MINUTE) => {}
            }
            for limit in [&self.users, &self.addresses].into_iter().flatten() {
                limit.here.retain_recent();
            }
        }
    }
}

impl Limit {
    fn new(subject: &'static str, per_minute: NonZeroU32) -> Self {
        Self { subject, per_minute, here: RateLimiter::keyed(Quota::per_minute(per_minute)) }
    }

    /// Counts a request in this server alone, or says how long it must wait.
    fn wait_here(&self, key: &String) -> Option<Duration> {
        let until = self.here.check_key(key).err()?;
        Some(until.wait_time_from(self.here.clock().now()).max(Duration::from_millis(1)))
    }

    /// What one request costs, in microseconds.
    fn cost(&self) -> u64 {
        microseconds(MINUTE) / u64::from(self.per_minute.get())
    }

    fn refusal(&self, wait: Duration) -> ApiError {
        let detail =
            format!("This {} has made too many requests; at most {} pass in a minute.", self.subject, self.per_minute);
        ApiError::new(Code::RateLimited, detail).retry_after(wait)
    }
}

impl Redis {
    fn new(url: &str, runtime: &Handle, registry: &mut Registry) -> Result<Self, SettingsError> {
        // The cause may repeat the URL, which may have a password.
        let opened = url.into_connection_info().and_then(|info| {
            let client = Client::open(info.set_tcp_settings(tcp_settings()))?;
            let connection = connect(&client)?;
            Ok((client, connection))
        });
        let (client, connection) = opened.map_err(|_cause| {
            let sentence = "REDIS_URL cannot be used: it must be a URL such as redis://user:password@host:6379/0";
            SettingsError(sentence.to_owned())
        })?;
        let failures = Counter::default();
        registry.register(
            "rate_limit_failures",
            "Requests that passed because Redis did not answer in time",
            failures.clone(),
        );
        let line = Mutex::new(Line { connection, number: 0, asked_at: None });
        Ok(Self { client, script: Script::new(SCRIPT), runtime: runtime.clone(), failures, line })
    }

    /// Which of these limits refuses the request, and how long it must wait. `None` if it passes, and if Redis does not answer.
    async fn refused<'a>(self: &Arc<Self>, counted: &[(&'a Limit, String)]) -> Option<(&'a Limit, Duration)> {
        let Some((number, connection)) = self.connection() else {
            self.failures.inc();
            return None;
        };
        let name = |(limit, key): &(&Limit, String)| (format!("rate:{}:{key}", limit.subject), limit.cost());
        let named: Vec<(String, u64)> = counted.iter().map(name).collect();
        let (redis, mut connection) = (Arc::clone(self), connection);
        let asked = self.runtime.spawn(async move {
            let mut script = redis.script.prepare_invoke();
            for (key, cost) in &named {
                script.key(key).arg(*cost);
            }
            script.arg(microseconds(MINUTE));
            let answer = timeout(SILENCE, script.invoke_async::<(usize, u64)>(&mut connection)).await;
            // This goes on after the request has passed: a late answer shows that the connection is still good.
            let failure = match answer {
                Ok(Ok(answer)) => return Ok(answer),
                // Only the kind: a message may repeat an address or a name.
                Ok(Err(error)) => error.category().to_owned(),
                Err(elapsed) => elapsed.to_string(),
            };
            redis.replace(number);
            Err(failure)
        });
        let failure = match timeout(REDIS_LIMIT, asked).await {
            Ok(Ok(Ok((place, wait)))) => {
                if self.line().asked_at.take().is_some() {
                    info!("Redis answers again: rate limits count");
                }
                // The place of the key that refuses, from 1.
                let (limit, _key) = counted.get(place.checked_sub(1)?)?;
                return Some((*limit, Duration::from_micros(wait)));
            }
            Ok(Ok(Err(failure))) => failure,
            Ok(Err(error)) => error.to_string(),
            Err(elapsed) => elapsed.to_string(),
        };
        self.failures.inc();
        if self.line().asked_at.replace(Instant::now()).is_none() {
            warn!(cause = failure, "Redis does not answer: requests pass without rate limits");
        }
        None
    }

    /// The connection and its number, for one request. `None` if Redis is away and was asked less than a second ago.
    fn connection(&self) -> Option<(u64, ConnectionManager)> {
        let mut line = self.line();
        if let Some(asked_at) = line.asked_at {
            if asked_at.elapsed() < SILENCE {
                return None;
            }
            line.asked_at = Some(Instant::now());
        }
        Some((line.number, line.connection.clone()))
    }

    /// Replaces the connection with this number, unless another request has already done it. Call it on the main runtime.
    fn replace(&self, number: u64) {
        let mut line = self.line();
        if line.number != number {
            return;
        }
        match connect(&self.client) {
            Ok(connection) => {
                line.connection = connection;
                line.number += 1;
            }
            Err(error) => warn!(cause = error.category(), "cannot replace the connection to Redis"),
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that opens with its first request, on the runtime of the caller.
fn connect(client: &Client) -> Result<ConnectionManager, RedisError> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(SILENCE))
        .set_response_timeout(Some(SILENCE))
        .set_number_of_retries(0);
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

/// With these the kernel ends a connection whose other side is gone, also one that nobody uses.
fn tcp_settings() -> TcpSettings {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(SILENCE);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(SILENCE);
    settings
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
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
