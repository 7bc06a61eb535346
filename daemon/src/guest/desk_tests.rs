use super::*;

const ANNA: [u8; 4] = [10, 0, 0, 1];
const MALLORY: [u8; 4] = [10, 0, 0, 66];

fn at(address: [u8; 4]) -> Visitor {
    Visitor { address: address.into(), certificate: None }
}

fn with(address: [u8; 4], certificate: &[u8]) -> Visitor {
    Visitor { certificate: Some(CertificateHash::of(certificate)), ..at(address) }
}

fn desk() -> Desk {
    Desk::new(Pin::parse("123456").unwrap(), limits::PIN_ATTEMPTS)
}

/// A desk that serves Anna, who may upload the files `1` and `2` of ten bytes each.
fn serving(version: Version, visitor: Visitor) -> Desk {
    let mut desk = desk();
    desk.reserve("S").unwrap();
    desk.admit("S", version, visitor, Instant::now()).unwrap();
    offer(&mut desk, version, visitor, "n1").unwrap();
    desk
}

fn request(nonce: &str) -> Prepare {
    Prepare { session: "S".into(), title: String::new(), files: Vec::new(), nonce: Some(nonce.into()) }
}

fn offer(desk: &mut Desk, version: Version, visitor: Visitor, nonce: &str) -> Result<(), Refusal> {
    desk.begin_prepare(version, visitor, &request(nonce), Instant::now())?;
    let item = |transmission: &str, state| Item {
        transmission: transmission.into(),
        name: WirePath::parse("a").unwrap(),
        size: 10,
        sha256: None,
        state,
    };
    let files = [
        ("1".to_owned(), item("T1", ItemState::Waiting)),
        ("2".to_owned(), item("T2", ItemState::Waiting)),
        ("3".to_owned(), item("T3", ItemState::Refused)),
    ];
    assert!(desk.end_prepare("S", Some(Offer { transfer: "x".into(), files: files.into() }), Instant::now()));
    Ok(())
}

fn upload(file: &str, transmission: &str) -> Upload {
    Upload { session: "S".into(), file: file.into(), transmission: transmission.into(), nonce: None }
}

#[test]
fn d31_three_wrong_pins_whoever_types_them() {
    let mut desk = desk();
    assert_eq!(desk.try_pin("123456"), Ok(()));
    for guess in ["000000", "", "1234567"] {
        assert_eq!(desk.try_pin(guess), Err(Refusal::WrongPin));
    }
    for guess in ["000000", "123456"] {
        assert_eq!(desk.try_pin(guess), Err(Refusal::TooMany), "the right one is no use any more");
    }
    desk.set_attempts(1);
    assert_eq!(desk.try_pin("123456"), Ok(()));
    desk.shut();
    assert_eq!(desk.try_pin("123456"), Err(Refusal::WrongPin));
}

#[test]
fn one_is_served_at_a_time() {
    let mut desk = desk();
    desk.reserve("first").unwrap();
    assert_eq!(desk.reserve("second"), Err(Refusal::Busy));
    desk.release("another");
    assert_eq!(desk.reserve("second"), Err(Refusal::Busy), "somebody else's place");
    desk.release("first");
    desk.reserve("second").unwrap();
    assert!(desk.admit("first", Version::V1, at(ANNA), Instant::now()).is_err(), "too late");
    assert!(!desk.serves(Version::V1, at(ANNA)));
    desk.admit("second", Version::V1, at(ANNA), Instant::now()).unwrap();
    assert!(desk.serves(Version::V1, at(ANNA)) && !desk.serves(Version::V1, at(MALLORY)));
    assert_eq!(desk.reserve("third"), Err(Refusal::Busy));
    desk.release("second");
    assert!(desk.is_taken(), "a place that was taken is not given up by a late guard");
}

#[test]
fn e36_a_session_is_its_owners() {
    let now = Instant::now();
    let mut desk = serving(Version::V1, at(ANNA));
    for (version, visitor) in [(Version::V1, at(MALLORY)), (Version::V2, at(ANNA))] {
        let begun = desk.begin_upload(version, visitor, &upload("1", "T1"), None, now);
        assert_eq!(begun.unwrap_err(), Refusal::NoSession);
        assert_eq!(desk.close(version, visitor, "S", now).err(), Some(Refusal::NoSession), "e39");
        assert_eq!(desk.begin_prepare(version, visitor, &request("n9"), now).err(), Some(Refusal::NoSession));
    }
    let mut desk = serving(Version::V2, with(ANNA, b"a"));
    for visitor in [at(ANNA), with(ANNA, b"b")] {
        let begun = desk.begin_upload(Version::V2, visitor, &upload("1", "T1"), None, now);
        assert_eq!(begun.unwrap_err(), Refusal::WrongCertificate);
    }
    // A phone that changed its network is still the same phone.
    assert!(desk.begin_upload(Version::V2, with(MALLORY, b"a"), &upload("1", "T1"), None, now).is_ok());
}

