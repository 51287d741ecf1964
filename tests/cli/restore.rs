//! `halometer wallet words` and `halometer wallet restore`.

use super::said;
use super::wallet::{CHAT, Owner, QUESTION, root_key, start};
use halometer::testing::stack::StackOptions;

#[test]
fn a_lost_wallet_comes_back_from_its_words() {
    let (owner, stack) = (Owner::new(), start(StackOptions::default()));
    owner.fund(&stack, "w", 160_000);
    owner.json("w", &["call", CHAT, "-d", QUESTION], 0);
    let total = owner.total("w");
    let words: Vec<String> = owner.json("w", &["words"], 0)["words"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(words.len(), 24);
    let health = owner.json("w", &["doctor", "--offline"], 0);
    assert!(health["facts"].to_string().contains("24 words"), "{health}");
    // As they are printed for people.
    let printed = String::from_utf8(owner.run("w", &["words"]).stdout).unwrap();
    assert_eq!(printed.split_whitespace().collect::<Vec<_>>(), words);
    std::fs::write(owner.text("words"), &printed).unwrap();
    std::fs::remove_file(owner.text("w")).unwrap();

    let (issuer, root) = (stack.issuer_url(), root_key(&stack));
    let file = owner.text("words");
    let restore = ["restore", "--issuer", &issuer, "--root-key", &root, "--words-file", &file];
    assert!(owner.fails("r", &restore)["error"].as_str().unwrap().contains("not confirmed"));
    assert!(!std::path::Path::new(&owner.text("r")).exists());
    let restore = [&restore[..], &["--yes-no-other-copy-will-ever-run"]].concat();
    // Nobody's words, and words that are none: nothing is made, and no word is repeated.
    for (text, error) in
        [("zoo ".repeat(24), "check"), (words[1..].join(" "), "23 words"), ("abcd ".repeat(24), "word 1 ")]
    {
        std::fs::write(&file, text).unwrap();
        let refused = owner.fails("r", &restore)["error"].as_str().unwrap().to_owned();
        assert!(refused.contains(error) && !refused.contains("zoo") && !refused.contains("abcd"), "{refused}");
    }
    std::fs::write(&file, &printed).unwrap();

    let restored = owner.json("r", &restore, 0);
    assert_eq!((&restored["total"], &restored["payments"]), (&total.to_string().into(), &1.into()), "{restored}");
    assert_eq!((&restored["void"], &restored["running"]), (&"0".into(), &"0".into()), "{restored}");
    assert_eq!(owner.total("r"), total);
    assert!(owner.fails("r", &restore)["error"].as_str().unwrap().contains("already"), "nothing is overwritten");
    // Held for some hours; what is new is not.
    let held = owner.fails("r", &["call", CHAT, "-d", QUESTION]);
    assert_eq!(held["credit"], "untouched", "{held}");
    assert!(owner.json("r", &["doctor"], 1)["findings"].to_string().contains("restored"));
    let payment = stack.pay(halometer::protocol::Credits::from_micro(80_000)).unwrap().to_string();
    owner.json("r", &["fund", &payment, "80000"], 0);
    let paid = owner.run("r", &["call", CHAT, "-d", QUESTION]);
    assert!(paid.status.success(), "{}", said(&paid));
    // Its words are the same.
    assert_eq!(owner.json("r", &["words"], 0)["words"].as_array().unwrap().len(), 24);
}

#[test]
fn a_new_wallet_shows_its_words() {
    let (owner, stack) = (Owner::new(), start(StackOptions::default()));
    let born = owner.run("w", &["new", "--issuer", &stack.issuer_url(), "--root-key", &root_key(&stack)]);
    let born = String::from_utf8(born.stdout).unwrap();
    let words = owner.json("w", &["words"], 0)["words"].clone();
    let tail: Vec<_> = born.split_whitespace().collect();
    let shown: Vec<_> = words.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(tail[tail.len() - 24..], shown);
}
