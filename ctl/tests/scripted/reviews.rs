//! Somebody looks through secrets and databases that came.

use serde_json::json;

use crate::fake::Say::{Error, Event, Nothing, Result};
use crate::fake::{Fake, snapshot};
use crate::person::Person;
use crate::receives::{arrived, database, fine, incoming, one, receiving, saved};
use crate::shares::{reason, updated};

#[test]
fn somebody_types_the_code_and_looks_through_a_database() {
    let fake = fine(database("nothing", "nothing"));
    let mut person = fake.at_terminal("dbs receive");
    person.sees("The digits that the other device shows: ");
    person.types("82 1");
    person.sees("a code has 4 to 9 digits");
    person.sees("shows: ");
    assert!(person.echoes());
    person.types("0821");
    let shown = person.sees("Name [photos]: ");
    for words in [
        "waiting for the other device, 60 seconds",
        "from 10.0.0.2 (not paired):",
        "first made      x\\u{1b}[2J\\u{202e}",
        "S3 credentials  photos-s3, s3-credentials\r\n",
        "encryption key  photos-key, encryption-key  (the same is here already)\r\n",
    ] {
        assert!(shown.contains(words), "{words:?} is not in {shown}");
    }
    person.types("albums");
    person.sees("Description (- for none) [ours]: ");
    person.types("mine");
    person.sees("Path [s3:bucket/photos]: ");
    person.types("");
    person.sees("Take its S3 credentials, photos-s3? [Y/n] ");
    person.types("");
    person.sees("Take its encryption key, photos-key? [Y/n] ");
    person.types("n");
    person.sees("Save it? [Y/n] ");
    assert!(fake.asked("shares.save").is_empty());
    person.types("");
    let (exit, shown) = person.leaves();
    assert_eq!((exit, shown.contains("database photos: saved")), (Some(0), true), "{shown}");
    let wanted = json!({
        "share": "s1", "name": "albums", "description": "mine", "path": "s3:bucket/photos", "on_conflict": "fail",
        "secrets": [{"slot": "s3", "include": true, "on_conflict": "fail"}, {"slot": "encryption", "include": false}],
    });
    assert_eq!(fake.asked("shares.save"), [wanted]);
    assert_eq!(fake.asked("shares.receive")[0]["code"], "0821");
    assert!(fake.asked("shares.decline").is_empty() && fake.asked("shares.cancel").is_empty());
}

#[test]
fn what_meets_another_is_asked_about() {
    for (given, answers, wanted) in [
        ("", vec![("is here, replace it, or rename the new one [1]: ", "")], json!({"on_conflict": "reuse"})),
        ("", vec![("rename the new one [1]: ", "replace")], json!({"on_conflict": "replace"})),
        (
            "",
            vec![
                ("rename the new one [1]: ", "3"),
                ("Name of the new one: ", ""),
                ("name: is empty", ""),
                ("Name of the new one: ", "KEY"),
                ("that is the name that is taken", ""),
                ("Name of the new one: ", "key-2"),
            ],
            json!({"name": "key-2", "on_conflict": "fail"}),
        ),
        ("--on-conflict rename", vec![], json!({"on_conflict": "rename"})),
        ("--name other", vec![], json!({"name": "other", "on_conflict": "fail"})),
        ("--name other --on-conflict replace", vec![], json!({"name": "other", "on_conflict": "replace"})),
        ("--name KEY", vec![("rename the new one [1]: ", "")], json!({"name": "KEY", "on_conflict": "reuse"})),
    ] {
        let fake = fine(one("another"));
        let mut person = fake.at_terminal(format!("secrets receive --code 0821 {given}").trim_end());
        if !given.contains("--name") {
            let shown = person.sees("Save it as [key]: ");
            assert!(
                shown.contains("from nas (9a4f0b2c00000000):")
                    && shown.contains("key, api-key  (this name is taken here)"),
                "{shown}"
            );
            person.types("");
        }
        for (question, answer) in answers {
            person.sees(question);
            if question.ends_with(": ") {
                person.types(answer);
            }
        }
        person.sees("Save it? [Y/n] ");
        person.types("y");
        assert_eq!(person.leaves().0, Some(0));
        let mut wanted = wanted;
        wanted["share"] = json!("s1");
        assert_eq!(fake.asked("shares.save"), [wanted], "{given}");
    }
}

