//! Every bound on what comes from outside.

/// The longest request on the local door, in bytes, its newline included. Answers: see [`CONTROL_ANSWER`].
pub const CONTROL_LINE: usize = 1 << 20;
/// Requests of one connection on the local door that may be in work at once.
pub const CONTROL_IN_FLIGHT: usize = 64;
/// Connections to the local door at once.
pub const CONTROL_CONNECTIONS: usize = 128;
/// Facts that the event ring remembers.
pub const EVENT_RING: usize = 1024;
/// A chunk of streamed input (`transfer.feed`) before base64, in bytes.
pub const FEED_CHUNK: usize = 512 << 10;

/// The longest name of a device, in bytes of UTF-8: what fits into one DNS label beside the id.
pub const DEVICE_NAME: usize = 48;

/// Frames before both ends have proven who they are.
pub const FRAME_UNAUTHENTICATED: usize = 4 << 10;
/// A control frame (JSON) between trusted peers.
pub const FRAME_CONTROL: usize = 1 << 20;
/// File content in one DATA frame; the unit in which a transfer is verified and resumed.
pub const CHUNK: usize = 1 << 20;
/// A DATA frame: its tag, its BLAKE3, its content.
pub const FRAME_DATA: usize = 1 + 32 + CHUNK;

/// Time for the TLS handshake of a peer, in seconds.
pub const HANDSHAKE_SECONDS: u64 = 5;
/// Peer connections at once.
pub const PEER_CONNECTIONS: usize = 256;
/// Peer connections whose other end has not proven who it is, in total.
pub const PEER_HALF_OPEN: usize = 64;
/// Peer connections of one address that has not proven who it is.
pub const PEER_HALF_OPEN_PER_ADDRESS: usize = 8;

/// Time for one pairing exchange after the TLS handshake, in seconds.
pub const PAIRING_EXCHANGE_SECONDS: u64 = 10;
/// How long a PIN is valid, in seconds.
pub const PIN_SECONDS: u64 = 120;
/// Wrong guesses that a PIN survives, the last one not included.
pub const PIN_ATTEMPTS: u32 = 3;
/// PINs an hour when nobody sits at the keyboard.
pub const PINS_PER_HOUR: u32 = 10;
/// The longest `kith://pair?…` text, in bytes.
pub const PAIRING_URI: usize = 1024;

/// Devices seen on the network that are remembered at once, trusted ones not counted.
pub const DISCOVERED_PEERS: usize = 512;
/// Addresses kept of one peer.
pub const PEER_ADDRESSES: usize = 16;

/// Entries (files, directories, links) in one offer.
pub const OFFER_ENTRIES: usize = 1_000_000;
/// The largest file that can be offered, in bytes.
pub const FILE_SIZE: u64 = 1 << 50;
/// The title of an offer, in bytes of UTF-8.
pub const OFFER_TITLE: usize = 1024;
/// A text that is sent as itself, in bytes of UTF-8.
pub const OFFER_TEXT: usize = 64 << 10;
/// Offers of one peer that may wait for an answer at once.
pub const OFFERS_WAITING: usize = 100;

/// A message of set reconciliation, in bytes.
pub const RECONCILE_MESSAGE: usize = 1 << 20;
/// Messages of the initiator in one reconciliation.
pub const RECONCILE_ROUNDS: u32 = 64;
/// Ranges known to differ that the initiator has not asked about yet.
pub const RECONCILE_POSTPONED: usize = 65_536;

/// One component of a path from outside, in bytes.
pub const PATH_COMPONENT: usize = 255;
/// A whole path from outside, in bytes.
pub const PATH: usize = 4096;
/// Components of a path from outside.
pub const PATH_DEPTH: usize = 128;

