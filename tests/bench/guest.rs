//! The guest door: uploads with curl, and the same uploads into nginx, which writes them and checks nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kith_tests::PATIENCE;
use kith_tests::host::Host;
use kith_tests::process::{Running, run as finish};
use kith_tests::tree;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Plan;
use crate::figures::memory;
use crate::others::{Contestant, LIMIT, SHA256, free_port, installed, program, text, timed, wait_listening};
use crate::race::{race, rows};
use crate::table::Table;

/// Uploads at once.
const CROWD: u64 = 4;

/// One large upload, several at once, and the memory that one takes.
pub fn run(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    if let Err(why) = installed("curl") {
        table.row("uploads of guests", why, "", String::new());
        return Ok(());
    }
    let home = tempfile::tempdir_in(&plan.dir)?;
    let one = home.path().join("one.bin");
    tree::large(&one, plan.large, 5)?;
    let crowd = home.path().join("crowd");
    fs::create_dir(&crowd)?;
    for i in 0..CROWD {
        tree::large(&crowd.join(format!("{i}.bin")), plan.large / CROWD, 6 + i)?;
    }

    remember(plan, table, &one, home.path())?;
    let mut contestants: Vec<Box<dyn Contestant>> = vec![Box::new(Guest::new(&plan.dir))];
    match Nginx::new(&plan.dir) {
        Ok(nginx) => contestants.push(Box::new(nginx)),
        Err(why) => table.row("uploads into nginx", why, "", String::new()),
    }
    let speed = |time: Duration| format!("{:.0} MB/s", plan.large as f64 / time.as_secs_f64() / 1e6);
    let figure = format!("{CROWD} uploads of {} MiB at once", (plan.large / CROWD) >> 20);
    eprintln!("{figure}");
    let together = race(&mut contestants, &crowd, home.path(), plan.rounds)?;
    contestants.push(Box::new(SHA256));
    let alone_figure = format!("an upload of {} MiB", plan.large >> 20);
    eprintln!("{alone_figure}");
    let alone = race(&mut contestants, &one, home.path(), plan.rounds)?;
    rows(table, &alone_figure, &alone, speed, target);
    rows(table, &figure, &together, speed, target);
    Ok(())
}

fn target(other: &str) -> Option<(f64, &'static str)> {
    Some(if other == NGINX { (1.0, "ahead") } else { (0.8, "≥ 0.8 × its speed") })
}

/// What a daemon needs that has done nothing but take one upload.
fn remember(plan: &Plan, table: &mut Table, source: &Path, home: &Path) -> anyhow::Result<()> {
    let mut guest = Guest::new(&plan.dir);
    let before = memory(guest.host.pid(), "VmHWM")?;
    let target = home.join("target");
    fs::create_dir(&target)?;
    guest.carry(source, &target);
    let peak = memory(guest.host.pid(), "VmHWM")?;
    table.at_most("memory, an upload arriving, at its peak", peak, 32.0, "MiB");
    table.row("— more than before it", format!("{:.2} MiB", peak - before), "", String::new());
    Ok(fs::remove_dir_all(target)?)
}

/// What is uploaded, and where it is to lie: a file in `target`, or the files of a directory in one of its name there.
fn errand(source: &Path, target: &Path) -> (Vec<PathBuf>, PathBuf) {
    if source.is_file() {
        return (vec![source.to_owned()], target.to_owned());
    }
    let entries = fs::read_dir(source).expect("the source can be read");
    let target = target.join(name(source));
    fs::create_dir(&target).expect("the target is ours");
    (entries.map(|entry| entry.expect("an entry").path()).collect(), target)
}

/// All uploads at once; the time until the last is done.
fn upload(files: &[PathBuf], url: impl Fn(&str) -> String) -> Duration {
    timed(|| {
        let uploads: Vec<_> = files
            .iter()
            .map(|file| Running::spawn(curl(&url(&name(file))).args(["-T", &text(file), "-H", "Expect:"])))
            .collect();
        for upload in uploads {
            upload.finish(LIMIT).ok();
        }
    })
}

/// curl for `url`, whatever the certificate, with one cipher for all.
fn curl(url: &str) -> Command {
    let mut command = program("curl");
    command.args(["--silent", "--show-error", "--fail", "--insecure", "--http1.1"]);
    command.args(["--tlsv1.3", "--tls13-ciphers", "TLS_AES_256_GCM_SHA384", url]);
    command
}

fn name(path: &Path) -> String {
    path.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8").to_owned()
}

/// A daemon with its guest door, which checks each file against the hash that was declared.
struct Guest {
    host: Host,
}