/// Answers what is asked about a database before its conflicts.
fn keeps_everything(person: &mut Person) {
    for question in ["Name [", "Description", "Path [", "photos-s3? ", "photos-key? "] {
        person.sees(question);
        person.types("");
    }
}

#[test]
fn each_thing_of_a_database_has_its_own_answer() {
    for (answer, s3, on_conflict, s3_rule) in
        [("replace", "1", "replace", json!("reuse")), ("1", "2", "replace", json!("replace"))]
    {
        let fake = fine(database("another", "another"));
        let mut person = fake.at_terminal("dbs receive --code 0821");
        keeps_everything(&mut person);
        let shown = person.sees("Replace it, rename the new one, or save nothing: ");
        assert!(shown.contains("Another database is called photos here."), "{shown}");
        person.types("");
        person.sees("one of 1 to 3");
        person.sees("or save nothing: ");
        person.types(answer);
        let shown = person.sees("rename the new one [1]: ");
        assert!(shown.contains("Another secret is called photos-s3 here."), "{shown}");
        person.types(s3);
        person.sees("Save it? [Y/n] ");
        person.types("");
        assert_eq!(person.leaves().0, Some(0));
        let save = &fake.asked("shares.save")[0];
        assert_eq!((&save["on_conflict"], &save["secrets"][0]["on_conflict"]), (&json!(on_conflict), &s3_rule));
        assert_eq!(save["secrets"][1], json!({"slot": "encryption", "include": true, "on_conflict": "fail"}));
    }
    let fake = fine(database("nothing", "nothing"));
    let mut person = fake.at_terminal("dbs receive --code 0821 --name a --path c --secrets none");
    person.sees("Description (- for none) [ours]: ");
    person.types("-");
    person.sees("Save it? [Y/n] ");
    person.types("");
    assert_eq!(person.leaves().0, Some(0));
    assert_eq!(fake.asked("shares.save")[0]["description"], "");

    // What is not wanted meets nothing; a rule of the command line is not asked about, where it can be followed.
    let fake = fine(database("another", "another"));
    let mut person = fake.at_terminal("dbs receive --code 0821 --secrets none --name a --description b --path c");
    person.sees("Save it? [Y/n] ");
    person.types("");
    assert_eq!(person.leaves().0, Some(0));
    assert_eq!(fake.asked("shares.save")[0]["secrets"][0], json!({"slot": "s3", "include": false}));
    let mut person =
        fake.at_terminal("dbs receive --code 0821 --secrets all --on-conflict reuse --description b --path c");
    person.sees("Name [photos]: ");
    person.types("");
    person.sees("or save nothing: ");
    person.types("rename");
    person.sees("Name of the new one: ");
    person.types("photos-2");
    person.sees("Save it? [Y/n] ");
    person.types("");
    assert_eq!(person.leaves().0, Some(0));
    let save = &fake.asked("shares.save")[1];
    assert_eq!((&save["name"], &save["on_conflict"]), (&json!("photos-2"), &json!("fail")));
    assert_eq!(save["secrets"][0]["on_conflict"], "reuse");
}

