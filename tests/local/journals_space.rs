//! Disks that are full: what cannot be written is refused with a word, nothing is lost, and it goes on by itself.

use std::fs;

use kith_tests::host::{self, Host};
use kith_tests::random::Random;
use kith_tests::{PATIENCE, wait};
use serde_json::json;

use crate::journals::{App, DEFAULT, wait_same};
use crate::space::Small;

/// A device whose database lies on a small disk.
#[track_caller]
fn cramped(name: &str, size: &str) -> Option<(Host, Small)> {
    let mut host = Host::new(name);
    fs::create_dir(host.path("data")).expect("the home is ours");
    let small = Small::at(host.path("data"), size)?;
    host.start();
    Some((host, small))
}

#[test]
fn g49_a_disk_that_is_full_refuses_and_takes_again_when_there_is_room() {
    let Some((mut host, small)) = cramped("anna", "8M") else { return };
    let mut app = App::of(&host, DEFAULT);
    let mut random = Random::seeded(49);
    let body = random.bytes(200_000);
    let mut written = 0;
    let full = (0..200).find_map(|i| {
        let params = json!({"journal": DEFAULT, "id": format!("e{i:03}"), "body": data_encoding::BASE64.encode(&body)});
        match app.door.try_call("entries.put", params) {
            Ok(_) => written += 1,
            Err(error) => return Some(error),
        }
        None
    });
    let full = full.expect("40 MB do not go onto 8 MB");
    assert_eq!((&full["data"]["code"], &full["code"]), (&json!("no_space"), &json!(1006)), "{full}");
    assert!(written > 0);
    // What is there can be read, and it is all there.
    assert_eq!(app.ids().len(), written);
    assert!(app.get("e000").expect("it is there").1 == body);
    let path = host.path("body");
    fs::write(&path, &body).expect("the home is ours");
    let put = ["entries", "put", DEFAULT, "more", "--file", path.to_str().expect("UTF-8")];
    assert_eq!(host.ctl_refused(&put), ("no_space".to_owned(), 1));
    small.resize("80M");
    host.ctl(&put).ok();
    assert_eq!(app.ids().len(), written + 1);
    drop(app);
    host.restart();
    assert_eq!(App::of(&host, DEFAULT).ids().len(), written + 1);
}

#[test]
fn g49_a_sync_that_fills_the_disk_goes_on_by_itself_when_there_is_room() {
    let Some((bert, small)) = cramped("bert", "8M") else { return };
    let anna = Host::running("anna");
    let mut app = App::of(&anna, DEFAULT);
    let mut random = Random::seeded(50);
    for i in 0..60 {
        app.put(&format!("e{i:02}"), random.bytes(400_000));
    }
    host::pair(&bert, &anna);
    let mut last = json!(null);
    let told = wait::attempt(2 * PATIENCE, || {
        last = bert.door().call("sync.status", json!({}));
        (last["peers"][0]["error"]["code"] == "no_space").then_some(())
    });
    assert!(told.is_some(), "he does not say why: {last}");
    // Anna goes on as ever, and Bert answers.
    app.put("meanwhile", "x");
    let arrived = App::of(&bert, DEFAULT).ids().len();
    assert!(arrived < 60);
    small.resize("200M");
    wait_same(&[&anna, &bert], DEFAULT, 61);
    wait::until_true("the error to be over", PATIENCE, || {
        bert.door().call("sync.status", json!({}))["peers"][0]["error"].is_null()
    });
    assert!(bert.ctl(&["doctor"]).stdout.lines().any(|line| line.starts_with("ok") && line.contains("journals")));
}
