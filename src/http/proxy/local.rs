//! The proxy's own paths. Nobody pays for them, and nothing is done by looking at them.

use std::sync::{Arc, PoisonError};

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::{HEALTH_PATH, ICON_PATH, Keyring, PAGE_PATH, Passage, STATUS_PATH, page};
use crate::http::html::date;
use crate::http::payer::{CallError, View};
use crate::wallet::{Budget, Journal, Spending, Spent};

/// How many of the newest calls the page lists.
const RECENT: usize = 20;
/// How many days of spending the status has.
const DAYS: usize = 31;

/// What is known of the keys, for the owner.
pub(super) enum KeysView {
    /// There are none.
    Open,
    Keys(Vec<KeyView>),
    Unreadable(String),
}

pub(super) struct KeyView {
    pub(super) budget: Arc<Budget>,
    pub(super) revoked: bool,
    pub(super) today: Spent,
    pub(super) total: Spent,
}

impl<J: Journal + 'static> Passage<J> {
    pub(super) async fn local(&self, method: &Method, path: &str) -> Result<Response, Refusal> {
        if ![HEALTH_PATH, STATUS_PATH, PAGE_PATH, ICON_PATH].contains(&path) {
            let next = "the proxy's own paths are /, /.halometer/healthz and /.halometer/status";
            return Err(Refusal::request(StatusCode::NOT_FOUND, "not_found", "the proxy has no such path", next));
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            let message = "this path is only looked at";
            return Err(Refusal::request(StatusCode::METHOD_NOT_ALLOWED, "method", message, "use GET"));
        }
        let mut answer = match path {
            // There is none. What is not known a browser asks for again and again.
            ICON_PATH => StatusCode::NO_CONTENT.into_response(),
            HEALTH_PATH => {
                self.payer.status().await.map_err(CallError::from)?;
                Json(json!({ "status": "ok" })).into_response()
            }
            STATUS_PATH => {
                let view = self.payer.view(0).await?;
                Json(self.describe(&view)).into_response()
            }
            _ => {
                let view = self.payer.view(RECENT).await?;
                page::answer(&view, &self.keys_view(&view), self.under_way())
            }
        };
        let headers = answer.headers_mut();
        for (name, value) in [
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        Ok(answer)
    }

    fn under_way(&self) -> usize {
        (self.options.max_requests as usize).saturating_sub(self.places.available_permits())
    }

    fn keys_view(&self, view: &View) -> KeysView {
        let keys = match &*self.keys.read().unwrap_or_else(PoisonError::into_inner) {
            Keyring::Open => return KeysView::Open,
            Keyring::Unreadable(why) => return KeysView::Unreadable(why.clone()),
            Keyring::Keys(keys) => Arc::clone(keys),
        };
        let today = view.spending.day(view.now);
        let of = |rule: &super::KeyRule| KeyView {
            today: view.spending.on(today, Some(&rule.budget.name)),
            total: view.spending.total(Some(&rule.budget.name)),
            budget: Arc::clone(&rule.budget),
            revoked: rule.revoked,
        };
        KeysView::Keys(keys.rules().iter().map(of).collect())
    }

    /// Amounts are text, as they may not fit a number.
    fn describe(&self, view: &View) -> Value {
        let status = &view.status;
        let balance = &status.balance;
        let cap = |cap: Option<crate::protocol::Credits>| cap.map(|cap| cap.to_string());
        let key = |key: &KeyView| {
            json!({
                "name": key.budget.name,
                "revoked": key.revoked,
                "until": key.budget.until.map(|until| until.seconds()),
                "per_call": cap(key.budget.per_call),
                "per_day": cap(key.budget.per_day),
                "total": cap(key.budget.total),
                "today": spent(&key.today),
                "ever": spent(&key.total),
            })
        };
        let keys = match self.keys_view(view) {
            KeysView::Open => Value::Null,
            KeysView::Keys(keys) => keys.iter().map(key).collect(),
            KeysView::Unreadable(why) => json!({ "error": why }),
        };
        json!({
            "balance": {
                "total": balance.total().to_string(),
                "available": balance.available.to_string(),
                "waiting": balance.waiting.to_string(),
                "reserved": balance.reserved.to_string(),
                "unchecked": balance.unchecked.to_string(),
                "frozen": balance.frozen.to_string(),
            },
            "lanes": {
                "total": status.lanes,
                "ready": status.ready,
                "proving": status.proving,
                "in_flight": status.in_flight,
                "disputed": status.disputed,
                "unchecked": status.unchecked,
                "frozen": status.frozen,
            },
            "requests": { "under_way": self.under_way(), "waiting": status.waiting_calls },
            "gateway": {
                "id": view.gateway.to_string(),
                "url": view.origin,
                "reachable": view.away.is_none(),
                "trouble": view.away,
            },
            "keys": keys,
            "spending": spending(&view.spending),
            "quarantined_until": status.quarantined_until.map(|until| until.seconds()),
            "contradicted": status.contradicted,
            "directory_serial": status.serial,
        })
    }
}

fn spent(spent: &Spent) -> Value {
    json!({ "calls": spent.calls, "cost": spent.cost.to_string(), "reserved": spent.reserved.to_string() })
}

/// By day, the newest first, and by key; null is for calls without one.
fn spending(all: &Spending) -> Value {
    let mut days = Vec::new();
    for (day, budgets) in all.days().take(DAYS) {
        let mut keys = Vec::new();
        for (key, sum) in budgets {
            let mut value = spent(&sum);
            value["key"] = key.into();
            keys.push(value);
        }
        days.push(json!({ "day": date(day), "keys": keys }));
    }
    days.into()
}
