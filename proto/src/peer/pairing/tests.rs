//! Two ends and whatever lies between them, without I/O.

use std::array;

use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};

use super::*;
use crate::limits;
use crate::peer::wire::Base64;

const NOW: u64 = 1_000_000;

struct Device {
    key: SigningKey,
    name: &'static str,
}

impl Device {
    fn new(name: &'static str) -> Self {
        Self { key: SigningKey::from_bytes(&Sha256::digest(name).into()), name }
    }

    fn identity(&self) -> Identity<'_> {
        Identity { key: &self.key, device_name: self.name }
    }

    fn public_key(&self) -> PublicKey {
        self.identity().public_key()
    }

    fn as_peer(&self) -> Peer {
        Peer { public_key: self.public_key(), device_name: self.name.to_owned() }
    }

    /// What `self` sees of its TLS connection number `number` with `peer`, in which `responder` shows its certificate.
    fn channel(&self, number: u8, peer: &Device, responder: &Device) -> Channel {
        let exporter = Sha256::digest([&[number][..], &responder.public_key().0].concat()).into();
        Channel { certificate_hash: Sha256::digest(responder.public_key().0).into(), exporter, peer: peer.public_key() }
    }
}

/// A laptop that wants to pair with a NAS, which shows a PIN and a QR.
struct Stage {
    laptop: Device,
    nas: Device,
    window: Window,
    number: u8,
}

type Results = (Result<Peer, Failure>, Result<Peer, Failure>);

impl Stage {
    fn new() -> Self {
        Self { laptop: Device::new("laptop"), nas: Device::new("nas"), window: window(1), number: 0 }
    }

    fn pin(&self) -> Pin {
        self.window.pin().unwrap().duplicate()
    }

    fn uri(&self) -> PairUri {
        self.window.uri(&["10.0.0.2".parse().unwrap()], 44000, &self.nas.public_key()).unwrap()
    }

    /// Both ends of a new connection: the laptop's view and the NAS's.
    fn connect(&mut self) -> (Channel, Channel) {
        self.number += 1;
        let (laptop, nas) = (&self.laptop, &self.nas);
        (laptop.channel(self.number, nas, nas), nas.channel(self.number, laptop, nas))
    }

    fn pair(&mut self, initiator: Initiator<'_>) -> Results {
        let channels = self.connect();
        self.pair_over(initiator, channels, &mut |_, payload| payload)
    }

    /// One exchange, each payload (numbered from 1) passing through `wire`.
    fn pair_over(
        &mut self,
        initiator: Initiator<'_>,
        (laptop_sees, nas_sees): (Channel, Channel),
        wire: &mut dyn FnMut(usize, Vec<u8>) -> Vec<u8>,
    ) -> Results {
        let never_asked = Err(Failure::Malformed);
        let (await2, pair1) = match initiator.start(&laptop_sees, &random(1, self.number)) {
            Ok(started) => started,
            Err(failure) => return (Err(failure), never_asked),
        };
        let answer = self.window.on_pair1(&wire(1, pair1), &nas_sees, &random(2, self.number), NOW);
        let (await3, pair2) = match answer {
            Ok(answered) => answered,
            Err(failure) => {
                return (told(await2.on_pair2(&failure.to_payload(), &self.laptop.identity())), Err(failure));
            }
        };
        let (await4, pair3) = match await2.on_pair2(&wire(2, pair2), &self.laptop.identity()) {
            Ok(proven) => proven,
            Err(failure) => return (Err(failure), never_asked),
        };
        match await3.on_pair3(&wire(3, pair3), &mut self.window, &self.nas.identity(), NOW) {
            Ok((peer, pair4)) => (await4.on_pair4(&wire(4, pair4)), Ok(peer)),
            Err(failure) => (await4.on_pair4(&failure.to_payload()), Err(failure)),
        }
    }

    /// A guess with `pin` that goes as far as PAIR2.
    fn guess(&mut self, pin: &Pin) -> Result<(AwaitPair4, Vec<u8>, AwaitPair3), Failure> {
        let (laptop_sees, nas_sees) = self.connect();
        let (await2, pair1) = Initiator::Pin(pin).start(&laptop_sees, &random(1, self.number))?;
        let (await3, pair2) = self.window.on_pair1(&pair1, &nas_sees, &random(2, self.number), NOW)?;
        let (await4, pair3) = await2.on_pair2(&pair2, &self.laptop.identity())?;
        Ok((await4, pair3, await3))
    }

