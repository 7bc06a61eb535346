//! Databases and the secrets that they need.

use serde_json::{Value, json};

use crate::fake::Fake;
use crate::fake::Say::Result;
use crate::secrets::secret;

fn database(changes: &Value) -> Value {
    let mut database = json!({
        "name": "Photos", "description": "ours", "path": "s3:b/p", "origin": "home", "s3": "bucket", "created": "then",
        "updated": "now", "newer": 1,
    });
    for (key, value) in changes.as_object().unwrap() {
        database[key] = value.clone();
    }
    database
}

fn willing() -> Fake {
    Fake::new(|method, params| {
        vec![Result(match method {
            "databases.list" => json!({"databases": [database(&json!({})), database(&json!({
                "name": "a\u{1b}", "s3": null, "encryption": "key", "geocoding": "maps"}))]}),
            "databases.remove" => json!({}),
            "secrets.list" => json!({"secrets": [
                secret("bucket", "s3-credentials"), secret("bucket 2", "s3-credentials"), secret("key", "encryption-key")
            ]}),
            _ => database(&json!({"name": params["name"]})),
        })]
    })
}

#[test]
fn b14_databases_in_a_table() {
    let fake = willing();
    let ran = fake.run("dbs");
    let wanted = "NAME     PATH    S3      ENCRYPTION  GEOCODING\nPhotos   s3:b/p  bucket\n\
        a\\u{1b}  s3:b/p          key         maps\n";
    assert_eq!((ran.exit, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), wanted, ""));
    assert_eq!(fake.run("dbs list --json").lines()[0]["databases"][0], database(&json!({})));
    let ran = fake.run("dbs view Photos");
    for words in ["name         Photos", "description  ours", "path         s3:b/p", "s3           bucket"] {
        assert!(ran.stdout.contains(words), "{words:?} is not in {}", ran.stdout);
    }
    assert_eq!(fake.run("dbs view Photos --json").lines(), [database(&json!({}))]);
    assert_eq!(fake.asked("databases.view"), vec![json!({"name": "Photos"}); 2]);
}

#[test]
fn what_is_done_to_a_database() {
    let fake = willing();
    for (line, method, params) in [
        (
            "add --name a --path /a --description b --origin c --s3 bucket --encryption key --geocoding maps",
            "databases.add",
            json!({"name": "a", "path": "/a", "description": "b", "origin": "c", "s3": "bucket", "encryption": "key", "geocoding": "maps"}),
        ),
        ("add --name a --path /a --s3 ", "databases.add", json!({"name": "a", "path": "/a", "description": ""})),
        ("edit a --rename b --s3 ", "databases.edit", json!({"name": "a", "rename": "b", "s3": ""})),
        (
            "edit a --description  --path /b --origin  --encryption key --geocoding maps",
            "databases.edit",
            json!({"name": "a", "description": "", "path": "/b", "origin": "", "encryption": "key", "geocoding": "maps"}),
        ),
        ("remove a", "databases.remove", json!({"name": "a"})),
        ("remove a --yes", "databases.remove", json!({"name": "a"})),
    ] {
        let before = fake.asked(method).len();
        let ran = fake.run(&format!("dbs {line}"));
        assert_eq!((ran.exit, ran.stderr.as_str(), ran.stdout.is_empty()), (Some(0), "", false), "{line}: {ran:?}");
        assert_eq!(fake.asked(method)[before..], [params], "{line}");
        assert_eq!(fake.run(&format!("dbs {line} --json")).lines().len(), 1, "{line}");
    }
    let before = (fake.asked("databases.add").len(), fake.asked("databases.edit").len());
    for (line, words) in [
        ("add --path /a", "--name"),
        ("add --name a", "--path"),
        ("add --name  --path /a", "name: is empty"),
        ("add --name a --path \u{7}", "path: has control or invisible characters"),
        ("edit a", "nothing to change"),
        ("edit a --rename ", "rename: is empty"),
    ] {
        let ran = fake.run(&format!("dbs {line} --json"));
        assert_eq!((ran.exit, ran.stderr.contains(words)), (Some(2), true), "{line}: {ran:?}");
    }
    assert_eq!((fake.asked("databases.add").len(), fake.asked("databases.edit").len()), before);
}

