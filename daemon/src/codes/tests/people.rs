//! Codes as people make and name them, and requests that they answer.

use kith_proto::control::code::{CodeState, RequestAnswerParams, RequestState};
use kith_proto::control::event;
use kith_proto::control::types::Relation;

use super::*;
use crate::event::{Read, Reader};

fn asking(uses: u32) -> CodeIssueParams {
    CodeIssueParams { approval: Some(CodeApproval::Ask), ..terms(uses) }
}

async fn answer(host: &Host, accept: bool, of: &Joiner) -> Result<RequestState, ErrorCode> {
    let waiting = host.codes.requests().await.unwrap();
    let request = waiting.iter().find(|request| request.device.id == of.key.device_id()).unwrap().request.clone();
    let answered = host.codes.answer(RequestAnswerParams { request, accept }).await;
    answered.map(|request| request.state).map_err(|error| error.code)
}

/// The next fact of this kind.
async fn fact(facts: &mut Reader, kind: &str) -> serde_json::Value {
    let wanted = async {
        loop {
            if let Read::Fact(event) = facts.next().await
                && event.kind == kind
            {
                return event.data.clone();
            }
        }
    };
    tokio::time::timeout(PATIENCE, wanted).await.expect("a fact in time")
}

#[tokio::test]
async fn a_code_is_shown_once_and_its_terms_have_bounds() {
    let host = host(&[]).await;
    let issued = host.codes.issue(CodeIssueParams { approval: None, uses: None, ..terms(1) }).await.unwrap();
    assert_eq!((issued.issued.uses, issued.issued.approval), (Some(1), CodeApproval::Auto));
    assert_eq!((issued.issued.label.as_str(), issued.issued.state), ("trip", CodeState::Active));
    assert_eq!(issued.uri.expose(), format!("kith:join/{}", issued.code.expose()));
    let code = Code::read(issued);
    assert_eq!(code.payload.issuer, host.identity.public());
    assert!(
        code.payload.addresses.iter().all(|address| address.port() == 44_000) && !code.payload.addresses.is_empty()
    );
    // What is kept opens nothing: neither the code nor what its secrets are.
    let secrets = code.secret.keys();
    let text = code.secret.to_text().expose().clone();
    let kept = host.store.read(|connection| {
        let mut statement = connection.prepare("SELECT * FROM code")?;
        let columns = 0..statement.column_count();
        let cells = |row: &rusqlite::Row<'_>| {
            columns.clone().map(|at| Ok(row.get_ref(at)?.as_bytes().unwrap_or_default().to_vec())).collect()
        };
        statement.query_row([], cells)
    });
    let kept: Vec<Vec<u8>> = kept.await.unwrap();
    let holds = |part: &[u8]| kept.iter().any(|cell| cell.windows(part.len()).any(|window| window == part));
    assert!(holds(&secrets.proof.public()) && holds(&code.blob));
    assert!(!holds(secrets.proof.seed()) && !holds(secrets.payload.expose()));
    assert!(!holds(text.as_bytes()) && !holds(text.replace('-', "").as_bytes()));

    let day = CodeIssueParams { approval: None, seconds: Some(86_400), ..terms(1) };
    let asked = CodeIssueParams { approval: Some(CodeApproval::Ask), ..day.clone() };
    assert_eq!(host.codes.issue(asked).await.unwrap().issued.approval, CodeApproval::Ask);
    let several = host.codes.issue(CodeIssueParams { uses: Some(2), ..day.clone() }).await.unwrap();
    assert_eq!(several.issued.approval, CodeApproval::Ask);
    let uncounted = host.codes.issue(CodeIssueParams { uses: Some(0), ..day.clone() }).await.unwrap();
    assert_eq!((uncounted.issued.uses, uncounted.issued.approval), (None, CodeApproval::Ask));
    for (wrong, error) in [
        (CodeIssueParams { uses: Some(limits::CODE_USES + 1), ..day.clone() }, ErrorCode::InvalidParam),
        (CodeIssueParams { seconds: Some(59), ..day.clone() }, ErrorCode::InvalidParam),
        (CodeIssueParams { seconds: Some(30 * 86_400 + 1), ..day.clone() }, ErrorCode::InvalidParam),
        (CodeIssueParams { label: Some("a\u{1b}[31m".to_owned()), ..day.clone() }, ErrorCode::InvalidParam),
        (CodeIssueParams { label: Some("  ".to_owned()), ..day.clone() }, ErrorCode::InvalidParam),
        (CodeIssueParams { kind: "folder".to_owned(), ..day.clone() }, ErrorCode::InvalidParam),
        (CodeIssueParams { resource: "attic".to_owned(), ..day.clone() }, ErrorCode::JournalNotFound),
        (CodeIssueParams { resource: "default".to_owned(), ..day.clone() }, ErrorCode::WrongState),
        (CodeIssueParams { approval: Some(CodeApproval::Unknown), ..day.clone() }, ErrorCode::InvalidParam),
    ] {
        assert_eq!(host.codes.issue(wrong).await.unwrap_err().code, error);
    }
    let long = CodeIssueParams { label: Some("ü".repeat(100)), ..day };
    assert_eq!(host.codes.issue(long).await.unwrap().issued.label, "ü".repeat(64));
    host.end().await;
}

