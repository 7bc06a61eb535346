//! The event ring: facts for whoever wants to know. Publishing never blocks and asks nobody; a slow reader loses facts
//! and is told how many.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use kith_proto::control::event::{Event, Fact};
use kith_proto::limits;
use tokio::sync::watch;

use crate::clock;

/// The ring. Cloned freely; all clones speak of the same one.
#[derive(Clone)]
pub struct Events {
    ring: Arc<Mutex<Ring>>,
    head: watch::Sender<u64>,
}

struct Ring {
    /// The newest fact's sequence number; 0 before the first.
    last: u64,
    facts: VecDeque<Arc<Event>>,
}

/// What a reader finds next.
#[derive(Debug)]
pub enum Read {
    /// A fact.
    Fact(Arc<Event>),
    /// So many facts are gone.
    Missed(u64),
}

/// A place in the ring.
pub struct Reader {
    ring: Arc<Mutex<Ring>>,
    head: watch::Receiver<u64>,
    /// The sequence number that was read last.
    at: u64,
}

impl Default for Events {
    fn default() -> Self {
        let ring = Ring { last: 0, facts: VecDeque::with_capacity(limits::EVENT_RING) };
        Self { ring: Arc::new(Mutex::new(ring)), head: watch::Sender::new(0) }
    }
}

impl Events {
    /// Adds a fact.
    pub fn publish(&self, fact: &Fact) {
        let data = fact.data();
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.last += 1;
        if ring.facts.len() == limits::EVENT_RING {
            ring.facts.pop_front();
        }
        let seq = ring.last;
        let time = clock::rfc3339(clock::now_ms());
        ring.facts.push_back(Arc::new(Event { seq, time, kind: fact.kind().to_owned(), data }));
        drop(ring);
        self.head.send_replace(seq);
    }

    /// The newest fact's sequence number.
    pub fn cursor(&self) -> u64 {
        *self.head.borrow()
    }

    /// A reader that goes on behind `since`.
    pub fn reader(&self, since: u64) -> Reader {
        Reader { ring: self.ring.clone(), head: self.head.subscribe(), at: since }
    }
}

impl Reader {
    /// The next fact, as soon as there is one.
    pub async fn next(&mut self) -> Read {
        loop {
            if let Some(read) = self.take() {
                return read;
            }
            if self.head.changed().await.is_err() {
                // The ring is gone with the daemon: there will be no more facts.
                std::future::pending::<()>().await;
            }
        }
    }

    fn take(&mut self) -> Option<Read> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if self.at >= ring.last {
            // Also a cursor from the future, which can only be of another boot.
            self.at = ring.last;
            return None;
        }
        let oldest = ring.last - ring.facts.len() as u64 + 1;
        if self.at + 1 < oldest {
            let missed = oldest - 1 - self.at;
            self.at = oldest - 1;
            return Some(Read::Missed(missed));
        }
        let fact = ring.facts.get(usize::try_from(self.at + 1 - oldest).ok()?)?.clone();
        self.at = fact.seq;
        Some(Read::Fact(fact))
    }
}

#[cfg(test)]
mod tests {
    use kith_proto::control::types::{Pairing, PairingState};

    use super::*;

    fn fact() -> Fact {
        Fact::PairingUpdated(Pairing {
            pairing: "p".to_owned(),
            state: PairingState::Waiting,
            attempts_left: None,
            peer: None,
            same_name: None,
            reason: None,
        })
    }

    #[tokio::test]
    async fn facts_arrive_in_order_and_from_a_cursor() {
        let events = Events::default();
        for _ in 0..3 {
            events.publish(&fact());
        }
        let mut reader = events.reader(1);
        for seq in [2, 3] {
            assert!(matches!(reader.next().await, Read::Fact(event) if event.seq == seq));
        }
        events.publish(&fact());
        assert!(matches!(reader.next().await, Read::Fact(event) if event.seq == 4));
    }

    #[tokio::test]
    async fn f44_a_reader_that_fell_behind_is_told_how_far() {
        let events = Events::default();
        let mut reader = events.reader(0);
        let published = limits::EVENT_RING as u64 + 10;
        for _ in 0..published {
            events.publish(&fact());
        }
        assert!(matches!(reader.next().await, Read::Missed(10)));
        assert!(matches!(reader.next().await, Read::Fact(event) if event.seq == 11));
    }
}
