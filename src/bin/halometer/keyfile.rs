//! The file of local keys: TOML that its owner may edit, with hashes and no keys in it.

use std::path::Path;

use halometer::http::pattern::RoutePattern;
use halometer::http::proxy::{KeyHash, KeyRule, Keys};
use halometer::protocol::{Credits, Timestamp};
use halometer::sealed::{read_bounded, write_atomically};
use halometer::wallet::Budget;
use serde::Deserialize;
use toml::Spanned;
use toml::value::Datetime;

use super::wallet::trouble::Trouble;

/// The longest file of keys, bytes.
const LONGEST: usize = 1 << 20;
/// How often a lock is tried for, a tenth of a second each time.
#[cfg(unix)]
const PATIENCE: usize = 50;
/// The largest cap: TOML has no larger numbers.
pub(crate) const LARGEST: u64 = i64::MAX as u64;
const HEAD: &str = "# Keys for `halometer proxy --keys`, made by `halometer wallet key new`. They are hashed: what a program sends is not in here.\n\
                    # Amounts are micro-credits. A running proxy reads the file again whenever it changes.\n";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    #[serde(default)]
    key: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Spanned<String>,
    hash: String,
    per_call: Option<u64>,
    per_day: Option<u64>,
    total: Option<u64>,
    #[serde(default)]
    models: Vec<String>,
    #[serde(default)]
    routes: Vec<String>,
    until: Option<Datetime>,
    revoked: Option<Spanned<bool>>,
}

/// The keys in a file, and its bytes.
pub(crate) fn read(path: &Path) -> Result<(Keys, Vec<u8>), Trouble> {
    let bytes = read_bounded(path, LONGEST).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Trouble::yours(format!("there is no file of keys at {}", path.display()))
            .next("name the right one with --keys; `halometer wallet key new` makes one"),
        _ => Trouble::disk(path, &error),
    })?;
    let keys = parse(path, &bytes)?;
    Ok((keys, bytes.to_vec()))
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Keys, Trouble> {
    let bad = |why: String| {
        Trouble::yours(format!("{}: {why}", path.display())).next("mend the file, or make the key again in another one")
    };
    let entries = contents(path, bytes)?.key;
    let rules: Result<Vec<_>, String> = entries.iter().map(rule).collect();
    Keys::new(rules.map_err(bad)?).map_err(|error| bad(error.to_string()))
}

fn contents(path: &Path, bytes: &[u8]) -> Result<Contents, Trouble> {
    let next = "mend the file, or make the key again in another one";
    let text = core::str::from_utf8(bytes)
        .map_err(|_| Trouble::yours(format!("{}: it is not UTF-8 text", path.display())).next(next))?;
    toml::from_str(text)
        .map_err(|error| Trouble::yours(format!("{}: {}", path.display(), error.to_string().trim())).next(next))
}

fn rule(entry: &Entry) -> Result<KeyRule, String> {
    let name = entry.name.get_ref();
    let mut hash = [0; 32];
    hex::decode_to_slice(&entry.hash, &mut hash)
        .map_err(|_| format!("the hash of key `{name}` is none; it has 64 hexadecimal digits"))?;
    let routes: Result<Vec<RoutePattern>, _> = entry.routes.iter().map(|route| route.parse()).collect();
    let routes = routes.map_err(|error| format!("a route of key `{name}`: {error}"))?;
    if let Some(model) = entry.models.iter().find(|model| !is_model(model)) {
        return Err(format!("`{model}` of key `{name}` is no model; write a name, or the beginning of one and `*`"));
    }
    let until = entry.until.as_ref().map(|until| {
        instant(until).ok_or_else(|| {
            format!("the end of key `{name}` is none; write a day, 2027-01-31, or a time, 2027-01-31T12:00:00Z")
        })
    });
    let cap = |cap: Option<u64>| cap.map(Credits::from_micro);
    let budget = Budget::new(name)
        .with_per_call(cap(entry.per_call))
        .with_per_day(cap(entry.per_day))
        .with_total(cap(entry.total))
        .with_until(until.transpose()?);
    let revoked = entry.revoked.as_ref().is_some_and(|revoked| *revoked.get_ref());
    let rule = KeyRule::new(KeyHash::from_bytes(hash), budget).with_routes(routes);
    Ok(rule.with_models(entry.models.clone()).with_revoked(revoked))
}

/// A model, or the beginning of one: nothing that would end a string of TOML.
pub(crate) fn is_model(text: &str) -> bool {
    let plain = |character: char| character.is_ascii_graphic() && !"\"\\*".contains(character);
    (1..=256).contains(&text.len()) && text.strip_suffix('*').unwrap_or(text).chars().all(plain)
}

