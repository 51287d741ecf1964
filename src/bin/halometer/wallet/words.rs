//! The root secret as words.

use std::process::ExitCode;

use serde_json::json;

use super::say::say;
use super::{Outcome, Place};
use halometer::protocol::DeviceId;
use halometer::wallet::Wallet;
use halometer::wallet::file::FileJournal;

/// How many words stand in a line.
const IN_A_LINE: usize = 6;

/// What the owner should know of a wallet whose words alone do not bring it back.
pub(super) fn of_an_earlier_release(device: DeviceId) -> String {
    format!("an earlier release made this wallet: `restore` needs `--device {device}` beside its words")
}

/// The words in lines, to be copied.
pub(super) fn lines(wallet: &Wallet<FileJournal>) -> Vec<String> {
    let text = wallet.to_words();
    let words: Vec<&str> = text.split(' ').collect();
    words.chunks(IN_A_LINE).map(|some| format!("  {}", some.join(" "))).collect()
}

pub(super) fn run(place: &Place) -> Outcome {
    let wallet = place.open()?;
    let text = wallet.to_words();
    let device = (wallet.device().number().is_none()).then(|| wallet.device());
    let value = json!({
        "words": text.split(' ').collect::<Vec<_>>(),
        "device": device.map(|device| device.to_string()),
    });
    let mut out = lines(&wallet);
    out.extend(device.map(of_an_earlier_release));
    say(place.json, &value, out)?;
    Ok(ExitCode::SUCCESS)
}
