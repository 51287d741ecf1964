//! Examples of every command, which its help ends with.

use clap::{Command, CommandFactory as _};

use super::args::Cli;

/// The words of a command, and its examples: what one does, and how it is written.
type Entry = (&'static str, &'static [(&'static str, &'static str)]);

/// A command without examples has no place in the program: the tests say so.
const EXAMPLES: &[Entry] = &[
    (
        "demo",
        &[
            ("24 paid calls on this machine, and two attacks", "halometer demo"),
            ("Parties to try a wallet with, until Ctrl-C", "halometer demo --serve --keep run"),
        ],
    ),
    ("bench", &[("What this machine proves and verifies in a second", "halometer bench")]),
    ("simulate", &[("What 2,000 calls a second need", "halometer simulate --calls-per-second 2000")]),
    (
        "gateway",
        &[
            ("Run what a configuration describes", "halometer gateway --config shop/gateway.toml"),
            ("Check it, and end", "halometer gateway --config shop/gateway.toml --check"),
        ],
    ),
    (
        "gateway init",
        &[(
            "A new gateway in front of a service",
            "halometer gateway init shop --upstream http://127.0.0.1:9000 --origin https://api.example.org",
        )],
    ),
    (
        "gateway leak-budget",
        &[
            (
                "What the classes and epochs tell at most",
                "halometer gateway leak-budget --config gateway.toml --callers 400",
            ),
            (
                "What they told, by a backup of the store",
                "halometer gateway leak-budget --config gateway.toml --store backup",
            ),
        ],
    ),
    ("store check", &[("Read all of a stopped gateway's store", "halometer store check shop/store")]),
    ("store stats", &[("Records and bytes", "halometer store stats shop/store --json")]),
    ("store compact", &[("Give back the room of what was dropped", "halometer store compact shop/store")]),
    (
        "store migrate",
        &[("What an empty database would be given", "halometer store migrate --config shop/gateway.toml --dry-run")],
    ),
    (
        "store copy",
        &[(
            "A stopped gateway's store, into the database of its configuration",
            "halometer store copy shop/store --config shop/gateway.toml",
        )],
    ),
    ("store backup", &[("A copy that cannot roll back unseen", "halometer store backup shop/store backup")]),
    (
        "issuer audit",
        &[(
            "Prove the books from the records",
            "halometer issuer audit backup --directory shop/directory --root-key HEX",
        )],
    ),
    (
        "evidence verify",
        &[("Check a double spend", "halometer evidence verify spend.json --directory shop/directory --root-key HEX")],
    ),
    (
        "evidence dispute",
        &[("Check what a wallet has against a gateway", "halometer evidence dispute dispute.json --root-key HEX")],
    ),
    (
        "evidence mint",
        &[("Check what the issuer signed of a payment", "halometer evidence mint mint-0.bin --root-key HEX")],
    ),
    (
        "evidence directories",
        &[(
            "Compare two directories that callers were shown",
            "halometer evidence directories mine theirs --root-key HEX",
        )],
    ),
    (
        "wallet new",
        &[
            ("A wallet for an issuer's credit", "halometer wallet new --issuer https://issuer.example --root-key HEX"),
            (
                "The same over Tor",
                "halometer wallet new --issuer http://issuer.onion --root-key HEX --socks5 127.0.0.1:9050",
            ),
        ],
    ),
    ("wallet words", &[("Show the words again, to write them down", "halometer wallet words")]),
    (
        "wallet restore",
        &[(
            "The wallet again, from its 24 words",
            "halometer wallet restore --issuer https://issuer.example --root-key HEX",
        )],
    ),
    (
        "wallet fund",
        &[
            ("Turn a payment of 160,000 micro-credits into credit", "halometer wallet fund invoice-7 160000"),
            ("The same, with the payment from standard input", "halometer wallet fund - 160000"),
        ],
    ),
    (
        "wallet payments",
        &[
            ("What was paid for, and whether it was minted", "halometer wallet payments"),
            ("Take a payment off the list that the issuer refuses", "halometer wallet payments --forget invoice-7"),
        ],
    ),
    ("wallet balance", &[("What the wallet is worth", "halometer wallet balance")]),
    ("wallet lanes", &[("What each lane is worth and does", "halometer wallet lanes")]),
    ("wallet prices", &[("What calls cost, and the charge classes", "halometer wallet prices")]),
    (
        "wallet call",
        &[
            ("Ask for what costs least", "halometer wallet call /v1/models"),
            ("Ask a question that is in a file", "halometer wallet call /v1/chat/completions -d @question.json"),
            ("Over Tor, and give up after a minute", "halometer wallet call / --socks5 127.0.0.1:9050 --timeout 60"),
        ],
    ),
    (
        "wallet history",
        &[
            ("The last five spends", "halometer wallet history --limit 5"),
            ("What each key of the proxy has spent", "halometer wallet history --by-key"),
        ],
    ),
    (
        "wallet key new",
        &[(
            "A key with a budget for an agent",
            "halometer wallet key new --name agent --per-day 50000 --per-call 4000",
        )],
    ),
    ("wallet key list", &[("The keys, and what they are for", "halometer wallet key list")]),
    ("wallet key revoke", &[("Take a key back", "halometer wallet key revoke agent")]),
    (
        "wallet cancel",
        &[
            ("Get back all that is in flight", "halometer wallet cancel"),
            ("Get back one lane's spend", "halometer wallet cancel 0.3"),
        ],
    ),
    (
        "wallet export",
        &[("Move the wallet to the device that gave the code", "halometer wallet export --to CODE moved")],
    ),
    (
        "wallet import",
        &[
            ("On the new device, first", "halometer wallet import --prepare"),
            ("and when the file is there", "halometer wallet import moved"),
        ],
    ),
    (
        "wallet doctor",
        &[
            ("Look the wallet over and finish what can be", "halometer wallet doctor"),
            ("Ask nobody", "halometer wallet doctor --offline"),
        ],
    ),
    ("wallet disputes", &[("Save the evidence", "halometer wallet disputes --save evidence")]),
    (
        "proxy",
        &[
            ("Pay for what programs ask at http://127.0.0.1:8402/v1", "halometer proxy"),
            ("Over Tor, for a program that makes many calls", "halometer proxy --policy agent --socks5 127.0.0.1:9050"),
        ],
    ),
    ("completions", &[("For bash", "halometer completions bash"), ("For zsh", "halometer completions zsh")]),
    ("manuals", &[("Where man finds them", "halometer manuals ~/.local/share/man/man1")]),
];

