//! Bodies that are too long for one line of the local door. They lie in memory, for as long as their connection lives:
//! nobody has been promised anything yet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kith_proto::control::{ApiError, Code};
use kith_proto::limits;
use tokio_util::sync::CancellationToken;

/// What is staged.
#[derive(Default)]
pub struct Staged(Arc<Mutex<HashMap<String, Body>>>);

struct Body {
    bytes: Vec<u8>,
    connection: CancellationToken,
}

impl Staged {
    /// Adds a piece to a body, or begins one. Says what it is called and how long it is now.
    pub fn add(
        &self,
        name: Option<String>,
        piece: &[u8],
        connection: &CancellationToken,
    ) -> Result<(String, u64), ApiError> {
        let mut table = self.table();
        let Some(name) = name else {
            if table.len() >= limits::STAGED_BODIES {
                return Err(ApiError::new(Code::Busy, "too many long bodies are on their way").hint("try again"));
            }
            let name = uuid::Uuid::new_v4().to_string();
            table.insert(name.clone(), Body { bytes: piece.to_vec(), connection: connection.clone() });
            return Ok((name, piece.len() as u64));
        };
        let body = table.get_mut(&name).ok_or_else(unknown)?;
        if body.bytes.len() + piece.len() > limits::ENTRY_BODY {
            table.remove(&name);
            return Err(too_long());
        }
        body.bytes.extend_from_slice(piece);
        Ok((name, body.bytes.len() as u64))
    }

    /// Takes a whole body.
    pub fn take(&self, name: &str) -> Result<Vec<u8>, ApiError> {
        self.table().remove(name).map(|body| body.bytes).ok_or_else(unknown)
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, Body>> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.retain(|_, body| !body.connection.is_cancelled());
        table
    }
}

fn unknown() -> ApiError {
    ApiError::new(Code::StagedNotFound, "nothing was staged under this name")
}

/// A body has a bound.
pub fn too_long() -> ApiError {
    ApiError::new(Code::TooLarge, format!("a body has at most {} bytes", limits::ENTRY_BODY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_come_in_pieces_and_go_with_their_connection() {
        let staged = Staged::default();
        let (one, other) = (CancellationToken::new(), CancellationToken::new());
        let (name, _) = staged.add(None, b"ab", &one).unwrap();
        assert_eq!(staged.add(Some(name.clone()), b"cd", &one).unwrap(), (name.clone(), 4));
        assert_eq!(staged.take(&name).unwrap(), b"abcd");
        assert_eq!(staged.take(&name).unwrap_err().code, Code::StagedNotFound);
        for _ in 0..limits::STAGED_BODIES {
            staged.add(None, b"", &one).unwrap();
        }
        assert_eq!(staged.add(None, b"", &other).unwrap_err().code, Code::Busy);
        one.cancel();
        let (name, _) = staged.add(None, b"", &other).unwrap();
        let piece = vec![0; limits::ENTRY_BODY];
        staged.add(Some(name.clone()), &piece, &other).unwrap();
        assert_eq!(staged.add(Some(name.clone()), b"x", &other).unwrap_err().code, Code::TooLarge);
        assert_eq!(staged.take(&name).unwrap_err().code, Code::StagedNotFound, "what is too long is dropped");
    }
}
