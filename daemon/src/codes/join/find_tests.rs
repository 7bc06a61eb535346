//! Places that lie in every way, each beside one that does not. Time passes only where everybody waits.

use std::collections::BTreeMap;

use kith_proto::id::PublicKey;
use kith_proto::peer::join::SharingCode;

use super::super::book::tests::payload;
use super::*;
use crate::discovery::Sighting;

/// How a place is.
#[derive(Debug, Clone)]
enum Manner {
    Says(Answer),
    Fails,
    /// It takes the question and never answers: slow, endless.
    Silent,
    /// It answers, so late.
    Late(Duration, Answer),
}

fn keys(byte: u8) -> Keys {
    SharingCode::from_random([byte; 16]).keys()
}

const EXPIRES: u64 = 1_900_000_000_000;

fn blob(keys: &Keys) -> Vec<u8> {
    payload(PublicKey([7; 32])).seal(keys, EXPIRES, [1; 12]).unwrap()
}

fn good() -> Manner {
    Manner::Says(Answer::Blob(blob(&keys(1))))
}

/// Every way to lie, or to fail.
fn liars() -> Vec<Manner> {
    let mut bent = blob(&keys(1));
    bent[100] ^= 1;
    vec![
        Manner::Says(Answer::Blob(b"garbage".to_vec())),
        Manner::Says(Answer::Blob(vec![1; limits::HELLO_BLOB])),
        Manner::Says(Answer::Blob(bent)),
        Manner::Says(Answer::Blob(blob(&keys(2)))),
        Manner::Says(Answer::Expired),
        Manner::Says(Answer::Withdrawn),
        Manner::Says(Answer::Nothing),
        Manner::Fails,
        Manner::Silent,
    ]
}

fn url(host: &str) -> StoreUrl {
    StoreUrl::parse(&format!("https://{host}")).unwrap()
}

fn sighting(at: u8, name: &str, hello: Option<u16>) -> (DeviceId, Arc<Sighting>) {
    let (id, addresses) = (DeviceId([at; 8]), vec![([10, 0, 0, at], 44_000).into(), ([10, 0, 0, at], 44_001).into()]);
    (id, Arc::new(Sighting { id, name: name.to_owned(), addresses, online: true, hello }))
}

/// A network where these devices give out codes, and a configuration with these stores.
struct World {
    lan: watch::Sender<Arc<Snapshot>>,
    is_new: bool,
    manners: BTreeMap<String, Manner>,
    stores: Vec<StoreUrl>,
    asked: std::sync::Mutex<Vec<String>>,
}

impl World {
    fn new(lan: &[Manner], stores: &[Manner]) -> Self {
        let mut manners = BTreeMap::new();
        let mut peers = BTreeMap::new();
        for (at, manner) in (1..).zip(lan) {
            let name = format!("kith{at}");
            peers.extend([sighting(at, &name, Some(53_318))]);
            manners.insert(name, manner.clone());
        }
        let urls = (0..stores.len()).map(|at| url(&format!("store{at}"))).collect();
        manners.extend(stores.iter().enumerate().map(|(at, it)| (format!("https://store{at}:443"), it.clone())));
        let lan = watch::Sender::new(Arc::new(Snapshot { peers }));
        Self { lan, is_new: false, manners, stores: urls, asked: Default::default() }
    }

    async fn find(&self, carried: Option<Vec<u8>>) -> Result<(Payload, u64), Finding> {
        let places = Places { lan: Some(self.lan.subscribe()), is_new: self.is_new, stores: self.stores.clone() };
        find(&keys(1), carried, places, |place| Box::pin(self.ask(place))).await
    }