    fn confirm(&mut self, await3: AwaitPair3, pair3: &[u8]) -> Result<(Peer, Vec<u8>), Failure> {
        await3.on_pair3(pair3, &mut self.window, &self.nas.identity(), NOW)
    }

    fn both(&self) -> Results {
        (Ok(self.nas.as_peer()), Ok(self.laptop.as_peer()))
    }
}

fn told<T>(answer: Result<T, Failure>) -> Result<Peer, Failure> {
    Err(answer.err().unwrap())
}

fn both_fail(failure: Failure) -> Results {
    (Err(failure), Err(failure))
}

fn random(who: u8, number: u8) -> [u8; 64] {
    Sha512::digest([who, number]).into()
}

/// A window with QR whose PIN, token and id follow from `seed`.
fn window(seed: u8) -> Window {
    let mut count = 0;
    Window::open(true, &mut fill(seed, &mut count), NOW)
}

fn fill(seed: u8, count: &mut u8) -> impl FnMut(&mut [u8]) {
    move |into| {
        *count += 1;
        into.copy_from_slice(&random(seed, *count)[..into.len()]);
    }
}

fn wrong_pin() -> Pin {
    Pin::parse("000000").unwrap()
}

fn edit(payload: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut message = serde_json::from_slice(payload).unwrap();
    change(&mut message);
    serde_json::to_vec(&message).unwrap()
}

fn type_of(payload: &[u8]) -> String {
    serde_json::from_slice::<Value>(payload).unwrap()["type"].as_str().unwrap().to_owned()
}

#[test]
fn a_typed_pin_pairs_once() {
    let mut stage = Stage::new();
    let pin = stage.pin();
    assert_eq!(stage.pair(Initiator::Pin(&pin)), stage.both());
    assert!(stage.window.pin().is_none() && !stage.window.is_open(NOW), "the PIN is erased");
    assert_eq!(stage.pair(Initiator::Pin(&pin)), both_fail(Failure::Gone), "a reused code");
}

#[test]
fn a_scanned_qr_pairs_once() {
    let mut stage = Stage::new();
    let link = stage.uri().to_link();
    let uri = link.expose().parse().unwrap();
    assert_eq!(stage.pair(Initiator::Qr(&uri)), stage.both());
    assert!(stage.window.uri(&[], 1, &stage.nas.public_key()).is_none(), "the token is erased");
    assert_eq!(stage.pair(Initiator::Qr(&uri)), both_fail(Failure::Gone), "a reused code");
}

#[test]
fn d31_three_wrong_guesses_burn_the_pin() {
    let mut stage = Stage::new();
    let pin = stage.pin();
    for attempts_left in [2, 1, 0] {
        let wrong = Failure::WrongPin { attempts_left };
        assert_eq!(stage.pair(Initiator::Pin(&wrong_pin())), both_fail(wrong));
    }
    assert_eq!(stage.pair(Initiator::Pin(&pin)), both_fail(Failure::Gone), "now the right one is too late");
    assert!(stage.window.pin().is_none());
}

#[test]
fn d31_silent_guessers_are_counted() {
    let mut stage = Stage::new();
    let pin = stage.pin();
    for _ in 0..limits::PIN_ATTEMPTS {
        assert!(stage.guess(&pin).is_ok());
    }
    assert_eq!(stage.guess(&pin).err(), Some(Failure::Gone));
}

#[test]
fn d31_shares_that_are_none_are_counted() {
    let mut stage = Stage::new();
    let pin = stage.pin();
    for _ in 0..limits::PIN_ATTEMPTS {
        let channels = stage.connect();
        let neutral = &mut |at, payload: Vec<u8>| match at {
            1 => edit(&payload, |message| message["share"] = json!("A".repeat(43))),
            _ => payload,
        };
        let results = stage.pair_over(Initiator::Pin(&pin), channels, neutral);
        assert_eq!(results, (Err(Failure::NotUnderstood), Err(Failure::Malformed)));
    }
    assert_eq!(stage.pair(Initiator::Pin(&pin)), both_fail(Failure::Gone));
}