#[test]
fn a_new_name_that_is_taken_is_asked_for_again() {
    let taken_twice = |saves| if saves < 3 { Error(1003, "name_taken") } else { Result(saved()) };
    let fake = receiving(vec![one("nothing")], taken_twice);
    let mut person = fake.at_terminal("secrets receive --code 0821");
    person.sees("Save it as [key]: ");
    person.types("taken");
    person.sees("Save it? [Y/n] ");
    person.types("");
    let shown = person.sees("Another name for the secret key [taken]: ");
    assert!(shown.contains("kithctl: no\r\n"), "what the daemon says: {shown:?}");
    assert!(!shown.contains("  do"), "what to do now is the question: {shown:?}");
    person.types("also-taken");
    person.sees("Another name for the secret key [also-taken]: ");
    person.types("free");
    assert_eq!(person.leaves().0, Some(0));
    let names: Vec<_> = fake.asked("shares.save").iter().map(|save| save["name"].clone()).collect();
    assert_eq!(names, ["taken", "also-taken", "free"]);

    // Somebody took the name that it came with, while it was looked through.
    let fake = receiving(vec![one("nothing"), one("another")], |saves| {
        if saves < 2 { Error(1003, "name_taken") } else { Result(saved()) }
    });
    let mut person = fake.at_terminal("secrets receive --code 0821 --name key");
    person.sees("Save it? [Y/n] ");
    person.types("");
    person.sees("rename the new one [1]: ");
    person.types("");
    assert_eq!(person.leaves().0, Some(0));
    assert_eq!(fake.asked("shares.save")[1]["on_conflict"], "reuse");

    // It was the same as what is here, until somebody changed its description.
    let taken = |saves| if saves < 2 { Error(1003, "name_taken") } else { Result(saved()) };
    let fake = receiving(vec![database("equal", "nothing")], taken);
    let mut person =
        fake.at_terminal("dbs receive --code 0821 --name photos --description mine --path p --secrets all");
    person.sees("Save it? [Y/n] ");
    person.types("");
    person.sees("or save nothing: ");
    person.types("replace");
    assert_eq!(person.leaves().0, Some(0));
    assert_eq!(fake.asked("shares.save")[1]["on_conflict"], "replace");

    // What was chosen cannot be: the one that is here is of another type.
    let in_use = |saves| if saves < 2 { Error(1003, "secret_in_use") } else { Result(saved()) };
    let fake = receiving(vec![one("another")], in_use);
    let mut person = fake.at_terminal("secrets receive --code 0821 --name key");
    person.sees("rename the new one [1]: ");
    person.types("replace");
    person.sees("Save it? [Y/n] ");
    person.types("");
    // Enter alone is what was chosen before.
    person.sees("rename the new one [2]: ");
    person.types("rename");
    person.sees("Name of the new one: ");
    person.types("key-2");
    assert_eq!(person.leaves().0, Some(0));
    assert_eq!(fake.asked("shares.save")[1]["name"], "key-2");

    // Two secrets came under one name.
    let mut twice = database("nothing", "nothing");
    twice["secrets"][1]["name"] = json!("PHOTOS-S3");
    twice["secrets"][1]["meets"] = json!("nothing");
    let fake = receiving(vec![twice], taken);
    let mut person = fake.at_terminal("dbs receive --code 0821 --name a --description b --path c --secrets all");
    person.sees("Save it? [Y/n] ");
    person.types("");
    // The database has a name of its own, which may be the one that is taken.
    person.sees("Another name for the database photos [a]: ");
    person.types("");
    person.sees("Another name for the secret PHOTOS-S3 [PHOTOS-S3]: ");
    person.types("photos-key");
    assert_eq!(person.leaves().0, Some(0));
    assert_eq!(fake.asked("shares.save")[1]["secrets"][1]["name"], "photos-key");

    // There is nothing to ask: the rule was given.
    let fake = receiving(vec![one("another")], |_| Error(1003, "name_taken"));
    let mut person = fake.at_terminal("secrets receive --code 0821 --name key --on-conflict fail");
    person.sees("Save it? [Y/n] ");
    person.types("");
    assert_eq!(person.leaves().0, Some(6));
    assert_eq!((fake.asked("shares.save").len(), fake.asked("shares.decline").len()), (1, 1));
}

