//! R6: which deletions may be forgotten.

use kith_proto::limits;
use kith_proto::peer::journal::replica::Replica;

use super::tests::*;
use super::*;

/// A year later: whatever was deleted at [`NOW`] is old.
const LATER: u64 = NOW + 366 * DAY;

/// Entries that were deleted, a day after the other; the seqs of the deletions are 4, 5 and 6.
fn deletions() -> Connection {
    let db = database();
    for id in ["a", "b", "c"] {
        write(&db, id, b"", NOW);
    }
    for (id, day) in [("a", 0), ("b", 1), ("c", 2)] {
        delete(&db, id, NOW + day * DAY);
    }
    db
}

fn heard(db: &Connection, peer: u8, acknowledged: u64, at_ms: u64) {
    in_default(db, |it| {
        it.set_acknowledged(&key(peer), acknowledged).unwrap();
        it.synced(&key(peer), at_ms).unwrap();
    });
}

/// Collects, and says which deletions are left.
fn collect(db: &Connection, members: &[u8], now_ms: u64) -> Vec<String> {
    let members: Vec<PublicKey> = members.iter().map(|member| key(*member)).collect();
    let left = in_default(db, |it| {
        let before = it.horizon().unwrap();
        let collected = it.collect(&members, now_ms).unwrap();
        assert_eq!(it.horizon().unwrap(), collected.unwrap_or(before));
        it.by_seq(0, true, 99, 1 << 20).unwrap().versions.into_iter().map(|held| held.version.id).collect()
    });
    whole(db);
    left
}

#[test]
fn old_deletions_that_all_know_are_forgotten() {
    let db = deletions();
    heard(&db, 2, 6, LATER);
    heard(&db, 3, 6, LATER);
    assert_eq!(collect(&db, &[2, 3], LATER), [""; 0]);
    assert_eq!(in_default(&db, |it| it.horizon().unwrap().ms()), NOW + 2 * DAY);
    assert_eq!(in_default(&db, |it| it.collect(&[key(2), key(3)], LATER).unwrap()), None);
}

#[test]
fn a_device_alone_waits_for_nobody_but_time() {
    let db = deletions();
    assert_eq!(collect(&db, &[], NOW + limits::TOMBSTONE_MS), ["a", "b", "c"]);
    assert_eq!(collect(&db, &[], NOW + limits::TOMBSTONE_MS + 1), ["b", "c"]);
    assert_eq!(collect(&db, &[], LATER), [""; 0]);
}

#[test]
fn what_one_member_did_not_acknowledge_stays() {
    let db = deletions();
    heard(&db, 2, 6, LATER);
    heard(&db, 3, 4, LATER);
    assert_eq!(collect(&db, &[2, 3], LATER), ["b", "c"]);
    assert_eq!(collect(&db, &[2], LATER), [""; 0], "it is no member any more");
}

// A deletion with an earlier stamp came later: what lies above it stays, too.
#[test]
fn nothing_is_forgotten_above_what_must_stay() {
    let db = deletions();
    let version = theirs("d", Stamp::at(NOW - DAY), b"");
    take(&db, &version, b"");
    let deletion = kith_proto::peer::journal::version::Version {
        stamp: Stamp::at(NOW - DAY + 1),
        context: version.succeeded(),
        deleted: true,
        hash: kith_proto::peer::journal::version::content_hash(true, "", b""),
        ..version
    };
    take(&db, &deletion, b"");
    heard(&db, 2, 6, LATER);
    assert_eq!(collect(&db, &[2], LATER), ["a", "b", "c", "d"]);
    heard(&db, 2, 8, LATER);
    assert_eq!(collect(&db, &[2], LATER), [""; 0]);
}

// G67
#[test]
fn g67_a_member_that_is_silent_for_too_long_is_not_waited_for() {
    let db = deletions();
    heard(&db, 2, 6, LATER);
    heard(&db, 3, 4, LATER);
    let silent = LATER + limits::MEMBER_SILENT_MS;
    assert_eq!(collect(&db, &[2, 3], LATER), ["b", "c"]);
    assert_eq!(collect(&db, &[2, 3], silent - 1), ["b", "c"]);
    heard(&db, 2, 6, silent);
    assert_eq!(collect(&db, &[2, 3], silent), [""; 0]);
}

#[test]
fn a_member_that_never_synced_counts_from_when_it_was_known() {
    let db = deletions();
    heard(&db, 2, 6, LATER);
    assert_eq!(collect(&db, &[2, 3], LATER), ["a", "b", "c"]);
    assert_eq!(collect(&db, &[2, 3], LATER + limits::MEMBER_SILENT_MS - 1), ["a", "b", "c"]);
    // Who left and comes back is waited for anew.
    assert_eq!(collect(&db, &[3, 4], LATER + limits::MEMBER_SILENT_MS - 1), ["a", "b", "c"]);
    assert_eq!(collect(&db, &[4], LATER + limits::MEMBER_SILENT_MS - 1), ["a", "b", "c"]);
    assert_eq!(collect(&db, &[3], LATER + limits::MEMBER_SILENT_MS), ["a", "b", "c"]);
    assert_eq!(collect(&db, &[3], LATER + 2 * limits::MEMBER_SILENT_MS), [""; 0]);
}

// G50: a clock that goes back makes nobody silent.
#[test]
fn g50_a_clock_that_goes_back_forgets_nothing() {
    let db = deletions();
    heard(&db, 2, 4, LATER);
    assert_eq!(collect(&db, &[2], 0), ["a", "b", "c"]);
    assert_eq!(collect(&db, &[2], LATER), ["b", "c"]);
}
