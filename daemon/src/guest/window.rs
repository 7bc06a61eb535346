//! When the guest door is open: windows that somebody opens, and the one that stays where the configuration says so.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kith_proto::control::event::Fact;
use kith_proto::control::method::{GuestOpenParams, GuestOpenResult};
use kith_proto::control::types::{Conflict, Window, WindowState};
use kith_proto::control::{ApiError, Code};
use kith_proto::guest::{CertificateHash, Qr, Refusal, Version};
use kith_proto::limits;
use kith_proto::pin::Pin;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Engine;
use super::desk::Desk;
use super::receive::How;
use crate::files::Tree;
use crate::tls::guest::Certificate;
use crate::{clock, platform};

/// The ports that are tried first: the seed's, and that of today's apps.
pub const PORTS: [u16; 2] = [53_317, 53_320];
/// How long a window that nobody needs any more waits for the goodbye of whom it served.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long a door may take to close.
const CLOSING: Duration = Duration::from_secs(5);
/// How often a door that stays looks whether its PIN may be tried again.
const REST_CHECK: Duration = Duration::from_secs(60);
/// A PIN that stays and that nobody chose is replaced once a day.
const ROTATION: Duration = Duration::from_secs(86_400);
/// How long to wait when a door that should stay cannot be opened.
const RETRY: Duration = Duration::from_secs(30);

/// What the door is to serve.
pub struct Opening {
    /// Where it listens.
    pub listener: TcpListener,
    /// Which certificate it shows.
    pub tls: Arc<ServerConfig>,
    /// Cancelled when it is to close.
    pub over: CancellationToken,
    /// Dropped when it is closed.
    pub closed: DropGuard,
}

/// A window.
pub struct Open {
    /// As the local door shows it.
    pub view: Window,
    /// Who was let in.
    pub desk: Desk,
    /// Nobody is asked.
    pub accept: bool,
    /// Where files go.
    pub dir: PathBuf,
    /// What to do when a name exists.
    pub conflict: Conflict,
    /// It stays: the configuration says so.
    pub standing: bool,
    /// Wakes whoever waits for the desk to be free.
    pub changed: Arc<Notify>,
    /// Cancelled when nobody new is let in any more.
    pub shut: CancellationToken,
    /// Of the certificate that it shows.
    pub hash: CertificateHash,
    addresses: Vec<IpAddr>,
    over: CancellationToken,
    closed: CancellationToken,
}

/// What kind of window.
struct Plan {
    pin: Pin,
    attempts: u32,
    accept: bool,
    dir: PathBuf,
    conflict: Conflict,
    standing: bool,
    time: Option<Duration>,
}

impl Open {
    fn shut(&mut self) {
        self.desk.shut();
        self.shut.cancel();
    }

    fn result(&self) -> GuestOpenResult {
        let qr = Qr {
            addresses: self.addresses.clone(),
            port: self.view.port,
            certificate_hash: self.hash,
            pin: self.desk.pin().duplicate(),
            protocol_version: Some(Version::V2.number()),
        };
        GuestOpenResult {
            window: self.view.window.clone(),
            pin: self.desk.pin().expose().to_owned(),
            port: self.view.port,
            addresses: self.addresses.iter().map(ToString::to_string).collect(),
            certificate_hash: self.view.certificate_hash.clone(),
            qr: qr.to_text(),
            expires: self.view.expires.clone(),
        }
    }
}

impl Engine {
    fn window(&self) -> MutexGuard<'_, Option<Open>> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something with the window that is open; without one, a session is as unknown as can be.
    pub(super) fn with_window<T>(&self, work: impl FnOnce(&mut Open) -> Result<T, Refusal>) -> Result<T, Refusal> {
        self.window().as_mut().map_or(Err(Refusal::NoSession), work)
    }

    /// Tells what the window is like now.
    pub(super) fn tell_window(&self) {
        let view = self.window().as_mut().map(|open| {
            open.view.attempts_left = open.desk.attempts_left();
            open.view.clone()
        });
        if let Some(view) = view {
            self.events.publish(&Fact::WindowUpdated(view));
        }
    }

    /// The window as the local door shows it.
    pub(super) fn shown_window(&self) -> Option<Window> {
        self.window().as_ref().filter(|open| !open.desk.is_shut()).map(|open| open.view.clone())
    }

    /// The window with its PIN.
    pub(super) fn show(&self) -> Result<GuestOpenResult, ApiError> {
        let window = self.window();
        let open = window.as_ref().filter(|open| !open.desk.is_shut());
        open.map(Open::result).ok_or_else(|| not_found().hint("kithctl receive opens one"))
    }