#[test]
fn d31_parallel_guessers_share_one_budget_and_one_success() {
    let mut stage = Stage::new();
    let pin = stage.pin();
    let (_, wrong3, wrong) = stage.guess(&wrong_pin()).unwrap();
    let (_, late3, late) = stage.guess(&pin).unwrap();
    let (await4, right3, right) = stage.guess(&pin).unwrap();
    // One more than there are attempts: refused, and no harm to those that are under way.
    assert_eq!(stage.guess(&pin).err(), Some(Failure::Gone));

    assert_eq!(stage.confirm(wrong, &wrong3).err(), Some(Failure::WrongPin { attempts_left: 0 }));
    let (peer, pair4) = stage.confirm(right, &right3).unwrap();
    assert_eq!((await4.on_pair4(&pair4), peer), (Ok(stage.nas.as_peer()), stage.laptop.as_peer()));
    assert_eq!(stage.confirm(late, &late3).err(), Some(Failure::Gone), "the window is used up");
}

#[test]
fn after_the_success_no_guess_learns_whether_it_was_right() {
    let mut stage = Stage::new();
    let pin = stage.pin();
    let (_, wrong3, wrong) = stage.guess(&wrong_pin()).unwrap();
    assert_eq!(stage.pair(Initiator::Pin(&pin)), stage.both());
    assert_eq!(stage.confirm(wrong, &wrong3).err(), Some(Failure::Gone));
}

#[test]
fn whoever_burns_the_pin_does_not_burn_the_qr() {
    let mut stage = Stage::new();
    let uri = stage.uri();
    let mut forged = stage.uri();
    forged.token = crate::secret::Secret::new([0; 16]);
    for _ in 0..limits::PIN_ATTEMPTS {
        stage.pair(Initiator::Pin(&wrong_pin())).0.unwrap_err();
        assert_eq!(
            stage.pair(Initiator::Qr(&forged)),
            both_fail(Failure::Gone),
            "a wrong token says and costs nothing"
        );
    }
    let channels = stage.connect();
    let tokenless = &mut |at, payload: Vec<u8>| match at {
        1 => edit(&payload, |message| drop(message.as_object_mut().unwrap().remove("t"))),
        _ => payload,
    };
    assert_eq!(stage.pair_over(Initiator::Qr(&uri), channels, tokenless), both_fail(Failure::Gone));
    assert_eq!(stage.window.attempts_left(Mode::Qr), limits::PIN_ATTEMPTS);
    assert_eq!(stage.pair(Initiator::Qr(&uri)), stage.both());
}

#[test]
fn the_holder_of_the_qr_may_not_guess_for_ever_either() {
    let mut stage = Stage::new();
    let mut uri = stage.uri();
    uri.pin = wrong_pin();
    for attempts_left in [2, 1, 0] {
        let wrong = Failure::WrongPin { attempts_left };
        assert_eq!(stage.pair(Initiator::Qr(&uri)), both_fail(wrong));
    }
    assert_eq!(stage.pair(Initiator::Qr(&uri)), both_fail(Failure::Gone));
    let pin = stage.pin();
    assert_eq!(stage.pair(Initiator::Pin(&pin)), stage.both(), "the typed PIN has its own budget");
}

#[test]
fn a_window_without_qr_knows_no_token() {
    let mut stage = Stage::new();
    let uri = stage.uri();
    let mut count = 0;
    stage.window = Window::open(false, &mut fill(1, &mut count), NOW);
    assert!(stage.window.uri(&[], 1, &stage.nas.public_key()).is_none());
    assert_eq!(stage.pair(Initiator::Qr(&uri)), both_fail(Failure::Gone));
    assert_eq!(stage.window.attempts_left(Mode::Pin), limits::PIN_ATTEMPTS);
}

