//! `cargo tour`: two devices on this machine meet, hand a database over, pair, keep a journal the same, and send a
//! directory and a word; a third one joins by a code; all by the real programs. What is printed is what was typed and
//! what came back. Ends with a failure if anything is not as it should be.

use std::fs;
use std::path::Path;
use std::time::Instant;

use kith_tests::host::Host;
use kith_tests::process::{Output, Running};
use kith_tests::{PATIENCE, binaries, tree, wait};

/// Nothing is announced; a code names this machine's own address, too.
const HERE: &str = "[discovery]\nenabled = false\nloopback = true\n";

fn main() {
    note("Building kithd and kithctl …");
    binaries::kithd();
    let started = Instant::now();

    note("Two devices, each with a home of its own. On two machines there would be no --home.");
    let (mut anna, mut bert) = (Host::new("anna"), Host::new("bert"));
    anna.configure(HERE);
    for host in [&mut anna, &mut bert] {
        println!("$ kithd --home {} &", host.home().display());
        host.start();
    }
    kithctl(&anna, &["status"]);
    kithctl(&bert, &["id"]);

    note("Bert's machine is new. Anna's database and its secret come over by four digits; the two need not be paired.");
    fed(&anna, &["secrets", "add", "--name", "maps", "--type", "api-key"], "AIza-not-a-real-key\n");
    kithctl(&anna, &["dbs", "add", "--name", "Photos", "--path", "s3:album/photos", "--geocoding", "maps"]);
    println!("{} &", typed(&anna, &["dbs", "send", "photos"]));
    let mut handing = anna.ctl_spawn(&["dbs", "send", "photos"]);
    let code = code(&mut handing);
    kithctl(&bert, &["dbs", "receive", "--code", &code, "--yes"]);
    println!("(and at Anna's) {}", handing.finish(PATIENCE).ok().stdout.lines().last().unwrap_or_default());
    kithctl(&bert, &["dbs"]);
    kithctl(&bert, &["secrets", "view", "maps", "--yes"]);
    println!();

    note("Anna shows a PIN, Bert types it. (On a LAN, `kithctl pair anna` finds her by name.)");
    let (window, pin) = show_pin(&anna);
    kithctl(&bert, &["pair", &anna.address(), "--pin", &pin]);
    let paired = window.finish(PATIENCE).ok();
    println!("(and at Anna's) {}", paired.stdout.lines().last().unwrap_or_default());
    wait::until_true("Anna to find the way back to Bert", PATIENCE, || {
        anna.ctl_json(&["peers"])["peers"][0]["online"] == true
    });
    kithctl(&anna, &["peers"]);

    note("They are in sync from then on: what an app puts into the journal `default` here is there a moment later.");
    fed(&anna, &["entries", "put", "default", "today"], "Sunny, 21°\n");
    wait::until_true("the entry at Bert's", PATIENCE, || {
        bert.ctl_json(&["entries", "list", "default"])["entries"].as_array().is_some_and(|entries| entries.len() == 1)
    });
    kithctl(&bert, &["entries", "get", "default", "today"]);
    kithctl(&bert, &["sync", "status"]);

    note(
        "Cleo joins a journal by a code, with nobody at Anna's keyboard. (On a LAN the 28 letters and digits are enough.)",
    );
    kithctl(&anna, &["journals", "create", "holiday"]);
    fed(&anna, &["entries", "put", "holiday", "where"], "To the sea\n");
    println!("{}", typed(&anna, &["codes", "issue", "--journal", "holiday", "--offline"]));
    let issued = anna.ctl(&["codes", "issue", "--journal", "holiday", "--offline"]).ok();
    show(&issued);
    let ticket = issued.stdout.split_whitespace().find(|word| word.starts_with("kith:join/")).expect("a ticket");
    let mut cleo = Host::new("cleo");
    cleo.configure(HERE);
    cleo.start();
    fed(&cleo, &["join", "-", "--yes"], ticket);
    wait::until_true("the entry at Cleo's", PATIENCE, || {
        cleo.ctl_json(&["entries", "list", "holiday"])["entries"].as_array().is_some_and(|entries| entries.len() == 1)
    });
    kithctl(&cleo, &["entries", "get", "holiday", "where"]);
    kithctl(&anna, &["codes"]);
    assert_eq!(cleo.stop(), 0, "exit code of kithd; its log:\n{}", cleo.log());

    note("Bert sends a directory; it waits in Anna's inbox until she takes it.");
    let trip = bert.path("trip");
    tree::sample(&trip, 7).expect("the home is ours");
    let trip_text = text(&trip);
    println!("{} &", typed(&bert, &["send", &trip_text, "--to", "anna"]));
    let sending = bert.ctl_spawn(&["send", &trip_text, "--to", "anna"]);
    let offer = wait::until("the offer in Anna's inbox", PATIENCE, || {
        let inbox = anna.ctl_json(&["inbox"]);
        inbox["transfers"][0]["id"].as_str().map(str::to_owned)
    });
    kithctl(&anna, &["inbox"]);
    let album = anna.path("album");
    fs::create_dir(&album).expect("the home is ours");
    kithctl(&anna, &["inbox", "accept", &offer, "--to", &text(&album)]);
    show(&sending.finish(PATIENCE).ok());
    tree::assert_same(&trip, &album.join("trip"));
    println!("(compared: {} is {}, entry by entry)", album.join("trip").display(), trip.display());

    note("From now on Bert takes whatever Anna offers.");
    let desk = bert.path("desk");
    fs::create_dir(&desk).expect("the home is ours");
    kithctl(&bert, &["trust", "policy", "anna", "--offers", "auto", "--dir", &text(&desk)]);
    kithctl(&anna, &["send", "--text", "Lovely! Dinner at eight?", "--to", "bert"]);
    kithctl(&bert, &["transfers", "list", "--all"]);
    let newest = bert.ctl_json(&["transfers", "list", "--all"])["transfers"][0].take();
    assert_eq!(newest["text"], "Lovely! Dinner at eight?");
    kithctl(&bert, &["transfers", "show", newest["id"].as_str().expect("an id")]);

    note("A file, and whatever a command prints: standard input is a file that is not there yet.");
    let letter = anna.path("letter.txt");
    fs::write(&letter, "Dear Bert …\n").expect("the home is ours");
    kithctl(&anna, &["send", &text(&letter), "--to", "bert"]);
    assert_eq!(fs::read_to_string(desk.join("letter.txt")).expect("the letter arrived"), "Dear Bert …\n");
    fed(&anna, &["send", "-", "--name", "list.txt", "--to", "bert"], "Milk, bread\n");
    assert_eq!(fs::read_to_string(desk.join("list.txt")).expect("the list arrived"), "Milk, bread\n");
    let mut names: Vec<_> = tree::list(&desk).expect("Bert's desk").into_keys().map(|path| text(&path)).collect();
    names.sort();
    println!("$ ls {}\n{}", desk.display(), names.join("  "));

    note("When a device is lost or sold, end the trust in it: from then on it is refused.");
    kithctl(&anna, &["trust", "revoke", "bert", "--yes"]);
    println!("{}", typed(&bert, &["send", "--text", "Anna?", "--to", "anna"]));
    show(&bert.ctl(&["send", "--text", "Anna?", "--to", "anna"]).expect(1));

    note("Both daemons end in order, and their homes are removed.");
    for host in [&mut anna, &mut bert] {
        assert_eq!(host.stop(), 0, "exit code of kithd; its log:\n{}", host.log());
        assert!(!host.socket().exists(), "the socket is removed");
    }
    note(&format!("Everything was as it should be, in {:.1} s.", started.elapsed().as_secs_f64()));
}