/// How long a receive window stays open when nobody says otherwise, in seconds.
pub const WINDOW_SECONDS: u64 = 600;
/// The longest that a receive window may be asked to stay open, in seconds.
pub const WINDOW_SECONDS_MAX: u64 = 86_400;
/// How long a PIN that stays is closed after it was guessed wrong too often, in seconds.
pub const GUEST_PIN_REST_SECONDS: u64 = 3_600;
/// Connections to the guest door at once.
pub const GUEST_CONNECTIONS: usize = 64;
/// Connections of one address to the guest door at once.
pub const GUEST_CONNECTIONS_PER_ADDRESS: usize = 8;
/// Time for the TLS handshake of a guest, in seconds.
pub const GUEST_HANDSHAKE_SECONDS: u64 = 10;
/// Time for the head of a request, and for the next request of a connection to begin, in seconds.
pub const GUEST_HEAD_SECONDS: u64 = 10;
/// How long an upload may bring next to nothing, in seconds.
pub const GUEST_BODY_SECONDS: u64 = 30;
/// What must arrive of an upload in that time, in bytes.
pub const GUEST_BODY_BYTES: u64 = 4 << 10;
/// How long a JSON body may take as a whole, in seconds.
pub const GUEST_JSON_SECONDS: u64 = 120;
/// How long a body that is not wanted is read and dropped, so that its sender sees the answer, in seconds.
pub const GUEST_DRAIN_SECONDS: u64 = 10;
/// The head of a request, in bytes.
pub const GUEST_HEAD: usize = 16 << 10;
/// The body of `register` and `close-connection`, in bytes.
pub const GUEST_JSON: usize = 4 << 10;
/// The body of `prepare-upload`, in bytes: it may carry thumbnails.
pub const GUEST_PREPARE: usize = 32 << 20;
/// The body of an answer that a receiver gives this device, in bytes.
pub const GUEST_ANSWER: usize = 4 << 20;
/// How long a guest waits for somebody to answer at `register` and `prepare-upload`, in seconds: the apps give up after
/// 20.
pub const GUEST_CONSENT_SECONDS: u64 = 18;
/// How long a guest waits while somebody compares hashes (`ping` of version 2), in seconds: the apps give up after 120.
pub const GUEST_COMPARE_SECONDS: u64 = 100;
/// How long a session may be silent, in seconds.
pub const GUEST_IDLE_SECONDS: u64 = 60;
/// Sessions that are over and still told apart from those that never were.
pub const GUEST_ENDED_SESSIONS: usize = 64;
/// Nonces of one session that are remembered; one more ends it.
pub const GUEST_NONCES: usize = 100_000;
/// Files in one `prepare-upload`, when the configuration does not say otherwise: what the apps take.
pub const GUEST_FILES: usize = 1_000;
/// Files in one `prepare-upload` that the configuration may allow, and in one sending of this device.
pub const GUEST_FILES_MAX: usize = 100_000;
/// The largest file, in bytes, when the configuration does not say otherwise: what the apps take.
pub const GUEST_FILE_SIZE: u64 = 3_000_000_000;
/// How long a receiver may take to let this device in (`ping` and `register`), in seconds: people compare hashes.
pub const GUEST_WELCOME_SECONDS: u64 = 120;
/// How long a receiver may take to say which files it wants, in seconds: people look through them.
pub const GUEST_CHOICE_SECONDS: u64 = 300;
/// How long a receiver may take to answer after the last byte of a file, in seconds: it may hash it first.
pub const GUEST_SETTLE_SECONDS: u64 = 60;
/// How long a receiver may take to say goodbye, in seconds.
pub const GUEST_GOODBYE_SECONDS: u64 = 5;
/// How long a receiver with a session may be away, in seconds: one of the apps restarts its server then.
pub const GUEST_RESTART_SECONDS: u64 = 3;
/// The longest QR text of a receive window, in bytes.
pub const GUEST_QR: usize = 4 << 10;
/// Transfers with guests that are over and still shown.
pub const GUEST_TRANSFERS: usize = 100;
/// Guests at once who want a certificate hash compared.
pub const GUEST_QUESTIONS: usize = 16;

/// The name of a journal, in bytes of UTF-8.
pub const JOURNAL_NAME: usize = 128;
/// Journals on one device, those that it left included.
pub const JOURNALS: usize = 1_000;
/// Devices that one journal is or was shared with.
pub const JOURNAL_MEMBERS: usize = 4_096;
/// The id of an entry, in bytes of UTF-8.
pub const ENTRY_ID: usize = 256;
/// The metadata of an entry, in bytes of JSON.
pub const ENTRY_META: usize = 16 << 10;
/// The body of an entry, in bytes.
pub const ENTRY_BODY: usize = 16 << 20;
/// Bodies up to this size, in bytes, travel within their row; longer ones follow it in chunks.
pub const ENTRY_INLINE: usize = 64 << 10;
/// Writers that one version knows of; older ones are forgotten first, which may show a conflict that is none.
pub const ENTRY_WRITERS: usize = 64;
/// How far ahead of this device's clock a stamp may be, in milliseconds: ten years.
pub const STAMP_AHEAD_MS: u64 = 10 * 366 * 86_400_000;
/// Versions of one entry that lost a conflict and are kept.
pub const ENTRY_HISTORY: usize = 10;
/// How long they are kept, in milliseconds: 90 days.
pub const ENTRY_HISTORY_MS: u64 = 90 * 86_400_000;
/// Bodies of which the beginning is kept until the rest comes; the oldest give way.
pub const PARTIAL_BODIES: usize = 16;
/// How long such a beginning is kept, in milliseconds: 7 days.
pub const PARTIAL_BODY_MS: u64 = 7 * 86_400_000;
/// How old a deletion is when it may be forgotten, in milliseconds: 30 days.
pub const TOMBSTONE_MS: u64 = 30 * 86_400_000;
/// How long a member may be silent and still keep deletions from being forgotten, in milliseconds: 180 days.
pub const MEMBER_SILENT_MS: u64 = 180 * 86_400_000;
/// Entries in one page of a list.
pub const ENTRIES_PAGE: usize = 1_000;
/// Bodies that are being staged at once, on all connections.
pub const STAGED_BODIES: usize = 4;
/// Rows in one ENTRIES frame.
pub const SYNC_ROWS: usize = 1_000;
/// A frame of a sync session, in bytes.
pub const FRAME_SYNC: usize = (1 << 20) + (64 << 10);
/// ENTRIES and BODY frames that may be under way without an answer, in each direction.
pub const SYNC_WINDOW: usize = 4;
/// Pairs of writer and stamp that one SEEN message carries.
pub const SYNC_SEEN: usize = 4_096;
/// How long the other side of a sync session may be silent, in seconds.
pub const SYNC_SILENCE_SECONDS: u64 = 60;