    async fn ask(&self, place: Place) -> Result<Answer, String> {
        if let Place::Lan { addresses, .. } = &place {
            assert!(addresses.len() == 1 && addresses[0].port() == 53_318, "{addresses:?}");
        }
        let name = place.name();
        self.asked.lock().unwrap().push(name.clone());
        match self.manners[&name].clone() {
            Manner::Says(answer) => Ok(answer),
            Manner::Fails => Err("status 500".to_owned()),
            Manner::Silent => std::future::pending().await,
            Manner::Late(delay, answer) => {
                tokio::time::sleep(delay).await;
                Ok(answer)
            }
        }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let begun = Instant::now();
    (work.await, begun.elapsed())
}

fn found() -> Result<(Payload, u64), Finding> {
    Ok((payload(PublicKey([7; 32])), EXPIRES))
}

#[tokio::test(start_paused = true)]
async fn g74_a_store_that_lies_in_any_way_never_hides_or_delays_another_ones_good_answer() {
    for liar in liars() {
        // Beside it, behind it, on the network, in the configuration.
        for at in 0..4 {
            let mut stores = vec![liar.clone(); 4];
            stores[at] = good();
            let (result, took) = timed(World::new(&[], &stores).find(None)).await;
            assert_eq!((result, took), (found(), Duration::ZERO), "{liar:?} {at}");
        }
        let (result, took) = timed(World::new(&[liar.clone(), liar.clone()], &[good()]).find(None)).await;
        assert_eq!(result, found(), "{liar:?}");
        assert!(took <= HEAD_START, "{liar:?}: {took:?}");
        let (result, took) = timed(World::new(&[liar.clone(), good()], std::slice::from_ref(&liar)).find(None)).await;
        assert_eq!((result, took), (found(), Duration::ZERO), "{liar:?}");
        let crowd = vec![liar.clone(); LAN_AT_ONCE + 50];
        let (result, took) = timed(World::new(&crowd, &[good()]).find(None)).await;
        assert_eq!(result, found(), "{liar:?}");
        assert!(took <= HEAD_START, "{liar:?}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn g74_all_of_them_together_do_not_either() {
    let liars = liars();
    let late = Duration::from_secs(4);
    let (result, took) =
        timed(World::new(&liars, &[Manner::Late(late, Answer::Blob(blob(&keys(1))))]).find(None)).await;
    assert_eq!(result, found());
    assert!(took <= HEAD_START + late, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_on_this_network_is_asked_first_and_alone() {
    let world = World::new(&[good()], &[good()]);
    assert_eq!(world.find(None).await, found());
    assert_eq!(world.asked(), ["kith1"]);
    // One that comes into sight is asked, too: when this device just began to look, and when it did not.
    for is_new in [false, true] {
        let mut world = World::new(&[], &[Manner::Silent]);
        world.is_new = is_new;
        world.manners.insert("kith9".to_owned(), good());
        let come = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert_eq!(world.asked().is_empty(), is_new, "the stores have to wait for nobody otherwise");
            let peers = [sighting(8, "mute", None), sighting(9, "kith9", Some(53_318))].into();
            world.lan.send_replace(Arc::new(Snapshot { peers }));
        };
        assert_eq!(tokio::join!(world.find(None), come).0, found());
    }
}

#[tokio::test(start_paused = true)]
async fn a_ticket_asks_nobody_unless_it_is_damaged() {
    let world = World::new(&[good()], &[good()]);
    assert_eq!(world.find(Some(blob(&keys(1)))).await, found());
    assert!(world.asked().is_empty());
    assert_eq!(world.find(Some(blob(&keys(2)))).await, found());
    let alone = World::new(&[], &[]);
    assert_eq!(alone.find(Some(vec![0; 512])).await, Err(Finding::Unreadable(PayloadError::Sealed)));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_has_has_a_reason() {
    let says = Manner::Says;
    let bad = || says(Answer::Blob(vec![0; 512]));
    let failed = |name: &str, why: &str| vec![format!("https://{name}:443 ({why})")];
    for (lan, stores, finding) in [
        (vec![], vec![], Finding::Unreachable(vec![])),
        (vec![], vec![Manner::Fails], Finding::Unreachable(failed("store0", "status 500"))),
        (vec![], vec![Manner::Silent], Finding::Unreachable(failed("store0", "no answer in time"))),
        (vec![], vec![says(Answer::Nothing)], Finding::NotFound(vec![])),
        (vec![says(Answer::Nothing)], vec![Manner::Fails], Finding::NotFound(failed("store0", "status 500"))),
        (vec![says(Answer::Nothing)], vec![bad(), Manner::Fails], Finding::Unreadable(PayloadError::Sealed)),
        (vec![], vec![says(Answer::Nothing), says(Answer::Expired)], Finding::Expired),
        (vec![says(Answer::Withdrawn)], vec![says(Answer::Expired), bad()], Finding::Withdrawn),
    ] {
        let (result, took) = timed(World::new(&lan, &stores).find(None)).await;
        assert_eq!(result, Err(finding), "{lan:?} {stores:?}");
        assert!(took <= HEAD_START + LOOKUP, "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn names_of_places_cannot_act_on_a_terminal() {
    let world = World::new(&[], &[Manner::Fails]);
    let (id, odd) = sighting(1, "\u{1b}[2J", Some(53_318));
    world.lan.send_replace(Arc::new(Snapshot { peers: [(id, odd)].into() }));
    let places = Places { lan: Some(world.lan.subscribe()), is_new: false, stores: Vec::new() };
    let ask = |_| -> Asked<'_> { Box::pin(async { Err("\u{1b}]8;;".to_owned()) }) };
    let Err(Finding::Unreachable(named)) = find(&keys(1), None, places, ask).await else { panic!("it is not there") };
    assert_eq!(named, ["[2J (\\u{1b}]8;;)"]);
}
