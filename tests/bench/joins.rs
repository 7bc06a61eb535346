//! Joining by a code: a thousand devices that exist in this process only, one issuer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kith_proto::peer::join::Reason;
use kith_tests::host::Host;
use kith_tests::joiner::{crowd, issue, peer_door};
use kith_tests::{PATIENCE, wait};
use serde_json::json;

use crate::Plan;
use crate::figures::memory;
use crate::table::Table;

const THREADS: u16 = 16;
const KILLS: u16 = 20;

/// Measures them without and with an issuer that is killed again and again.
pub fn run(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let joins = plan.joins;
    for kills in [0, KILLS] {
        let mut host = Host::under(&plan.dir, "hub");
        host.start();
        host.door().call("journals.create", json!({"name": "notes"}));
        let issued = issue(&host, "notes", json!({ "uses": joins }));
        let door = Mutex::new(peer_door(&host));
        let done = AtomicBool::new(false);
        let begun = Instant::now();
        let (told, took) = std::thread::scope(|scope| {
            let joining = scope.spawn(|| {
                let told = crowd(THREADS, joins, &door, &issued);
                done.store(true, Ordering::SeqCst);
                (told, begun.elapsed())
            });
            for kill in 1..=kills {
                let part = u64::from(joins) * u64::from(kill) / u64::from(kills + 1);
                wait::until_true("some to come", 3 * PATIENCE, || {
                    let code = host.door().call("codes.show", json!({ "code": issued.id }));
                    done.load(Ordering::SeqCst) || code["used"].as_u64() >= Some(part)
                });
                host.kill9();
                host.start();
                *door.lock().unwrap_or_else(PoisonError::into_inner) = peer_door(&host);
            }
            joining.join().expect("nobody panics")
        });
        let code = host.door().call("codes.show", json!({ "code": issued.id }));
        anyhow::ensure!(code["used"] == joins, "{joins} joined, and {} were counted", code["used"]);
        anyhow::ensure!(told.iter().all(|(_, result)| matches!(result.reason, Reason::Ok | Reason::AlreadyMember)));
        let what = if kills == 0 { String::new() } else { format!(", issuer killed {kills} times") };
        table.at_most(&format!("{joins} joins by one code{what}"), took.as_secs_f64(), 10.0, "s");
        if kills == 0 {
            wait::nap(Duration::from_secs(5));
            table.at_most("memory of the issuer afterwards", memory(host.pid(), "VmRSS")?, 20.0, "MiB");
        }
    }
    Ok(())
}
