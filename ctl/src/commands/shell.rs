//! `completions` and `man`: made from the command line itself; no daemon needed.

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;

use super::Context;
use crate::args::Cli;
use crate::error::{Error, FAILED, Result};

/// `completions`
pub fn completions(ctx: &Context, shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kithctl", &mut script);
    ctx.out.document(&script)
}

/// `man`: one page a command, one after the other.
pub fn man(ctx: &Context) -> Result<()> {
    let mut program = Cli::command();
    program.build();
    let mut pages = Vec::new();
    render(&program, &mut pages)
        .map_err(|error| Error::new(FAILED, "internal", format!("cannot write the manual: {error}")))?;
    ctx.out.document(&pages)
}

fn render(command: &clap::Command, pages: &mut Vec<u8>) -> std::io::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    Man::new(command.clone()).title(name).render(pages)?;
    command.get_subcommands().filter(|below| below.get_name() != "help").try_for_each(|below| render(below, pages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_a_page_for_every_command() {
        let mut program = Cli::command();
        program.build();
        let mut pages = Vec::new();
        render(&program, &mut pages).unwrap();
        let text = String::from_utf8(pages).unwrap();
        for page in
            ["kithctl", "kithctl-pair", "kithctl-trust-policy", "kithctl-transfers-retry", "kithctl-journal-write"]
        {
            assert!(text.contains(&format!(".TH {page} 1")), "no page {page}");
        }
    }
}
