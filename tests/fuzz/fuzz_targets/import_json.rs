//! Secrets in a JSON file, and file names that are names of secrets.
#![no_main]

use kith_proto::credential::import::{self, name_of};
use kith_proto::credential::{SecretType, canonical, check_name};

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    let name = std::str::from_utf8(file).map(name_of).unwrap_or_default();
    for secret in import::json(file, Some("seed")).unwrap_or_default() {
        check_name("name", &secret.name).expect("what is found is valid");
        let again = canonical(secret.kind, secret.value.duplicate()).expect("what is found is valid");
        assert_eq!(again.expose(), secret.value.expose());
    }
    for kind in SecretType::ALL {
        let Ok(secret) = import::secret(file, &name, kind) else { continue };
        assert!(secret.name == name && secret.kind == kind);
    }
});
