//! `halometer demo`: anonymous, prepaid calls, paid from end to end over real HTTP on loopback.

pub mod attacks;
mod error;
pub mod figures;
mod kept;
pub mod report;
pub mod run;
mod serve;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::watch;

use super::args::{DemoArgs, UPSTREAM_KEY};
use super::prompts::Prompts;
use error::DemoError;
use halometer::testing::stack::UpstreamOptions;
use report::Report;
use run::{Options, Progress};

/// Exit code of a program that was interrupted from the keyboard, by custom.
const INTERRUPTED: u8 = 130;
/// The model that is asked for when none is given.
const MODEL: &str = "parrot-1";

/// Runs the demo, and prints what it found.
///
/// # Errors
/// What to tell the user: unusable arguments, or something on this machine that does not work. A figure that does not
/// reconcile is no error but exit code 1.
pub fn run(args: &DemoArgs) -> Result<ExitCode, Box<dyn Error>> {
    if args.serve {
        return serve::run(args);
    }
    let prompts = Prompts::load(args.prompts.as_deref())?;
    let upstream = match &args.upstream {
        None => None,
        Some(url) => Some(UpstreamOptions { url: service_root(url).to_owned(), api_key: api_key()? }),
    };
    let options = Options {
        calls: args.calls as usize,
        prompts,
        upstream,
        model: args.model.clone().unwrap_or_else(|| MODEL.to_owned()),
        max_tokens: args.max_tokens,
        keep: args.keep.clone(),
    };
    let screen = Screen::new(args.json);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(stop_at_ctrl_c(stop));
        run::run(options, &screen, stopped).await
    });
    screen.clear();
    match outcome {
        Ok(report) => {
            print(&report, args.json)?;
            Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(DemoError::Interrupted) => {
            eprintln!("halometer: interrupted");
            Ok(ExitCode::from(INTERRUPTED))
        }
        Err(error) => Err(error.into()),
    }
}

/// The first ctrl-c lets what is on its way finish; the second ends the process.
async fn stop_at_ctrl_c(stop: watch::Sender<bool>) {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without the signal there is no orderly way to stop, but nothing else is amiss. The sender must stay alive.
        return std::future::pending().await;
    }
    let _ = stop.send(true);
    if tokio::signal::ctrl_c().await.is_ok() {
        std::process::exit(i32::from(INTERRUPTED));
    }
}

/// Base URLs are written with and without the version of the API; requests bring it along.
fn service_root(url: &str) -> &str {
    let url = url.trim_end_matches('/');
    url.strip_suffix("/v1").unwrap_or(url)
}

fn api_key() -> Result<Option<String>, Box<dyn Error>> {
    match std::env::var(UPSTREAM_KEY) {
        Ok(key) if key.trim().is_empty() => Ok(None),
        Ok(key) => Ok(Some(key.trim().to_owned())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(format!("{UPSTREAM_KEY} is not UTF-8 text").into()),
    }
}

/// A reader that has seen enough (`| head`) is no error.
fn print(report: &Report, json: bool) -> io::Result<()> {
    let text = if json { serde_json::to_string_pretty(report).map_err(io::Error::other)? } else { report.to_string() };
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// Shows on standard error how far the demo is, if that is a terminal, and introduces the parties on standard output.
struct Screen {
    bar: ProgressBar,
    json: bool,
}

impl Screen {
    fn new(json: bool) -> Self {
        Self { bar: ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden()), json }
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Screen {
    fn say(&self, line: &str) {
        if !self.json {
            self.bar.suspend(|| {
                let _ = writeln!(io::stdout(), "{line}");
            });
        }
    }

    fn begin(&self, what: &'static str, steps: usize) {
        // Hidden until now, so that nothing is drawn before there is something to show.
        if !self.json && self.bar.is_hidden() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        // The template is a constant and is tested below.
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.set_length(steps as u64);
        self.bar.set_position(0);
        self.bar.set_message(what);
        self.bar.enable_steady_tick(Duration::from_millis(100));
    }

    fn step(&self, done: usize) {
        self.bar.set_position(done as u64);
    }
}

const TEMPLATE: &str = "{spinner} {msg:<32} [{bar:36}] {pos}/{len}";
