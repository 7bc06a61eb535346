//! What is spoken on the control socket: everything else gets one answer, or an error that names what is wrong.

use kith_tests::door::Door;
use kith_tests::host::Host;
use serde_json::{Value, json};

/// What the daemon says to `bytes` until it hangs up, a line a value.
#[track_caller]
fn answers(host: &Host, bytes: &[u8]) -> Vec<Value> {
    let mut door = host.door();
    door.write(bytes);
    let rest = door.rest();
    let lines = rest.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("a line of JSON")).collect()
}

#[test]
fn f43_what_is_not_ours_gets_one_answer_and_is_hung_up_on() {
    let host = Host::running("anna");
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"daemon.shutdown"}"#;
    let http = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{call}\n", call.len());
    let deep = format!("{}{}\n", "[".repeat(10_000), "]".repeat(10_000));
    let deep_object = format!("{}1{}\n", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    let long = vec![b'x'; 2 << 20];
    let mut long_json = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{}", "x".repeat(2 << 20)).into_bytes();
    long_json.extend(b"\"}\n");
    let batch = format!("[{call}]\n");
    for (what, bytes) in [
        ("HTTP", http.as_bytes()),
        ("GET", b"GET / HTTP/1.0\r\n\r\n"),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n"),
        ("binary", b"\x00\xff\xfe\x80\n"),
        ("half a line", b"{\"jsonrpc\":\"2.0\",\"id\":1,\n"),
        ("a batch", batch.as_bytes()),
        ("a string", b"\"daemon.shutdown\"\n"),
        ("two objects in a line", b"{} {}\n"),
        ("depth 10,000", deep.as_bytes()),
        ("objects, 10,000 deep", deep_object.as_bytes()),
        ("a lone surrogate", br#"{"jsonrpc":"2.0","id":1,"method":"\ud800"}"#),
        ("invalid UTF-8", b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}\n"),
        ("2 MiB without an end", &long),
        ("2 MiB of JSON", &long_json),
    ] {
        // What follows would stop the daemon, if it were read.
        let bytes = [bytes, b"\n", call.as_bytes(), b"\n"].concat();
        let answers = answers(&host, &bytes);
        assert_eq!(answers.len(), 1, "{what}: {answers:?}");
        assert_eq!(answers[0]["error"]["code"], -32700, "{what}");
        assert_eq!(answers[0]["error"]["data"]["code"], "parse_error", "{what}");
        assert_eq!(answers[0]["id"], Value::Null, "{what}");
    }
    assert!(host.status()["id"].is_string(), "it goes on");
}

#[test]
fn f43_half_a_line_and_the_end_is_no_request() {
    let host = Host::running("anna");
    let mut door = host.door();
    door.write(br#"{"jsonrpc":"2.0","id":1,"method":"daemon.shut"#);
    door.half_close();
    let rest = String::from_utf8(door.rest()).expect("text");
    assert!(rest.is_empty() || rest.contains("-32700"), "{rest}");
    // A whole request without its newline is whole.
    let mut door = host.door();
    door.write(br#"{"jsonrpc":"2.0","id":1,"method":"daemon.status"}"#);
    door.half_close();
    assert!(String::from_utf8(door.rest()).expect("text").contains("\"result\""));
    assert!(host.status()["id"].is_string());
}

#[test]
fn f43_the_longest_line_is_answered_and_the_next_longer_is_not() {
    let host = Host::running("anna");
    let line = |len: usize| {
        let frame = r#"{"jsonrpc":"2.0","id":7,"method":"trust.show","params":{"peer":""}}"#;
        let filler = "x".repeat(len - frame.len() - 1);
        format!("{}\n", frame.replace("\"peer\":\"\"", &format!("\"peer\":\"{filler}\"")))
    };
    let mut door = host.door();
    let longest = line(1 << 20);
    assert_eq!(longest.len(), 1 << 20);
    door.write(longest.as_bytes());
    assert_eq!(door.read().expect("an answer")["error"]["data"]["code"], "peer_not_found");
    door.write(line((1 << 20) + 1).as_bytes());
    assert_eq!(door.read().expect("an answer")["error"]["code"], -32700);
    assert!(door.read().is_none());
}

#[test]
fn f44_what_is_wrong_is_named_and_the_connection_goes_on() {
    let host = Host::running("anna");
    let mut door = host.door();
    for (method, params, code, rpc, named) in [
        ("no.such", json!({}), "unknown_method", -32601, ""),
        ("", json!({}), "unknown_method", -32601, ""),
        ("daemon.status", json!({"verbose": true}), "unknown_param", -32602, "verbose"),
        ("trust.show", json!({"peer": "x", "deep": {}}), "unknown_param", -32602, "deep"),
        ("trust.show", json!({}), "invalid_param", -32602, "peer"),
        ("trust.show", json!({"peer": 7}), "invalid_param", -32602, "7"),
        ("trust.show", json!({"peer": null}), "invalid_param", -32602, "null"),
        ("transfer.list", json!({"all": "yes"}), "invalid_param", -32602, "yes"),
        ("trust.policy", json!({"peer": "x", "max_file": -1}), "invalid_param", -32602, "-1"),
        ("trust.policy", json!({"peer": "x", "max_file": 1.5}), "invalid_param", -32602, "1.5"),
        ("trust.policy", json!({"peer": "x", "offers": "perhaps"}), "peer_not_found", 1002, ""),
        ("trust.policy", json!({"peer": "x", "on_conflict": "perhaps"}), "invalid_param", -32602, "perhaps"),
        ("events.subscribe", json!({"kinds": ["peer:eaten"]}), "invalid_param", -32602, "peer:eaten"),
        ("pairing.join", json!({"target": "127.0.0.1:1"}), "invalid_param", -32602, "pin"),
        ("pairing.join", json!({"target": "127.0.0.1:1", "pin": "12345"}), "invalid_param", -32602, "six"),
        ("pairing.cancel", json!({"pairing": "none"}), "pairing_not_found", 1002, ""),
        ("transfer.show", json!({"transfer": "none"}), "transfer_not_found", 1002, ""),
        ("transfer.send", json!({"peer": "nobody", "paths": ["/etc/hosts"]}), "peer_not_found", 1002, "nobody"),
    ] {
        let error = door.try_call(method, params.clone()).expect_err("it is wrong");
        assert_eq!(error["data"]["code"], code, "{method} {params}: {error}");
        assert_eq!(error["code"], rpc, "{method} {params}: {error}");
        let message = error["message"].as_str().expect("a message");
        assert!(!message.is_empty() && message.contains(named), "{method} {params}: {message}");
    }
    for line in [
        r#"{"id":1,"method":"daemon.status"}"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"daemon.status"}"#,
        r#"{"jsonrpc":"2.0","method":"daemon.shutdown"}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"jsonrpc":"2.0","id":1.5,"method":"daemon.status"}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"daemon.status"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"daemon.status","params":[]}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"daemon.status","params":"x"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"daemon.status","extra":1}"#,
        "{}",
    ] {
        door.write(format!("{line}\n").as_bytes());
        let answer = door.read().expect("an answer");
        assert_eq!(answer["error"]["code"], -32600, "{line}: {answer}");
        assert_eq!(answer["error"]["data"]["code"], "invalid_request", "{line}");
    }
    assert!(door.call("daemon.status", json!({}))["id"].is_string(), "the connection goes on");
}

#[test]
fn ids_come_back_as_they_were_and_empty_lines_are_nothing() {
    let host = Host::running("anna");
    let mut door = host.door();
    for id in [json!(0), json!(-7), json!(i64::MAX), json!(""), json!("a \" \u{202e}\n b")] {
        door.write(format!("\n \n{}\n", json!({"jsonrpc": "2.0", "id": id, "method": "daemon.status"})).as_bytes());
        let answer = door.read().expect("an answer");
        assert_eq!(answer["id"], id);
        assert_eq!(answer["jsonrpc"], "2.0");
    }
}

#[test]
fn hello_says_what_there_is_and_every_method_answers() {
    let host = Host::running("anna");
    let mut door: Door = host.door();
    let hello = door.call("daemon.hello", json!({"client": "test", "protocol": 1}));
    let methods: Vec<&str> = hello["methods"].as_array().expect("methods").iter().filter_map(Value::as_str).collect();
    let contract: Vec<&str> = kith_proto::control::method::ALL.iter().map(|(name, _)| *name).collect();
    assert_eq!(methods, contract);
    for field in ["server", "protocol", "min_protocol", "boot_id"] {
        assert!(!hello[field].is_null(), "{field}");
    }
    for method in methods {
        // With a parameter that none has: refused by name, so that nothing happens.
        assert_eq!(door.refused(method, json!({"x_no_such": 1})), "unknown_param", "{method}");
    }
}
