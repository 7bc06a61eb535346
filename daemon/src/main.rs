//! `kithd`: the command line around [`kithd::daemon::run`] and [`kithd::hello_server::run`].

use std::process::ExitCode;

use clap::Parser;
use kithd::config::{Args, Command, HelloArgs, HelloSettings, LogConfig, LogFormat, LogLevel, Settings};
use kithd::daemon::{self, Exit};
use kithd::hello_server;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

/// What is freed is wiped: secrets pass through buffers of the parser, the runtime and the sockets, which know nothing of
/// them.
#[global_allocator]
static MEMORY: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    let mut args = Args::parse();
    if let Some(Command::Hello(hello)) = args.command.take() {
        return serve_hello(hello);
    }
    let settings = match Settings::load(&args) {
        Ok(settings) => settings,
        Err(error) => return fail(&error, Exit::Unusable),
    };
    if args.check_config {
        return match show(&settings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, Exit::Broken),
        };
    }
    start_log(&settings.config.log, settings.stderr_is_journal);
    // Two threads carry many transfers; what blocks has threads of its own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(daemon::run(settings));
            // Blocking work that did not end in time is not waited for: a kill may come at any moment anyway.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(exit) => exit.code().into(),
        Err(error) => {
            // The log may be elsewhere or quiet; whoever started the daemon looks here.
            tracing::debug!(%error, "did not start");
            fail(&error, error.exit())
        }
    }
}

/// `kithd hello`
fn serve_hello(args: HelloArgs) -> ExitCode {
    let settings = match HelloSettings::load(args) {
        Ok(settings) => settings,
        Err(error) => return fail(&error, Exit::Unusable),
    };
    start_log(&LogConfig { level: settings.log, format: LogFormat::Auto }, settings.stderr_is_journal);
    // A server has its machine: a thread for each of its cores.
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, Exit::Broken),
    };
    let outcome = runtime.block_on(hello_server::run(settings));
    runtime.shutdown_background();
    match outcome {
        Ok(exit) => exit.code().into(),
        Err(error) => fail(&error, error.exit()),
    }
}

fn fail(error: &dyn std::error::Error, exit: Exit) -> ExitCode {
    eprintln!("kithd: {error}");
    exit.code().into()
}

/// `--check-config`: what is in force, as it would be written.
fn show(settings: &Settings) -> std::io::Result<()> {
    use std::io::Write;
    let paths = &settings.paths;
    let text = toml::to_string(&settings.config).map_err(std::io::Error::other)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "# {} is fine{}", paths.config.display(), if paths.config.exists() { "" } else { " (not there)" })?;
    writeln!(out, "# data {}", paths.data.display())?;
    writeln!(out, "# socket {}", paths.socket.display())?;
    writeln!(out, "# received files {}\n", paths.downloads.display())?;
    write!(out, "{text}")
}

/// Our own crates at the configured level, all others only when something is wrong.
fn start_log(config: &LogConfig, stderr_is_journal: bool) {
    let ours = match config.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let filter = Targets::new().with_default(ours.min(LevelFilter::WARN)).with_target("kith", ours);
    // mdns-sd calls it an error when an interface goes away.
    let filter = filter.with_target("mdns_sd", LevelFilter::OFF);
    let layer = match config.format {
        LogFormat::Auto => journal(stderr_is_journal).unwrap_or_else(text),
        LogFormat::Text => text(),
        LogFormat::Json => tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
}

fn text() -> Box<dyn Layer<Registry> + Send + Sync> {
    let color = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt::layer().with_ansi(color).with_target(false).with_writer(std::io::stderr).boxed()
}

#[cfg(target_os = "linux")]
fn journal(stderr_is_journal: bool) -> Option<Box<dyn Layer<Registry> + Send + Sync>> {
    stderr_is_journal.then(|| tracing_journald::layer().ok()).flatten().map(Layer::boxed)
}

#[cfg(not(target_os = "linux"))]
fn journal(_: bool) -> Option<Box<dyn Layer<Registry> + Send + Sync>> {
    None
}
