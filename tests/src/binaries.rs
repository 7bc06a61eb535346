//! Where the programs under test are. They are those of the profile that the test itself was built in, brought up to
//! date once a process: a test of last week's daemon would prove nothing. `KITH_BINARIES=DIR` names others to test, as
//! they are: those of a package, or of another profile.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of `kithd`.
pub fn kithd() -> PathBuf {
    directory().join("kithd")
}

/// The path of `kithctl`.
pub fn kithctl() -> PathBuf {
    directory().join("kithctl")
}

/// The workspace's directory.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}

fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| match std::env::var_os("KITH_BINARIES") {
        Some(given) => std::path::absolute(given).expect("KITH_BINARIES is a path"),
        None => build(),
    })
}

/// Builds both programs, and says where they are. Cargo itself keeps several tests from building at once.
fn build() -> PathBuf {
    let executable = std::env::current_exe().expect("a program knows where it lies");
    let directory = executable.ancestors().skip(1).find(|dir| !dir.ends_with("deps")).expect("target/PROFILE");
    let profile = directory.file_name().and_then(|name| name.to_str()).expect("target/PROFILE");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // No --package: with the features of the whole workspace, nothing is built twice.
    cargo.current_dir(workspace()).args(["build", "--quiet", "--bin", "kithd", "--bin", "kithctl"]);
    cargo.arg("--target-dir").arg(directory.parent().expect("target/PROFILE"));
    cargo.args(["--profile", if profile == "debug" { "dev" } else { profile }]);
    let status = cargo.status().expect("cargo can be run");
    assert!(status.success(), "kithd and kithctl do not build");
    directory.to_owned()
}