#[test]
fn d34_a_window_is_open_for_two_minutes_of_any_clock() {
    let length = limits::PIN_SECONDS * 1000;
    let ten_years = 10 * 366 * 86_400_000;
    for (opened, now, open) in [
        (NOW, NOW, true),
        (NOW, NOW + length - 1, true),
        (NOW, NOW + length, false),
        (NOW, NOW + ten_years, false),
        (NOW, NOW - 1, false),
        (NOW, 0, false),
        (0, 0, true),
        (u64::MAX - 1, u64::MAX - 1, true),
        (u64::MAX - 1, 0, false),
        (ten_years, ten_years - 86_400_000, false),
    ] {
        let mut stage = Stage::new();
        let pin = stage.pin();
        let mut count = 0;
        stage.window = Window::open(true, &mut fill(1, &mut count), opened);
        let (laptop_sees, nas_sees) = stage.connect();
        let (_, pair1) = Initiator::Pin(&pin).start(&laptop_sees, &random(1, 0)).unwrap();
        let answer = stage.window.on_pair1(&pair1, &nas_sees, &random(2, 0), now).map(drop);
        assert_eq!(answer, if open { Ok(()) } else { Err(Failure::Gone) }, "opened {opened}, now {now}");
        assert_eq!(stage.window.pin().is_some(), open, "an expired PIN is erased");
    }
}

#[test]
fn an_exchange_that_outlives_its_window_fails() {
    let mut stage = Stage::new();
    let pin = stage.pin();
    let (_, pair3, await3) = stage.guess(&pin).unwrap();
    let expired = NOW + limits::PIN_SECONDS * 1000;
    let answer = await3.on_pair3(&pair3, &mut stage.window, &stage.nas.identity(), expired);
    assert_eq!(answer.err(), Some(Failure::Gone));

    // Withdrawn, and another window opened in its place, which is none of this exchange's business.
    let mut stage = Stage::new();
    let (_, pair3, await3) = stage.guess(&pin).unwrap();
    stage.window = window(2);
    assert_eq!(stage.confirm(await3, &pair3).err(), Some(Failure::Gone));
    let pin = stage.pin();
    assert_eq!(stage.pair(Initiator::Pin(&pin)), stage.both());
}

#[test]
fn d32_reflection() {
    let mut stage = Stage::new();
    let pin = stage.pin();
    let laptop = Device::new("laptop");
    let (laptop_sees, _) = stage.connect();

    let (await2, pair1) = Initiator::Pin(&pin).start(&laptop_sees, &random(1, 1)).unwrap();
    assert_eq!(await2.on_pair2(&pair1, &laptop.identity()).err(), Some(Failure::Malformed), "PAIR1 as it is");

    let (await2, pair1) = Initiator::Pin(&pin).start(&laptop_sees, &random(1, 1)).unwrap();
    let Message::Pair1(sent) = Message::decode(&pair1).unwrap() else { unreachable!() };
    let pair2 = json!({ "type": "pair2", "share": sent.share, "attempts_left": 2 });
    let (await4, pair3) = await2.on_pair2(&serde_json::to_vec(&pair2).unwrap(), &laptop.identity()).unwrap();
    let Message::Pair3(sent) = Message::decode(&pair3).unwrap() else { unreachable!() };
    let pair4 = json!({ "type": "pair4", "tag_r": sent.tag_i, "sealed_r": sent.sealed_i });
    let answer = await4.on_pair4(&serde_json::to_vec(&pair4).unwrap());
    assert_eq!(answer, Err(Failure::Interference), "its share as Yb, its tag as tag_r");
}

#[test]
fn d32_replay() {
    let mut stage = Stage::new();
    let pin = stage.pin();
    let mut captured = vec![Vec::new(); 5];
    let channels = stage.connect();
    let results = stage.pair_over(Initiator::Pin(&pin), channels.clone(), &mut |at, payload| {
        captured[at].clone_from(&payload);
        payload
    });
    assert_eq!(results, stage.both());

    // The laptop's messages to the NAS, even with the same PIN and, worse, the same channel.
    stage.window = window(1);
    let same_channel = channels.clone();
    for channels in [stage.connect(), same_channel] {
        let (await3, _) = stage.window.on_pair1(&captured[1], &channels.1, &random(2, stage.number), NOW).unwrap();
        let answer = stage.confirm(await3, &captured[3]);
        assert!(matches!(answer, Err(Failure::WrongPin { .. })));
    }

    // The NAS's messages to the laptop, likewise.
    for channels in [stage.connect(), channels] {
        let (await2, _) = Initiator::Pin(&pin).start(&channels.0, &random(1, stage.number)).unwrap();
        let (await4, _) = await2.on_pair2(&captured[2], &stage.laptop.identity()).unwrap();
        assert_eq!(await4.on_pair4(&captured[4]), Err(Failure::Interference));
    }
}

