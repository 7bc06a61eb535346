//! The command line of the vault, of secrets and of databases.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use kith_proto::control::credential::Resolve;
use kith_proto::credential::SecretType;

use super::diary::PassphraseFrom;
use super::share::{ReceiveDatabase, ReceiveSecret, SendDatabase, SendSecret};
use crate::values::word;

const TYPES: [&str; 4] = [
    SecretType::S3Credentials.name(),
    SecretType::EncryptionKey.name(),
    SecretType::ApiKey.name(),
    SecretType::Plain.name(),
];
const RESOLVES: [&str; 4] = ["reuse", "replace", "rename", "fail"];

/// `vault`
#[derive(Debug, Subcommand)]
pub enum Vault {
    /// Whether secrets can be read and written, and where the key comes from
    #[command(after_help = "Example: kithctl vault status --json")]
    Status,
    /// Forget the key until the vault is unlocked
    #[command(after_help = "Example: kithctl vault lock")]
    Lock,
    /// Open a vault that has a passphrase, or that was locked
    #[command(after_help = "Examples:\n  kithctl vault unlock\n  \
        kithctl vault unlock --passphrase-file ~/.secrets/vault")]
    Unlock(PassphraseFrom),
    /// Protect the vault with a passphrase, with another one, or with a key file again
    ///
    /// A vault begins with a key in a file that only you can read. With a passphrase the key is on no disk: after every
    /// start of the daemon somebody has to unlock the vault.
    #[command(after_help = "Examples:\n  kithctl vault passphrase\n  kithctl vault passphrase --remove")]
    Passphrase(NewPassphrase),
}

/// `vault passphrase`
#[derive(Debug, Args)]
pub struct NewPassphrase {
    /// How to come by the present passphrase.
    #[command(flatten)]
    pub present: PassphraseFrom,
    /// The first line of this file is the new passphrase; without it, it is asked for on the terminal, twice
    #[arg(long, value_name = "PATH")]
    pub new_passphrase_file: Option<PathBuf>,
    /// No passphrase any more: the key lies in a file again
    #[arg(long, conflicts_with = "new_passphrase_file")]
    pub remove: bool,
}

/// `secrets`
#[derive(Debug, Subcommand)]
pub enum Secrets {
    /// Put a secret into the vault; what is missing is asked for on a terminal
    ///
    /// The value comes from a file, from standard input, or from whoever sits at the terminal. Of api-key and plain, one
    /// line break at the end is dropped. s3-credentials are JSON: {"region", "accessKeyId", "secretAccessKey",
    /// "endpoint"?}; an encryption-key is a private key in PEM (PKCS#8).
    #[command(after_help = "Examples:\n  kithctl secrets add\n  \
        kithctl secrets add --name photos-key --type encryption-key --file key.pem\n  \
        pass show geocoding | kithctl secrets add --name geocoding --type api-key")]
    Add(SecretAdd),
    /// The secrets in the vault, without their values
    #[command(after_help = "Example: kithctl secrets list --json")]
    List,
    /// Show a secret with its value
    #[command(after_help = "Example: kithctl secrets view photos-key --yes > key.pem")]
    View {
        /// Its name
        name: String,
        /// Do not ask whether it may be shown here
        #[arg(long, short)]
        yes: bool,
    },
    /// Change a secret; without any option it is asked on a terminal what to change
    #[command(after_help = "Examples:\n  kithctl secrets edit geocoding --rename maps\n  \
        kithctl secrets edit photos-key --file new.pem")]
    Edit(SecretEdit),
    /// Delete a secret
    #[command(after_help = "Example: kithctl secrets remove geocoding --yes")]
    Remove {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        /// Also if a database uses it, which then has none in its place
        #[arg(long)]
        force: bool,
    },
    /// Take over secrets and databases from files: all of them or none
    ///
    /// A file is a private key in PEM; JSON with one secret {"name", "type", "value"}, a list of such, or S3 credentials;
    /// or Photosphere's vault.json or databases.toml. Of a directory, each *.json in it is read. With --type, a file is
    /// the value of one secret. Files have at most 4 MiB, and all that is taken over must fit into one request of 1 MiB.
    #[command(after_help = "Examples:\n  kithctl secrets import key.pem --name photos-key\n  \
        kithctl secrets import vault.json databases.toml --on-conflict rename")]
    Import(Import),
    /// Hand a secret over to another device
    ///
    /// Shows a code, which somebody types on the other device within a minute. To a paired device there is no code.
    #[command(after_help = "Examples:\n  kithctl secrets send photos-s3            there: kithctl secrets receive\n  \
        kithctl secrets send photos-s3 --to nas   it waits in the inbox there")]
    Send(SendSecret),
    /// Take a secret that another device hands over
    #[command(after_help = "Examples:\n  kithctl secrets receive                   asks for the code\n  \
        echo 4821 | kithctl secrets receive --yes --on-conflict fail\n  \
        kithctl secrets receive --inbox 0192      what a paired device sent")]
    Receive(ReceiveSecret),
}

/// `secrets add`
#[derive(Debug, Args)]
pub struct SecretAdd {
    /// What to call it
    #[arg(long)]
    pub name: Option<String>,
    /// What its value is
    #[arg(long = "type", value_name = "TYPE", value_parser = word::<SecretType>(TYPES))]
    pub kind: Option<SecretType>,
    /// Where the value comes from.
    #[command(flatten)]
    pub value: ValueFrom,
}