/// Opens a pairing window, shows what it says, and returns the PIN in it.
fn show_pin(host: &Host) -> (Running, String) {
    println!("{} &", typed(host, &["pair"]));
    let mut window = host.ctl_spawn(&["pair"]);
    let mut pin = None;
    loop {
        let line = window.line(PATIENCE).expect("kithctl waits for the other device");
        println!("{line}");
        let digits: String = line.split_whitespace().collect();
        if digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            pin = Some(digits);
        }
        if line.contains("kith://") {
            return (window, pin.expect("a PIN above the text of the QR code"));
        }
    }
}

/// The code that a share shows, once it is shown.
fn code(sending: &mut Running) -> String {
    loop {
        let line = sending.line(PATIENCE).expect("kithctl waits for the other device");
        println!("{line}");
        if let Some((_, code)) = line.split_once("on the other device: ") {
            return code.trim().to_owned();
        }
    }
}

/// Runs `echo TEXT | kithctl …`, and shows what it says.
fn fed(host: &Host, arguments: &[&str], text: &str) {
    println!("$ echo '{}' | {}", text.trim_end(), &typed(host, arguments)[2..]);
    let mut running = Running::spawn_fed(&mut host.ctl_command(arguments));
    assert!(running.feed(text.as_bytes()), "kithctl takes its standard input");
    running.end_input();
    show(&running.finish(PATIENCE).ok());
}

/// Runs `kithctl …` as one would type it, and shows what it says.
fn kithctl(host: &Host, arguments: &[&str]) {
    println!("{}", typed(host, arguments));
    show(&host.ctl(arguments).ok());
}

fn show(output: &Output) {
    print!("{}{}", output.stdout, output.stderr);
}

fn typed(host: &Host, arguments: &[&str]) -> String {
    let quoted =
        arguments.iter().map(|word| if word.contains([' ', '?']) { format!("'{word}'") } else { (*word).to_owned() });
    format!("$ kithctl --home {} {}", host.home().display(), quoted.collect::<Vec<_>>().join(" "))
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

fn note(text: &str) {
    println!("\n# {text}");
}