#[test]
fn d32_swapped_roles() {
    // Both show a PIN, by chance the same one, and both initiate at once.
    let mut here = Stage::new();
    let mut there = Stage { laptop: Device::new("nas"), nas: Device::new("laptop"), ..Stage::new() };
    let pin = here.pin();

    // Answers that belong to the other exchange lead nowhere.
    let (await_here, pair3_here, _) = here.guess(&pin).unwrap();
    let (_, pair3_there, crossed) = there.guess(&pin).unwrap();
    assert!(matches!(there.confirm(crossed, &pair3_here), Err(Failure::WrongPin { .. })));
    assert_eq!(await_here.on_pair4(&pair3_there), Err(Failure::Malformed));

    // Each by itself succeeds, whichever comes first.
    assert_eq!(here.pair(Initiator::Pin(&pin)), here.both());
    assert_eq!(there.pair(Initiator::Pin(&pin)), there.both());
}

#[test]
fn the_mode_is_part_of_the_agreement() {
    let mut stage = Stage::new();
    let uri = stage.uri();
    let channels = stage.connect();
    let downgraded = &mut |at, payload: Vec<u8>| match at {
        1 => edit(&payload, |message| message["mode"] = json!("pin")),
        _ => payload,
    };
    let results = stage.pair_over(Initiator::Qr(&uri), channels, downgraded);
    assert_eq!(results, both_fail(Failure::WrongPin { attempts_left: 2 }));
}

/// The test that matters. The relay ends TLS on both sides with a certificate of its own, and passes every payload on.
mod d32_a_relay_between_the_two {
    use super::*;

    struct Relayed {
        stage: Stage,
        /// What each end sees of its connection with the relay.
        laptop_sees: Channel,
        nas_sees: Channel,
    }

    impl Relayed {
        fn new() -> Self {
            let (stage, relay) = (Stage::new(), Device::new("relay"));
            let laptop_sees = stage.laptop.channel(1, &relay, &relay);
            let nas_sees = stage.nas.channel(2, &relay, &stage.nas);
            Self { stage, laptop_sees, nas_sees }
        }

        fn pair(mut self) -> (Results, Stage) {
            let pin = self.stage.pin();
            let channels = (self.laptop_sees, self.nas_sees);
            let results = self.stage.pair_over(Initiator::Pin(&pin), channels, &mut |_, payload| payload);
            (results, self.stage)
        }
    }

    #[test]
    fn fails() {
        assert_eq!(Relayed::new().pair().0, both_fail(Failure::WrongPin { attempts_left: 2 }));
    }

    #[test]
    fn fails_if_only_one_half_of_the_channel_gives_it_away() {
        let mut relayed = Relayed::new();
        relayed.laptop_sees.exporter = relayed.nas_sees.exporter;
        assert_eq!(relayed.pair().0, both_fail(Failure::WrongPin { attempts_left: 2 }), "another certificate");

        let mut relayed = Relayed::new();
        relayed.laptop_sees.certificate_hash = relayed.nas_sees.certificate_hash;
        assert_eq!(relayed.pair().0, both_fail(Failure::WrongPin { attempts_left: 2 }), "another exporter");
    }

    #[test]
    fn fails_by_its_key_when_the_channel_is_not_bound() {
        let mut relayed = Relayed::new();
        relayed.laptop_sees = Channel { peer: relayed.laptop_sees.peer, ..relayed.nas_sees };
        let (results, stage) = relayed.pair();
        assert_eq!(results, (Err(Failure::NotUnderstood), Err(Failure::IdentityMismatch)));
        assert!(!stage.window.is_open(NOW), "somebody knew the PIN: it is used up");
    }

