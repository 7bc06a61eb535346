//! The hello store on Redis or Valkey: any number of front ends on one memory.
//!
//! ```text
//! kith:hello:LOOKUP           a record: state, time, owner, source, blob
//! kith:hello-source:SOURCE    a sorted set: the live names of one source by the time at which they go
//! ```
//!
//! Nothing touches two keys at once: names are random, so a cluster's slots share them evenly. A record is made by
//! `SET NX` and changed by a script that compares it with what was read before, so what is decided here is decided on
//! what is there.
//!
//! A record stays for a day behind its time, so that whoever comes too late hears why; then the server drops it. Its
//! blob stays as long: a second key for that day would take more memory than the blob does. Times are those of whoever
//! asks; the server's clock only frees memory, and has to be right within minutes.
//!
//! What bounds the bytes is `maxmemory`, and a server that would evict for it is refused. What bounds the blobs is the
//! number of keys, records of the day before and sets of sources among them.

use std::time::Duration;

use kith_proto::guest::hello::{Lookup, OwnerHash, OwnerToken};
use kith_proto::limits;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::{Client, Cmd, FromRedisValue, IntoConnectionInfo, RedisError};

use super::{Answer, Bounds, Deposit, Deposited, Error, Fill, Found, HelloStore, Source};

/// How long the server may take to be connected to, and to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long nobody may answer on a connection that was good, until it counts as broken.
const SILENCE: Duration = Duration::from_secs(10);
/// How often a record may change between the look at it and the change of it.
const ATTEMPTS: usize = 16;
/// What the server says when `maxmemory` is reached.
const OOM: &str = "OOM";

/// Puts ARGV[2] in place of ARGV[1], until ARGV[3]; ARGV[4]: it is no larger, so do it also when memory is short.
const REPLACE: &str = "\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[4] == '1' then redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3])
return 1";

/// Counts the name ARGV[2] until ARGV[3], if it is not one too many. ARGV[1] is now, ARGV[4] the bound.
const COUNT: &str = "\
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
if not redis.call('ZSCORE', KEYS[1], ARGV[2]) and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[4]) then return 0 end
redis.call('ZADD', KEYS[1], 'GT', ARGV[3], ARGV[2])
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
redis.call('PEXPIREAT', KEYS[1], last[2])
return 1";

/// A hello store on Redis or Valkey.
pub struct Redis {
    connection: ConnectionManager,
    bounds: Bounds,
}

