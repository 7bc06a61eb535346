//! Questions to whoever sits at the terminal: a line, one of several things, something that nobody else shall see.
//!
//! Ask only where [`Output::may_ask`] says that somebody is there.

use kith_proto::secret_text::SecretText;

use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::passphrase::Terminal;

/// The longest answer that is hidden or wiped, in bytes. Linux cuts a line that is typed at 4095 and says nothing: what is as long as that
/// may not be all of it. Longer values come from files.
const TYPED: usize = 4094;

/// Asks for a line; Enter alone is `default`.
pub fn line(out: Output, question: &str, default: &str) -> Result<String> {
    let answer = out.ask(&titled(question, default))?;
    Ok(if answer.is_empty() { default.to_owned() } else { answer })
}

/// Asks for one of `options`, by its number or by its text, and returns where it is; Enter alone is `default`.
pub fn choose(out: Output, question: &str, options: &[String], default: Option<usize>) -> Result<usize> {
    for (at, option) in options.iter().enumerate() {
        out.note(&format!("  {}  {option}", at + 1));
    }
    let default = default.map(|at| (at + 1).to_string()).unwrap_or_default();
    loop {
        match chosen(&line(out, question, &default)?, options) {
            Some(at) => return Ok(at),
            None => out.note(&format!("one of 1 to {}", options.len())),
        }
    }
}

/// Asks for a line that is not shown while it is typed.
pub fn hidden(interrupt: &Interrupt, question: &str) -> Result<SecretText> {
    let none = || Error::usage("there is no terminal to ask at");
    Terminal::find(interrupt).ok_or_else(none)?.hidden(&titled(question, ""), TYPED)
}

/// Asks for a code: everybody sees what is typed, and nothing is kept of it.
pub fn code(interrupt: &Interrupt, question: &str) -> Result<SecretText> {
    let none = || Error::usage("there is no terminal to ask at");
    Terminal::find(interrupt).ok_or_else(none)?.shown(&titled(question, ""), TYPED)
}

fn titled(question: &str, default: &str) -> String {
    if default.is_empty() { format!("{question}:") } else { format!("{question} [{default}]:") }
}

/// A number wins over a text: that is what is shown before each option.
fn chosen(answer: &str, options: &[String]) -> Option<usize> {
    let number = answer.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    number.filter(|at| *at < options.len()).or_else(|| options.iter().position(|option| option == answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_has_a_number_and_a_text() {
        let options = ["plain", "7", "none"].map(str::to_owned);
        for (answer, at) in
            [("1", Some(0)), ("3", Some(2)), ("none", Some(2)), ("7", Some(1)), ("0", None), ("4", None), ("", None)]
        {
            assert_eq!(chosen(answer, &options), at, "{answer:?}");
        }
    }
}
