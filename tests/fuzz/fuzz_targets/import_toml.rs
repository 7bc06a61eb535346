//! Databases in a TOML file.
#![no_main]

use kith_proto::credential::{Slot, check_name, import};

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    for database in import::databases(file).unwrap_or_default() {
        let again = database.fields.clone().check().expect("what is found is valid");
        assert_eq!(again, database.fields);
        for slot in Slot::ALL {
            let Some(name) = database.secret(slot) else { continue };
            check_name("name", name).expect("what is found is valid");
        }
    }
});
