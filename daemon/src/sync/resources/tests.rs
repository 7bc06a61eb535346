use ed25519_dalek::{Signer, SigningKey};
use kith_proto::peer::journal::member::Record;
use kith_proto::peer::journal::replica::Shelf;
use rusqlite::Connection;

use super::*;
use crate::sync::view;

const NOW: u64 = 1_800_000_000_000;

/// A device with a book in memory.
struct Here {
    _dir: tempfile::TempDir,
    db: Connection,
    identity: Arc<Identity>,
    circle: Circle,
}

impl Here {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::open(dir.path(), &dir.path().join("kith.db"), "device", false).unwrap();
        let circle = Circle { device: identity.public(), own: BTreeSet::new(), names: [].into() };
        let db = crate::store::in_memory();
        Book::new(&db, &circle).unwrap().ensure_default(NOW).unwrap();
        Self { _dir: dir, db, identity, circle }
    }

    fn key(&self) -> PublicKey {
        self.identity.public()
    }

    fn book(&self) -> Book<'_> {
        Book::new(&self.db, &self.circle).unwrap()
    }

    fn creates(&self, name: &str) -> JournalId {
        let (creator, nonce) = (self.key(), JournalId([7; 16]));
        let resource = Resource { kind: Kind::Journal, name: name.to_owned(), creator, nonce };
        self.book().create(&resource, NOW).unwrap();
        resource.id()
    }

    fn admits(&self, id: &JournalId, devices: &[PublicKey]) -> Vec<Admission> {
        let devices: Vec<_> = devices.iter().map(|device| (*device, "B's phone".to_owned())).collect();
        admit(&self.book(), &self.identity, &self.circle, id, &devices).unwrap()
    }

    fn lets_in(&self, id: &JournalId, device: &PublicKey) -> Introduction {
        match self.admits(id, &[*device]).remove(0) {
            Admission::Admitted(introduction) => introduction,
            other => panic!("{other:?}"),
        }
    }

    fn enters(&self, introduction: &Introduction, from: &PublicKey) -> Result<Entered, ApiError> {
        enter(&self.book(), introduction, from, None, NOW).unwrap()
    }

    fn standing(&self, id: &JournalId, device: &PublicKey) -> Standing {
        standing(&self.book(), &self.identity, id, device).unwrap()
    }

    fn expels(&self, id: &JournalId, devices: &[PublicKey]) {
        expel(&self.book(), &self.identity, id, devices).unwrap();
    }

    fn state(&self, id: &JournalId) -> Option<State> {
        self.book().journal(id).unwrap().map(|journal| journal.state)
    }

    fn members(&self, id: &JournalId) -> Members {
        let journal = self.book().journal(id).unwrap().unwrap();
        self.book().members(&journal).unwrap().unwrap()
    }

    /// What a session brings of `other`.
    fn hears(&self, other: &Self, id: &JournalId) {
        let told = other.members(id).introduction(&self.key()).unwrap();
        Shelf::introduce(&mut self.book(), &other.key(), &told, NOW).unwrap();
    }
}

fn key(n: u16) -> PublicKey {
    let mut seed = [9; 32];
    seed[..2].copy_from_slice(&n.to_be_bytes());
    PublicKey(SigningKey::from_bytes(&seed).verifying_key().to_bytes())
}

#[test]
fn g72_who_is_let_in_enters_at_once_with_a_few_records() {
    let (a, b) = (Here::new(), Here::new());
    let id = a.creates("notes");
    b.creates("notes");
    assert_eq!(a.standing(&id, &b.key()), Standing::Never);
    let introduction = a.lets_in(&id, &b.key());
    assert_eq!(introduction.records.len(), 1, "the creator needs no other word");
    assert!(a.admits(&id, &[b.key()]) == [Admission::Already(introduction.clone())]);
    assert_eq!(a.standing(&id, &b.key()), Standing::Member(introduction.clone()));

    assert_eq!(b.enters(&introduction, &a.key()).unwrap(), Entered { id, already: false });
    let listed = b.book().journal(&id).unwrap().unwrap();
    assert_eq!((listed.state, &*listed.name), (State::Active, &*format!("notes ({})", a.key().device_id())));
    assert_eq!(b.book().others(&listed).unwrap(), [a.key()]);
    assert!(b.enters(&introduction, &a.key()).unwrap().already, "once more changes nothing");
    assert_eq!(a.members(&id).digest(), b.members(&id).digest());
}