impl Redis {
    /// Connects to `redis://[:PASSWORD@]HOST[:PORT][/DB]`, or with TLS to `rediss://…`.
    pub async fn open(url: &str, bounds: Bounds) -> Result<Self, Error> {
        let tcp = TcpSettings::default().set_nodelay(true);
        let tcp = tcp.set_keepalive(socket2::TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE));
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(SILENCE);
        // The error would say what is wrong with the address, and the address holds a password.
        let info = url.into_connection_info().map_err(|_| Error::Address)?.set_tcp_settings(tcp);
        let client = Client::open(info).map_err(|_| Error::Address)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE))
            .set_number_of_retries(0);
        let connection = ConnectionManager::new_with_config(client, config).await.map_err(unreachable)?;
        let this = Self { connection, bounds };
        this.never_evicts().await?;
        Ok(this)
    }

    async fn never_evicts(&self) -> Result<(), Error> {
        match self.memory("maxmemory_policy").await?.as_deref() {
            Some("noeviction") => Ok(()),
            Some(policy) => Err(Error::Evicts { policy: policy.to_owned() }),
            None => {
                tracing::warn!(
                    "the Redis server does not say whether it evicts: its maxmemory-policy must be noeviction"
                );
                Ok(())
            }
        }
    }

    /// A line of `INFO memory`; `None` where that is forbidden.
    async fn memory(&self, name: &str) -> Result<Option<String>, Error> {
        let text: String = match self.try_ask(redis::cmd("INFO").arg("memory")).await {
            Ok(text) => text,
            Err(error) if error.code() == Some("NOPERM") => return Ok(None),
            Err(error) => return Err(unreachable(error)),
        };
        Ok(text.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':')).map(str::to_owned))
    }

    async fn try_ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        command.query_async(&mut self.connection.clone()).await
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        self.try_ask(command).await.map_err(unreachable)
    }

    /// The same for what takes memory; `None` if there is none.
    async fn ask_for_room<T: FromRedisValue>(&self, command: &Cmd) -> Result<Option<T>, Error> {
        match self.try_ask(command).await {
            Ok(answer) => Ok(Some(answer)),
            // Within a script older servers say it in the text.
            Err(error) if error.code() == Some(OOM) || error.detail().is_some_and(|text| text.contains(OOM)) => {
                Ok(None)
            }
            Err(error) => Err(unreachable(error)),
        }
    }

    async fn read(&self, lookup: Lookup) -> Result<Option<(Vec<u8>, Record)>, Error> {
        let bytes: Option<Vec<u8>> = self.ask(redis::cmd("GET").arg(key(lookup))).await?;
        let Some(bytes) = bytes else { return Ok(None) };
        let record = Record::decode(&bytes).ok_or(Error::Foreign)?;
        Ok(Some((bytes, record)))
    }

    /// Counts a name as its source's. `Some(false)`: it is one too many; `None`: there is no memory.
    async fn count(&self, source: Source, lookup: Lookup, expires_ms: u64, now_ms: u64) -> Result<Option<bool>, Error> {
        if source == Source::OWN {
            return Ok(Some(true));
        }
        let mut command = redis::cmd("EVAL");
        command.arg(COUNT).arg(1).arg(source_key(source)).arg(now_ms);
        command.arg(&lookup.0).arg(expires_ms).arg(self.bounds.per_source);
        self.ask_for_room(&command).await
    }

    async fn uncount(&self, source: Source, lookup: Lookup) -> Result<(), Error> {
        if source == Source::OWN {
            return Ok(());
        }
        self.ask(redis::cmd("ZREM").arg(source_key(source)).arg(&lookup.0)).await
    }

    /// Whether the record is in its place now. `Some(false)`: something else is; `None`: there is no memory.
    async fn place(&self, lookup: Lookup, old: Option<&[u8]>, new: &Record) -> Result<Option<bool>, Error> {
        let Some(old) = old else {
            let mut command = redis::cmd("SET");
            command.arg(key(lookup)).arg(new.encode()).arg("NX").arg("PXAT").arg(new.gone_ms());
            let set: Option<Option<String>> = self.ask_for_room(&command).await?;
            return Ok(set.map(|it| it.is_some()));
        };
        let mut command = redis::cmd("EVAL");
        let bytes = new.encode();
        command.arg(REPLACE).arg(1).arg(key(lookup)).arg(old).arg(&bytes).arg(new.gone_ms());
        command.arg(u8::from(bytes.len() <= old.len()));
        self.ask_for_room(&command).await
    }

    async fn keep(&self, deposit: Deposit, now_ms: u64) -> Result<Deposited, Error> {
        let lookup = deposit.lookup;
        let new = Record {
            withdrawn: false,
            over_ms: deposit.expires_ms,
            owner: deposit.owner,
            source: deposit.source,
            blob: deposit.blob,
        };
        let mut counted = false;
        for _ in 0..ATTEMPTS {
            let found = self.read(lookup).await?;
            let verdict = judge(found.as_ref().map(|(_, record)| record), &new, now_ms);
            let old = found.as_ref().map(|(bytes, _)| bytes.as_slice());
            match verdict {
                Verdict::Vacant if !counted => {
                    if self.ask::<u64>(&redis::cmd("DBSIZE")).await? >= self.bounds.blobs {
                        return Ok(Deposited::Full);
                    }
                    match self.count(new.source, lookup, new.over_ms, now_ms).await? {
                        Some(true) => counted = true,
                        Some(false) => return Ok(Deposited::SourceFull),
                        None => return Ok(Deposited::Full),
                    }
                }
                Verdict::Vacant => {}
                Verdict::Longer(record) => {
                    if self.place(lookup, old, &record).await? == Some(false) {
                        continue;
                    }
                    // It was not one too many before, so it may stay.
                    self.count(record.source, lookup, record.over_ms, now_ms).await?;
                    return Ok(Deposited::Same);
                }
                Verdict::Same | Verdict::Other => {
                    // Somebody else was faster; if it was the same source, the count is theirs.
                    if counted && found.is_none_or(|(_, record)| record.source != new.source) {
                        self.uncount(new.source, lookup).await?;
                    }
                    return Ok(if matches!(verdict, Verdict::Same) { Deposited::Same } else { Deposited::Other });
                }
            }
            match self.place(lookup, old, &new).await? {
                Some(true) => return Ok(Deposited::Created),
                Some(false) => {}
                None => {
                    self.uncount(new.source, lookup).await?;
                    return Ok(Deposited::Full);
                }
            }
        }
        Err(Error::Contended)
    }

    async fn take_away(&self, lookup: Lookup, token: &OwnerToken, now_ms: u64) -> Result<bool, Error> {
        for _ in 0..ATTEMPTS {
            let Some((old, record)) = self.read(lookup).await? else { return Ok(false) };
            if record.standing(now_ms) != Standing::Live || record.owner != token.hash() {
                return Ok(false);
            }
            let source = record.source;
            let gone = Record { withdrawn: true, over_ms: now_ms, blob: Vec::new(), ..record };
            match self.place(lookup, Some(&old), &gone).await? {
                Some(true) => {
                    self.uncount(source, lookup).await?;
                    return Ok(true);
                }
                Some(false) => {}
                None => return Err(Error::Unreachable(OOM.to_owned())),
            }
        }
        Err(Error::Contended)
    }
}

