//! Reads the command line and hands over; every command ends with a code of [`opsdeck::exit`].

use std::process::ExitCode;

use clap::Parser;
use opsdeck::cli::Cli;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let [role, runtime_dir] = &arguments[..]
        && role == "holder"
    {
        // Reading the command line would be most of what it ever does, and takes.
        return opsdeck::commands::daemon::holder(runtime_dir.as_ref()).into();
    }
    match Cli::try_parse() {
        Ok(cli) => opsdeck::commands::run(cli),
        Err(err) => {
            // Help and version go to stdout and are no mistake.
            let _ = err.print();
            if err.use_stderr() { opsdeck::exit::Exit::Usage } else { opsdeck::exit::Exit::Done }
                .into()
        }
    }
}
