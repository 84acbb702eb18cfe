//! What is made from the command line's own description: completions for a shell, the manual page.

use std::io::{self, Write as _};

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::Exit;

/// Prints a completion script; the shell's manual says where it goes.
pub(super) fn completions(shell: Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "opsdeck", &mut script);
    print(&script)
}

/// Prints the manual page in man(7) format: the program, then each command with its flags.
pub(super) fn man() -> Exit {
    let mut page = Vec::new();
    match render(&mut page) {
        Ok(()) => print(&page),
        Err(err) => {
            super::notice(&format!("opsdeck: the manual page could not be made: {err}"));
            Exit::Failed
        }
    }
}

fn render(page: &mut Vec<u8>) -> io::Result<()> {
    let mut command = Cli::command();
    command.build();
    let mut own = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut own)?;
    // What stands after the help is the table of exit codes.
    let own = String::from_utf8_lossy(&own).replace(".SH EXTRA", ".SH \"EXIT STATUS\"");
    page.write_all(own.as_bytes())?;
    command.get_subcommands().try_for_each(|it| section(it, "opsdeck", page))
}

/// A command's own section, then those of the commands below it.
///
/// What are sections of a page of its own are parts of this one; flags that every command takes are told once.
fn section(command: &clap::Command, parent: &str, page: &mut Vec<u8>) -> io::Result<()> {
    if command.is_hide_set() || command.get_name() == "help" {
        return Ok(());
    }
    let name = format!("{parent} {}", command.get_name());
    let shown = command.clone().mut_args(|it| {
        let told = it.is_global_set() || matches!(it.get_id().as_str(), "help" | "version");
        it.hide(told)
    });
    let man = clap_mangen::Man::new(shown.clone());
    let mut body = Vec::new();
    man.render_synopsis_section(&mut body)?;
    man.render_description_section(&mut body)?;
    if shown.get_arguments().any(|it| !it.is_hide_set()) {
        man.render_options_section(&mut body)?;
    }
    let body = String::from_utf8_lossy(&body).replace(".SH ", ".SS ");
    write!(page, ".SH \"{name}\"\n{body}")?;
    command.get_subcommands().try_for_each(|it| section(it, &name, page))
}

fn print(text: &[u8]) -> Exit {
    match super::out(&String::from_utf8_lossy(text)) {
        Ok(()) => Exit::Done,
        Err(err) => {
            super::notice(&format!("opsdeck: cannot print: {err}"));
            Exit::Failed
        }
    }
}