/// `secrets edit`
#[derive(Debug, Args)]
pub struct SecretEdit {
    /// Its name
    pub name: String,
    /// Its new name; databases that use it go along
    #[arg(long, value_name = "NAME")]
    pub rename: Option<String>,
    /// What its value is now
    #[arg(long = "type", value_name = "TYPE", value_parser = word::<SecretType>(TYPES))]
    pub kind: Option<SecretType>,
    /// Where the new value comes from.
    #[command(flatten)]
    pub value: ValueFrom,
}

/// Where a value comes from.
#[derive(Debug, Args)]
pub struct ValueFrom {
    /// Read the value there; `-` for standard input
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// The value. Whoever looks at this machine's processes sees it: better a file or standard input
    #[arg(long, conflicts_with = "file")]
    pub value: Option<String>,
}

/// `secrets import`
#[derive(Debug, Args)]
pub struct Import {
    /// Files, and directories with *.json in them
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// What to call the one secret that is found; the name of its file if it has none
    #[arg(long)]
    pub name: Option<String>,
    /// The file is the value of one secret of this type
    #[arg(long = "type", value_name = "TYPE", value_parser = word::<SecretType>(TYPES))]
    pub kind: Option<SecretType>,
    /// What to do where a name is taken by something else: keep and use that, replace it, find another name, or take over
    /// nothing at all
    #[arg(long, value_name = "WHAT", default_value = "fail", value_parser = word::<Resolve>(RESOLVES))]
    pub on_conflict: Resolve,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// `dbs`
#[derive(Debug, Subcommand)]
pub enum Dbs {
    /// Add a database; what is missing is asked for on a terminal
    #[command(after_help = "Examples:\n  kithctl dbs add\n  \
        kithctl dbs add --name Photos --path s3:bucket/photos --s3 bucket --encryption photos-key")]
    Add(DbAdd),
    /// The databases that are configured
    #[command(after_help = "Example: kithctl dbs list --json")]
    List,
    /// All about one
    #[command(after_help = "Example: kithctl dbs view Photos")]
    View {
        /// Its name
        name: String,
    },
    /// Change a database; without any option it is asked on a terminal what to change
    #[command(after_help = "Examples:\n  kithctl dbs edit Photos --path /srv/photos --s3 ''\n  \
        kithctl dbs edit Photos --rename 'Our photos'")]
    Edit(DbEdit),
    /// Remove a database from the list; its files and its secrets stay
    #[command(after_help = "Example: kithctl dbs remove Photos --yes")]
    Remove {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Hand a database over to another device, with those of its secrets that you choose
    ///
    /// Shows a code, which somebody types on the other device within a minute. To a paired device there is no code.
    #[command(after_help = "Examples:\n  kithctl dbs send photos                   there: kithctl dbs receive\n  \
        kithctl dbs send photos --to nas --secrets s3,encryption\n  \
        kithctl dbs send photos --compat photosphere     to the Photosphere app; not safe")]
    Send(SendDatabase),
    /// Take a database that another device hands over
    #[command(after_help = "Examples:\n  kithctl dbs receive                       asks for the code\n  \
        echo 4821 | kithctl dbs receive --yes --path /srv/photos\n  \
        kithctl dbs receive --inbox 0192          what a paired device sent")]
    Receive(ReceiveDatabase),
}

/// `dbs add`
#[derive(Debug, Args)]
pub struct DbAdd {
    /// What to call it
    #[arg(long)]
    pub name: Option<String>,
    /// What it is.
    #[command(flatten)]
    pub database: DbFields,
}

/// `dbs edit`
#[derive(Debug, Args)]
pub struct DbEdit {
    /// Its name
    pub name: String,
    /// Its new name
    #[arg(long, value_name = "NAME")]
    pub rename: Option<String>,
    /// What it becomes.
    #[command(flatten)]
    pub database: DbFields,
}

/// What a database is besides its name.
#[derive(Debug, Clone, Args)]
pub struct DbFields {
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// Where it lies: a directory, or s3:bucket/prefix
    #[arg(long)]
    pub path: Option<String>,
    /// Where it was first made; '' for nowhere
    #[arg(long, value_name = "TEXT")]
    pub origin: Option<String>,
    /// Its secret of type s3-credentials; '' for none
    #[arg(long, value_name = "SECRET")]
    pub s3: Option<String>,
    /// Its secret of type encryption-key; '' for none
    #[arg(long, value_name = "SECRET")]
    pub encryption: Option<String>,
    /// Its secret of type api-key, for geocoding; '' for none
    #[arg(long, value_name = "SECRET")]
    pub geocoding: Option<String>,
}

#[cfg(test)]
mod tests {
    use crate::args::Cli;
    use clap::Parser as _;

    #[test]
    fn command_lines_that_say_nothing_sensible() {
        for line in [
            "vault unlock --passphrase secret",
            "vault passphrase --remove --new-passphrase-file a",
            "secrets add --name a --type password",
            "secrets add --name a --type plain --file b --value c",
            "secrets view",
            "secrets edit",
            "secrets edit a --type unknown",
            "secrets remove",
            "secrets import",
            "secrets import a --on-conflict skip",
            "dbs view",
            "dbs edit --rename b",
            "dbs remove",
        ] {
            let parsed = Cli::try_parse_from(["kithctl"].into_iter().chain(line.split(' ')));
            assert_eq!(parsed.map(|_| ()).map_err(|error| error.exit_code()), Err(2), "{line}");
        }
        for line in ["vault", "secrets", "dbs", "vault passphrase", "secrets add", "dbs add"] {
            let parsed = Cli::try_parse_from(["kithctl"].into_iter().chain(line.split(' ')));
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
        }
    }
}
