//! G65: a device whose database is put back to what it was gets everything back, and what it writes reaches the others.

use std::path::Path;
use std::process::Command;

use kith_tests::PATIENCE;
use kith_tests::host::Host;
use kith_tests::process::run;

use crate::journals::{delete, entries, ids, join, live, put, put_all, text_of, wait_equal};
use crate::net::{network, text};

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").args(["-a", text(from), text(to)]), PATIENCE).ok();
}

/// Puts the files back that `only` names; others stay.
fn restore(host: &Host, only: impl Fn(&str) -> bool) {
    let data = host.path("data");
    let names = |dir: &Path| -> Vec<String> {
        let list = std::fs::read_dir(dir).expect("the home is ours");
        list.map(|it| it.expect("an entry").file_name().into_string().expect("UTF-8"))
            .filter(|name| only(name))
            .collect()
    };
    for name in names(&data) {
        run(Command::new("rm").args(["-r", text(&data.join(name))]), PATIENCE).ok();
    }
    let saved = names(&host.path("backup"));
    assert!(!saved.is_empty(), "nothing is restored");
    for name in saved {
        copy(&host.path("backup").join(&name), &data.join(name));
    }
}

/// Once with all that is in the directory, once with the database alone; and it writes more than it lost, or less, before
/// it meets anybody.
#[test]
fn g65_a_restored_backup() {
    let Some((lab, [mut anna, bert, cleo])) = network(["anna", "bert", "cleo"]) else { return };
    for (one, other) in [(&anna, &bert), (&bert, &cleo), (&anna, &cleo)] {
        join(one, other);
    }
    put_all(&anna, ids("early", 20), b"as it was");
    for (round, (whole, more)) in [(true, 3), (true, 100), (false, 3), (false, 100)].into_iter().enumerate() {
        let [edited, deleted, again] = [0, 1, 2].map(|number| format!("early-{}", 4 * round + number));
        wait_equal(&[&anna, &bert, &cleo]);
        assert_eq!(anna.stop(), 0);
        copy(&anna.path("data"), &anna.path("backup"));
        anna.start();
        // What the backup does not know.
        put_all(&anna, ids(&format!("lost-{round}"), 30), b"not in the backup");
        put_all(&bert, ids(&format!("bert-{round}"), 10), b"not in the backup");
        put(&anna, &edited, "edited after the backup");
        delete(&anna, &deleted);
        delete(&bert, &again);
        let before = wait_equal(&[&anna, &bert, &cleo]);
        assert_eq!(anna.stop(), 0);
        let database = |name: &str| name.starts_with("kith.db");
        restore(&anna, |name| whole || database(name));
        std::fs::remove_dir_all(anna.path("backup")).expect("the home is ours");
        lab.block(1);
        anna.start();
        assert!(entries(&anna).len() < before.len(), "nothing was restored");
        put_all(&anna, ids(&format!("restored-{round}"), more), b"written after the restore");
        lab.heal(1);

        let now = wait_equal(&[&anna, &bert, &cleo]);
        assert_eq!(now.len(), before.len() + more, "round {round}");
        assert!(
            before.iter().all(|(id, entry)| now.get(id) == Some(entry)),
            "round {round}: what was there is as it was"
        );
        for host in [&anna, &bert, &cleo] {
            assert_eq!(text_of(host, &edited, None), "edited after the backup");
            assert!(!live(host).contains(&deleted) && !live(host).contains(&again));
            let last = format!("restored-{round}-{}", more - 1);
            assert_eq!(text_of(host, &last, None), "written after the restore");
        }
    }
}
