//! A line on standard error that says what goes on, where it takes long and somebody sits there.

use std::sync::OnceLock;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::place::is_watched;
use halometer::http::payer::Event;

/// The template of the line.
const TEMPLATE: &str = "{spinner} {msg} {elapsed}";

/// One for the process, as there is one terminal.
static LINE: OnceLock<ProgressBar> = OnceLock::new();

/// The line is there until this is dropped.
pub(super) struct Shown(());

/// From now on there may be a line: the output is for people. Where nobody sits there is none.
pub(super) fn allow(json: bool) {
    if json || !is_watched() {
        return;
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    // The template is a constant and is tested below.
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style);
    }
    let _ = LINE.set(bar);
}

/// Shows the line.
pub(super) fn begin() -> Shown {
    if let Some(bar) = LINE.get() {
        bar.reset();
        bar.set_message("asking");
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar.enable_steady_tick(Duration::from_millis(100));
    }
    Shown(())
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = LINE.get() {
            bar.disable_steady_tick();
            bar.finish_and_clear();
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
    }
}

/// Says what goes on from here.
pub(super) fn say(what: &'static str) {
    if let Some(bar) = LINE.get() {
        bar.set_message(what);
    }
}

/// Says what follows something that a payer tells.
pub(super) fn after(event: &Event) {
    let what = match event {
        Event::ProofReady { .. } => "waiting for the answer",
        Event::Transferred { .. } => "credit was gathered; making a proof",
        Event::RolledOver(_) => "a note was rolled over; looking for more",
        Event::CallRefused(_) => "the gateway refuses; looking for a newer directory",
        Event::CallPaid { .. } | Event::Pursued(_) => "settled",
        Event::QuestionsFailed => "asking again whether a copy of this wallet spent its notes",
        Event::UpkeepFailed => "it did not work; trying again",
        Event::ProverFailed => "the proof failed; trying again",
        _ => return,
    };
    say(what);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_one() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }
}
