//! `halometer completions` and `halometer manuals`: what shells and `man` know of the program, made from its own definition.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap_complete::Shell;

/// The arguments of `halometer completions`.
#[derive(Clone, Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// The arguments of `halometer manuals`.
#[derive(Clone, Debug, clap::Args)]
pub struct ManualsArgs {
    /// Where the pages go; it is made if it is not there. Pages of the same names are replaced.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// Prints the completions.
///
/// # Errors
/// None that is not the reader's.
pub(super) fn completions(args: &CompletionsArgs) -> Result<ExitCode, Box<dyn Error>> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::examples::command(), "halometer", &mut script);
    print!("{}", String::from_utf8(script)?);
    Ok(ExitCode::SUCCESS)
}

/// Writes a page for each command.
///
/// # Errors
/// The directory cannot be written.
pub(super) fn manuals(args: &ManualsArgs) -> Result<ExitCode, Box<dyn Error>> {
    let dir = &args.dir;
    let trouble = |error: std::io::Error| format!("{}: {error}", dir.display());
    std::fs::create_dir_all(dir).map_err(trouble)?;
    clap_mangen::generate_to(super::examples::command(), dir).map_err(trouble)?;
    println!("the pages are in {}; read one with: man -l {}/halometer.1", dir.display(), dir.display());
    Ok(ExitCode::SUCCESS)
}