#[test]
fn e36_what_may_be_uploaded() {
    let now = Instant::now();
    let mut desk = serving(Version::V1, at(ANNA));
    let mut begin = |file: &str, transmission: &str, length| {
        desk.begin_upload(Version::V1, at(ANNA), &upload(file, transmission), length, now)
    };
    assert_eq!(begin("9", "T1", None).unwrap_err(), Refusal::NoTransmission);
    assert_eq!(begin("1", "T2", None).unwrap_err(), Refusal::NoTransmission, "another file's");
    assert_eq!(begin("3", "T3", None).unwrap_err(), Refusal::Type);
    assert_eq!(begin("1", "T1", Some(11)).unwrap_err(), Refusal::TooLarge);
    let slip = begin("1", "T1", Some(10)).unwrap();
    assert_eq!(begin("1", "T1", None).unwrap_err(), Refusal::Completed, "it is arriving");
    assert!(desk.end_upload(&slip, false, now).is_none());
    let slip = desk.begin_upload(Version::V1, at(ANNA), &upload("1", "T1"), None, now).unwrap();
    assert!(desk.end_upload(&slip, true, now).is_none(), "there is one more");
    let again = desk.begin_upload(Version::V1, at(ANNA), &upload("1", "T1"), None, now);
    assert_eq!(again.unwrap_err(), Refusal::Completed);
}

#[test]
fn a_session_ends_by_itself_and_is_remembered() {
    let now = Instant::now();
    let mut desk = serving(Version::V1, at(ANNA));
    for (file, transmission) in [("1", "T1"), ("2", "T2")] {
        let slip = desk.begin_upload(Version::V1, at(ANNA), &upload(file, transmission), None, now).unwrap();
        let ended = desk.end_upload(&slip, true, now);
        assert_eq!(ended.is_some(), file == "2");
        assert_eq!(slip.over.is_cancelled(), file == "2");
    }
    assert!(!desk.is_taken() && desk.expects_goodbye(now, IDLE));
    let mut late = |file: &str, transmission: &str, visitor| {
        desk.begin_upload(Version::V1, visitor, &upload(file, transmission), None, now).unwrap_err()
    };
    assert_eq!(late("1", "T1", at(ANNA)), Refusal::Completed);
    assert_eq!(late("1", "T9", at(ANNA)), Refusal::NoSession);
    assert_eq!(late("1", "T1", at(MALLORY)), Refusal::NoSession);
    assert!(desk.close(Version::V1, at(ANNA), "S", now).unwrap().is_none());
    assert!(!desk.expects_goodbye(now, IDLE));
    assert_eq!(desk.close(Version::V1, at(ANNA), "S", now).err(), Some(Refusal::Closed));
    assert_eq!(desk.close(Version::V1, at(ANNA), "unknown", now).err(), Some(Refusal::NoSession));
    assert!(desk.reserve("T").is_ok(), "the next one is served");
}

#[test]
fn nonces_are_good_for_once_and_offers_are_replaced() {
    let now = Instant::now();
    let mut desk = serving(Version::V1, at(ANNA));
    assert_eq!(offer(&mut desk, Version::V1, at(ANNA), "n1").unwrap_err(), Refusal::Replayed);
    let used = Upload { nonce: Some("n1".into()), ..upload("1", "T1") };
    assert_eq!(desk.begin_upload(Version::V1, at(ANNA), &used, None, now).unwrap_err(), Refusal::Replayed);
    let slip = desk.begin_upload(Version::V1, at(ANNA), &upload("1", "T1"), None, now).unwrap();
    assert_eq!(offer(&mut desk, Version::V1, at(ANNA), "n2").unwrap_err(), Refusal::Busy);
    assert!(desk.end_upload(&slip, true, now).is_none());
    let (_, old) = desk.begin_prepare(Version::V1, at(ANNA), &request("n3"), now).unwrap();
    let old = old.unwrap();
    assert_eq!((old.arrived(), old.missing().count()), (1, 1));
    assert_eq!(offer(&mut desk, Version::V1, at(ANNA), "n4").unwrap_err(), Refusal::Busy, "one at a time");
    assert_eq!(
        desk.begin_upload(Version::V1, at(ANNA), &upload("2", "T2"), None, now).unwrap_err(),
        Refusal::NoTransmission,
        "nothing is accepted until it is decided"
    );
}

#[test]
fn c22_silence_ends_a_session_and_work_does_not() {
    let start = Instant::now();
    let later = |seconds| start + Duration::from_secs(seconds);
    let mut desk = serving(Version::V1, at(ANNA));
    let slip = desk.begin_upload(Version::V1, at(ANNA), &upload("1", "T1"), None, later(50)).unwrap();
    assert!(desk.end_if_idle("S", later(1000)).is_err(), "an upload has a patience of its own");
    desk.end_upload(&slip, false, later(1000));
    assert_eq!(desk.end_if_idle("S", later(1030)).err(), Some(Duration::from_secs(30)));
    assert!(matches!(desk.end_if_idle("another", later(9999)), Ok(None)));
    let session = desk.end_if_idle("S", later(1060)).unwrap().unwrap();
    assert_eq!(session.offer.unwrap().missing().count(), 2);
    assert!(!desk.is_taken());
}

#[test]
fn whoever_is_served_is_served_to_the_end() {
    let mut desk = serving(Version::V1, at(ANNA));
    desk.shut();
    assert!(desk.begin_upload(Version::V1, at(ANNA), &upload("1", "T1"), None, Instant::now()).is_ok());
    let session = desk.end_any(Instant::now()).unwrap();
    assert!(session.over.is_cancelled());
    assert_eq!(desk.close(Version::V1, at(ANNA), "S", Instant::now()).err(), Some(Refusal::Closed));
}