    /// The control: these tests fail for the reason they give, not because relaying breaks something.
    #[test]
    fn succeeds_when_nothing_binds_the_channel() {
        let mut relayed = Relayed::new();
        relayed.laptop_sees = Channel { peer: relayed.stage.nas.public_key(), ..relayed.nas_sees };
        relayed.nas_sees.peer = relayed.stage.laptop.public_key();
        let (results, stage) = relayed.pair();
        assert_eq!(results, stage.both());
    }

    #[test]
    fn is_told_nothing_by_whoever_scanned_the_qr() {
        let Relayed { stage, laptop_sees, .. } = Relayed::new();
        let answer = Initiator::Qr(&stage.uri()).start(&laptop_sees, &random(1, 1));
        assert_eq!(answer.err(), Some(Failure::IdentityMismatch));
    }
}

#[test]
fn a_device_does_not_pair_with_itself() {
    let mut stage = Stage { laptop: Device::new("nas"), ..Stage::new() };
    let pin = stage.pin();
    assert_eq!(stage.pair(Initiator::Pin(&pin)).0, Err(Failure::Oneself));

    let mut stage = Stage::new();
    let pin = stage.pin();
    let (_, pair3, await3) = stage.guess(&pin).unwrap();
    let answer = await3.on_pair3(&pair3, &mut stage.window, &stage.laptop.identity(), NOW);
    assert_eq!(answer.err(), Some(Failure::Oneself));
}

#[test]
fn a_message_in_the_wrong_place_is_refused_and_costs_nothing() {
    let mut stage = Stage::new();
    let pin = stage.pin();
    let mut captured = vec![Failure::Gone.to_payload()];
    let channels = stage.connect();
    let results = stage.pair_over(Initiator::Pin(&pin), channels, &mut |_, payload| {
        captured.push(payload.clone());
        payload
    });
    assert_eq!(results, stage.both());

    for (at, payload) in captured.iter().enumerate() {
        let kind = type_of(payload);
        assert_eq!(kind, ["pair_fail", "pair1", "pair2", "pair3", "pair4"][at]);
        let mut stage = Stage::new();
        let (laptop_sees, nas_sees) = stage.connect();
        let identity = Device::new("laptop");
        let (await2, _) = Initiator::Pin(&pin).start(&laptop_sees, &random(1, 1)).unwrap();
        let (await4, _, await3) = stage.guess(&pin).unwrap();
        let refusal = if at == 0 { Failure::Gone } else { Failure::Malformed };
        if at != 1 {
            let answer = stage.window.on_pair1(payload, &nas_sees, &random(2, 1), NOW);
            assert_eq!(answer.err(), Some(Failure::Malformed), "{kind} for PAIR1");
            assert_eq!(stage.window.attempts_left(Mode::Pin), limits::PIN_ATTEMPTS - 1);
        }
        if at != 2 {
            assert_eq!(await2.on_pair2(payload, &identity.identity()).err(), Some(refusal), "{kind} for PAIR2");
        }
        if at != 3 {
            assert_eq!(stage.confirm(await3, payload).err(), Some(Failure::Malformed), "{kind} for PAIR3");
        }
        if at != 4 {
            assert_eq!(await4.on_pair4(payload), Err(refusal), "{kind} for PAIR4");
        }
    }
}

#[test]
fn the_channel_id_is_the_documented_one() {
    let channel = Channel { certificate_hash: [b'c'; 32], exporter: [b'x'; 32], peer: PublicKey([0; 32]) };
    let (c, x) = ("c".repeat(32), "x".repeat(32));
    for (mode, name) in [(Mode::Pin, "\0\0\0\x03pin"), (Mode::Qr, "\0\0\0\x02qr")] {
        let expected = format!("\0\0\0\x0bkith-pair/1{name}\0\0\0\x20{c}\0\0\0\x20{x}");
        assert_eq!(String::from_utf8(channel.id(mode)).unwrap(), expected);
    }
}

