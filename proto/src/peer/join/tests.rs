//! Codes, exhaustively, and proofs that hold in one session only.

use proptest::prelude::*;

use super::*;
use crate::id::PublicKey;
use crate::peer::journal::member::{Kind, Resource};
use crate::peer::journal::version::JournalId;

/// A payload like any other.
pub fn payload() -> Payload {
    Payload {
        v: payload::VERSION,
        min_version: 1,
        issuer: PublicKey([3; 32]),
        name: "nas".to_owned(),
        resource: Resource {
            kind: Kind::Journal,
            name: "notes".to_owned(),
            creator: PublicKey([3; 32]),
            nonce: JournalId([4; 16]),
        },
        label: "Our notes".to_owned(),
        permission: Permission::ReadWrite,
        approval: Approval::Auto,
        addresses: vec!["192.168.1.7:44001".parse().unwrap()],
        stores: Vec::new(),
        grants: serde_json::Map::new(),
    }
}

fn written(code: &SharingCode) -> Vec<char> {
    code.to_text().expose().chars().filter(|c| *c != '-').collect()
}

fn parses(symbols: &[char]) -> bool {
    SharingCode::parse(&symbols.iter().collect::<String>()).is_ok()
}

#[test]
fn the_code_of_the_design_is_read() {
    let text = "23A0-AJAR-58JG-K4EJ-190Y-XXVW-B80D";
    let code = SharingCode::parse(text).unwrap();
    assert_eq!(code.to_text().expose(), text);
    assert_eq!(format!("{code:?}"), "SharingCode(…)");
    for other in [
        "23a0ajar58jgk4ej190yxxvwb80d",
        " 23AO-AJAR-58JG-K4EJ-I9OY-XXVW-B8OD ",
        "kith:join/23A0-AJAR-58JG-K4EJ-L90Y-XXVW-B80D",
        "KITH:JOIN/23A0 AJAR 58JG K4EJ 190Y XXVW B80D",
    ] {
        assert_eq!(SharingCode::parse(other).unwrap().to_text().expose(), text, "{other}");
    }
}

#[test]
fn typing_errors_are_told_apart() {
    for (text, error) in [
        ("", CodeError::Length(0)),
        ("23A0-AJAR", CodeError::Length(8)),
        ("23A0-AJAR-58JG-K4EJ-190Y-XXVW-B80D-0", CodeError::Length(29)),
        ("23A0-AJAR-58JG-K4EJ-190Y-XXVW-B80U", CodeError::Symbol(28)),
        ("23A0-ÄJAR-58JG-K4EJ-190Y-XXVW-B80D", CodeError::Symbol(5)),
        ("23A0-AJAR-58JG-K4EJ-190Y-XXVW-B80E", CodeError::Check),
    ] {
        assert_eq!(SharingCode::parse(text).err(), Some(error), "{text}");
    }
}

#[test]
fn every_wrong_symbol_and_every_swap_is_caught() {
    let symbols: Vec<char> = "0123456789ABCDEFGHJKMNPQRSTVWXYZ".chars().collect();
    for round in 0..64_u8 {
        let mut random = [0; 16];
        random
            .iter_mut()
            .enumerate()
            .for_each(|(at, byte)| *byte = round.wrapping_mul(59).wrapping_add((at as u8).wrapping_mul(101)));
        let right = written(&SharingCode::from_random(random));
        assert!(parses(&right));
        for at in 0..right.len() {
            for other in symbols.iter().filter(|other| **other != right[at]) {
                let mut wrong = right.clone();
                wrong[at] = *other;
                assert!(!parses(&wrong), "{right:?}: {other} at {at}");
            }
            for with in (0..at).filter(|with| right[*with] != right[at]) {
                let mut wrong = right.clone();
                wrong.swap(at, with);
                assert!(!parses(&wrong), "{right:?}: {at} and {with} swapped");
            }
        }
    }
}