#[test]
fn somebody_at_a_terminal_is_asked_for_everything() {
    let fake = willing();
    let mut person = fake.at_terminal("dbs add --description given");
    for (question, answer) in [
        ("Name: ", "New"),
        ("Path (a directory, or s3:bucket/prefix): ", "/n"),
        ("Origin (where it was first made; may be empty): ", ""),
        ("1  bucket\r\n  2  bucket 2\r\n  3  none\r\nSecret for s3 [3]: ", "2"),
        ("Secret for encryption [2]: ", ""),
    ] {
        person.sees(question);
        person.types(answer);
    }
    // There is no key for geocoding to choose from.
    assert_eq!(person.leaves().0, Some(0));
    let asked = json!({"name": "New", "path": "/n", "description": "given", "s3": "bucket 2"});
    assert_eq!(fake.asked("databases.add"), [asked]);
    // What cannot be is asked again, and what could be stays.
    let mut person = fake.at_terminal("dbs add --origin o --s3 bucket --encryption key");
    for (question, answer) in [
        ("Name: ", "New"),
        ("Path (a directory, or s3:bucket/prefix): ", ""),
        ("Description: ", "what for"),
        ("path: is empty\r\nName [New]: ", ""),
        ("Path (a directory, or s3:bucket/prefix): ", "/n"),
        ("Description [what for]: ", ""),
    ] {
        person.sees(question);
        person.types(answer);
    }
    assert_eq!(person.leaves().0, Some(0));
    let asked = json!({
        "name": "New", "path": "/n", "description": "what for", "origin": "o", "s3": "bucket", "encryption": "key",
    });
    assert_eq!(fake.asked("databases.add")[1], asked);
    assert_eq!(fake.at_terminal("dbs add --path /a\u{7}").leaves().0, Some(2), "what was given is not asked for");
    // Name and path are enough.
    assert_eq!(fake.at_terminal("dbs add --name a --path /a").leaves().0, Some(0));
}

#[test]
fn enter_keeps_what_is_there() {
    let fake = willing();
    let edit = |answers: [&str; 6]| {
        let mut person = fake.at_terminal("dbs edit Photos");
        let questions = [
            "Name [Photos]: ",
            "Path [s3:b/p]: ",
            "Description (- for none) [ours]: ",
            "Origin (- for none) [home]: ",
            "Secret for s3 [1]: ",
            "Secret for encryption [2]: ",
        ];
        for (question, answer) in questions.iter().zip(answers) {
            person.sees(question);
            person.types(answer);
        }
        let (exit, shown) = person.leaves();
        assert_eq!(exit, Some(0), "{shown}");
        shown
    };
    let shown = edit(["", "", "", "", "", ""]);
    assert!(shown.contains("nothing was changed"), "{shown}");
    edit(["Ours", "", "-", "-", "none", "key"]);
    let asked =
        json!({"name": "Photos", "rename": "Ours", "description": "", "origin": "", "s3": "", "encryption": "key"});
    assert_eq!(fake.asked("databases.edit"), [asked]);
    // A path is never nothing: `-` is one.
    edit(["", "-", "", "", "", ""]);
    assert_eq!(fake.asked("databases.edit")[1], json!({"name": "Photos", "path": "-"}));
}

#[test]
fn removing_is_asked_about_at_a_terminal() {
    for (answer, exit, removed) in [("n", 1, 0), ("", 1, 0), ("y", 0, 1)] {
        let fake = willing();
        let mut person = fake.at_terminal("dbs remove Photos");
        person.sees("Remove Photos from the list? Its files and its secrets stay. [y/N] ");
        person.types(answer);
        let (ended, shown) = person.leaves();
        assert_eq!((ended, fake.asked("databases.remove").len()), (Some(exit), removed), "{answer:?}: {shown}");
    }
}