    /// Opens a window that ends with `owner`, or after its time. A window that stays is shown instead.
    pub(super) async fn open(
        self: &Arc<Self>,
        params: GuestOpenParams,
        owner: Option<CancellationToken>,
    ) -> Result<GuestOpenResult, ApiError> {
        let seconds = params.seconds.unwrap_or(limits::WINDOW_SECONDS);
        if !(1..=limits::WINDOW_SECONDS_MAX).contains(&seconds) {
            let message = format!("a window stays open for 1 to {} seconds", limits::WINDOW_SECONDS_MAX);
            return Err(ApiError::new(Code::InvalidParam, message));
        }
        let chosen = params.dir.map(PathBuf::from);
        if let Some(dir) = chosen.clone() {
            // Now, and not when somebody's files are at the door.
            self.tasks.blocking(move || Tree::open(&dir).map(drop)).await?;
        }
        let dir = chosen.unwrap_or_else(|| self.settings.paths.downloads.clone());
        if self.window().as_ref().is_some_and(|open| open.standing) {
            return self.show();
        }
        self.make_way().await?;
        let plan = Plan {
            pin: new_pin(),
            attempts: limits::PIN_ATTEMPTS,
            accept: params.accept,
            dir,
            conflict: params.on_conflict,
            standing: false,
            time: Some(Duration::from_secs(seconds)),
        };
        let time = plan.time;
        let (result, over) = self.begin(plan)?;
        let (engine, id) = (self.clone(), result.window.clone());
        self.tasks.spawn("receive window", async move {
            let gone = async {
                match owner {
                    Some(owner) => owner.cancelled_owned().await,
                    None => std::future::pending().await,
                }
            };
            let expired = tokio::time::sleep(time.unwrap_or_default());
            tokio::select! {
                () = over.cancelled() => engine.abandon(&id),
                () = gone => engine.abandon(&id),
                () = expired => engine.finish_serving(&id, &over).await,
            }
            engine.hear_goodbye(&id, &over).await;
            engine.end(&id).await;
        });
        Ok(result)
    }

    /// Ends a window that somebody opened.
    pub(super) fn close(&self, id: &str) -> Result<Window, ApiError> {
        let (view, over) = {
            let window = self.window();
            let open = window.as_ref().filter(|open| open.view.window == id).ok_or_else(not_found)?;
            if open.standing {
                return Err(ApiError::new(Code::WrongState, "this door stays open: the configuration says so")
                    .hint("set always_open = false in [guest]"));
            }
            (open.view.clone(), open.over.clone())
        };
        // Here and now: whoever opens the next one must not find this one in use.
        self.abandon(id);
        over.cancel();
        Ok(Window { state: WindowState::Closed, ..view })
    }

    /// Waits for a window that is as good as over. One that is in use stays.
    async fn make_way(&self) -> Result<(), ApiError> {
        let id = {
            let window = self.window();
            let Some(open) = window.as_ref() else { return Ok(()) };
            if !open.desk.is_shut() || open.desk.is_taken() {
                return Err(ApiError::new(Code::WindowActive, "a receive window is open already")
                    .hint("end it first: one PIN at a time"));
            }
            open.view.window.clone()
        };
        self.end(&id).await;
        Ok(())
    }

    fn begin(&self, plan: Plan) -> Result<(GuestOpenResult, CancellationToken), ApiError> {
        let internal = |error: &dyn std::fmt::Display| ApiError::new(Code::Internal, error.to_string());
        let addresses = self.discovery.own_addresses();
        let certificate = Certificate::new(&addresses).map_err(|error| internal(&error))?;
        let hash = certificate.hash;
        let tls = certificate.server().map_err(|error| internal(&error))?;
        let (listener, port) = bind(self.settings.config.guest.port).map_err(|error| {
            ApiError::new(Code::Busy, format!("cannot listen for guests: {error}"))
                .hint("another program may have the port; set port in [guest]")
        })?;
        let over = self.tasks.stopping().child_token();
        let closed = CancellationToken::new();
        let expires =
            plan.time.map(|time| clock::rfc3339(clock::now_ms() + i64::try_from(time.as_millis()).unwrap_or(i64::MAX)));
        let view = Window {
            window: uuid::Uuid::new_v4().to_string(),
            state: WindowState::Open,
            port,
            certificate_hash: hash.to_string(),
            attempts_left: plan.attempts,
            pinged_by: None,
            expires,
        };
        let open = Open {
            view: view.clone(),
            desk: Desk::new(plan.pin, plan.attempts),
            accept: plan.accept,
            dir: plan.dir,
            conflict: plan.conflict,
            standing: plan.standing,
            changed: Arc::default(),
            shut: CancellationToken::new(),
            hash,
            addresses,
            over: over.clone(),
            closed: closed.clone(),
        };
        let result = open.result();
        {
            let mut window = self.window();
            if window.is_some() {
                return Err(ApiError::new(Code::WindowActive, "a receive window is open already"));
            }
            let opening = Opening { listener, tls, over: over.clone(), closed: closed.drop_guard() };
            self.openings.try_send(opening).map_err(|_| ApiError::new(Code::Busy, "the guest door is busy"))?;
            *window = Some(open);
        }
        self.events.publish(&Fact::WindowUpdated(view));
        Ok((result, over))
    }