impl HelloStore for Redis {
    fn put(&self, deposit: Deposit, now_ms: u64) -> Answer<'_, Deposited> {
        Box::pin(self.keep(deposit, now_ms))
    }

    fn get(&self, lookup: Lookup, now_ms: u64) -> Answer<'_, Found> {
        Box::pin(async move {
            let Some((_, record)) = self.read(lookup).await? else { return Ok(Found::Nothing) };
            Ok(match record.standing(now_ms) {
                Standing::Live => Found::Blob { blob: record.blob, expires_ms: record.over_ms },
                Standing::Expired => Found::Expired,
                Standing::Withdrawn => Found::Withdrawn,
                Standing::Gone => Found::Nothing,
            })
        })
    }

    fn withdraw<'a>(&'a self, lookup: Lookup, token: &'a OwnerToken, now_ms: u64) -> Answer<'a, bool> {
        Box::pin(self.take_away(lookup, token, now_ms))
    }

    /// The server does that by itself.
    fn sweep(&self, _now_ms: u64, _limit: usize) -> Answer<'_, bool> {
        Box::pin(std::future::ready(Ok(false)))
    }

    /// The keys of the server, and the memory that it uses.
    fn fill(&self, _now_ms: u64) -> Answer<'_, Fill> {
        Box::pin(async move {
            let blobs = self.ask(&redis::cmd("DBSIZE")).await?;
            let bytes = self.memory("used_memory").await?.and_then(|text| text.parse().ok()).unwrap_or_default();
            Ok(Fill { blobs, bytes })
        })
    }
}

fn unreachable(error: RedisError) -> Error {
    Error::Unreachable(error.to_string())
}

fn key(lookup: Lookup) -> String {
    format!("kith:hello:{}", lookup.to_text())
}

fn source_key(source: Source) -> String {
    format!("kith:hello-source:{}", data_encoding::HEXLOWER.encode(source.as_bytes()))
}