#[test]
fn the_messages_on_the_wire() {
    let check = |message: Message, expected: Value| {
        let payload = message.encode();
        assert_eq!(serde_json::from_slice::<Value>(&payload).unwrap(), expected);
        assert_eq!(Message::decode(&payload).unwrap().encode(), payload);
    };
    let share = || Base64(array::from_fn(|i| if i == 0 { 0xfb } else { 0xff }));
    let share_text = format!("-{}", "_".repeat(41) + "8");
    let pair1 = |mode, t| Message::Pair1(message::Pair1 { v: 1, mode, share: share(), t });
    check(pair1(Mode::Pin, None), json!({ "type": "pair1", "v": 1, "mode": "pin", "share": share_text }));
    check(
        pair1(Mode::Qr, Some(Base64([0; 16]))),
        json!({ "type": "pair1", "v": 1, "mode": "qr", "share": share_text, "t": "A".repeat(22) }),
    );
    check(
        Message::Pair2(message::Pair2 { share: share(), attempts_left: 2 }),
        json!({ "type": "pair2", "share": share_text, "attempts_left": 2 }),
    );
    check(
        Message::Pair3(message::Pair3 { tag_i: share(), sealed_i: Base64(vec![1, 2]) }),
        json!({ "type": "pair3", "tag_i": share_text, "sealed_i": "AQI" }),
    );
    check(
        Message::Pair4(message::Pair4 { tag_r: share(), sealed_r: Base64(vec![1]) }),
        json!({ "type": "pair4", "tag_r": share_text, "sealed_r": "AQ" }),
    );
    let wrong = PairFail::WrongPin { attempts_left: 1 };
    check(Message::PairFail(wrong), json!({ "type": "pair_fail", "reason": "wrong_pin", "attempts_left": 1 }));
    check(Message::PairFail(PairFail::Gone), json!({ "type": "pair_fail", "reason": "gone" }));
    check(Message::PairFail(PairFail::Malformed), json!({ "type": "pair_fail", "reason": "malformed" }));
}

#[test]
fn messages_that_are_none() {
    let good = json!({ "type": "pair2", "share": "A".repeat(43), "attempts_left": 2 });
    let check = |change: &dyn Fn(&mut Value)| {
        let mut message = good.clone();
        change(&mut message);
        Message::decode(&serde_json::to_vec(&message).unwrap()).map(drop)
    };
    assert_eq!(check(&|_| ()), Ok(()));
    assert_eq!(check(&|message| message["later"] = json!([1])), Ok(()), "unknown fields are ignored");
    for (why, change) in [
        ("another type", &(|m: &mut Value| m["type"] = json!("pair9")) as &dyn Fn(&mut Value)),
        ("padded", &|m| m["share"] = json!("A".repeat(43) + "=")),
        ("a byte too long", &|m| m["share"] = json!("A".repeat(44))),
        ("bits beyond the last byte", &|m| m["share"] = json!("A".repeat(42) + "B")),
        ("the other base64", &|m| m["share"] = json!("/".repeat(42) + "A")),
        ("not text", &|m| m["share"] = json!(vec![0; 32])),
        ("negative", &|m| m["attempts_left"] = json!(-1)),
        ("too long", &|m| m["later"] = json!("A".repeat(limits::FRAME_UNAUTHENTICATED))),
        ("a list", &|m| *m = json!([m.clone()])),
    ] {
        assert_eq!(check(change), Err(Failure::Malformed), "{why}");
    }
    assert_eq!(Message::decode(b"").map(drop), Err(Failure::Malformed));
    assert_eq!(Message::decode(&[b'['; 4000]).map(drop), Err(Failure::Malformed));

    let mut stage = Stage::new();
    let pin = stage.pin();
    let channels = stage.connect();
    let later = &mut |at, payload: Vec<u8>| if at == 1 { edit(&payload, |m| m["v"] = json!(2)) } else { payload };
    let results = stage.pair_over(Initiator::Pin(&pin), channels, later);
    assert_eq!(results, (Err(Failure::NotUnderstood), Err(Failure::Malformed)), "another version");
    assert_eq!(stage.window.attempts_left(Mode::Pin), limits::PIN_ATTEMPTS);
}

