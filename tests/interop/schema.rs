//! The guest door against its own description (`proto/openapi/guest.yaml`): schemathesis makes up requests, right ones
//! and wrong ones, and looks whether each is answered as is written there: never a server error, always a status that is
//! documented, always the JSON that belongs to it.
//!
//! Needs `schemathesis`, in the version that .ci/run installs; `KITH_REQUIRE=schemathesis` turns a skip into a failure.

use std::fs;
use std::process::Command;

use kith_tests::binaries::workspace;
use kith_tests::guest::Window;
use kith_tests::host::Host;
use kith_tests::process::run;
use kith_tests::{PATIENCE, require, wait};

use crate::tella::{P256, certificate, programs};

/// Statuses that answer requests which are not as described: 401 and 403, where ids are looked at first.
const CONFIG: &str = r#"
[generation]
deterministic = true
max-examples = 40

[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "406", "408", "409", "413", "415", "429"]

[checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "401", "403", "406", "409", "413", "415", "429"]
"#;

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
                      negative_data_rejection,positive_data_acceptance,unsupported_method";

/// Runs schemathesis over `host`, with a guest's PIN and ids where `hooks` say so.
#[track_caller]
fn check(host: &Host, window: &Window, hooks: bool) {
    let config = host.path("schemathesis.toml");
    fs::write(&config, CONFIG).expect("the home is ours");
    let (certificate, key) = certificate(host, "schemathesis", P256);
    let mut command = Command::new(require::program("schemathesis").expect("it was looked for"));
    command.current_dir(host.home()).arg("--config-file").arg(&config).arg("run");
    command.arg(workspace().join("proto/openapi/guest.yaml")).args(["--checks", CHECKS, "--tls-verify", "false"]);
    command.args(["--url", &format!("https://127.0.0.1:{}", window.port), "--phases", "examples,coverage,fuzzing"]);
    command.arg("--request-cert").arg(&certificate).arg("--request-cert-key").arg(&key);
    command.args(["--no-color", "--request-timeout", "30", "--suppress-health-check", "all", "--warnings", "off"]);
    command.env("NO_PROXY", "*").env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONWARNINGS", "ignore");
    if hooks {
        let path = workspace().join("tests/interop/tella");
        command.env("PYTHONPATH", path).env("SCHEMATHESIS_HOOKS", "credentials");
        command.env("KITH_PORT", window.port.to_string()).env("KITH_PIN", &window.pin);
        command.env("KITH_CERT", &certificate).env("KITH_KEY", &key);
    }
    let output = run(&mut command, 5 * PATIENCE);
    eprintln!("{}", output.stdout);
    assert_eq!(output.status, 0, "{}{}", output.stdout, output.stderr);
    assert!(!host.log().contains("\"ERROR\"") && !host.log().contains("panicked"), "{}", host.log());
}

#[test]
fn the_guest_door_does_what_its_description_says() {
    if require::program("schemathesis").is_none() {
        return require::skip("schemathesis", "not installed");
    }
    if !programs() {
        return;
    }
    let mut host = Host::new("anna");
    host.configure("[discovery]\nenabled = false\n[log]\nformat = \"json\"\n[guest]\nmax_file = 1000000\n");
    host.start();
    // A stranger, who burns the PIN; and a guest, who is let in again and again.
    for hooks in [false, true] {
        let window = Window::open(&host);
        check(&host, &window, hooks);
        if hooks {
            assert!(!window.names().is_empty(), "nobody got as far as a file");
        }
        let caller = window.caller();
        window.close();
        wait::until_true("nobody to listen", PATIENCE, || caller.dial().is_err());
    }
}