/// The program's definition, with examples.
pub(super) fn command() -> Command {
    with_examples(Cli::command(), "")
}

fn with_examples(command: Command, path: &str) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let command = names.into_iter().fold(command, |command, name| {
        let path = format!("{path} {name}").trim_start().to_owned();
        command.mut_subcommand(name, |command| with_examples(command, &path))
    });
    match EXAMPLES.iter().find(|(known, _)| *known == path) {
        Some((_, examples)) => command.after_help(text(examples)),
        None => command,
    }
}

fn text(examples: &[(&str, &str)]) -> String {
    let lines = examples.iter().map(|(what, how)| format!("  {what}:\n    {how}"));
    format!("Examples:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(command: &Command, path: &str, found: &mut Vec<String>) {
        let own: Vec<_> = command.get_subcommands().collect();
        if own.is_empty() {
            found.push(path.to_owned());
        }
        own.into_iter().for_each(|sub| leaves(sub, format!("{path} {}", sub.get_name()).trim_start(), found));
    }

    #[test]
    fn every_command_has_examples() {
        let mut found = Vec::new();
        leaves(&Cli::command(), "", &mut found);
        for path in &found {
            assert!(EXAMPLES.iter().any(|(known, _)| known == path), "`{path}` has no example");
        }
        assert!(found.len() > 20);
    }

    #[test]
    fn every_example_is_one_that_the_program_takes() {
        let root_key = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        for (path, examples) in EXAMPLES {
            for (_, example) in *examples {
                let example = example.replace("HEX", root_key);
                assert!(example.starts_with(&format!("halometer {path}")), "{example}");
                let parsed = Cli::command().try_get_matches_from(example.split(' '));
                assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
            }
        }
    }

    #[test]
    fn help_has_the_commands_own_options_before_those_of_all() {
        for path in [&["wallet", "call"][..], &["wallet", "fund"], &["proxy"]] {
            let parsed = command().try_get_matches_from([&["halometer"], path, &["--help"]].concat());
            let help = parsed.unwrap_err().to_string();
            let at = |what: &str| help.find(what).unwrap_or_else(|| panic!("{what} in {help}"));
            assert!(at("\nOptions:") < at("\nWallet and network:"), "{help}");
            assert!(at("\nWallet and network:") < at("--socks5"), "{help}");
            assert!(at("\nWallet and network:") < at("--wallet <FILE>"), "{help}");
            assert!(at("--socks5") < at("\nExamples:"), "{help}");
        }
    }
}