#[test]
fn no_pair_of_places_and_symbols_escapes_the_check() {
    // What a swap changes depends on the two symbols and places alone, as long as both carry data: no code escapes.
    let power = |n: usize| (0..n).fold(1_u32, |power, _| power * 32 % 1021);
    for at in 0..26 {
        for with in 0..at {
            for difference in 1..32_u32 {
                let changed = difference * (power(25 - with) + 1021 - power(25 - at)) % 1021;
                assert_ne!(changed, 0, "places {at} and {with}, {difference} apart");
            }
        }
    }
}

#[test]
fn newer_codes_are_told() {
    let mut symbols = written(&SharingCode::from_random([0; 16]));
    // The version is in the two highest bits of the first symbol.
    symbols[0] = '8';
    let mut found = Vec::new();
    for a in "0123456789ABCDEFGHJKMNPQRSTVWXYZ".chars() {
        for b in "0123456789ABCDEFGHJKMNPQRSTVWXYZ".chars() {
            (symbols[26], symbols[27]) = (a, b);
            found.extend(SharingCode::parse(&symbols.iter().collect::<String>()).err());
        }
    }
    assert_eq!(found.iter().filter(|error| **error == CodeError::Version).count(), 1);
}

#[test]
fn a_proof_holds_in_one_session_only() {
    let (issuer, joiner, other) = (PublicKey([1; 32]), PublicKey([2; 32]), PublicKey([9; 32]));
    let key = SharingCode::from_random([5; 16]).keys().proof;
    let resource = JournalId([6; 16]);
    let join = Join::new(&key, resource, &issuer, &joiner, &[7; 32], "laptop".to_owned(), 44_000);
    let read = Join::decode(&join.encode()).unwrap();
    assert!(read.is_proven(&issuer, &joiner, &[7; 32]));
    assert!(!read.is_proven(&issuer, &joiner, &[8; 32]), "another session");
    assert!(!read.is_proven(&issuer, &other, &[7; 32]), "another joiner");
    assert!(!read.is_proven(&other, &joiner, &[7; 32]), "another issuer");
    let elsewhere = Join { resource: JournalId([0; 16]), ..read.clone() };
    assert!(!elsewhere.is_proven(&issuer, &joiner, &[7; 32]), "another resource");
    let guessed = Join { proof: crate::peer::wire::Base64([0; 32]), ..read };
    assert!(!guessed.is_proven(&issuer, &joiner, &[7; 32]), "another code, and a key of small order");
    assert!(join.encode().len() < crate::limits::FRAME_UNAUTHENTICATED);
}

#[test]
fn newer_joins_are_told_from_rubbish() {
    assert_eq!(Join::version(br#"{"type":"join","v":2,"codes":[]}"#), Some(2));
    for rubbish in ["", "{}", r#"{"type":"result","v":1}"#, r#"{"type":"join"}"#, "GET / HTTP/1.1"] {
        assert_eq!(Join::version(rubbish.as_bytes()), None, "{rubbish}");
        assert!(Join::decode(rubbish.as_bytes()).is_none());
        assert!(JoinResult::decode(rubbish.as_bytes()).is_none());
    }
    for reason in Reason::ALL {
        let result = JoinResult::from(reason);
        assert_eq!(JoinResult::decode(&result.encode()), Some(result));
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
    }
}

proptest! {
    #[test]
    fn every_code_comes_back(random: [u8; 16]) {
        let code = SharingCode::from_random(random);
        let read = SharingCode::parse(code.to_text().expose()).unwrap();
        prop_assert_eq!(read.keys().lookup, code.keys().lookup);
        prop_assert_eq!(read.keys().proof.public(), code.keys().proof.public());
        let uri = code.to_uri();
        prop_assert_eq!(SharingCode::parse(uri.expose()).unwrap().keys().lookup, code.keys().lookup);
    }

    #[test]
    fn any_text_is_a_code_or_an_error(text in ".{0,40}", symbols in "[0-9A-Za-z -]{26,40}") {
        let _ = (SharingCode::parse(&text), SharingCode::parse(&symbols));
        let _ = (payload::parse(&text), payload::parse(&symbols));
    }

    #[test]
    fn any_blob_is_a_payload_or_an_error(blob in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(Payload::open(&blob, &SharingCode::from_random([1; 16]).keys()).is_err());
    }
}
