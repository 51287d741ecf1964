//! The `halometer` program. What it does is in [`halometer::cli`].

fn main() -> std::process::ExitCode {
    halometer::cli::main()
}