impl Guest {
    fn new(dir: &Path) -> Self {
        let mut host = Host::under(dir, "guest");
        host.start();
        Self { host }
    }
}

impl Contestant for Guest {
    fn name(&self) -> &'static str {
        "kith"
    }

    fn carry(&mut self, source: &Path, target: &Path) -> Duration {
        let (files, dir) = errand(source, target);
        let mut door = self.host.door();
        let window = door.call("guest.open", json!({"accept": true, "dir": dir, "detach": true}));
        let base = format!("https://127.0.0.1:{}/api/v1", window["port"]);
        let post = |path: &str, body: &Value| {
            finish(curl(&format!("{base}/{path}")).args(["--json", &body.to_string()]), PATIENCE).ok().json()
        };
        let session = post("register", &json!({"pin": window["pin"], "nonce": "a"}))["sessionId"].take();
        let offered: Vec<Value> = files.iter().map(|file| offered(file)).collect();
        let accepted = post("prepare-upload", &json!({"title": "bench", "sessionId": session, "files": offered}));
        let time = upload(&files, |name| {
            let mut accepted = accepted["files"].as_array().expect("a list of files").iter();
            let ours = accepted.find(|file| file["id"] == name).expect("every file was accepted");
            let id = |id: &Value| id.as_str().expect("an id").to_owned();
            format!(
                "{base}/upload?sessionId={}&fileId={name}&transmissionId={}",
                id(&session),
                id(&ours["transmissionId"])
            )
        });
        door.call("guest.close", json!({"window": window["window"]}));
        time
    }
}

/// A file as `prepare-upload` describes it; its name is its id.
fn offered(file: &Path) -> Value {
    let size = fs::metadata(file).expect("a source").len();
    let sum = finish(program("sha256sum").arg("--zero").arg(file), LIMIT).ok().stdout;
    let hash = sum.split_whitespace().next();
    json!({"id": name(file), "fileName": name(file), "size": size, "fileType": "application/octet-stream", "sha256": hash})
}

const NGINX: &str = "nginx, PUT, nothing verified";

/// nginx with its WebDAV module.
struct Nginx {
    daemon: Option<Running>,
    port: u16,
    home: TempDir,
}

impl Nginx {
    fn new(dir: &Path) -> Result<Self, String> {
        installed("nginx")?;
        installed("openssl")?;
        let home = tempfile::tempdir_in(dir).map_err(|error| error.to_string())?;
        let at = |name: &str| text(&home.path().join(name));
        let mut openssl = program("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]);
        openssl.args(["-subj", "/CN=localhost", "-keyout", &at("key"), "-out", &at("certificate")]);
        finish(&mut openssl, PATIENCE).ok();
        let port = free_port();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary: String = temporary.iter().map(|what| format!("{what}_temp_path {};\n", at(what))).collect();
        // As root, its workers would be somebody to whom the target does not belong.
        let user = if rustix::process::geteuid().is_root() { "user root root;" } else { "" };
        let config = format!(
            "daemon off;\n{user}\npid {};\nerror_log {};\nworker_processes auto;\nevents {{}}\nhttp {{\n\
             access_log off;\n{temporary}client_max_body_size 0;\nclient_body_buffer_size 1m;\nserver {{\n\
             listen 127.0.0.1:{port} ssl;\nssl_protocols TLSv1.3;\nssl_certificate {};\nssl_certificate_key {};\n\
             root {};\nlocation / {{ dav_methods PUT; }}\n}}\n}}\n",
            at("pid"),
            at("log"),
            at("certificate"),
            at("key"),
            at("root")
        );
        fs::write(at("nginx.conf"), config).map_err(|error| error.to_string())?;
        let daemon = Running::spawn(program("nginx").args(["-e", &at("log"), "-c", &at("nginx.conf")]));
        let nginx = Self { daemon: Some(daemon), port, home };
        wait_listening(port)?;
        Ok(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Killed, it would leave its workers behind.
        if let Some(daemon) = self.daemon.take() {
            daemon.signal(Signal::TERM);
            daemon.finish(PATIENCE);
        }
    }
}

impl Contestant for Nginx {
    fn name(&self) -> &'static str {
        NGINX
    }

    fn carry(&mut self, source: &Path, target: &Path) -> Duration {
        let (files, dir) = errand(source, target);
        let root = self.home.path().join("root");
        drop(fs::remove_file(&root));
        std::os::unix::fs::symlink(dir, &root).expect("the directory is ours");
        upload(&files, |name| format!("https://127.0.0.1:{}/{name}", self.port))
    }
}