#[test]
fn who_may_share_but_did_not_make_it_lets_others_in_too() {
    let (mut creator, a, b) = (Here::new(), Here::new(), Here::new());
    let id = creator.creates("notes");
    creator.circle.own.insert(a.key());
    let named = creator.lets_in(&id, &a.key());
    assert!(named.records[0].admits, "one's own device");
    a.enters(&named, &creator.key()).unwrap();
    let introduction = a.lets_in(&id, &b.key());
    assert_eq!(introduction.records.len(), 2, "its own, and what names who signed it");
    b.enters(&introduction, &a.key()).unwrap();
    let c = Here::new();
    assert_eq!(b.admits(&id, &[c.key()]), [Admission::Gone], "a guest shares nothing");
    assert_eq!(b.standing(&id, &c.key()), Standing::Gone);
    assert!(c.enters(&introduction, &a.key()).is_err(), "that was for another device");
    // The creator let somebody in whom another one finds a member.
    creator.lets_in(&id, &c.key());
    a.hears(&creator, &id);
    let Admission::Already(introduction) = a.admits(&id, &[c.key()]).remove(0) else { panic!("it is one") };
    c.enters(&introduction, &a.key()).unwrap();
    a.expels(&id, &[creator.key(), a.key()]);
    assert!(a.members(&id).contains(&creator.key()) && a.members(&id).contains(&a.key()));
}

#[test]
fn who_was_put_out_is_told_so_and_may_be_let_in_again() {
    let (a, b) = (Here::new(), Here::new());
    let id = a.creates("notes");
    let first = a.lets_in(&id, &b.key());
    b.enters(&first, &a.key()).unwrap();
    a.expels(&id, &[b.key(), key(1)]);
    assert_eq!(a.standing(&id, &b.key()), Standing::Removed);
    b.hears(&a, &id);
    assert_eq!(b.state(&id), Some(State::Removed));
    assert_eq!(b.enters(&first, &a.key()).unwrap_err().code, Code::Protocol, "an older word undoes nothing");
    assert_eq!(b.state(&id), Some(State::Removed));
    let again = a.lets_in(&id, &b.key());
    assert!(!b.enters(&again, &a.key()).unwrap().already);
    assert_eq!(b.state(&id), Some(State::Active));
}

#[test]
fn what_is_offered_or_was_left_is_entered_without_another_word() {
    let (a, b) = (Here::new(), Here::new());
    let id = a.creates("notes");
    let introduction = a.lets_in(&id, &b.key());
    b.hears(&a, &id);
    assert_eq!(b.state(&id), Some(State::Offered));
    assert!(!b.enters(&introduction, &a.key()).unwrap().already);
    assert_eq!(b.state(&id), Some(State::Active));

    let listed = b.book().journal(&id).unwrap().unwrap();
    let mut members = b.members(&id);
    let leaves = members.change(&b.key(), "", false, false, &b.key()).unwrap();
    b.book().merge_members(&listed, &mut members, &[sign(&b.identity, &id, leaves)]).unwrap();
    b.book().leave(&listed).unwrap();
    let Admission::Already(unaware) = a.admits(&id, &[b.key()]).remove(0) else { panic!("it has not heard of it") };
    assert_eq!(b.enters(&unaware, &a.key()).unwrap_err().code, Code::WrongState);
    assert_eq!(b.state(&id), Some(State::Left));
    a.hears(&b, &id);
    b.enters(&a.lets_in(&id, &b.key()), &a.key()).unwrap();
    let back = b.book().journal(&id).unwrap().unwrap();
    assert_eq!((back.state, &*back.name), (State::Active, "notes"));
}

#[test]
fn what_is_not_here_or_is_everybody_s_lets_nobody_in() {
    let a = Here::new();
    let id = a.creates("notes");
    assert_eq!(a.admits(&JournalId([1; 16]), &[key(1)]), [Admission::Gone]);
    let default = kith_proto::peer::journal::member::default_journal();
    assert_eq!(a.admits(&default, &[key(1)]), [Admission::Gone]);
    let listed = a.book().journal(&id).unwrap().unwrap();
    let refused = shareable(&a.book(), &a.book().journal(&default).unwrap().unwrap(), &a.identity).unwrap();
    assert!(refused.unwrap_err().message.contains("default journal"));
    a.book().leave(&listed).unwrap();
    assert_eq!(a.admits(&id, &[key(1), key(2)]), [Admission::Gone, Admission::Gone]);
    assert_eq!(a.standing(&id, &key(1)), Standing::Gone);
    a.expels(&id, &[key(1)]);
    assert_eq!(known(Kind::Unknown).unwrap_err().code, Code::InvalidParam);
}