#[tokio::test]
async fn codes_are_found_by_id_prefix_or_label_and_those_that_live_first() {
    let host = host(&[]).await;
    let (first, second) = (host.issue(1).await, host.issue(1).await);
    assert_eq!(host.codes.show(first.id[..7].to_owned()).await.unwrap().issued.id, first.id);
    let error = host.codes.show("TRIP".to_owned()).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidParam);
    assert!(error.message.contains(&first.id) && error.message.contains(&second.id), "{error}");
    let revoke = kith_proto::control::code::CodeRevokeParams { code: first.id, expel: false };
    host.codes.revoke(revoke).await.unwrap();
    assert_eq!(host.codes.show("Trip".to_owned()).await.unwrap().issued.id, second.id);
    assert_eq!(host.codes.show("attic".to_owned()).await.unwrap_err().code, ErrorCode::CodeNotFound);
    assert_eq!(host.codes.show(String::new()).await.unwrap_err().code, ErrorCode::CodeNotFound);
    assert_eq!(host.codes.list().await.unwrap().len(), 2);
    host.end().await;
}

#[tokio::test]
async fn g74_a_request_waits_is_accepted_and_makes_a_member() {
    let host = host(&[]).await;
    let mut facts = host.events.reader(0);
    let code = host.issued(asking(2)).await;
    let asked = host.join(&code, &joiner(1)).await;
    assert_eq!((asked.reason, asked.retry_after), (Reason::ApprovalPending, Some(5)));
    assert_eq!(fact(&mut facts, "request:updated").await["state"], "waiting");
    let again = host.decide_at(clock::now_ms() + 121_000, vec![joiner(1).knock(&host, &code)]).await.remove(0);
    assert_eq!((again.reason, again.retry_after), (Reason::ApprovalPending, Some(60)));
    assert_eq!(host.totals(), [0; 4]);
    assert_eq!((host.codes.waiting().await.unwrap(), host.shown(&code).await.waiting), (1, 1));
    let request = host.codes.requests().await.unwrap().remove(0);
    assert_eq!((request.device.name.as_str(), request.address.as_str()), ("joiner 1", "127.0.0.1"));

    assert_eq!(answer(&host, true, &joiner(1)).await, Ok(RequestState::Accepted));
    assert_eq!(fact(&mut facts, "request:updated").await["state"], "accepted");
    assert_eq!(host.totals(), [1; 4]);
    let let_in = host.join(&code, &joiner(1)).await;
    assert!(let_in.reason.is_in() && let_in.introduction.is_some());
    assert_eq!(host.codes.waiting().await.unwrap(), 0);
    // Once is enough.
    let twice = host.codes.answer(RequestAnswerParams { request: request.request, accept: false }).await;
    assert_eq!(twice.unwrap_err().code, ErrorCode::WrongState);
    assert_eq!(host.totals(), [1; 4]);
    host.end().await;
}

#[tokio::test]
async fn g74_no_means_no_and_a_code_that_is_over_lets_nobody_in_by_hand_either() {
    let host = host(&[]).await;
    let code = host.issued(asking(1)).await;
    for number in 1..=3 {
        assert_eq!(host.reason(&code, &joiner(number)).await, Reason::ApprovalPending);
    }
    assert_eq!(answer(&host, false, &joiner(1)).await, Ok(RequestState::Denied));
    assert_eq!(host.reason(&code, &joiner(1)).await, Reason::Denied);
    let third = joiner(3).key.device_id();
    let waiting = host.codes.requests().await.unwrap();
    let late = waiting.into_iter().find(|it| it.device.id == third).unwrap().request;
    assert_eq!(answer(&host, true, &joiner(2)).await, Ok(RequestState::Accepted));
    // The one use is taken: the third one hears so, and does not wait any more.
    assert_eq!(host.reason(&code, &joiner(3)).await, Reason::UsedUp);
    assert_eq!(host.codes.waiting().await.unwrap(), 0);
    let refused = host.codes.answer(RequestAnswerParams { request: late, accept: true }).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::CodeUsedUp);
    assert_eq!(host.totals(), [1; 4]);

    let code = host.issued(asking(0)).await;
    assert_eq!(host.reason(&code, &joiner(4)).await, Reason::ApprovalPending);
    let revoke = kith_proto::control::code::CodeRevokeParams { code: code.id.clone(), expel: false };
    host.codes.revoke(revoke).await.unwrap();
    assert_eq!(host.reason(&code, &joiner(4)).await, Reason::Revoked);
    assert_eq!(host.codes.waiting().await.unwrap(), 0);
    assert_eq!(host.totals(), [1; 4]);
    host.end().await;
}