/// The name of a secret or of a database, in bytes of UTF-8.
pub const CREDENTIAL_NAME: usize = 128;
/// The value of a secret, in bytes.
pub const SECRET_VALUE: usize = 64 << 10;
/// The description, path and origin of a database, in bytes of UTF-8 each.
pub const DATABASE_TEXT: usize = 4 << 10;
/// Secrets in one vault, and databases.
pub const CREDENTIALS: usize = 10_000;
/// The passphrase of a vault, in bytes of UTF-8.
pub const VAULT_PASSPHRASE: usize = 1024;
/// What is handed over in one share, in bytes of JSON: a database with three secrets, each character escaped.
pub const SHARE_PAYLOAD: usize = 512 << 10;
/// A file that credentials are imported from, in bytes.
pub const CREDENTIAL_FILE: usize = 4 << 20;
/// Digits of a short code, at least and at most.
pub const SHORT_CODE: std::ops::RangeInclusive<usize> = 4..=9;
/// Failed confirmations that burn a short code, on either side.
pub const SHORT_CODE_ATTEMPTS: u32 = 3;
/// How long the two sides of a share may take to find each other and to hand over, in seconds.
pub const SHARE_SECONDS: u64 = 60;
/// How long a share that arrived may be looked through, in seconds.
pub const SHARE_REVIEW_SECONDS: u64 = 600;
/// The UDP port on which receivers of credentials announce themselves.
pub const SHARE_PORT: u16 = 54_321;
/// An announcement on that port, in bytes.
pub const SHARE_ANNOUNCEMENT: usize = 256;
/// Receivers that one sender keeps in mind.
pub const SHARE_CANDIDATES: usize = 64;
/// Addresses of one such receiver.
pub const SHARE_ADDRESSES: usize = 8;
/// Time for one confirmation of a code after the TLS handshake, in seconds.
pub const SHARE_EXCHANGE_SECONDS: u64 = 5;
/// Connections at once to a device that waits for a share, in total and from one address.
pub const SHARE_CONNECTIONS: usize = 32;
/// The same for one address.
pub const SHARE_CONNECTIONS_PER_ADDRESS: usize = 4;
/// Requests that a device answers which waits for a share of the Photosphere app; one more ends it.
pub const PHOTOSPHERE_REQUESTS: u32 = 5;
/// The body of a request there, in bytes: what is handed over, and the little around it.
pub const PHOTOSPHERE_BODY: usize = SHARE_PAYLOAD + (1 << 10);
/// The body of an answer there, in bytes.
pub const PHOTOSPHERE_ANSWER: usize = 4 << 10;
/// How long a body may take there, in seconds.
pub const PHOTOSPHERE_BODY_SECONDS: u64 = 10;
/// How long a sender looks for a second receiver there, in seconds.
pub const PHOTOSPHERE_GATHER_SECONDS: u64 = 3;
/// Time for the answer that shows the hash of the code there, in seconds.
pub const PHOTOSPHERE_HASH_SECONDS: u64 = 2;
/// Shares under way at once.
pub const SHARES: usize = 16;
/// Shares of paired devices that may wait for a review, of one device.
pub const SHARES_WAITING: usize = 32;
/// What the other side of a share may say about a payload, in bytes.
pub const SHARE_DETAIL: usize = 256;