#[test]
fn what_makes_no_sense_is_not_entered() {
    let (a, b) = (Here::new(), Here::new());
    let id = a.creates("notes");
    let good = a.lets_in(&id, &b.key());
    let mut forged = good.clone();
    forged.records[0].count += 2;
    let mut renamed = good.clone();
    renamed.resource.name = "other".to_owned();
    let mut kind = good.clone();
    kind.resource.kind = Kind::Unknown;
    for (introduction, from) in [(&forged, a.key()), (&renamed, a.key()), (&kind, a.key()), (&good, key(1))] {
        assert!(b.enters(introduction, &from).is_err());
    }
    let path = enter(&b.book(), &good, &a.key(), Some("/srv/notes"), NOW).unwrap().unwrap_err();
    assert!(path.code == Code::InvalidParam && path.message.contains("--path"), "{}", path.message);
    assert_eq!(b.book().journal_count().unwrap(), 1, "nothing was written down");
    for n in 1..limits::JOURNALS {
        let sql =
            "INSERT INTO journal (id, name, state, resource, created_ms) VALUES (randomblob(16), ?1, 'left', '{}', 1)";
        b.db.execute(sql, [n.to_string()]).unwrap();
    }
    assert_eq!(b.enters(&good, &a.key()).unwrap_err().code, Code::TooLarge);
}

#[test]
fn g75_five_hundred_are_let_in_by_one_transaction() {
    let a = Here::new();
    let id = a.creates("notes");
    let devices: Vec<_> = (0..500).map(key).collect();
    a.db.execute_batch("BEGIN").unwrap();
    let admissions = a.admits(&id, &devices);
    a.db.execute_batch("COMMIT").unwrap();
    let rows = || a.db.query_row("SELECT count(*) FROM journal_member", [], |row| row.get::<_, u64>(0)).unwrap();
    assert_eq!(rows(), 500);
    for (device, admission) in devices.iter().zip(&admissions) {
        let Admission::Admitted(introduction) = admission else { panic!("{admission:?}") };
        let mut fresh = Members::new(introduction.resource.clone());
        assert!(fresh.merge(&introduction.records) && fresh.contains(device));
    }
    a.expels(&id, &devices);
    assert!(rows() == 500 && a.members(&id).devices() == [a.key()]);
}

#[test]
fn a_full_journal_says_so_and_lets_members_stay() {
    let a = Here::new();
    let id = a.creates("notes");
    let listed = a.book().journal(&id).unwrap().unwrap();
    fill(&a, &listed, limits::JOURNAL_MEMBERS - 1);
    let admissions = a.admits(&id, &[key(1), key(2), key(1)]);
    assert!(matches!(&admissions[..], [Admission::Admitted(_), Admission::Full, Admission::Already(_)]));
    a.expels(&id, &[key(1)]);
    assert!(matches!(a.admits(&id, &[key(1)])[..], [Admission::Admitted(_)]), "its place is its own");
}

/// So many members that nobody will ever hear of.
fn fill(a: &Here, listed: &Listed, count: usize) {
    let mut insert = a.db.prepare("INSERT INTO journal_member VALUES (?1, ?2, 1, ?3)").unwrap();
    for n in 0..count {
        let device = PublicKey(std::array::from_fn(|i| (n >> (8 * (i % 2))) as u8 ^ 0x5a));
        let record = Record {
            device,
            name: format!("phone {n}"),
            count: 1,
            admits: false,
            by: a.key(),
            signature: "x".repeat(86),
        };
        insert.execute((listed.number, device.0, crate::store::to_json(&record).unwrap())).unwrap();
    }
}