#[test]
fn a_vault_that_is_locked_may_be_unlocked_elsewhere() {
    let locked = |saves| if saves < 2 { Error(1003, "vault_locked") } else { Result(saved()) };
    let fake = receiving(vec![one("nothing")], locked);
    let mut person = fake.at_terminal("secrets receive --code 0821 --name key");
    person.sees("Save it? [Y/n] ");
    person.types("");
    person.sees("Unlock it in another window, then press Enter: ");
    person.types("");
    assert_eq!(person.leaves().0, Some(0));
    assert_eq!(fake.asked("shares.save").len(), 2);
    let fake = receiving(vec![one("nothing")], |_| Error(1003, "vault_locked"));
    assert_eq!(fake.run("secrets receive --code 0821 --yes").exit, Some(6));

    // Before it began: what was typed is not typed again.
    let mut tries = 0;
    let fake = Fake::new(move |method, _| match method {
        "events.subscribe" => vec![snapshot()],
        "shares.receive" => {
            tries += 1;
            if tries < 2 { vec![Error(1003, "vault_locked")] } else { vec![Result(incoming(&json!({}))), arrived()] }
        }
        "shares.review" => vec![Result(one("nothing"))],
        _ => vec![Result(saved())],
    });
    let mut person = fake.at_terminal("secrets receive --name key");
    person.sees("shows: ");
    person.types("0821");
    person.sees("Unlock it in another window, then press Enter: ");
    person.types("");
    person.sees("Save it? [Y/n] ");
    person.types("");
    assert_eq!(person.leaves().0, Some(0));
    assert_eq!(fake.asked("shares.receive")[1]["code"], "0821");
}

#[test]
fn whoever_typed_a_wrong_code_hears_it_and_what_to_do() {
    let fake = Fake::new(|method, _| match method {
        "events.subscribe" => vec![snapshot()],
        "shares.receive" => {
            vec![Result(incoming(&json!({}))), Event("share:updated", incoming(&json!({"attempts_left": 2})))]
        }
        _ => vec![Result(incoming(&json!({"state": "canceled"})))],
    });
    let mut person = fake.at_terminal("secrets receive --code 0822");
    person.sees("a wrong code, or another device is interfering; attempts left: 2\r\n");
    person.sees("typed wrong here? Then Ctrl+C, and once more: the code is the same\r\n");
    person.interrupts();
    assert_eq!(person.leaves().0, Some(130));
}

#[test]
fn no_is_told_to_the_sender() {
    for (kind, answers) in [
        ("secrets", vec![("Save it as [key]: ", ""), ("Save it? [Y/n] ", "n")]),
        ("dbs", vec![("or save nothing: ", "nothing")]),
    ] {
        for source in ["--code 0821", "--inbox s1"] {
            let fake = fine(if kind == "dbs" { database("another", "another") } else { one("nothing") });
            let mut person = fake.at_terminal(&format!("{kind} receive {source}"));
            if kind == "dbs" {
                keeps_everything(&mut person);
            }
            for (question, answer) in &answers {
                person.sees(question);
                person.types(answer);
            }
            let (exit, shown) = person.leaves();
            assert_eq!((exit, shown.contains("not saved\r\n")), (Some(0), true), "{shown}");
            assert_eq!(fake.asked("shares.decline"), [json!({"share": "s1"})]);
            assert!(fake.asked("shares.save").is_empty() && fake.asked("shares.cancel").is_empty());
        }
    }
}

#[test]
fn what_was_called_off_meanwhile_says_so() {
    for method in ["shares.review", "shares.save", "shares.decline"] {
        let fake = Fake::new(move |asked, _| match asked {
            "events.subscribe" => vec![snapshot()],
            "shares.receive" => vec![Result(incoming(&json!({}))), arrived()],
            _ if asked == method => vec![
                updated(&json!({"share": "of another", "state": "failed"})),
                Event("share:updated", incoming(&json!({"state": "canceled", "reason": reason(1005, "rejected")}))),
                Error(1003, "wrong_state"),
            ],
            "shares.review" => vec![Result(one("nothing"))],
            _ => vec![Error(-32601, "unknown_method")],
        });
        let mut person = fake.at_terminal("secrets receive --code 0821 --name key");
        if method != "shares.review" {
            person.sees("Save it? [Y/n] ");
            person.types(if method == "shares.save" { "y" } else { "n" });
        }
        let (exit, shown) = person.leaves();
        assert_eq!((exit, shown.contains("kithctl: no\r\n  do\r\n")), (Some(1), true), "{method}: {shown}");
    }
}

