use ed25519_dalek::{Signer, SigningKey};
use kith_proto::limits;
use kith_proto::peer::journal::member::{Introduction, Kind, Members, Record, Resource, default_journal};
use kith_proto::peer::journal::replica::{Replica, Shelf};
use kith_proto::peer::journal::version::JournalId;
use kith_proto::peer::reconcile::Element;

use super::tests::*;
use super::*;

/// Devices that can sign: 1 is this one, 2 is one's own, 3 is somebody else's.
fn signer(device: u8) -> SigningKey {
    SigningKey::from_bytes(&[device; 32])
}

fn device(device: u8) -> PublicKey {
    PublicKey(signer(device).verifying_key().to_bytes())
}

fn us() -> Circle {
    let names = BTreeMap::from([(device(2), "nas".to_owned()), (device(3), "Ana's phone".to_owned())]);
    Circle { device: device(1), own: BTreeSet::from([device(2)]), names }
}

/// A journal as its creator has it.
struct Theirs {
    members: Members,
    creator: u8,
}

impl Theirs {
    fn new(creator: u8, name: &str) -> Self {
        let resource = Resource {
            kind: Kind::Journal,
            name: name.to_owned(),
            creator: device(creator),
            nonce: JournalId([creator; 16]),
        };
        Self { members: Members::new(resource), creator }
    }

    fn signed(&self, record: Record, by: u8) -> Record {
        let signature = signer(by).sign(&record.message(&self.members.journal())).to_bytes();
        record.signed(&signature)
    }

    fn change(&mut self, whom: u8, enter: bool) {
        let record = self.members.change(&device(whom), "", false, enter, &device(self.creator)).unwrap();
        let record = self.signed(record, self.creator);
        assert!(self.members.merge(&[record]));
    }

    fn with(mut self, members: &[u8]) -> Self {
        members.iter().for_each(|member| self.change(*member, true));
        self
    }

    fn introduction(&self) -> Introduction {
        Introduction { resource: self.members.resource().clone(), records: self.members.records().cloned().collect() }
    }

    fn told(&self, db: &Connection, by: u8) -> Option<Listed> {
        let us = us();
        let mut book = Book::new(db, &us).unwrap();
        book.introduce(&device(by), &self.introduction(), NOW).unwrap();
        book.journal(&self.members.journal()).unwrap()
    }
}

fn state(listed: Option<Listed>) -> Option<State> {
    listed.map(|listed| listed.state)
}

fn fresh() -> Connection {
    let connection = crate::store::in_memory();
    Book::new(&connection, &us()).unwrap().ensure_default(NOW).unwrap();
    connection
}

#[test]
fn a_journal_comes_here_if_both_take_part() {
    let db = fresh();
    assert_eq!(state(Theirs::new(2, "notes").told(&db, 2)), None, "this device is not among them");
    assert_eq!(state(Theirs::new(2, "notes").with(&[1]).told(&db, 3)), None, "who tells is not among them");
    let listed = Theirs::new(2, "notes").with(&[1]).told(&db, 2).unwrap();
    assert_eq!((listed.name.as_str(), listed.state, listed.created_ms), ("notes", State::Active, NOW));
    assert_eq!(state(Theirs::new(3, "Ana's").with(&[1]).told(&db, 3)), Some(State::Offered));

    let us = us();
    let mut book = Book::new(&db, &us).unwrap();
    assert_eq!(book.others(&listed).unwrap(), [device(2)]);
    let manifest = |book: &mut Book<'_>, peer| -> Vec<JournalId> {
        book.manifest(&device(peer)).unwrap().into_iter().map(|manifest| manifest.journal).collect()
    };
    let mut shared = vec![default_journal(), listed.id];
    shared.sort();
    assert_eq!(manifest(&mut book, 2), shared);
    assert_eq!(manifest(&mut book, 3), [], "what is offered is not synced, and default is for one's own");
    let digest = book.manifest(&device(2)).unwrap().into_iter().find(|it| it.journal == listed.id).unwrap().members;
    assert_eq!(digest, Theirs::new(2, "notes").with(&[1]).members.digest());
    assert_eq!(book.introduction(&device(2), &listed.id).unwrap().unwrap().records.len(), 1);
    assert_eq!(book.introduction(&device(3), &listed.id).unwrap(), None);
    assert_eq!(book.introduction(&device(2), &default_journal()).unwrap(), None);
}

#[test]
fn what_cannot_be_verified_changes_nothing() {
    let db = fresh();
    let good = Theirs::new(2, "notes").with(&[1]);
    let mut forged = good.introduction();
    forged.records[0].name = "other".to_owned();
    let mut renamed = good.introduction();
    renamed.resource.name = "other".to_owned();
    let us = us();
    let mut book = Book::new(&db, &us).unwrap();
    for introduction in [forged, renamed] {
        book.introduce(&device(2), &introduction, NOW).unwrap();
        assert_eq!(book.journal_count().unwrap(), 1);
    }
    for name in [String::new(), "a\nb".to_owned(), "x".repeat(limits::JOURNAL_NAME + 1)] {
        assert!(Theirs::new(2, &name).with(&[1]).told(&db, 2).is_none());
    }
    assert!(Theirs::new(2, &"x".repeat(limits::JOURNAL_NAME)).with(&[1]).told(&db, 2).is_some());
}