/// A key to add.
pub(crate) struct New<'a> {
    pub(crate) name: &'a str,
    pub(crate) hash: KeyHash,
    pub(crate) per_call: Option<u64>,
    pub(crate) per_day: Option<u64>,
    pub(crate) total: Option<u64>,
    pub(crate) models: &'a [String],
    pub(crate) routes: &'a [String],
    pub(crate) until: Option<Datetime>,
}

/// Adds a key to a file, which is made if there is none. What is in it stays as it was written.
pub(crate) fn add(path: &Path, new: &New<'_>) -> Result<(), Trouble> {
    change(path, true, |mut text| {
        let known = contents(path, text.as_bytes())?.key;
        if known.iter().any(|entry| entry.name.get_ref() == new.name) {
            return Err(Trouble::yours(format!(
                "there is a key `{}` already, or was one: what it spent is counted for it",
                new.name
            ))
            .next("choose another --name"));
        }
        if text.is_empty() {
            HEAD.clone_into(&mut text);
        } else if !text.ends_with('\n') {
            text.push('\n');
        }
        let mut line = |line: String| text.extend([line.as_str(), "\n"]);
        line(String::new());
        line("[[key]]".to_owned());
        line(format!("name = \"{}\"", new.name));
        line(format!("hash = \"{}\"", hex::encode(new.hash.to_bytes())));
        for (name, cap) in [("per_call", new.per_call), ("per_day", new.per_day), ("total", new.total)] {
            cap.iter().for_each(|cap| line(format!("{name} = {cap}")));
        }
        for (name, values) in [("models", new.models), ("routes", new.routes)] {
            if !values.is_empty() {
                let values: Vec<_> = values.iter().map(|value| format!("\"{value}\"")).collect();
                line(format!("{name} = [{}]", values.join(", ")));
            }
        }
        new.until.iter().for_each(|until| line(format!("until = {until}")));
        Ok(text)
    })
}

/// Takes a key back. It stays in the file, so that what it spent stays its own.
pub(crate) fn revoke(path: &Path, name: &str) -> Result<(), Trouble> {
    change(path, false, |mut text| {
        let known = contents(path, text.as_bytes())?.key;
        let names: Vec<_> = known.iter().map(|entry| entry.name.get_ref().as_str()).collect();
        let entry = known.iter().find(|entry| entry.name.get_ref() == name).ok_or_else(|| {
            Trouble::yours(format!("there is no key `{name}`")).next(if names.is_empty() {
                "make one with `new`".to_owned()
            } else {
                format!("choose one of: {}", names.join(", "))
            })
        })?;
        match &entry.revoked {
            Some(revoked) => text.replace_range(revoked.span(), "true"),
            None => text.insert_str(entry.name.span().end, "\nrevoked = true"),
        }
        // Where an owner has written it in another way it may not go like this.
        let done = contents(path, text.as_bytes()).is_ok_and(|contents| {
            contents.key.iter().any(|entry| {
                entry.name.get_ref() == name && entry.revoked.as_ref().is_some_and(|revoked| *revoked.get_ref())
            })
        });
        let by_hand = || {
            Trouble::yours(format!("{}: the key is written in a way that cannot be changed here", path.display()))
                .next(format!("write `revoked = true` beside `name = \"{name}\"` by hand"))
        };
        if done { Ok(text) } else { Err(by_hand()) }
    })
}

/// Changes a file, one program at a time.
fn change(path: &Path, make: bool, change: impl FnOnce(String) -> Result<String, Trouble>) -> Result<(), Trouble> {
    let _lock = lock(path)?;
    let bytes = match read_bounded(path, LONGEST) {
        Err(error) if make && error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(_) => read(path)?.1,
        Ok(bytes) => bytes.to_vec(),
    };
    let before = String::from_utf8(bytes)
        .map_err(|_| Trouble::yours(format!("{}: it is not UTF-8 text", path.display())).next("mend the file"))?;
    let after = change(before)?;
    // What is written can be read.
    parse(path, after.as_bytes())?;
    write_atomically(path, after.as_bytes()).map_err(|error| Trouble::disk(path, &error))
}

/// Held while a file is changed. What is locked is its directory: the file itself is replaced.
#[cfg(unix)]
fn lock(path: &Path) -> Result<std::fs::File, Trouble> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = std::fs::File::open(parent).map_err(|error| Trouble::disk(parent, &error))?;
    for _ in 0..PATIENCE {
        // It waits for a moment by itself.
        if halometer::sealed::try_lock(&directory).is_ok() {
            return Ok(directory);
        }
    }
    Err(Trouble::yours(format!("another program changes {}", path.display())).next("run the command again"))
}

#[cfg(not(unix))]
fn lock(_: &Path) -> Result<(), Trouble> {
    Ok(())
}

