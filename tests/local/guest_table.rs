//! The protocol's table of statuses, a check for each cell, in both versions: what is in the table is what is answered,
//! and every refusal says why in JSON.

use std::fs;

use kith_tests::guest::{
    File, Guest, Window, answer, decide, during, fresh, offering, preparing, question, registering, request,
};
use kith_tests::host::Host;
use kith_tests::https::{Answer, Identity};
use serde_json::{Value, json};

const TERABYTE: u64 = 1_000_000_000_000;

/// A cell: what is asked, and the status that answers it.
struct Cell {
    what: &'static str,
    status: u16,
    asking: bool,
    only: Option<u32>,
    ask: fn(&Case) -> Answer,
}

fn cell(what: &'static str, status: u16, ask: fn(&Case) -> Answer) -> Cell {
    Cell { what, status, asking: false, only: None, ask }
}

impl Cell {
    /// In a window in which somebody is asked.
    fn asking(mut self) -> Self {
        self.asking = true;
        self
    }

    /// In this version of the protocol only.
    fn only(mut self, version: u32) -> Self {
        self.only = Some(version);
        self
    }
}

/// A window of its own for each cell, and somebody who knocks.
struct Case<'a> {
    host: &'a Host,
    window: Window,
    guest: Guest,
}

impl Case<'_> {
    fn session(&self) -> String {
        self.guest.session(&self.window.pin)
    }

    /// Somebody in possession of everything that is needed to upload `file`.
    fn offered(&self, file: &File) -> (String, String) {
        let session = self.session();
        let transmission = self.guest.prepared(&session, std::slice::from_ref(file)).remove(0);
        (session, transmission)
    }

    /// The same guest, from another address or with another certificate: whoever has learnt the ids.
    fn thief(&self) -> Guest {
        match self.guest.version {
            1 => self.guest.calling(|caller| caller.from("127.0.0.2")),
            _ => self.guest.calling(|caller| caller.showing(&Identity::new())),
        }
    }

    fn prepare_one(&self, file: &Value) -> Answer {
        let session = self.session();
        self.guest.post("prepare-upload", &offering(&session, &json!([file])))
    }

    fn put(&self, query: &str, body: &[u8]) -> Answer {
        self.guest.caller.ask(&request("PUT", &self.guest.path(&format!("upload?{query}")), &[], body))
    }
}

fn letter() -> File {
    File::new("letter.txt", b"Dear Anna")
}