#[test]
fn there_are_only_so_many_journals() {
    let db = fresh();
    for n in 1..limits::JOURNALS {
        db.execute(
            "INSERT INTO journal (id, name, state, resource, created_ms) VALUES (randomblob(16), ?1, 'left', '{}', 1)",
            [n.to_string()],
        )
        .unwrap();
    }
    assert!(Theirs::new(2, "notes").with(&[1]).told(&db, 2).is_none());
    db.execute("DELETE FROM journal WHERE name = '7'", []).unwrap();
    assert!(Theirs::new(2, "notes").with(&[1]).told(&db, 2).is_some());
}

#[test]
fn a_removed_device_keeps_what_it_has_until_it_is_admitted_anew() {
    let db = fresh();
    let mut theirs = Theirs::new(2, "notes").with(&[1]);
    let before = theirs.introduction();
    let id = theirs.told(&db, 2).unwrap().id;
    let us = us();
    let mut book = Book::new(&db, &us).unwrap();
    let version = tests::theirs("a", Stamp::at(NOW), b"");
    book.replica(&id).unwrap().put(&version, b"", &epoch(2)).unwrap();

    theirs.change(1, false);
    let removed = theirs.told(&db, 2).unwrap();
    assert_eq!((removed.state, removed.entries()), (State::Removed, 1));
    assert_eq!(book.manifest(&device(2)).unwrap().len(), 1, "the default journal");
    book.introduce(&device(2), &before, NOW).unwrap();
    assert_eq!(state(book.journal(&id).unwrap()), Some(State::Removed), "an older word undoes nothing");
    theirs.change(1, true);
    assert_eq!(state(theirs.told(&db, 2)), Some(State::Active));
    // Somebody else's: it is offered again, and nothing more.
    let mut others = Theirs::new(3, "Ana's").with(&[1]);
    others.told(&db, 3);
    others.change(1, false);
    assert_eq!(state(others.told(&db, 3)), Some(State::Removed));
    others.change(1, true);
    assert_eq!(state(others.told(&db, 3)), Some(State::Offered));
}

#[test]
fn a_journal_that_was_left_stays_left_until_this_device_is_admitted_anew() {
    let db = fresh();
    let mut theirs = Theirs::new(2, "notes").with(&[1]);
    let listed = theirs.told(&db, 2).unwrap();
    let us = us();
    let mut book = Book::new(&db, &us).unwrap();
    let version = tests::theirs("a", Stamp::at(NOW), b"");
    book.replica(&listed.id).unwrap().put(&version, b"", &epoch(2)).unwrap();

    let mut members = book.members(&listed).unwrap().unwrap();
    let leaves = members.change(&device(1), "", false, false, &device(1)).unwrap();
    assert!(book.merge_members(&listed, &mut members, &[theirs.signed(leaves, 1)]).unwrap());
    book.leave(&listed).unwrap();
    let left = book.journal(&listed.id).unwrap().unwrap();
    assert_eq!((left.state, left.state.shown(), left.total.count), (State::Left, None, 0));
    assert!(book.find("notes").unwrap().is_none() && book.find(&listed.id.to_string()).unwrap().is_none());
    assert!(!book.is_taken("notes").unwrap());

    assert_eq!(state(theirs.told(&db, 2)), Some(State::Left), "no word of it brings it back");
    let told = book.introduction(&device(2), &listed.id).unwrap().unwrap();
    theirs.members.merge(&told.records);
    assert!(!theirs.members.contains(&device(1)), "the others learn that it left");
    theirs.change(1, true);
    let back = theirs.told(&db, 2).unwrap();
    assert_eq!((back.name.as_str(), back.state, back.total.count), ("notes", State::Active, 0));
    let mut replica = book.replica(&listed.id).unwrap();
    assert_eq!(replica.current("a").unwrap(), None, "what was here is not here again");
    replica.put(&version, b"", &epoch(2)).unwrap();
    drop(replica);
    let rows = || db.query_row("SELECT count(*) FROM journal_entry", [], |row| row.get::<_, u64>(0)).unwrap();
    assert_eq!(rows(), 2);
    while book.sweep_rubbish(1).unwrap() {}
    assert_eq!(rows(), 1);
    let verified = book.replica(&listed.id).unwrap().verify(&Element::FIRST).unwrap();
    assert_eq!((verified.faults, verified.entries), (Vec::new(), 1));
}

#[test]
fn names_are_unique_here() {
    let db = fresh();
    let named = |creator, name: &str, nonce, by| {
        let mut theirs = Theirs::new(creator, name);
        let resource = Resource { nonce: JournalId([nonce; 16]), ..theirs.members.resource().clone() };
        theirs.members = Members::new(resource);
        theirs.with(&[1, by]).told(&db, by).unwrap().name
    };
    assert_eq!(named(2, "notes", 1, 3), "notes");
    assert_eq!(named(3, "notes", 2, 2), "notes (Ana's phone)");
    assert_eq!(named(3, "notes", 3, 2), "notes (Ana's phone 2)");
    assert_eq!(named(3, "notes", 4, 2), "notes (Ana's phone 3)");
    assert_eq!(named(4, "notes", 5, 2), "notes (nas)", "its creator has no name here");
    assert_eq!(named(4, "default", 6, 2), "default (nas)");
    let id = default_journal().to_string();
    assert_eq!(named(4, &id, 7, 2), format!("{id} (nas)"), "a name that looks like an id");
    let long = "ü".repeat(limits::JOURNAL_NAME / 2);
    assert_eq!(named(2, &long, 8, 3), long);
    let cut = named(2, &long, 9, 3);
    assert!(cut.ends_with("ü (nas)") && cut.len() <= limits::JOURNAL_NAME, "{cut}");
}
