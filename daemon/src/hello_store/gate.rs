//! How much one source may ask of a hello store: a pure limiter that reads no clock.
//!
//! Names are 256 bits, so nobody finds one by trying; the limits keep one source from filling the store, from wearing
//! it out, and from trying all the same.

use std::collections::{BTreeSet, HashMap};

use kith_proto::limits;

use super::Source;

/// How long requests are counted together.
const HOUR_MS: u64 = 3_600_000;

/// How much is allowed.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// New blobs an hour.
    pub puts: u32,
    /// Lookups an hour.
    pub gets: u32,
    /// Lookups an hour that find nothing: with the last of them, the source has to rest.
    pub misses: u32,
    /// How long, in seconds.
    pub rest_seconds: u64,
    /// Sources that are remembered.
    pub sources: usize,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            puts: limits::HELLO_PUTS_PER_HOUR,
            gets: limits::HELLO_GETS_PER_HOUR,
            misses: limits::HELLO_MISSES,
            rest_seconds: limits::HELLO_REST_SECONDS,
            sources: limits::HELLO_SOURCES,
        }
    }
}

/// Who asked how much. Refusals are the seconds after which to ask again.
///
/// When there are more sources than can be remembered, one whose rest is over is forgotten, then the one with the oldest
/// hour; one that has to rest only when all do, and then the one whose rest ends first. To cut its rest short, a source would have to send all the
/// others there are room for into a rest of their own first. To have its hour forgotten, it has to ask from as many
/// other sources, each of which may ask as much as it may: there is nothing to gain.
pub struct Gate {
    rates: Rates,
    sources: HashMap<Source, Hour>,
    /// Who is forgotten first.
    order: BTreeSet<(bool, u64, Source)>,
}

#[derive(Clone, Copy)]
struct Hour {
    began_ms: u64,
    puts: u32,
    gets: u32,
    misses: u32,
    rests_until_ms: Option<u64>,
}

impl Hour {
    fn begin(now_ms: u64) -> Self {
        Self { began_ms: now_ms, puts: 0, gets: 0, misses: 0, rests_until_ms: None }
    }

    fn key(&self, source: Source) -> (bool, u64, Source) {
        (self.rests_until_ms.is_some(), self.rests_until_ms.unwrap_or(self.began_ms), source)
    }
}

impl Gate {
    /// Nobody asked yet.
    pub fn new(rates: Rates) -> Self {
        Self { rates, sources: HashMap::new(), order: BTreeSet::new() }
    }

    /// Somebody wants to put something new there.
    pub fn put(&mut self, source: Source, now_ms: u64) -> Result<(), u32> {
        let most = self.rates.puts;
        self.ask(source, now_ms, most, |hour| &mut hour.puts)
    }

    /// Somebody wants to look something up.
    pub fn get(&mut self, source: Source, now_ms: u64) -> Result<(), u32> {
        let most = self.rates.gets;
        self.ask(source, now_ms, most, |hour| &mut hour.gets)
    }

    /// What it looked for was not there.
    pub fn missed(&mut self, source: Source, now_ms: u64) {
        let Rates { misses, rest_seconds, .. } = self.rates;
        self.with(source, now_ms, |hour| {
            hour.misses += 1;
            if hour.misses >= misses {
                hour.rests_until_ms = Some(now_ms + rest_seconds * 1000);
            }
        });
    }

    fn ask(
        &mut self,
        source: Source,
        now_ms: u64,
        most: u32,
        count: impl Fn(&mut Hour) -> &mut u32,
    ) -> Result<(), u32> {
        self.with(source, now_ms, |hour| {
            let over_ms = hour.began_ms + HOUR_MS;
            let rests_until_ms = hour.rests_until_ms;
            let asked = count(hour);
            if rests_until_ms.is_none() && *asked < most {
                *asked += 1;
                return Ok(());
            }
            let until_ms = rests_until_ms.unwrap_or(over_ms);
            Err(u32::try_from(until_ms.saturating_sub(now_ms).div_ceil(1000)).unwrap_or(u32::MAX).max(1))
        })
    }

    /// What is known of a source, brought up to date.
    fn with<T>(&mut self, source: Source, now_ms: u64, work: impl FnOnce(&mut Hour) -> T) -> T {
        let known = self.sources.get(&source).copied();
        if let Some(known) = known {
            self.order.remove(&known.key(source));
        } else if self.sources.len() >= self.rates.sources
            && let Some(oldest) = self.forgotten_first(now_ms)
        {
            self.order.remove(&oldest);
            self.sources.remove(&oldest.2);
        }
        // A clock that was set back begins a new hour, too, and ends a rest that would be longer than any.
        let longest_ms = self.rates.rest_seconds * 1000;
        let over = |hour: &Hour| match hour.rests_until_ms {
            Some(until_ms) => !(now_ms + 1..=now_ms + longest_ms).contains(&until_ms),
            None => !(hour.began_ms..hour.began_ms + HOUR_MS).contains(&now_ms),
        };
        let mut hour = known.filter(|hour| !over(hour)).unwrap_or_else(|| Hour::begin(now_ms));
        let result = work(&mut hour);
        self.order.insert(hour.key(source));
        self.sources.insert(source, hour);
        result
    }