/// A later version may say more; both ends hash the bytes that travelled, not their own idea of them.
#[test]
fn a_field_added_on_the_way_is_noticed() {
    for changed in [1, 2] {
        let mut stage = Stage::new();
        let pin = stage.pin();
        let channels = stage.connect();
        let results = stage.pair_over(Initiator::Pin(&pin), channels, &mut |at, payload| {
            if at == changed { edit(&payload, |message| message["later"] = json!({ "a": 1 })) } else { payload }
        });
        assert_eq!(results, both_fail(Failure::WrongPin { attempts_left: 2 }), "in PAIR{changed}");
    }
}

#[test]
fn the_longest_messages_fit_into_a_frame() {
    const QUOTES: &str = r#"""""""""""""""""""""""""""""""""""""""""""""""""""""#;
    let mut stage = Stage { laptop: Device::new(QUOTES), nas: Device::new(QUOTES), ..Stage::new() };
    stage.nas.key = SigningKey::from_bytes(&[9; 32]);
    let uri = stage.uri();
    let channels = stage.connect();
    let mut seen = 0;
    let results = stage.pair_over(Initiator::Qr(&uri), channels, &mut |_, payload| {
        assert!(payload.len() <= limits::FRAME_UNAUTHENTICATED, "{}", payload.len());
        seen += 1;
        payload
    });
    assert_eq!((seen, results.0.unwrap().device_name.len()), (4, limits::DEVICE_NAME));
}

#[test]
fn what_the_other_end_is_told() {
    for (failure, reason) in [
        (Failure::WrongPin { attempts_left: 1 }, "wrong_pin"),
        (Failure::Gone, "gone"),
        (Failure::Interference, "malformed"),
        (Failure::IdentityMismatch, "malformed"),
        (Failure::Oneself, "malformed"),
        (Failure::Malformed, "malformed"),
        (Failure::NotUnderstood, "malformed"),
    ] {
        let payload: Value = serde_json::from_slice(&failure.to_payload()).unwrap();
        assert_eq!((&payload["type"], &payload["reason"]), (&json!("pair_fail"), &json!(reason)));
    }
    let shown = Failure::WrongPin { attempts_left: 1 }.to_string();
    assert!(shown.contains("wrong PIN, or another device is interfering"), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever is changed on its way, the two do not end up paired; and the laptop, which hears last, never is.
    #[test]
    fn a_changed_message_does_not_pair(changed in 1..=4_usize, at: prop::sample::Index, bit in 0..8_u8, qr: bool) {
        let mut stage = Stage::new();
        let (pin, uri) = (stage.pin(), stage.uri());
        let channels = stage.connect();
        let initiator = if qr { Initiator::Qr(&uri) } else { Initiator::Pin(&pin) };
        let (laptop, nas) = stage.pair_over(initiator, channels, &mut |number, mut payload| {
            if number == changed {
                let at = at.index(payload.len());
                payload[at] ^= 1 << bit;
            }
            payload
        });
        prop_assert!(laptop.is_err(), "{laptop:?}");
        prop_assert_eq!(nas.is_err(), changed < 4, "{:?}", nas);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), field in "\\PC{0,60}", which in 0..8_usize) {
        let key = ["share", "t", "mode", "v", "tag_i", "sealed_i", "tag_r", "sealed_r"][which];
        let kind = ["pair1", "pair2", "pair3", "pair4"][which / 2];
        let structured = json!({ "type": kind, key: field, "v": 1, "mode": "pin", "share": "A".repeat(43), "attempts_left": 1 });
        for payload in [bytes, serde_json::to_vec(&structured).unwrap()] {
            let mut stage = Stage::new();
            let pin = stage.pin();
            let (laptop_sees, nas_sees) = stage.connect();
            let (await2, _) = Initiator::Pin(&pin).start(&laptop_sees, &random(1, 1)).unwrap();
            prop_assert!(await2.on_pair2(&payload, &stage.laptop.identity()).is_err());
            prop_assert!(stage.window.on_pair1(&payload, &nas_sees, &random(2, 1), NOW).is_err());
            let mut stage = Stage::new();
            let (await4, _, await3) = stage.guess(&pin).unwrap();
            prop_assert!(stage.confirm(await3, &payload).is_err());
            prop_assert!(await4.on_pair4(&payload).is_err());
        }
    }
}