#[test]
fn what_a_paired_device_sent_is_looked_through_in_the_inbox() {
    for line in ["inbox accept s1", "inbox accept s", "secrets receive --inbox s1"] {
        let fake = Fake::new(|method, _| match method {
            "events.subscribe" => vec![snapshot()],
            "inbox.list" => vec![Result(json!({"transfers": []}))],
            "shares.list" => vec![Result(json!({"shares": [incoming(&json!({"kind": "secret", "state": "review"}))]}))],
            "shares.review" => vec![Result(one("another"))],
            "shares.save" => vec![Result(saved())],
            _ => vec![Error(-32601, "unknown_method")],
        });
        let mut person = fake.at_terminal(line);
        person.sees("Save it as [key]: ");
        person.types("mine");
        person.sees("Save it? [Y/n] ");
        person.types("");
        assert_eq!(person.leaves().0, Some(0));
        assert_eq!(fake.asked("shares.save"), [json!({"share": "s1", "name": "mine", "on_conflict": "fail"})]);

        // Ctrl+C leaves it where it is.
        let mut person = fake.at_terminal(line);
        person.sees("Save it as [key]: ");
        person.interrupts();
        assert_eq!(person.leaves().0, Some(130));
        assert!(fake.asked("shares.cancel").is_empty() && fake.asked("shares.decline").is_empty());
    }
}

#[test]
fn the_bridge_is_named_as_unsafe_and_always_looked_at() {
    let mut review = database("nothing", "nothing");
    review["compat"] = json!(true);
    let fake = fine(review);
    let mut person = fake.at_terminal("dbs receive --compat photosphere");
    let shown = person.sees("shows: ");
    assert!(shown.contains("WARNING: --compat photosphere is not safe"), "{shown}");
    person.types("0821");
    let shown = person.sees("Name [photos]: ");
    assert!(shown.contains("any device on this network could have sent this"), "{shown}");
    person.interrupts();
    assert_eq!(person.leaves().0, Some(130));
    assert_eq!(fake.asked("shares.receive")[0]["compat"], true);
}

#[test]
fn ctrl_c_calls_it_off() {
    let fake = fine(database("another", "another"));
    let mut person = fake.at_terminal("dbs receive");
    person.sees("shows: ");
    person.interrupts();
    assert_eq!(person.leaves().0, Some(130));
    assert!(fake.asked("shares.receive").is_empty() && fake.asked("shares.cancel").is_empty());

    let steps =
        ["Name [", "Description", "Path [", "photos-s3? ", "photos-key? ", "save nothing: ", "one [1]: ", "Save it? "];
    for (count, last) in steps.iter().enumerate() {
        let mut person = fake.at_terminal("dbs receive --code 0821");
        for question in &steps[..count] {
            person.sees(question);
            person.types(if question.starts_with("save nothing") { "1" } else { "" });
        }
        person.sees(last);
        person.interrupts();
        assert_eq!(person.leaves().0, Some(130), "{last}");
        assert_eq!(fake.asked("shares.cancel").len(), count + 1, "{last}");
    }
    assert!(fake.asked("shares.save").is_empty() && fake.asked("shares.decline").is_empty());

    let silent = Fake::new(|method, _| match method {
        "events.subscribe" => vec![snapshot()],
        "shares.receive" => vec![Result(incoming(&json!({})))],
        "shares.cancel" => vec![Result(incoming(&json!({"state": "canceled"})))],
        _ => vec![Nothing],
    });
    let mut person = silent.at_terminal("dbs receive --code 0821");
    person.sees("waiting for the other device");
    person.interrupts();
    assert_eq!(person.leaves().0, Some(130));
    assert_eq!(silent.asked("shares.cancel"), [json!({"share": "s1"})]);
}

#[test]
fn whoever_answers_nothing_saves_nothing() {
    let fake = fine(one("nothing"));
    let mut person = fake.at_terminal("secrets receive --code 0821");
    person.sees("Save it as [key]: ");
    person.ends();
    assert_eq!(person.leaves().0, Some(1));
    assert!(fake.asked("shares.save").is_empty());
}
