//! `auth-param` lists of RFC 9110, section 11: printing one challenge, and reading header values that hold several.

/// One challenge of a `WWW-Authenticate` value: its scheme and its parameters, names in lower case.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AuthChallenge {
    pub(super) scheme: String,
    pub(super) params: Vec<(String, String)>,
}

impl AuthChallenge {
    /// The parameter `name`, if it is there exactly once.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        let mut found = self.params.iter().filter(|(key, _)| key == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }
}

/// Writes `name="value"`. `None` if the value holds what a quoted-string cannot.
pub(super) fn push_quoted(out: &mut String, name: &str, value: &str) -> Option<()> {
    if !out.ends_with(' ') {
        out.push_str(", ");
    }
    out.push_str(name);
    out.push_str("=\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            ' '..='~' => out.push(c),
            _ => return None,
        }
    }
    out.push('"');
    Some(())
}

/// Reads all challenges of one header value. `None` if it does not follow the grammar.
///
/// The grammar is ambiguous by one token: after a comma, `name` may be a parameter or the next scheme. An `=` tells; a
/// `token68` (as in `Basic` or `Negotiate`) is kept as a parameter without a name, for we never need one.
pub(super) fn parse(value: &str) -> Option<Vec<AuthChallenge>> {
    let mut reader = Reader { rest: value };
    let mut challenges: Vec<AuthChallenge> = Vec::new();
    loop {
        reader.skip(|c| matches!(c, ' ' | '\t' | ','));
        if reader.rest.is_empty() {
            return Some(challenges);
        }
        let name = reader.token()?;
        let spaced = reader.skip(|c| matches!(c, ' ' | '\t'));
        if reader.rest.starts_with('=') {
            reader.rest = &reader.rest[1..];
            reader.skip(|c| matches!(c, ' ' | '\t'));
            let value = if reader.rest.starts_with('"') { reader.quoted()? } else { reader.token()?.to_owned() };
            challenges.last_mut()?.params.push((name.to_ascii_lowercase(), value));
        } else {
            challenges.push(AuthChallenge { scheme: name.to_owned(), params: Vec::new() });
            if spaced && let Some(token68) = reader.token68() {
                challenges.last_mut()?.params.push((String::new(), token68.to_owned()));
            }
        }
        reader.skip(|c| matches!(c, ' ' | '\t'));
        let after_scheme = challenges.last().is_some_and(|c| c.params.is_empty());
        if !(reader.rest.is_empty() || reader.rest.starts_with(',') || after_scheme) {
            return None;
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    /// Skips what `test` accepts, and says whether there was any.
    fn skip(&mut self, test: impl Fn(char) -> bool) -> bool {
        let trimmed = self.rest.trim_start_matches(test);
        let skipped = trimmed.len() != self.rest.len();
        self.rest = trimmed;
        skipped
    }

    fn token(&mut self) -> Option<&'a str> {
        let end = self.rest.find(|c: char| !is_token(c)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }

    /// A `token68` that is the whole of what the scheme says: followed by a comma or by the end.
    fn token68(&mut self) -> Option<&'a str> {
        let is68 = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
        let body = self.rest.find(|c| !is68(c)).unwrap_or(self.rest.len());
        let padding = self.rest[body..].find(|c| c != '=').unwrap_or(self.rest.len() - body);
        let (token, rest) = self.rest.split_at(body + padding);
        let ends = matches!(rest.trim_start_matches([' ', '\t']).chars().next(), None | Some(','));
        if body == 0 || !ends {
            return None;
        }
        self.rest = rest;
        Some(token)
    }

    fn quoted(&mut self) -> Option<String> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Some(text);
                }
                '\\' => text.push(chars.next()?.1),
                c => text.push(c),
            }
        }
        None
    }
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_challenges_in_one_value() {
        let value = r#"Basic realm="a, b\"c", Negotiate aGk=, Payment id=x , Method = "m",,Bearer"#;
        let found = parse(value).unwrap();
        let schemes: Vec<_> = found.iter().map(|c| c.scheme.as_str()).collect();
        assert_eq!(schemes, ["Basic", "Negotiate", "Payment", "Bearer"]);
        assert_eq!(found[0].param("realm"), Some("a, b\"c"));
        assert_eq!(found[1].param(""), Some("aGk="));
        assert_eq!(found[2].param("id"), Some("x"));
        assert_eq!(found[2].param("method"), Some("m"));
    }

    #[test]
    fn a_repeated_parameter_is_no_parameter() {
        assert_eq!(parse("Payment id=a, id=b").unwrap()[0].param("id"), None);
    }

    #[test]
    fn broken_values_are_refused() {
        for value in ["Payment id=\"", "Payment id=\"a\\", "=a", "id=a", "Payment id=\"a\" id=\"b\"", "Payment \u{e9}"]
        {
            assert_eq!(parse(value), None, "{value}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let mut out = "Payment ".to_owned();
        push_quoted(&mut out, "a", r#"1 "2" \3"#).unwrap();
        push_quoted(&mut out, "b", "").unwrap();
        let found = parse(&out).unwrap();
        assert_eq!(found[0].param("a"), Some(r#"1 "2" \3"#));
        assert_eq!(found[0].param("b"), Some(""));
        assert!(push_quoted(&mut out, "c", "line\nbreak").is_none());
    }
}