/// The instant that a date means, UTC unless it says otherwise. A day alone is included.
pub(crate) fn instant(date: &Datetime) -> Option<Timestamp> {
    let (day, time) = (date.date?, date.time);
    // Days from civil, in eras of 400 years beginning in March.
    let (year, month) = (i64::from(day.year), i64::from(day.month));
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + i64::from(day.day) - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = match time {
        None => (days + 1) * 86_400,
        Some(time) => {
            let offset = match date.offset {
                Some(toml::value::Offset::Custom { minutes }) => i64::from(minutes) * 60,
                _ => 0,
            };
            let second = i64::from(time.second.unwrap_or(0));
            days * 86_400 + i64::from(time.hour) * 3_600 + i64::from(time.minute) * 60 + second - offset
        }
    };
    Some(Timestamp::from_seconds(u64::try_from(seconds).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str) -> New<'_> {
        let hash = KeyHash::from_bytes([name.len() as u8; 32]);
        let (models, routes): (&[String], &[String]) = (&[], &[]);
        New { name, hash, per_call: None, per_day: None, total: None, models, routes, until: None }
    }

    #[test]
    fn keys_are_added_and_taken_back_and_nothing_else_changes() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("keys.toml");
        let models = ["gpt-4o*".to_owned(), "org/model:free".to_owned()];
        let routes = ["POST /v1/chat/completions".to_owned()];
        let until = Some("2027-01-31".parse().unwrap());
        let full = New {
            per_call: Some(4_000),
            per_day: Some(50_000),
            total: Some(LARGEST),
            models: &models,
            routes: &routes,
            until,
            ..new("agent")
        };
        add(&path, &full).unwrap();
        std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + "# mine").unwrap();
        add(&path, &new("b")).unwrap();
        let (keys, _) = read(&path).unwrap();
        let rule = &keys.rules()[0];
        assert_eq!(
            (rule.budget.per_day, rule.budget.total),
            (Some(Credits::from_micro(50_000)), Some(Credits::from_micro(LARGEST)))
        );
        assert_eq!((&rule.models[..], rule.routes.len(), rule.revoked), (&models[..], 1, false));
        assert_eq!(rule.budget.until, Some(Timestamp::from_seconds(1_801_440_000)), "the day is included");
        assert!(add(&path, &new("b")).is_err() && add(&path, &new("b c")).is_err());
        revoke(&path, "agent").unwrap();
        revoke(&path, "agent").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("# mine") && text.starts_with(HEAD), "{text}");
        let (keys, _) = read(&path).unwrap();
        assert_eq!(keys.rules().iter().map(|rule| rule.revoked).collect::<Vec<_>>(), [true, false]);
        assert!(revoke(&path, "c").is_err() && add(&path, &new("agent")).is_err(), "a name is never used again");
    }

    #[test]
    fn a_file_that_says_something_odd_is_no_file_of_keys() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("keys.toml");
        assert!(read(&path).is_err());
        let hash = "00".repeat(32);
        for (text, fine) in [
            (format!("[[key]]\nname = \"a\"\nhash = \"{hash}\"\n"), true),
            (String::new(), true),
            (format!("[[key]]\nname = \"a\"\nhash = \"{hash}\"\nper_dya = 5\n"), false),
            (format!("[[key]]\nname = \"a\"\nhash = \"{hash}\"\nper_day = -5\n"), false),
            (format!("[[key]]\nname = \"a\"\nhash = \"{hash}\"\nroutes = [\"/v1\"]\n"), false),
            (format!("[[key]]\nname = \"a\"\nhash = \"{hash}\"\nmodels = [\"a*b\"]\n"), false),
            (format!("[[key]]\nname = \"a\"\nhash = \"{hash}\"\nuntil = 12:00:00\n"), false),
            ("[[key]]\nname = \"a\"\nhash = \"00\"\n".to_owned(), false),
            (format!("[[key]]\nname = \"a\"\nhash = \"{hash}\"\n").repeat(2), false),
            (format!("[keys]\nname = \"a\"\nhash = \"{hash}\"\n"), false),
        ] {
            std::fs::write(&path, &text).unwrap();
            assert_eq!(read(&path).is_ok(), fine, "{text}");
        }
    }

    #[test]
    fn an_end_is_an_instant_in_utc() {
        for (text, seconds) in [
            ("1970-01-01", 86_400),
            ("2000-02-29T00:00:00Z", 951_782_400),
            ("2027-01-15T08:00:00", 1_800_000_000),
            ("2027-01-15T10:00:00+02:00", 1_800_000_000),
            ("1969-12-31T00:00:00Z", 0),
        ] {
            assert_eq!(instant(&text.parse().unwrap()), Some(Timestamp::from_seconds(seconds)), "{text}");
        }
        assert_eq!(instant(&"12:00:00".parse().unwrap()), None);
    }
}
