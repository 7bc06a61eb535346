//! Two daemons on one machine: the real kithd and kithctl, from outside.
//!
//! ```text
//! lifecycle   start, stop, what systemd sees
//! startup     what kithd refuses to start with, and what it repairs
//! doors       the control socket: who may use it, where it lies
//! spoken      the control socket: what is spoken there, and what is not
//! load        the control socket under load: pipelines, readers that do not read
//! cli         kithctl: exit codes, errors, the daemon that is not there
//! contract    what scripts rely on: the shapes of --json
//! hostile     names and texts of a hostile peer: in tables, JSON, logs, the hook
//! pairing     PIN, QR, windows, trust
//! guesses     PINs in the hands of those who guess, tamper and read along
//! sending     trees
//! streams     standard input and texts
//! offers      inbox, policies, quotas
//! conflicts   names that exist already
//! trouble     cancel, revocation
//! outbox      peers that are away; trying again
//! space       disks that are full
//! resume      kill -9, again and again
//! strangers   the peer door, and who knocks there
//! manifests   a paired device that does not keep to the protocol: its offers
//! protocol    a paired device that does not keep to the protocol: its content
//! sessions    several connections and several peers
//!
//! guest_table     the guest door: the protocol's table of statuses, cell by cell
//! guest_sessions  who is served, in which order, and for how long a window is open
//! guest_uploads   content: more, less, other than declared, twice at once
//! guest_names     names that guests choose
//! guest_pins      guessing, and where secrets are not
//! guest_http      HTTP and TLS, and what only looks like it
//! guest_crowd     thousands of strangers, few descriptors, little memory
//! guest_patience  the slow and the silent
//! guest_space     full disks, directories that go away
//!
//! hello_table  the hello store: the table of its statuses, restarts, kills
//! hello_crowd  who asks too much of it, who is slow, who guesses
//! hello_server  a hello store as a server of its own, on a file and on Redis
//!
//! journals_entries       entries: what is written, read, refused
//! journals_pages         lists, and cursors in them
//! journals_subscription  following a journal, from any place on
//! journals_sharing       who has a journal: own devices, guests, those who may share, those who left
//! journals_sync          when it syncs, what it tells of it, conflicts
//! journals_links         links that break, and trust that ends meanwhile
//! journals_kills         kill -9 while writing and while syncing
//! journals_backups       databases that come back from the past, or not at all
//! journals_space         disks that are full
//! journals_ctl           kithctl: export and import, encrypted texts, the shapes of --json
//!
//! thousands   thousands of trusted devices in one journal
//! joins   joining by sharing codes
//!
//! vault_methods  secrets, databases, the vault: every method, and what each refuses
//! vault_keys     keys that are lost or not private
//! vault_leaks    where values are not: files, logs, events, memory
//! vault_kills    kill -9 while the vault changes
//! shares         credentials between paired devices
//! codes          sharing codes: whoever comes with one, however many at once
//!
//! support     what several of these need
//! journals    journals as an app has them
//! raw         the peer door by hand: TLS, frames
//! stage       a paired device whose key is in our hands
//! ```

mod cli;
mod codes;
mod conflicts;
mod contract;
mod doors;
mod guesses;
mod guest_crowd;
mod guest_http;
mod guest_names;
mod guest_patience;
mod guest_pins;
mod guest_sessions;
mod guest_space;
mod guest_table;
mod guest_uploads;
mod hello_crowd;
mod hello_server;
mod hello_table;
mod hostile;
mod joins;
mod journals;
mod journals_backups;
mod journals_ctl;
mod journals_entries;
mod journals_kills;
mod journals_links;
mod journals_pages;
mod journals_sharing;
mod journals_space;
mod journals_subscription;
mod journals_sync;
mod lifecycle;
mod load;
mod manifests;
mod offers;
mod outbox;
mod pairing;
mod protocol;
mod raw;
mod resume;
mod sending;
mod sessions;
mod shares;
mod space;
mod spoken;
mod stage;
mod startup;
mod strangers;
mod streams;
mod support;
mod thousands;
mod trouble;
mod vault_keys;
mod vault_kills;
mod vault_leaks;
mod vault_methods;