    /// Nobody wants this window any more: whatever goes on in it is called off.
    fn abandon(&self, id: &str) {
        let session = self.of_window(id, |open| {
            open.shut();
            open.desk.end_any(Instant::now())
        });
        self.told_closed(id);
        if let Some(session) = session.flatten() {
            self.conclude(session, How::Abandoned);
        }
    }

    /// The window's time is over: nobody new is let in, and whoever is being served is served to the end.
    async fn finish_serving(&self, id: &str, over: &CancellationToken) {
        let changed = self.of_window(id, |open| {
            open.shut();
            open.changed.clone()
        });
        self.told_closed(id);
        let Some(changed) = changed else { return };
        loop {
            let notified = changed.notified();
            if self.of_window(id, |open| open.desk.is_taken()) != Some(true) {
                return;
            }
            tokio::select! {
                () = notified => {}
                () = over.cancelled() => return self.abandon(id),
            }
        }
    }

    /// Gives whoever has just been served the time to close its session.
    async fn hear_goodbye(&self, id: &str, over: &CancellationToken) {
        let expects =
            |open: &mut Open| open.desk.expects_goodbye(Instant::now(), GOODBYE).then(|| open.changed.clone());
        let listen = async {
            while let Some(changed) = self.of_window(id, expects).flatten() {
                let notified = changed.notified();
                let _ = tokio::time::timeout(GOODBYE / 10, notified).await;
            }
        };
        tokio::select! {
            () = listen => {}
            () = over.cancelled() => {}
        }
    }

    /// Closes the door, and forgets the window when it is closed.
    async fn end(&self, id: &str) {
        let Some((over, closed)) = self.of_window(id, |open| (open.over.clone(), open.closed.clone())) else { return };
        over.cancel();
        let _ = tokio::time::timeout(CLOSING, closed.cancelled()).await;
        self.window().take_if(|open| open.view.window == id);
    }

    fn told_closed(&self, id: &str) {
        let view = self.of_window(id, |open| {
            let told = std::mem::replace(&mut open.view.state, WindowState::Closed) == WindowState::Closed;
            (!told).then(|| open.view.clone())
        });
        if let Some(view) = view.flatten() {
            self.events.publish(&Fact::WindowUpdated(view));
        }
    }

    fn of_window<T>(&self, id: &str, work: impl FnOnce(&mut Open) -> T) -> Option<T> {
        self.window().as_mut().filter(|open| open.view.window == id).map(work)
    }
}

/// Keeps the door open for good, where the configuration says so.
pub async fn stay_open(engine: Arc<Engine>) {
    let stop = engine.tasks.stopping().clone();
    let config = engine.settings.config.guest.clone();
    while !stop.is_cancelled() {
        let attempts = engine.attempts_left().await;
        let plan = Plan {
            pin: config.pin.as_ref().map_or_else(new_pin, crate::config::FixedPin::pin),
            attempts,
            accept: config.accept,
            dir: engine.settings.paths.downloads.clone(),
            conflict: Conflict::Rename,
            standing: true,
            time: None,
        };
        let id = match engine.begin(plan) {
            Ok((result, _)) => {
                tracing::info!(port = result.port, "the guest door is open");
                result.window
            }
            Err(error) => {
                tracing::error!(%error, "the guest door cannot be opened; trying again");
                let _ = tokio::time::timeout(RETRY, stop.cancelled()).await;
                continue;
            }
        };
        let opened = Instant::now();
        while !stop.is_cancelled() && (config.pin.is_some() || opened.elapsed() < ROTATION) {
            let _ = tokio::time::timeout(REST_CHECK, stop.cancelled()).await;
            if engine.of_window(&id, |open| open.desk.attempts_left()) != Some(limits::PIN_ATTEMPTS) {
                let left = engine.attempts_left().await;
                engine.of_window(&id, |open| open.desk.set_attempts(left));
                engine.tell_window();
            }
        }
        engine.finish_serving(&id, &stop).await;
        engine.end(&id).await;
    }
}

/// On the configured port alone, or on the first that is free.
fn bind(configured: u16) -> std::io::Result<(TcpListener, u16)> {
    let candidates: &[u16] = if configured == 0 { &[PORTS[0], PORTS[1], 0] } else { &[configured] };
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrInUse);
    for port in candidates {
        match platform::listen(*port) {
            Ok(listener) => {
                let port = listener.local_addr()?.port();
                return Ok((listener, port));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Six digits, none of them a leading zero: some apps take a PIN for a number.
fn new_pin() -> Pin {
    loop {
        let pin = Pin::from_random(&mut |bytes| {
            getrandom::fill(bytes).expect("the system gave random bytes when the daemon started");
        });
        if !pin.expose().starts_with('0') {
            return pin;
        }
    }
}

fn not_found() -> ApiError {
    ApiError::new(Code::WindowNotFound, "no receive window is open, or not this one")
}
