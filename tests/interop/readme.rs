//! What the README tells people who have nothing but curl.

use std::process::Command;

use kith_tests::binaries::workspace;
use kith_tests::host::Host;
use kith_tests::process::run;
use kith_tests::random::Random;
use kith_tests::{PATIENCE, require};

const PROGRAMS: [&str; 3] = ["curl", "jq", "openssl"];

/// The README's block of shell that names `word`, without the line that sets what is shown on the other side.
fn block(word: &str) -> String {
    let readme = std::fs::read_to_string(workspace().join("README.md")).expect("there is a README");
    let mut blocks = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let block = blocks.find(|block| block.contains(word)).expect("the README has this block");
    block.split_once('\n').expect("several lines").1.to_owned()
}

#[test]
fn a_stranger_with_curl_sends_a_file() {
    if let Some(missing) = PROGRAMS.iter().find(|program| require::program(program).is_none()) {
        return require::skip("curl", &format!("{missing} is not installed"));
    }
    let host = Host::running("anna");
    let to = host.path("in");
    let mut receiving = host.ctl_spawn(&["receive", "--yes", "--once", "--json", "--to", to.to_str().expect("UTF-8")]);
    let window = receiving.json_line(PATIENCE)["window"].clone();
    let text = |key: &str| window[key].as_str().expect("a text").to_owned();
    let addresses = window["addresses"].as_array().expect("a list").iter().filter_map(|address| address.as_str());
    let address = addresses.clone().find(|address| !address.contains(':')).expect("an IPv4 address");

    let desk = tempfile::tempdir().expect("a temporary directory");
    let content = Random::seeded(7).bytes(300_000);
    std::fs::write(desk.path().join("photo.jpg"), &content).expect("the directory is ours");
    let mut shell = Command::new("sh");
    shell.current_dir(desk.path()).args(["-euc", &block("openssl s_client")]);
    shell.env("AT", format!("{address}:{}", window["port"])).env("PIN", text("pin")).env("FILE", "photo.jpg");
    let output = run(&mut shell, PATIENCE).ok();

    let compared = output.stdout.split_whitespace().next().expect("a hash").to_owned();
    assert_eq!(compared, text("certificate_hash"), "what is to be compared is equal");
    assert_eq!(output.stdout.matches(r#"{"success":true}"#).count(), 2, "{}", output.stdout);
    assert_eq!(receiving.finish(PATIENCE).ok().json()["state"], "done");
    assert_eq!(std::fs::read(to.join("photo.jpg")).expect("it arrived"), content);
}
