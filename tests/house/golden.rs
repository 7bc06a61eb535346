//! The lists that clients of the local door rely on. A change here is a change of the contract: it is made on purpose,
//! by running this test with `KITH_GOLDEN=write` and reading the difference.

use std::fmt::Write as _;
use std::fs;

use kith_proto::control::error::Code;
use kith_proto::control::event::Fact;
use kith_proto::control::method;
use kith_tests::binaries::workspace;

#[track_caller]
fn check(file: &str, list: &str) {
    let path = workspace().join("tests/golden").join(file);
    if std::env::var("KITH_GOLDEN").is_ok_and(|how| how == "write") {
        fs::write(&path, list).expect("the golden directory can be written");
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    let gone = golden.lines().filter(|line| !list.lines().any(|it| it == *line)).map(|line| format!("- {line}"));
    let new = list.lines().filter(|line| !golden.lines().any(|it| it == *line)).map(|line| format!("+ {line}"));
    let changes: Vec<String> = gone.chain(new).collect();
    assert!(golden == list, "tests/golden/{file} says otherwise (order counts too):\n{}", changes.join("\n"));
}

#[test]
fn methods_and_the_access_they_need() {
    let list = method::ALL.iter().fold(String::new(), |mut list, (name, access)| {
        let _ = writeln!(list, "{name} {}", format!("{access:?}").to_lowercase());
        list
    });
    check("methods.txt", &list);
}

#[test]
fn error_codes_with_rpc_code_and_exit_code() {
    let list = Code::ALL.iter().fold(String::new(), |mut list, code| {
        let _ = writeln!(list, "{} {} {}", code.as_str(), code.kind().rpc(), code.kind().exit());
        list
    });
    check("errors.txt", &list);
}

#[test]
fn kinds_of_events() {
    check("events.txt", &Fact::KINDS.iter().map(|kind| format!("{kind}\n")).collect::<String>());
}
