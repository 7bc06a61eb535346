//! The one form in which a secret crosses a door.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::secret::Secret;

/// A secret text where it must cross a door: in parameters and results of methods that need the access to secrets, and in
/// messages that are sealed as a whole. It does not print itself either.
pub struct SecretText(Secret<String>);

impl SecretText {
    /// Takes charge of `text`.
    pub fn new(text: String) -> Self {
        Self(Secret::new(text))
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// A second copy, where two owners need one each.
    pub fn duplicate(&self) -> Self {
        Self::new(self.expose().to_owned())
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_crosses_and_does_not_print_itself() {
        let text: SecretText = serde_json::from_str("\"12\\n\"").unwrap();
        assert_eq!(text.expose(), "12\n");
        assert_eq!(format!("{text:?}"), "Secret(…)");
        assert_eq!(serde_json::to_string(&text.duplicate()).unwrap(), "\"12\\n\"");
    }
}