#[tokio::test]
async fn g74_a_request_that_came_in_time_may_be_accepted_a_day_longer() {
    let host = host(&[]).await;
    let code = host.issued(asking(0)).await;
    let day = limits::JOIN_GRACE_MS as i64;
    let end = clock::now_ms() + limits::HELLO_SECONDS_USUAL as i64 * 1000;
    for number in [1, 2] {
        assert_eq!(host.reason(&code, &joiner(number)).await, Reason::ApprovalPending);
    }
    // The code's time is over, as a newcomer hears; whoever waits goes on waiting, and may still be let in.
    assert_eq!(host.reason_at(end + 2000, &code, &joiner(3)).await, Reason::Expired);
    assert_eq!(host.reason_at(end + day - 60_000, &code, &joiner(1)).await, Reason::ApprovalPending);
    assert_eq!(answer(&host, true, &joiner(1)).await, Ok(RequestState::Accepted));
    assert_eq!(host.reason(&code, &joiner(1)).await, Reason::AlreadyMember);
    let lapsed = host.decide_at(end + day + 2000, vec![joiner(2).knock(&host, &code)]).await.remove(0);
    assert_eq!(lapsed.reason, Reason::Denied);
    assert_eq!(host.reason(&code, &joiner(2)).await, Reason::Denied, "and that holds");
    host.end().await;
}

#[tokio::test]
async fn a_member_that_is_not_trusted_here_is_asked_about_too() {
    let host = host(&[]).await;
    for number in [1, 2] {
        host.trust.pair(joiner(number).key, "member".to_owned(), Relation::Guest, None).await.unwrap();
        host.sync.share("trip".to_owned(), joiner(number).key).await.unwrap();
    }
    host.trust.revoke(joiner(1).key).await.unwrap();
    let begun = clock::now_ms();
    while clock::now_ms() == begun {
        std::thread::yield_now();
    }
    let code = host.issued(asking(0)).await;
    assert_eq!(host.reason(&code, &joiner(2)).await, Reason::AlreadyMember);
    assert_eq!(host.reason(&code, &joiner(1)).await, Reason::ApprovalPending);
    assert!(host.trust.snapshot().trusted(&joiner(1).key).is_none());
    assert_eq!(answer(&host, true, &joiner(1)).await, Ok(RequestState::Accepted));
    assert_eq!(host.reason(&code, &joiner(1)).await, Reason::AlreadyMember);
    assert!(host.trust.snapshot().trusted(&joiner(1).key).is_some());
    host.end().await;
}

#[tokio::test]
async fn g75_whoever_waits_for_an_answer_hears_that_the_resource_is_gone() {
    let host = host(&[]).await;
    let code = host.issued(asking(0)).await;
    assert_eq!(host.reason(&code, &joiner(1)).await, Reason::ApprovalPending);
    host.sync.remove("trip".to_owned()).await.unwrap();
    assert_eq!(host.reason(&code, &joiner(1)).await, Reason::ResourceGone);
    host.end().await;
}

#[tokio::test]
async fn requests_are_bounded() {
    let host = host(&[]).await;
    let code = host.issued(asking(0)).await;
    let knocks: Vec<_> =
        (0..limits::JOIN_REQUESTS as u32 + 1).map(|number| joiner(number).knock(&host, &code)).collect();
    let heard = host.decide_at(clock::now_ms(), knocks).await;
    assert_eq!(heard.iter().filter(|it| it.reason == Reason::ApprovalPending).count(), limits::JOIN_REQUESTS);
    let last = heard.last().unwrap();
    assert_eq!((last.reason, last.retry_after), (Reason::Busy, Some(60)));
    host.end().await;
}

#[tokio::test]
async fn changes_are_told_and_never_the_code() {
    let host = host(&[]).await;
    let mut facts = host.events.reader(0);
    let code = host.issue(2).await;
    assert_eq!(fact(&mut facts, "code:updated").await["state"], "active");
    for number in [1, 2] {
        assert_eq!(host.reason(&code, &joiner(number)).await, Reason::Ok);
    }
    let told = loop {
        let told = fact(&mut facts, "code:updated").await;
        if told["used"] == 2 {
            break told;
        }
    };
    assert_eq!(told["state"], "used_up");
    assert!(event::Fact::KINDS.contains(&"code:updated"));
    let text = code.secret.to_text().expose().clone();
    let mut all = host.events.reader(0);
    while let Ok(Read::Fact(event)) = tokio::time::timeout(Duration::ZERO, all.next()).await {
        assert!(!event.data.to_string().contains(&text));
    }
    host.end().await;
}