    /// Whose place a newcomer gets. Those that rested stand behind all others in the order, though nothing is left of it.
    fn forgotten_first(&self, now_ms: u64) -> Option<(bool, u64, Source)> {
        let rests = (true, 0, Source::OWN)..=(true, now_ms, Source([u8::MAX; 8]));
        self.order.range(rests).next().or_else(|| self.order.first()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: u32) -> Source {
        Source::of(std::net::Ipv4Addr::from(n).into())
    }

    fn gate(sources: usize) -> Gate {
        Gate::new(Rates { sources, ..Rates::default() })
    }

    #[test]
    fn an_hour_has_so_many_requests_of_each_kind() {
        let mut gate = gate(10);
        let (start, one) = (1_000_000, source(1));
        for n in 0..limits::HELLO_PUTS_PER_HOUR {
            assert_eq!(gate.put(one, start + u64::from(n)), Ok(()));
        }
        assert_eq!(gate.put(one, start + 1_000), Err(3_599));
        assert_eq!(gate.put(source(2), start), Ok(()), "nobody else is concerned");
        for _ in 0..limits::HELLO_GETS_PER_HOUR {
            assert_eq!(gate.get(one, start), Ok(()), "the kinds are counted apart");
        }
        assert_eq!(gate.get(one, start + HOUR_MS - 1), Err(1));
        assert_eq!(gate.get(one, start + HOUR_MS), Ok(()));
        assert_eq!(gate.put(one, start + HOUR_MS), Ok(()));
        assert_eq!(gate.put(one, 5), Ok(()), "a clock that was set back shuts nobody out");
    }

    #[test]
    fn whoever_finds_nothing_has_to_rest() {
        let (mut gate, one) = (gate(10), source(1));
        let rest_ms = limits::HELLO_REST_SECONDS * 1000;
        for n in 1..=limits::HELLO_MISSES {
            assert_eq!(gate.get(one, 0), Ok(()), "miss {n}");
            gate.missed(one, 0);
        }
        assert_eq!(gate.get(one, 500), Err(600));
        assert_eq!(gate.put(one, rest_ms - 1), Err(1));
        assert_eq!(gate.get(source(2), 500), Ok(()));
        assert_eq!(gate.get(one, rest_ms), Ok(()), "and begins anew after it");
    }

    #[test]
    fn nobody_escapes_a_rest_by_asking_from_elsewhere() {
        let mut gate = gate(8);
        for _ in 0..limits::HELLO_MISSES {
            gate.missed(source(1), 0);
        }
        for n in 2..1_000 {
            assert_eq!(gate.get(source(n), u64::from(n)), Ok(()));
            assert!(gate.sources.len() <= 8 && gate.order.len() == gate.sources.len());
        }
        assert!(gate.get(source(1), 2_000).is_err());
        // All of them rest: the one whose rest ends first makes way, so that a newcomer is served at all.
        for n in 2..9 {
            for _ in 0..limits::HELLO_MISSES {
                gate.missed(source(n), 3_000);
            }
        }
        assert_eq!(gate.get(source(77), 4_000), Ok(()));
        assert!(gate.get(source(8), 4_000).is_err());
        assert_eq!(gate.sources.len(), 8);
    }

    #[test]
    fn a_rest_that_is_over_keeps_nobody_s_place() {
        let (mut gate, rest_ms) = (gate(8), limits::HELLO_REST_SECONDS * 1000);
        for n in 1..8 {
            for _ in 0..limits::HELLO_MISSES {
                gate.missed(source(n), 0);
            }
        }
        // Two sources by turns, with one place beside those that rested: both are counted.
        let mut refused = 0;
        for _ in 0..=limits::HELLO_PUTS_PER_HOUR {
            for n in [20, 21] {
                refused += u32::from(gate.put(source(n), rest_ms).is_err());
            }
        }
        assert_eq!((refused, gate.sources.len()), (2, 8));
    }

    #[test]
    fn g50_a_clock_that_was_set_back_makes_no_rest_longer() {
        let (mut gate, year_ms) = (gate(8), 365 * 86_400_000);
        for _ in 0..limits::HELLO_MISSES {
            gate.missed(source(1), year_ms);
        }
        assert_eq!(gate.get(source(1), year_ms), Err(600));
        assert_eq!(gate.get(source(1), 5), Ok(()));
    }
}