/// Checks every cell in both versions, each in a new window of the same device, and fails with all that do not hold.
#[track_caller]
fn hold(cells: &[Cell]) {
    let mut host = Host::new("anna");
    let guest = format!("max_files = 3\nmax_file = {}\ntypes = [\"txt\"]\n", 20 * TERABYTE);
    host.configure(&format!("[discovery]\nenabled = false\n[guest]\n{guest}"));
    host.start();
    let (mut checked, mut wrong) = (0, Vec::new());
    for version in [1, 2] {
        for cell in cells.iter().filter(|cell| cell.only.is_none_or(|only| only == version)) {
            let dir = host.path(&format!("guests-{version}-{checked}"));
            let window = Window::with(&host, &json!({ "accept": !cell.asking, "dir": dir }));
            let guest = window.guest(version);
            let case = Case { host: &host, window, guest };
            let answer = (cell.ask)(&case);
            if answer.status != cell.status || !is_sound(&answer) {
                wrong.push(format!("v{version}, {}: {}, not {answer:?}", cell.what, cell.status));
            }
            case.window.close();
            checked += 1;
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// JSON in any case; a refusal is an object that says why, and nothing else.
fn is_sound(answer: &Answer) -> bool {
    let body = answer.json();
    let error = body["error"].as_str().is_some_and(|text| !text.is_empty());
    if answer.status >= 400 { error && body.as_object().map(serde_json::Map::len) == Some(1) } else { !error }
}

#[test]
fn ping_answers_as_the_table_says() {
    hold(&[
        cell("a ping", 200, |case| {
            let answer = case.guest.ping();
            let body = answer.json();
            let shows = body["senderShowHash"].is_boolean() && body.as_object().map(serde_json::Map::len) == Some(1);
            assert!(if case.guest.version == 1 { body == json!({"success": true}) } else { shows }, "{body}");
            answer
        }),
        cell("a ping without a body or its length", 200, |case| {
            let head = format!("POST {} HTTP/1.1\r\nHost: x\r\n\r\n", case.guest.path("ping"));
            case.guest.caller.ask(head.as_bytes())
        }),
        cell("confirmed by the user", 200, |case| {
            let confirm = || {
                if case.guest.version == 2 {
                    let asked = question(case.host, "compare");
                    assert_eq!(asked["certificate_hash"], case.window.hash, "the hash to compare is the receiver's");
                    answer(case.host, "compare", true);
                }
            };
            during(|| case.guest.ping(), confirm)
        })
        .asking(),
        cell("refused by the user", 403, |case| during(|| case.guest.ping(), || answer(case.host, "compare", false)))
            .asking()
            .only(2),
        cell("a version that is to come", 406, |case| {
            case.guest.caller.ask(&request("POST", "/api/v3/ping", &[], b""))
        }),
        cell("another method", 405, |case| case.guest.caller.ask(&request("GET", &case.guest.path("ping"), &[], b""))),
        cell("another path", 404, |case| case.guest.post("pong", b"")),
    ]);
}

#[test]
fn register_answers_as_the_table_says() {
    hold(&[
        cell("the PIN", 200, |case| {
            let answer = case.guest.register(&case.window.pin);
            let body = answer.json();
            assert_eq!(body.as_object().map(serde_json::Map::len), Some(1), "{body}");
            // 122 random bits are 21 letters of base64, at least.
            assert!(body["sessionId"].as_str().is_some_and(|id| id.len() >= 21), "{body}");
            answer
        }),
        cell("keys in another order, pretty, and one more", 200, |case| {
            let body =
                format!("{{\n  \"nonce\" : \"a\\/b\",\n  \"x\" : [{{}}],\n  \"pin\" : \"{}\"\n}}", case.window.pin);
            case.guest.post("register", body.as_bytes())
        }),
        cell("somebody lets it in", 200, |case| {
            during(|| case.guest.register(&case.window.pin), || answer(case.host, "connect", true))
        })
        .asking(),
        cell("nothing", 400, |case| case.guest.post("register", b"")),
        cell("no JSON", 400, |case| case.guest.post("register", b"{\"pin\":")),
        cell("an array", 400, |case| case.guest.post("register", b"[]")),
        cell("no PIN", 400, |case| case.guest.post("register", br#"{"nonce":"n"}"#)),
        cell("PIN null", 400, |case| case.guest.post("register", br#"{"pin":null,"nonce":"n"}"#)),
        cell("PIN empty", 400, |case| case.guest.post("register", br#"{"pin":"","nonce":"n"}"#)),
        cell("PIN a number", 400, |case| {
            case.guest.post("register", format!("{{\"pin\":{},\"nonce\":\"n\"}}", case.window.pin).as_bytes())
        }),
        cell("no nonce", 400, |case| {
            case.guest.post("register", json!({"pin": case.window.pin}).to_string().as_bytes())
        }),
        cell("nonce empty", 400, |case| {
            case.guest.post("register", json!({"pin": case.window.pin, "nonce": ""}).to_string().as_bytes())
        }),
        cell("c18 a lone surrogate", 400, |case| case.guest.post("register", br#"{"pin":"\ud800","nonce":"n"}"#)),
        cell("c18 the same key twice", 400, |case| {
            case.guest.post(
                "register",
                format!("{{\"pin\":\"1\",\"pin\":\"{}\",\"nonce\":\"n\"}}", case.window.pin).as_bytes(),
            )
        }),
        cell("c18 depth 10,000", 400, |case| {
            // Within the bound of the body: it is the depth that is refused.
            case.guest.post("register", &b"[".repeat(4000))
        }),
        cell("c18 more than four kibibytes", 413, |case| {
            let body = json!({"pin": case.window.pin, "nonce": "n", "x": "x".repeat(5000)}).to_string();
            case.guest.post("register", body.as_bytes())
        }),
        cell("no certificate", 400, |case| {
            case.guest.calling(|caller| caller.showing_none()).register(&case.window.pin)
        })
        .only(2),
        cell("another PIN", 401, |case| case.guest.register(&case.window.wrong_pin())),
        cell("half a PIN", 401, |case| case.guest.register(&case.window.pin[..5])),
        cell("a PIN with a blank", 401, |case| case.guest.register(&format!("{} ", case.window.pin))),
        cell("somebody says no", 403, |case| {
            during(|| case.guest.register(&case.window.pin), || answer(case.host, "connect", false))
        })
        .asking(),
        cell("somebody else is being served", 409, |case| {
            case.session();
            case.window.guest(case.guest.version).register(&case.window.pin)
        }),
        cell("the same one again", 409, |case| {
            case.session();
            case.guest.register(&case.window.pin)
        }),
        cell("somebody else is being asked about", 409, |case| {
            let mut second = None;
            let knock = || {
                question(case.host, "connect");
                second = Some(case.thief().register(&case.window.pin));
                answer(case.host, "connect", true);
            };
            during(|| case.guest.register(&case.window.pin), knock).expect(200);
            second.expect("an answer")
        })
        .asking(),
        cell("another PIN while somebody is being served", 401, |case| {
            case.session();
            case.guest.register(&case.window.wrong_pin())
        }),
        cell("d31 the right PIN after three others", 429, |case| {
            for _ in 0..3 {
                case.guest.register(&case.window.wrong_pin()).expect(401);
            }
            case.guest.register(&case.window.pin)
        }),
        cell("a version that is to come", 406, |case| {
            case.guest.caller.ask(&request("POST", "/api/v9/register", &[], &registering(&case.window.pin)))
        }),
        cell("another method", 405, |case| {
            case.guest.caller.ask(&request("PUT", &case.guest.path("register"), &[], &registering(&case.window.pin)))
        }),
    ]);
}

#[test]
fn prepare_answers_as_the_table_says() {
    hold(&[
        cell("an offer", 200, |case| {
            let file = letter();
            let answer = case.guest.prepare(&case.session(), std::slice::from_ref(&file));
            let body = answer.json();
            let transmission = &body["files"][0]["transmissionId"];
            // Some apps parse strictly: this, and no other key.
            assert_eq!(body, json!({"files": [{"id": file.id, "transmissionId": transmission}]}));
            assert!(transmission.as_str().is_some_and(|id| id.len() >= 21), "{body}");
            answer
        }),
        cell("without what the seed does not have", 200, |case| {
            case.prepare_one(&json!({"id": "1", "fileName": "a.txt", "size": 1}))
        }),
        cell("with nulls, a thumbnail and an upper-case hash", 200, |case| {
            case.prepare_one(&json!({
                "thumbnail": "aGk=", "sha256": "AB".repeat(32), "size": 0, "fileName": "a.txt", "id": "1", "fileType": null,
            }))
        }),
        cell("an offer that replaces the first", 200, |case| {
            let session = case.session();
            let first = case.guest.prepared(&session, &[letter()]).remove(0);
            let again = letter();
            let answer = case.guest.prepare(&session, std::slice::from_ref(&again));
            case.guest.upload(&session, &again, &first).expect(403);
            answer
        }),
        cell("c17 size -1", 400, |case| case.prepare_one(&json!({"id": "1", "fileName": "a.txt", "size": -1}))),
        cell("c17 size 1.5", 400, |case| case.prepare_one(&json!({"id": "1", "fileName": "a.txt", "size": 1.5}))),
        cell("c17 size 2^63", 400, |case| {
            case.prepare_one(&json!({"id": "1", "fileName": "a.txt", "size": 1_u64 << 63}))
        }),
        cell("c17 size 2^64-1", 400, |case| {
            case.prepare_one(&json!({"id": "1", "fileName": "a.txt", "size": u64::MAX}))
        }),
        cell("c17 size a text", 400, |case| case.prepare_one(&json!({"id": "1", "fileName": "a.txt", "size": "1"}))),
        cell("no size", 400, |case| case.prepare_one(&json!({"id": "1", "fileName": "a.txt"}))),
        cell("no name", 400, |case| case.prepare_one(&json!({"id": "1", "size": 1}))),
        cell("no id", 400, |case| case.prepare_one(&json!({"fileName": "a.txt", "size": 1}))),
        cell("id empty", 400, |case| case.prepare_one(&json!({"id": "", "fileName": "a.txt", "size": 1}))),
        cell("half a hash", 400, |case| {
            case.prepare_one(&json!({"id": "1", "fileName": "a.txt", "size": 1, "sha256": "abcd"}))
        }),
        cell("c18 an id twice", 400, |case| {
            let file = letter();
            case.guest.prepare(&case.session(), &[file.clone(), file])
        }),
        cell("no files", 400, |case| case.guest.prepare(&case.session(), &[])),
        cell("files null", 400, |case| case.guest.post("prepare-upload", &offering(&case.session(), &Value::Null))),
        cell("no JSON", 400, |case| {
            case.session();
            case.guest.post("prepare-upload", b"files")
        }),
        cell("session empty", 400, |case| case.guest.prepare("", &[letter()])),
        cell("session null", 400, |case| {
            case.session();
            case.guest
                .post("prepare-upload", json!({"sessionId": null, "files": [letter().offer()]}).to_string().as_bytes())
        }),
        cell("session null and nobody there", 400, |case| {
            case.guest
                .post("prepare-upload", json!({"sessionId": null, "files": [letter().offer()]}).to_string().as_bytes())
        }),
        cell("nonce empty", 400, |case| {
            let offer = json!({"sessionId": case.session(), "nonce": "", "files": [letter().offer()]});
            case.guest.post("prepare-upload", offer.to_string().as_bytes())
        }),
        cell("a session that never was", 401, |case| {
            case.session();
            case.guest.prepare(&fresh(), &[letter()])
        }),
        cell("e36 from another address", 401, |case| case.thief().prepare(&case.session(), &[letter()])).only(1),
        cell("e36 with another certificate", 403, |case| case.thief().prepare(&case.session(), &[letter()])).only(2),
        cell("e36 without a certificate", 403, |case| {
            case.guest.calling(|caller| caller.showing_none()).prepare(&case.session(), &[letter()])
        })
        .only(2),
        cell("e36 in the other version", 401, |case| {
            let other = Guest { version: 3 - case.guest.version, ..case.guest.clone() };
            other.prepare(&case.session(), &[letter()])
        }),
        cell("somebody says no", 403, |case| {
            let reject = || {
                answer(case.host, "connect", true);
                decide(case.host, false);
            };
            during(|| case.guest.prepare(&case.session(), &[letter()]), reject)
        })
        .asking(),
        cell("the same nonce again", 409, |case| {
            let body = preparing(&case.session(), &[letter()]);
            case.guest.post("prepare-upload", &body).expect(200);
            case.guest.post("prepare-upload", &body)
        }),
        cell("too many", 413, |case| case.guest.prepare(&case.session(), &[letter(), letter(), letter(), letter()])),
        cell("too large", 413, |case| {
            case.prepare_one(&json!({"id": "1", "fileName": "a.txt", "size": 20 * TERABYTE + 1}))
        }),
        cell("c23 a claim of 10 TB", 507, |case| {
            let answer = case.prepare_one(&json!({"id": "1", "fileName": "a.txt", "size": 10 * TERABYTE}));
            assert_eq!(case.window.names(), [] as [&str; 0], "nothing is written");
            answer
        }),
    ]);
}

#[test]
fn upload_answers_as_the_table_says() {
    hold(&[
        cell("by PUT", 200, |case| {
            let file = letter();
            let (session, transmission) = case.offered(&file);
            let answer = case.guest.upload(&session, &file, &transmission);
            assert_eq!(answer.json(), json!({"success": true}));
            answer
        }),
        cell("by POST, as the seed does", 200, |case| {
            let file = letter();
            let (session, transmission) = case.offered(&file);
            let path = case.guest.upload_path(&session, &file.id, &transmission);
            case.guest.caller.ask(&request("POST", &path, &[("Content-Type", "image/png")], &file.content))
        }),
        cell("without a nonce, as the seed does", 200, |case| {
            let file = letter();
            let (session, transmission) = case.offered(&file);
            case.put(&format!("fileId={}&transmissionId={transmission}&sessionId={session}", file.id), &file.content)
        }),
        cell("nothing, as was declared", 200, |case| {
            let file = File::new("empty.txt", b"");
            let (session, transmission) = case.offered(&file);
            case.guest.upload(&session, &file, &transmission)
        }),
        cell("no session", 400, |case| {
            let file = letter();
            let (_, transmission) = case.offered(&file);
            case.put(&format!("fileId={}&transmissionId={transmission}", file.id), &file.content)
        }),
        cell("no file", 400, |case| {
            let file = letter();
            let (session, transmission) = case.offered(&file);
            case.put(&format!("sessionId={session}&transmissionId={transmission}"), &file.content)
        }),
        cell("no transmission", 400, |case| {
            let file = letter();
            let (session, _) = case.offered(&file);
            case.put(&format!("sessionId={session}&fileId={}", file.id), &file.content)
        }),
        cell("everything empty", 400, |case| {
            case.offered(&letter());
            case.put("sessionId=&fileId=&transmissionId=", b"x")
        }),
        cell("no query at all", 400, |case| {
            case.offered(&letter());
            case.guest.caller.ask(&request("PUT", &case.guest.path("upload"), &[], b"x"))
        }),
        cell("nonce empty", 400, |case| {
            let file = letter();
            let (session, transmission) = case.offered(&file);
            let query = format!("sessionId={session}&fileId={}&transmissionId={transmission}&nonce=", file.id);
            case.put(&query, &file.content)
        }),
        cell("c17 a body that is shorter", 400, |case| {
            let file = letter();
            let (session, transmission) = case.offered(&file);
            case.guest.upload(&session, &File { content: b"Dear".to_vec(), ..file }, &transmission)
        }),
        cell("a session that never was", 401, |case| {
            let file = letter();
            let (_, transmission) = case.offered(&file);
            case.guest.upload(&fresh(), &file, &transmission)
        }),
        cell("no session at all", 401, |case| case.guest.upload(&fresh(), &letter(), &fresh())),
        cell("e36 from another address", 401, |case| {
            let file = letter();
            let (session, transmission) = case.offered(&file);
            case.thief().upload(&session, &file, &transmission)
        })
        .only(1),
        cell("e36 with another certificate", 403, |case| {
            let file = letter();
            let (session, transmission) = case.offered(&file);
            case.thief().upload(&session, &file, &transmission)
        })
        .only(2),
        cell("e36 before any offer", 403, |case| case.guest.upload(&case.session(), &letter(), &fresh())),
        cell("another transmission", 403, |case| {
            let file = letter();
            let (session, _) = case.offered(&file);
            case.guest.upload(&session, &file, &fresh())
        }),
        cell("another file's transmission", 403, |case| {
            let (one, two) = (letter(), letter());
            let session = case.session();
            let transmissions = case.guest.prepared(&session, &[one.clone(), two]);
            case.guest.upload(&session, &one, &transmissions[1])
        }),
        cell("a file that was not offered", 403, |case| {
            let (session, transmission) = case.offered(&letter());
            case.guest.upload(&session, &letter(), &transmission)
        }),
        cell("another content", 406, |case| {
            let file = letter();
            let (session, transmission) = case.offered(&file);
            case.guest.upload(&session, &File { content: b"Dear Bert".to_vec(), ..file }, &transmission)
        }),
        cell("e36 twice", 409, |case| {
            let (one, two) = (letter(), letter());
            let session = case.session();
            let transmissions = case.guest.prepared(&session, &[one.clone(), two]);
            case.guest.upload(&session, &one, &transmissions[0]).expect(200);
            case.guest.upload(&session, &one, &transmissions[0])
        }),
        cell("twice, when the session has ended by itself", 409, |case| {
            let file = letter();
            let (session, transmission) = case.offered(&file);
            case.guest.upload(&session, &file, &transmission).expect(200);
            case.guest.upload(&session, &file, &transmission)
        }),
        cell("the same nonce again", 409, |case| {
            let (one, two) = (letter(), letter());
            let session = case.session();
            let transmissions = case.guest.prepared(&session, &[one.clone(), two.clone()]);
            let query = |file: &File, transmission: &str| {
                format!("sessionId={session}&fileId={}&transmissionId={transmission}&nonce=N", file.id)
            };
            case.put(&query(&one, &transmissions[0]), &one.content).expect(200);
            case.put(&query(&two, &transmissions[1]), &two.content)
        }),
        cell("c17 a body that is longer", 413, |case| {
            let file = letter();
            let (session, transmission) = case.offered(&file);
            case.guest.upload(&session, &File { content: b"Dear Anna!".to_vec(), ..file }, &transmission)
        }),
        cell("c17 a body that is longer, in chunks", 413, |case| {
            let file = letter();
            let (session, transmission) = case.offered(&file);
            let path = case.guest.upload_path(&session, &file.id, &transmission);
            let head = format!("PUT {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
            case.guest.caller.ask(format!("{head}5\r\nDear \r\n5\r\nAnna!\r\n0\r\n\r\n").as_bytes())
        }),
        cell("a type that is not taken here", 415, |case| {
            let (program, letter) = (File::new("program.exe", b"MZ"), letter());
            let session = case.session();
            let accepted = case.guest.prepare(&session, &[program.clone(), letter.clone()]).expect(200).json();
            let ids: Vec<&Value> =
                accepted["files"].as_array().expect("files").iter().map(|file| &file["id"]).collect();
            assert_eq!(ids, [&json!(letter.id)], "it is left out of the answer");
            case.guest.upload(&session, &program, &fresh())
        }),
        cell("nothing of a type that is taken here", 415, |case| {
            let program = File::new("program.exe", b"MZ");
            let session = case.session();
            let accepted = case.guest.prepare(&session, std::slice::from_ref(&program)).expect(200).json();
            assert_eq!(accepted, json!({"files": []}));
            case.guest.upload(&session, &program, &fresh())
        }),
        cell("c23 a directory that became a file", 500, |case| {
            let file = letter();
            let (session, transmission) = case.offered(&file);
            fs::remove_dir_all(&case.window.dir).expect("it is ours");
            fs::write(&case.window.dir, "mine").expect("the home is ours");
            let answer = case.guest.upload(&session, &file, &transmission);
            assert_eq!(fs::read(&case.window.dir).expect("it is there"), b"mine");
            answer
        }),
        cell("another method", 405, |case| {
            let file = letter();
            let (session, transmission) = case.offered(&file);
            case.guest.caller.ask(&request(
                "PATCH",
                &case.guest.upload_path(&session, &file.id, &transmission),
                &[],
                b"",
            ))
        }),
    ]);
}

#[test]
fn close_connection_answers_as_the_table_says() {
    hold(&[
        cell("a session", 200, |case| {
            let answer = case.guest.close(&case.session());
            assert_eq!(answer.json(), json!({"success": true}));
            answer
        }),
        cell("a session that has ended by itself", 200, |case| {
            let file = letter();
            let (session, transmission) = case.offered(&file);
            case.guest.upload(&session, &file, &transmission).expect(200);
            case.guest.close(&session)
        }),
        cell("no session", 400, |case| case.guest.post("close-connection", b"{}")),
        cell("session null", 400, |case| case.guest.post("close-connection", br#"{"sessionId":null}"#)),
        cell("session empty", 400, |case| case.guest.post("close-connection", br#"{"sessionId":""}"#)),
        cell("no JSON", 400, |case| case.guest.post("close-connection", b"")),
        cell("a session that never was", 401, |case| {
            case.session();
            case.guest.close(&fresh())
        }),
        cell("e39 from another address", 401, |case| case.thief().close(&case.session())).only(1),
        cell("e39 with another certificate", 403, |case| case.thief().close(&case.session())).only(2),
        cell("twice", 403, |case| {
            let session = case.session();
            case.guest.close(&session).expect(200);
            case.guest.close(&session)
        }),
        cell("twice, when the session has ended by itself", 403, |case| {
            let file = letter();
            let (session, transmission) = case.offered(&file);
            case.guest.upload(&session, &file, &transmission).expect(200);
            case.guest.close(&session).expect(200);
            case.guest.close(&session)
        }),
        cell("another method", 405, |case| {
            case.guest.caller.ask(&request("GET", &case.guest.path("close-connection"), &[], b""))
        }),
    ]);
}
