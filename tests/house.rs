//! What every text of the repository must keep: links lead somewhere, names of tests fit a line, and the first two rules for writers
//! (docs/CONTRIBUTING.md) hold.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The repository's files with one of these endings, build results and hidden folders but for `.ci` left out.
fn files(endings: &[&str]) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root().to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap_or_default();
            let left_out =
                (name.starts_with('.') && name != ".ci") || ["target", "corpus", "node_modules"].contains(&name);
            if path.is_dir() && !left_out {
                folders.push(path);
            } else if path.is_file() && endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// The text of a Markdown page without its blocks and pieces of code.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let lines = text.lines().map(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        if fence || fenced { "" } else { line }
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    Regex::new("`[^`\n]*`").unwrap().replace_all(&text, "code").into_owned()
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

fn anchors(page: &Path) -> HashSet<String> {
    let text = fs::read_to_string(page).unwrap();
    let mut fenced = false;
    let headings = text.lines().filter(|line| {
        fenced ^= line.trim_start().starts_with("```");
        !fenced && line.starts_with('#')
    });
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut broken = Vec::new();
    for page in files(&[".md"]) {
        for found in link.captures_iter(&prose(&fs::read_to_string(&page).unwrap())) {
            let target = &found[1];
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, part) = target.split_once('#').map_or((target, None), |(file, part)| (file, Some(part)));
            let to = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let leads = to.exists() && part.is_none_or(|part| to.is_file() && anchors(&to).contains(part));
            if !leads {
                broken.push(format!("{}: {target}", shown(&page)));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn every_page_is_in_the_index() {
    let index = fs::read_to_string(root().join("docs/README.md")).unwrap();
    let pages = files(&[".md"]).into_iter().filter(|page| page.parent() == Some(&root().join("docs")));
    let missing: Vec<_> = pages.map(|page| page.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    let missing: Vec<_> =
        missing.iter().filter(|name| *name != "README.md" && !index.contains(&format!("({name})"))).collect();
    assert!(missing.is_empty(), "docs/README.md does not name {missing:?}");
}

#[test]
fn names_of_functions_have_at_most_60_letters() {
    let name = Regex::new(r"\bfn ([a-z0-9_]{61,})\b").unwrap();
    let mut long = Vec::new();
    for file in files(&[".rs"]) {
        let text = fs::read_to_string(&file).unwrap();
        long.extend(name.captures_iter(&text).map(|found| format!("{}: {}", shown(&file), &found[1])));
    }
    assert!(long.is_empty(), "names that are too long:\n{}", long.join("\n"));
}

#[test]
fn no_text_breaks_the_first_rules_for_writers() {
    // A role is named, and a program is no person. The pages that state the rules have to quote the words.
    let rules = [r"(?i)\bwho(ever|soever)\b", r"(?i)\b(he|him|his|himself|she|hers|herself)\b"];
    let start = [r"(?:^|[.:;] |// |/// |//! )Who (?:[a-z]+)", r"(?:^|[.;] )Whom "];
    let rules = rules.iter().chain(&start).map(|rule| Regex::new(rule).unwrap()).collect::<Vec<_>>();
    let quoting = ["docs/CONTRIBUTING.md", "tests/house.rs"];
    let mut breaches = Vec::new();
    for file in files(&[".rs", ".md", ".toml", ".yaml", ".yml", ".conf", ".html", "Caddyfile", "justfile", "run"]) {
        if quoting.contains(&shown(&file).as_str()) {
            continue;
        }
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            // A question is no subject.
            if rules.iter().any(|rule| rule.is_match(line)) && !line.contains('?') {
                breaches.push(format!("{}:{}: {}", shown(&file), number + 1, line.trim()));
            }
        }
    }
    assert!(breaches.is_empty(), "{} lines break the rules:\n{}", breaches.len(), breaches.join("\n"));
}
