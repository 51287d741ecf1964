//! As much of JSON Schema as the description uses. A word that is not known here is a mistake, so that none is passed over.

use serde_json::Value;

/// Checks JSON against a schema; says where it does not fit.
pub(crate) fn check(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let members = schema.as_object().ok_or_else(|| format!("{at}: the schema is no object"))?;
    let fail = |what: String| Err(format!("{at}: {what}: {value}"));
    let text = || value.as_str().ok_or_else(|| format!("{at}: no text: {value}"));
    for (word, rule) in members {
        match word.as_str() {
            "description" => {}
            "$ref" => check(document, resolve(document, rule), value, at)?,
            "type" if !is_of_type(rule.as_str().unwrap(), value) => return fail(format!("is no {rule}")),
            "type" => {}
            "const" if rule != value => return fail(format!("is not {rule}")),
            "const" => {}
            "enum" if !rule.as_array().unwrap().contains(value) => return fail("is none of the list".to_owned()),
            "enum" => {}
            "pattern" if !regex::Regex::new(rule.as_str().unwrap()).unwrap().is_match(text()?) => {
                return fail(format!("does not match {rule}"));
            }
            "pattern" => {}
            "minLength" | "maxLength" => {
                let (length, bound) = (text()?.chars().count() as u64, rule.as_u64().unwrap());
                if (word == "minLength" && length < bound) || (word == "maxLength" && length > bound) {
                    return fail(format!("is {length} long"));
                }
            }
            "minimum" if value.as_u64() < rule.as_u64() => return fail(format!("is below {rule}")),
            "maximum" if value.as_u64() > rule.as_u64() => return fail(format!("is above {rule}")),
            "minimum" | "maximum" => {}
            "required" => {
                for name in rule.as_array().unwrap() {
                    if value.get(name.as_str().unwrap()).is_none() {
                        return fail(format!("lacks {name}"));
                    }
                }
            }
            "properties" => {
                for (name, rule) in rule.as_object().unwrap() {
                    if let Some(member) = value.get(name) {
                        check(document, rule, member, &format!("{at}.{name}"))?;
                    }
                }
            }
            "additionalProperties" => {
                assert_eq!(rule, &Value::Bool(false));
                let known = schema["properties"].as_object().unwrap();
                let members = value.as_object().into_iter().flatten();
                if let Some((name, _)) = members.into_iter().find(|(name, _)| !known.contains_key(*name)) {
                    return fail(format!("has a member {name} that is not described"));
                }
            }
            "minItems" if value.as_array().map(Vec::len) < rule.as_u64().map(|n| n as usize) => {
                return fail("is too short".to_owned());
            }
            "maxItems" if value.as_array().map(Vec::len) > rule.as_u64().map(|n| n as usize) => {
                return fail("is too long".to_owned());
            }
            "minItems" | "maxItems" => {}
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(document, rule, item, &format!("{at}[{index}]"))?;
                }
            }
            "oneOf" => {
                let fits = rule.as_array().unwrap().iter().filter(|rule| check(document, rule, value, at).is_ok());
                if fits.count() != 1 {
                    return fail("is not exactly one of several".to_owned());
                }
            }
            other => return Err(format!("{at}: the word {other} of a schema is not known")),
        }
    }
    Ok(())
}

/// The lengths that a schema allows for bytes, if it is one of bytes.
pub(crate) fn byte_lengths(document: &Value, schema: &Value) -> Option<(u64, u64)> {
    let schema = follow(document, schema);
    schema.get("contentMediaType")?;
    let bound = |word: &str, otherwise| schema.get(word).map_or(otherwise, |bound| bound.as_u64().unwrap());
    Some((bound("minLength", 0), bound("maxLength", u64::MAX)))
}

/// What a reference leads to, if it is one.
pub(crate) fn follow<'a>(document: &'a Value, item: &'a Value) -> &'a Value {
    item.get("$ref").map_or(item, |reference| resolve(document, reference))
}

fn resolve<'a>(document: &'a Value, reference: &Value) -> &'a Value {
    let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
    document.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
}

fn is_of_type(name: &str, value: &Value) -> bool {
    match name {
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the type {other} is not known"),
    }
}

#[test]
fn the_check_sees_what_does_not_fit() {
    let (document, text) =
        (serde_json::json!({ "a": { "const": 1 } }), |json: &str| serde_json::from_str(json).unwrap());
    let fits = |schema: &str, value: &str| check(&document, &text(schema), &text(value), "it").is_ok();
    for (schema, good, bad) in [
        (r#"{"type":"integer"}"#, "1", "1.5"),
        (r#"{"type":"object"}"#, "{}", "[]"),
        (r##"{"$ref":"#/a"}"##, "1", "2"),
        (r#"{"enum":[1,"a"]}"#, r#""a""#, r#""b""#),
        (r#"{"pattern":"^a+$"}"#, r#""aa""#, r#""ab""#),
        (r#"{"minLength":1,"maxLength":2}"#, r#""a""#, r#""""#),
        (r#"{"maxLength":2}"#, r#""aa""#, r#""aaa""#),
        (r#"{"minimum":0,"maximum":2}"#, "2", "3"),
        (r#"{"required":["a"]}"#, r#"{"a":1}"#, "{}"),
        (r#"{"properties":{"a":{"const":1}}}"#, r#"{"b":2}"#, r#"{"a":2}"#),
        (r#"{"properties":{"a":{}},"additionalProperties":false}"#, r#"{"a":2}"#, r#"{"b":2}"#),
        (r#"{"minItems":1,"maxItems":1}"#, "[1]", "[1,2]"),
        (r#"{"items":{"const":1}}"#, "[1,1]", "[1,2]"),
        (r#"{"oneOf":[{"const":1},{"type":"integer"}]}"#, "2", "1"),
    ] {
        assert!(fits(schema, good) && !fits(schema, bad), "{schema}");
    }
    assert!(!fits(r#"{"unheardOf":1}"#, "1"));
}