#[test]
fn thousands_of_members_are_counted_and_the_last_synced_ones_named() {
    let a = Here::new();
    let id = a.creates("notes");
    let listed = a.book().journal(&id).unwrap().unwrap();
    fill(&a, &listed, 4_000);
    let others = a.book().others(&listed).unwrap();
    for (n, device) in others.iter().take(60).enumerate() {
        let sql = "INSERT INTO journal_peer (journal, peer, last_sync_ms) VALUES (?1, ?2, ?3)";
        a.db.execute(sql, (listed.number, device.0, NOW + n as u64)).unwrap();
    }
    let (trust, this) = (
        trust::Snapshot::default(),
        kith_proto::control::types::PeerRef { id: a.key().device_id(), name: "device".to_owned() },
    );
    let few = view::journal(&mut a.book(), &trust, &this, &listed, limits::MEMBERS_SHOWN).unwrap();
    assert_eq!((few.member_count, few.known_by, few.members.len()), (4_000, 60, limits::MEMBERS_SHOWN));
    let shown: BTreeSet<_> = few.members.iter().map(|member| member.device.id).collect();
    let last: BTreeSet<_> = others[10..60].iter().map(PublicKey::device_id).collect();
    assert_eq!(shown, last);
    let all = view::journal(&mut a.book(), &trust, &this, &listed, limits::JOURNAL_MEMBERS).unwrap();
    assert_eq!((all.member_count, all.known_by, all.members.len()), (4_000, 60, 4_000));
    let states: Vec<_> = others.iter().map(|device| (*device, (false, false, false))).collect();
    assert_eq!(view::statuses(&mut a.book(), &trust, &states).unwrap().len(), 4_000);
}

#[test]
fn an_introduction_is_small_however_long_the_names_are() {
    let (mut creator, a) = (Here::new(), Here::new());
    let id = creator.creates(&"\\".repeat(limits::JOURNAL_NAME));
    creator.circle.own.insert(a.key());
    a.enters(&creator.lets_in(&id, &a.key()), &creator.key()).unwrap();
    let long = "\u{1}".repeat(2 * limits::DEVICE_NAME);
    let admissions = admit(&a.book(), &a.identity, &a.circle, &id, &[(key(1), long)]).unwrap();
    let [Admission::Admitted(introduction)] = &admissions[..] else { panic!("{admissions:?}") };
    let json = serde_json::to_vec(introduction).unwrap();
    assert!(json.len() <= 3 << 10, "{}", json.len());
}

mod property {
    use proptest::prelude::*;

    use super::*;

    /// A book needs no files here.
    fn signer(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever was said before by whomever: what lets a device in is taken by that device, and by everybody who
        /// knew what this one knew.
        #[test]
        fn whatever_lets_in_is_taken(
            by_creator in any::<bool>(),
            said in prop::collection::vec((0..4_u8, 0..4_u8, any::<bool>(), any::<bool>()), 0..12),
        ) {
            let (mut creator, a) = (Here::new(), Here::new());
            let id = creator.creates("notes");
            creator.circle.own.insert(a.key());
            a.enters(&creator.lets_in(&id, &a.key()), &creator.key()).unwrap();
            let keys: Vec<_> = (1..=4).map(|n| PublicKey(signer(n).verifying_key().to_bytes())).collect();
            for (by, whom, admits, enter) in said {
                // Devices that know all, and the creator.
                let listed = creator.book().journal(&id).unwrap().unwrap();
                let mut members = creator.members(&id);
                let (by_key, whom) = if by == 0 { (creator.key(), &keys[usize::from(whom)]) } else { (keys[usize::from(by)], &keys[usize::from(whom)]) };
                let Some(record) = members.change(whom, "d", admits, enter, &by_key) else { continue };
                let message = record.message(&id);
                let signature = match by {
                    0 => creator.identity.sign(&message),
                    by => signer(by + 1).sign(&message).to_bytes(),
                };
                creator.book().merge_members(&listed, &mut members, &[record.signed(&signature)]).unwrap();
            }
            a.hears(&creator, &id);
            let admitter = if by_creator { &creator } else { &a };
            let admissions = admitter.admits(&id, &keys);
            for (device, admission) in keys.iter().zip(admissions) {
                if admission == Admission::Gone {
                    // Whom the creator let share, and who left, only the creator lets in again.
                    let left = admitter.members(&id);
                    prop_assert!(!by_creator && !left.contains(device));
                    prop_assert!(left.records().any(|it| it.device == *device && it.by == creator.key() && it.admits));
                    continue;
                }
                let (Admission::Admitted(introduction) | Admission::Already(introduction)) = admission else {
                    return Err(TestCaseError::fail(format!("{admission:?}")));
                };
                prop_assert!(introduction.records.len() <= 3);
                let mut fresh = Members::new(introduction.resource.clone());
                fresh.merge(&introduction.records);
                prop_assert!(fresh.contains(device) && fresh.contains(&admitter.key()));
                let mut other = creator.members(&id);
                other.merge(&introduction.records);
                prop_assert!(other.contains(device));
            }
        }
    }
}
