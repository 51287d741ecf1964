//! What is being measured, on standard error.

use indicatif::{ProgressBar, ProgressStyle};

/// A line that says what goes on. Shown on a terminal only.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new() -> Self {
        let style =
            ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}").unwrap_or_else(|_| ProgressStyle::default_bar());
        Self(ProgressBar::new(0).with_style(style))
    }

    /// Something of `steps` steps begins.
    pub(super) fn start(&mut self, what: &'static str, steps: usize) {
        self.0.set_length(steps as u64);
        self.0.set_position(0);
        self.0.set_message(what);
        self.0.tick();
    }

    pub(super) fn step(&self) {
        self.0.inc(1);
    }

    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
