//! Members of JSON values by their paths: `a.b[].c`.

use serde_json::Value;

/// A choice that an answer has several of; those that are told apart by nothing are the first.
pub(crate) type Choice = u64;

/// Everything at a path, with the choice that it is of: the innermost numbered element of an array on the way.
pub(crate) fn each<'a>(value: &'a Value, path: &str, found: &mut dyn FnMut(Choice, &'a Value)) {
    walk(value, path, 0, found);
}

fn walk<'a>(value: &'a Value, path: &str, choice: Choice, found: &mut dyn FnMut(Choice, &'a Value)) {
    if path.is_empty() {
        return found(choice, value);
    }
    let (step, rest) = path.split_once('.').unwrap_or((path, ""));
    let (name, many) = step.strip_suffix("[]").map_or((step, false), |name| (name, true));
    let Some(member) = value.get(name) else { return };
    if !many {
        return walk(member, rest, choice, found);
    }
    for element in member.as_array().into_iter().flatten() {
        // Elements without a number are parts of what they are in.
        let own = element.get("index").and_then(Value::as_u64).unwrap_or(choice);
        walk(element, rest, own, found);
    }
}

/// The one value at a path without arrays.
pub(crate) fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').filter(|name| !name.is_empty()).try_fold(value, |value, name| value.get(name))
}

/// A count, as services write it: `5`, and `5.0` where their language knows no other numbers.
pub(crate) fn count(value: &Value) -> Option<u64> {
    // Below 2^53 such a number is exact.
    let whole = |number: f64| {
        (number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&number)).then_some(number as u64)
    };
    value.as_u64().or_else(|| whole(value.as_f64()?))
}
