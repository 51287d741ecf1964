//! Fuzz target: the configuration.

use std::path::Path;

use super::Loaded;
use halometer::testing::fuzz::planted;

/// Any text is a configuration or an error that can be said; a comment at its end changes nothing. The planted fault: the last
/// line is lost.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else { return };
    let read = |text: &str| Loaded::parse(Path::new("dir/gateway.toml"), text);
    let first = read(text).map_err(|error| error.to_string());
    // A carriage return by itself is an error; with the line feed of the comment it is none.
    if text.ends_with('\r') {
        return;
    }
    let kept = match text.rsplit_once('\n') {
        Some((before, _)) if planted() => before,
        _ => text,
    };
    let second = read(&format!("{kept}\n# the end\n"));
    match (first, second) {
        (Ok(first), Ok(second)) => assert!(first.config == second.config, "a comment that says something"),
        (Err(_), Err(_)) => {}
        (first, second) => panic!("a comment that decides: {} then {}", first.is_ok(), second.is_ok()),
    }
}

/// The files that `gateway init` writes, and a short one.
pub fn seeds() -> Vec<Vec<u8>> {
    let short = "origins = [\"https://api.example.org\"]\n[upstream]\nurl = \"http://127.0.0.1:9000\"\n[pricing]\nkind = \"tokens\"\n\
                 [prices]\ninput_token = { credits = 2 }\noutput_token = { credits = 8 }\n[issuer.payments]\nkind = \"development\"";
    [include_str!("../gateway.toml"), include_str!("../remote.toml"), short]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
}

#[cfg(test)]
mod tests {
    use halometer::testing::fuzz::Target;

    const TARGET: Target =
        Target { name: "configuration", body: super::configuration, seeds: super::seeds, rounds: 4_000 };

    #[test]
    fn the_configuration_holds() {
        TARGET.smoke();
    }

    #[test]
    fn the_planted_fault_is_found() {
        assert!(TARGET.finds_planted_fault());
    }
}
