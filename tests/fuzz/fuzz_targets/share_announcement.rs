//! What anybody on the LAN sends to the port on which receivers of credentials announce themselves.
#![no_main]

use kith_proto::limits;
use kith_proto::peer::share::announcement::Announcement;

libfuzzer_sys::fuzz_target!(|datagram: &[u8]| {
    let Ok(read) = Announcement::parse(datagram) else { return };
    assert!(datagram.len() <= limits::SHARE_ANNOUNCEMENT && read.port != 0);
    assert_eq!(read.to_string().as_bytes(), datagram);
});