/// A sharing code with its payload as text (a ticket), in bytes.
pub const SHARING_TICKET: usize = 6 << 10;
/// The label of a sharing code, in bytes of UTF-8.
pub const CODE_LABEL: usize = 128;
/// Sharing codes that one device keeps, those that are over included.
pub const SHARING_CODES: usize = 10_000;
/// How long a code that is over is kept, so that whoever comes with it hears why it is: 90 days, in milliseconds.
pub const CODE_KEPT_MS: u64 = 90 * 86_400_000;
/// How long a code may be valid, at least and at most, in seconds: a minute, 30 days.
pub const CODE_SECONDS: std::ops::RangeInclusive<u64> = 60..=30 * 86_400;
/// Uses that a code may have, if they are counted.
pub const CODE_USES: u32 = 100_000;
/// Requests to join that may wait for somebody's answer.
pub const JOIN_REQUESTS: usize = 1_000;
/// How long a request to join may wait behind the end of its code, and a pending join is tried, in milliseconds: a day.
pub const JOIN_GRACE_MS: u64 = 86_400_000;
/// Joins of this device that are pending.
pub const JOINS: usize = 100;
/// Time for one JOIN and its RESULT, in seconds.
pub const JOIN_SECONDS: u64 = 20;
/// Devices at once that wait for their RESULT.
pub const JOIN_QUEUE: usize = 48;
/// Wrong proofs of one address, until it is not listened to for a while.
pub const JOIN_BAD_PROOFS: u32 = 10;
/// How long that is, in seconds.
pub const JOIN_REST_SECONDS: u64 = 600;
/// Addresses that wrong proofs are counted for; the oldest give way.
pub const JOIN_ADDRESSES: usize = 1_024;
/// Addresses of the issuer in a payload.
pub const PAYLOAD_ADDRESSES: usize = 8;
/// Hello stores that one device uses.
pub const HELLO_STORES: usize = 4;
/// The address of a hello store, in bytes.
pub const HELLO_URL: usize = 256;
/// A blob in a hello store, in bytes.
pub const HELLO_BLOB: usize = 4096;
/// How long a hello store keeps a blob, at least and at most, in seconds.
pub const HELLO_SECONDS: std::ops::RangeInclusive<u64> = 60..=30 * 86_400;
/// How long it does when nobody says, in seconds: 7 days.
pub const HELLO_SECONDS_USUAL: u64 = 7 * 86_400;
/// How long it remembers a blob that expired or was withdrawn, in milliseconds: a day.
pub const HELLO_TOMBSTONE_MS: u64 = 86_400_000;
/// Live blobs in a hello store, when nobody says otherwise …
pub const HELLO_BLOBS: u64 = 16_384;
/// … and their bytes.
pub const HELLO_BYTES: u64 = 64 << 20;
/// Live blobs in a hello store that is a server of its own, when nobody says otherwise …
pub const HELLO_SERVER_BLOBS: u64 = 1_000_000;
/// … and their bytes.
pub const HELLO_SERVER_BYTES: u64 = 1 << 30;
/// Connections at once to such a server …
pub const HELLO_SERVER_CONNECTIONS: usize = 4_096;
/// … and of one address.
pub const HELLO_SERVER_CONNECTIONS_PER_ADDRESS: usize = 64;
/// New blobs an hour of one source (an IPv4 address, or a /64 of IPv6).
pub const HELLO_PUTS_PER_HOUR: u32 = 30;
/// Live blobs of one source.
pub const HELLO_LIVE_PER_SOURCE: u32 = 64;
/// Lookups an hour of one source.
pub const HELLO_GETS_PER_HOUR: u32 = 120;
/// Lookups of one source that find nothing, until it has to rest.
pub const HELLO_MISSES: u32 = 20;
/// How long that is, in seconds.
pub const HELLO_REST_SECONDS: u64 = 600;
/// Sources whose requests are counted; the oldest give way.
pub const HELLO_SOURCES: usize = 65_536;
/// The text of an owner's token, in bytes.
pub const HELLO_TOKEN: std::ops::RangeInclusive<usize> = 16..=128;
/// How long one store may take to answer a lookup, in seconds.
pub const HELLO_LOOKUP_SECONDS: u64 = 5;
/// Stores that are asked at once.
pub const HELLO_LOOKUPS: usize = 4;
/// The longest answer on the local door, in bytes, its newline included: lists of thousands of devices.
pub const CONTROL_ANSWER: usize = 16 << 20;
/// Members of a journal that are named wherever it is shown; `journals.show` names all of them.
pub const MEMBERS_SHOWN: usize = 50;