/// What lies under a name.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    withdrawn: bool,
    /// When it expires, or was withdrawn.
    over_ms: u64,
    owner: OwnerHash,
    source: Source,
    blob: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Live,
    Expired,
    Withdrawn,
    /// Nobody is told of it any more.
    Gone,
}

impl Record {
    /// `state 1 | time 8 | owner 32 | source 8 | blob`.
    fn encode(&self) -> Vec<u8> {
        let state = if self.withdrawn { WITHDRAWN } else { KEPT };
        [&[state], &self.over_ms.to_be_bytes()[..], &self.owner.0, self.source.as_bytes(), &self.blob].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let ([state], rest) = bytes.split_first_chunk()?;
        let (over, rest) = rest.split_first_chunk()?;
        let (owner, rest) = rest.split_first_chunk()?;
        let (source, blob) = rest.split_first_chunk()?;
        Some(Self {
            withdrawn: match *state {
                KEPT => false,
                WITHDRAWN => true,
                _ => return None,
            },
            over_ms: u64::from_be_bytes(*over),
            owner: OwnerHash(*owner),
            source: Source(*source),
            blob: blob.to_vec(),
        })
    }

    fn standing(&self, now_ms: u64) -> Standing {
        match now_ms {
            now if now >= self.gone_ms() => Standing::Gone,
            _ if self.withdrawn => Standing::Withdrawn,
            now if now >= self.over_ms => Standing::Expired,
            _ => Standing::Live,
        }
    }

    fn gone_ms(&self) -> u64 {
        self.over_ms.saturating_add(limits::HELLO_TOMBSTONE_MS)
    }
}

const KEPT: u8 = 1;
const WITHDRAWN: u8 = 2;

/// What becomes of a deposit, as far as its name decides.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Whatever is there may be replaced.
    Vacant,
    Same,
    /// The same, and to stay until a later time.
    Longer(Record),
    Other,
}

fn judge(found: Option<&Record>, new: &Record, now_ms: u64) -> Verdict {
    let Some(old) = found else { return Verdict::Vacant };
    match old.standing(now_ms) {
        Standing::Gone => Verdict::Vacant,
        Standing::Expired if old.owner == new.owner => Verdict::Vacant,
        Standing::Live if old.blob != new.blob => Verdict::Other,
        Standing::Live if old.owner == new.owner && new.over_ms > old.over_ms => {
            Verdict::Longer(Record { source: old.source, blob: old.blob.clone(), ..*new })
        }
        Standing::Live => Verdict::Same,
        Standing::Expired | Standing::Withdrawn => Verdict::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(blob: &[u8]) -> Record {
        let (owner, source) = (OwnerHash([7; 32]), Source([9; 8]));
        Record { withdrawn: false, over_ms: 1_800_000_000_123, owner, source, blob: blob.to_vec() }
    }

    #[test]
    fn a_record_is_read_back_and_nothing_else_is() {
        for blob in [&b""[..], b"x", &[0xff; 4096]] {
            for withdrawn in [false, true] {
                let record = Record { withdrawn, ..record(blob) };
                assert_eq!(Record::decode(&record.encode()), Some(record));
            }
        }
        let bytes = record(b"").encode();
        assert_eq!(Record::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Record::decode(b""), None);
        assert_eq!(Record::decode(&[&[3], &bytes[1..]].concat()), None);
    }

    #[test]
    fn a_record_stands_by_its_time() {
        let (record, day) = (record(b"x"), 86_400_000);
        let over = record.over_ms;
        for (now, standing) in [
            (over - 1, Standing::Live),
            (over, Standing::Expired),
            (over + day - 1, Standing::Expired),
            (over + day, Standing::Gone),
        ] {
            assert_eq!(record.standing(now), standing);
        }
        let withdrawn = Record { withdrawn: true, ..record };
        assert_eq!(withdrawn.standing(over + day - 1), Standing::Withdrawn);
        assert_eq!(withdrawn.standing(over + day), Standing::Gone);
    }
}
