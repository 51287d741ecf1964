//! The description of the HTTP interface, as gateways and issuers serve it.
//!
//! Its source is `docs/openapi.yaml`; tests compare it with the routes and with real answers.

use std::sync::LazyLock;

use axum::response::{IntoResponse as _, Response};
use http::header;
use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

/// OpenAPI 3.1, in JSON: made of the YAML when it is first asked for.
pub static OPENAPI: LazyLock<String> = LazyLock::new(|| {
    let documents = YamlLoader::load_from_str(include_str!("../../docs/openapi.yaml"));
    // The source is a part of this build, and tests compare it with what is made of it.
    let document = documents.ok().and_then(|documents| documents.first().map(json)).unwrap_or_default();
    format!("{document:#}\n")
});

/// What YAML and JSON share. The members of an object are in the order of their names.
fn json(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::String(text) => Value::String(text.clone()),
        Yaml::Integer(number) => (*number).into(),
        Yaml::Boolean(truth) => Value::Bool(*truth),
        Yaml::Array(items) => items.iter().map(json).collect(),
        Yaml::Hash(members) => {
            let member = |(name, value): (&Yaml, &Yaml)| Some((name.as_str()?.to_owned(), json(value)));
            let mut members: Vec<_> = members.iter().filter_map(member).collect();
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            Value::Object(members.into_iter().collect())
        }
        _ => Value::Null,
    }
}

pub(in crate::http) async fn openapi() -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
    (headers, OPENAPI.as_str()).into_response()
}
