//! Two people at two terminals, who hand over a database: what each of them is asked, told and left with.

use kith_tests::host::Host;
use kith_tests::lab::Lab;
use serde_json::{Value, json};

use crate::shares::{photos, plant, wrong};

/// Both values of what is handed over hold this.
const MARK: &str = "MARKEDSECRETVALUE";

#[test]
fn h79_somebody_sends_a_database_and_somebody_looks_through_it() {
    let Some(lab) = Lab::new(2) else { return };
    let [old, new] = [(1, "old"), (2, "new")].map(|(i, name)| {
        let mut host = Host::on(&lab, i, name);
        host.configure("[log]\nlevel = \"trace\"\n");
        host.start();
        host
    });
    photos(&old, MARK);
    plant(&new, "geo", "api-key", "OF-NEW");
    plant(&new, "taken", "api-key", "ALSO-NEW");

    let mut sender = old.at_terminal(&["dbs", "send"]);
    sender.answers(&[
        ("Which database [1]: ", ""),
        ("Name [Photos]: ", "Our photos"),
        ("Description (- for none): ", "from the old one"),
        ("Path [s3:b/photos]: ", ""),
        ("Send its S3 credentials, bucket, along? [Y/n] ", ""),
        ("Send its encryption key, key, along? [Y/n] ", "n"),
        ("Send its key for geocoding, geo, along? [Y/n] ", "y"),
    ]);
    let warning = sender.sees("Send it? [y/N] ");
    assert!(
        warning.contains("WARNING: this hands over the database Photos and the values of bucket, geo."),
        "{warning}"
    );
    sender.types("y");
    sender.sees("Type this code on the other device: ");
    let code = sender.sees("\r\n");
    sender.sees("waiting for the other device");

    // Somebody mistypes it: both hear of it at once, and the code still holds.
    let mut hasty = new.at_terminal(&["dbs", "receive"]);
    hasty.answers(&[("The digits that the other device shows: ", &wrong(&code))]);
    hasty.sees("typed wrong here? Then Ctrl+C, and once more");
    sender.sees("typed wrong there? Then kithctl dbs receive there again");
    hasty.interrupts();
    assert_eq!(hasty.leaves().0, 130);

    let mut receiver = new.at_terminal(&["dbs", "receive"]);
    receiver.answers(&[("The digits that the other device shows: ", &code)]);
    let shown = receiver.sees("Name [Our photos]: ");
    assert!(shown.contains("geo, api-key  (this name is taken here)"), "{shown}");
    sender.sees("it is looked through there");
    receiver.types("");
    receiver.answers(&[
        ("Description (- for none) [from the old one]: ", "-"),
        ("Path [s3:b/photos]: ", "/srv/photos"),
        ("Take its S3 credentials, bucket? [Y/n] ", ""),
        ("Take its key for geocoding, geo? [Y/n] ", ""),
        ("Reuse the one that is here, replace it, or rename the new one [1]: ", "rename"),
        ("Name of the new one: ", "taken"),
        ("Save it? [Y/n] ", ""),
        ("Another name for the secret geo [taken]: ", "geo of old"),
    ]);
    let (exit, received) = receiver.leaves();
    assert_eq!(exit, 0, "{received}");
    assert!(received.contains("database Our photos: saved\r\n"), "{received}");
    assert!(received.contains("secret geo of old: saved under this name\r\n"), "{received}");
    let (exit, sent) = sender.leaves();
    assert_eq!((exit, sent.contains("it is saved there")), (0, true), "{sent}");

    let database = new.door().call("databases.view", json!({ "name": "our photos" }));
    let kept = ["description", "path", "s3", "geocoding"].map(|field| database[field].clone());
    assert_eq!(kept, ["", "/srv/photos", "bucket", "geo of old"]);
    assert_eq!(database.get("encryption"), None);
    let value = |name: &str| new.door().call("secrets.view", json!({ "name": name }))["value"].clone();
    let values = ["geo", "taken", "geo of old"].map(value);
    assert_eq!(values, ["OF-NEW", "ALSO-NEW", MARK]);
    let names: Value = new.door().call("secrets.list", json!({}))["secrets"].clone();
    assert_eq!(names.as_array().map(Vec::len), Some(4), "the encryption key was left out: {names}");
    for told in [&sent, &received, &old.log(), &new.log()] {
        assert!(!told.contains(MARK), "no value is shown or logged");
    }
}
