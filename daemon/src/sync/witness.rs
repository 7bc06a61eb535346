//! What remembers outside the database how far it was. A database that went back in time, because a backup was
//! restored, would give out numbers once more that its peers have counted already: it has to begin another life.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use kith_proto::peer::journal::version::Epoch;

use crate::files;

/// A file of this kind is much shorter.
const LONGEST: usize = 256;

/// The file `journals.witness`: the life of the database, and the greatest seq that any peer was told of.
#[derive(Debug)]
pub struct Witness {
    path: PathBuf,
    noted: Option<(Epoch, u64)>,
}

impl Witness {
    /// The witness at `path`, as it is now.
    pub fn open(path: PathBuf) -> Self {
        let noted = read(&path);
        Self { path, noted }
    }

    /// Whether the database, which says that it is in the life `epoch` and gave out `seq`, went back in time. Where there
    /// is no witness nobody knows: then it may have. A life too many costs one comparison with each peer, one too few
    /// loses changes.
    pub fn went_back(&self, epoch: &Epoch, seq: u64) -> bool {
        self.noted.is_none_or(|(known, upto)| known != *epoch || upto > seq)
    }

    /// Remembers that a peer is about to learn of `seq`. What is remembered already costs nothing.
    pub fn note(&mut self, epoch: Epoch, seq: u64) -> std::io::Result<()> {
        if self.noted.is_some_and(|(known, upto)| known == epoch && upto >= seq) {
            return Ok(());
        }
        files::write_atomic(&self.path, format!("{epoch} {seq}\n").as_bytes(), 0o600)?;
        self.noted = Some((epoch, seq));
        Ok(())
    }
}

fn read(path: &Path) -> Option<(Epoch, u64)> {
    let bytes = match files::read_private(path, LONGEST) {
        Ok(bytes) => bytes,
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                tracing::warn!(%error, path = %path.display(), "cannot read how far the journals were");
            }
            return None;
        }
    };
    let text = String::from_utf8(bytes).ok()?;
    let (epoch, seq) = text.trim_end().split_once(' ')?;
    Some((Epoch::parse(epoch)?, seq.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g65_a_database_that_went_back_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journals.witness");
        let (epoch, other) = (Epoch([1; 16]), Epoch([2; 16]));
        assert!(Witness::open(path.clone()).went_back(&epoch, 0), "nobody knows");
        let mut witness = Witness::open(path.clone());
        witness.note(epoch, 7).unwrap();
        witness.note(epoch, 5).unwrap();
        for witness in [witness, Witness::open(path.clone())] {
            assert!(!witness.went_back(&epoch, 7));
            assert!(!witness.went_back(&epoch, 8), "the last changes were told to nobody");
            assert!(witness.went_back(&epoch, 6));
            assert!(witness.went_back(&other, 7));
        }
        let mut witness = Witness::open(path.clone());
        witness.note(other, 1).unwrap();
        assert!(!Witness::open(path.clone()).went_back(&other, 1));
        files::write_atomic(&path, b"what is this", 0o600).unwrap();
        assert!(Witness::open(path).went_back(&other, 1));
    }
}
