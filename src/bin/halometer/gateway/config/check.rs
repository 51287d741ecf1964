//! What concerns several values, and ranges.

use super::{
    Config, ConfigError, DirectoryConfig, IssuerConfig, IssuerKind, Loaded, Margin, Origin, PaymentsKind,
    PricingConfig, PricingKind, QuotasConfig, ScheduleConfig, StoreConfig, StoreKind, UpkeepConfig, VocabularyKind,
};
use halometer::http::issuer_client::{IssuerClient, IssuerClientError};
use halometer::http::pricing::{INPUT_TOKEN, OUTPUT_TOKEN};
use halometer::http::server::TrustedProxies;
use halometer::http::upstream::{Upstream, UpstreamLimits};
use halometer::issuer::{Schedule, ScheduleParts};
use halometer::protocol::{Credits, Grid, Limits, Price, Tariff, Timestamp, Window};

/// The longest that is taken for a length of time: what is more is a mistake.
const MONTH: u32 = 31 * 24 * 3_600;

pub(super) fn check(loaded: &Loaded) -> Result<(), ConfigError> {
    let config = &loaded.config;
    // A key is read later; here it is asked whether the address is one.
    Upstream::new(&config.upstream.url, None, UpstreamLimits::default())
        .map_err(|error| loaded.error("upstream.url", error.to_string()))?;
    let proxies = config.limits.trusted_proxies.iter().map(String::as_str);
    TrustedProxies::new(proxies).map_err(|error| loaded.error("limits.trusted_proxies", error.to_string()))?;
    for name in &config.upstream.pass_headers {
        let may = name.parse().is_ok_and(|name| halometer::http::layer::may_be_passed(&name));
        if !may {
            let what = format!(
                "`{name}` cannot be passed on: expected the name of a header that neither pays nor names a hop"
            );
            return Err(loaded.error("upstream.pass_headers", what));
        }
    }
    for origin in config.upstream.cors_origins.iter().filter(|origin| *origin != "*") {
        Origin::try_from(origin.clone()).map_err(|error| loaded.error("upstream.cors_origins", error))?;
    }
    ranges(loaded)?;
    super::postgres::check(loaded)?;
    pricing(loaded)?;
    addresses(loaded)?;
    match config.issuer.kind {
        IssuerKind::Inside => inside(loaded),
        IssuerKind::Remote => remote(loaded),
    }
}

/// An issuer in this process.
fn inside(loaded: &Loaded) -> Result<(), ConfigError> {
    let Config { origins, issuer, .. } = &loaded.config;
    let IssuerConfig { url, root_key, refresh_seconds, .. } = issuer;
    let of_remote = [
        ("issuer.url", url.is_some()),
        ("issuer.root_key", root_key.is_some()),
        ("issuer.refresh_seconds", *refresh_seconds != IssuerConfig::default().refresh_seconds),
    ];
    none_said(loaded, &of_remote, "is for kind = \"remote\" only")?;
    few(loaded, "origins", origins)?;
    if issuer.listen.is_none() {
        let of_address = [("issuer.origins", !issuer.origins.is_empty()), ("issuer.tls", issuer.tls.is_some())];
        none_said(loaded, &of_address, "is for an issuer with an address of its own: expected `issuer.listen`")?;
    }
    if !issuer.origins.is_empty() {
        few(loaded, "issuer.origins", &issuer.origins)?;
    }
    for (index, gateway) in issuer.clearing.iter().enumerate() {
        few(loaded, "issuer.clearing.origins", &gateway.origins)?;
        if issuer.clearing[..index].iter().any(|other| other.id == gateway.id) {
            return Err(loaded.error("issuer.clearing", format!("has gateway {} twice", gateway.id.0)));
        }
    }
    cluster(loaded)?;
    directory(loaded)?;
    prices(loaded)?;
    payments(loaded)
}

fn few(loaded: &Loaded, key: &str, origins: &[Origin]) -> Result<(), ConfigError> {
    if (1..=16).contains(&origins.len()) { Ok(()) } else { Err(loaded.error(key, "expected 1 to 16 origins")) }
}

/// A remote issuer: what it says in its directory is not said here, so that nobody believes it to count.
fn remote(loaded: &Loaded) -> Result<(), ConfigError> {
    let Config { origins, prices, directory, issuer, store, quotas, upkeep, limits, .. } = &loaded.config;
    let url = issuer.url.as_deref().ok_or_else(|| {
        loaded.error(
            "issuer",
            "kind = \"remote\" expects `url`, the address of the issuer, as \"https://issuer.example.org\"",
        )
    })?;
    issuer_client(url).map_err(|error| loaded.error("issuer.url", error.to_string()))?;
    if issuer.root_key.is_none() {
        let what = "kind = \"remote\" expects `root_key`, the issuer's root key, in hexadecimal digits";
        return Err(loaded.error("issuer", what));
    }
    let plain = IssuerConfig::default();
    let spent_per_minute = quotas.spent_per_minute;
    let of_issuer = [
        ("origins", !origins.is_empty()),
        ("prices", !prices.is_empty()),
        ("directory", *directory != DirectoryConfig::default()),
        ("store", *store != StoreConfig::default()),
        ("cluster", loaded.config.cluster.is_some()),
        ("upkeep", *upkeep != UpkeepConfig::default()),
        ("quotas", *quotas != QuotasConfig { spent_per_minute, ..QuotasConfig::default() }),
        ("limits.verify_threads", limits.verify_threads.is_some()),
        ("issuer.listen", issuer.listen.is_some()),
        ("issuer.origins", !issuer.origins.is_empty()),
        ("issuer.tls", issuer.tls.is_some()),
        ("issuer.clearing", !issuer.clearing.is_empty()),
        ("issuer.directory", issuer.directory != plain.directory),
        ("issuer.evidence", issuer.evidence != plain.evidence),
        ("issuer.schedule", issuer.schedule != plain.schedule),
        ("issuer.payments", issuer.payments != plain.payments),
    ];
    none_said(loaded, &of_issuer, "is the issuer's to say, and the issuer is remote: leave it out")
}

/// Refuses the first of these keys that is said.
fn none_said(loaded: &Loaded, keys: &[(&str, bool)], what: &str) -> Result<(), ConfigError> {
    match keys.iter().find(|(_, said)| *said) {
        Some((key, _)) => Err(loaded.error(key, what)),
        None => Ok(()),
    }
}

/// Reaches an issuer, who is authenticated by TLS or by being on this machine.
pub(in crate::gateway) fn issuer_client(url: &str) -> Result<IssuerClient, IssuerClientError> {
    if url.starts_with("http:") { IssuerClient::loopback(url) } else { IssuerClient::secure(url) }
}

fn ranges(loaded: &Loaded) -> Result<(), ConfigError> {
    let Config { upstream, limits, admin, upkeep, quotas, directory, issuer, .. } = &loaded.config;
    for (key, value, least, most) in [
        ("upstream.connect_seconds", upstream.connect_seconds, 1, 300),
        ("upstream.timeout_seconds", upstream.timeout_seconds, 1, 86_400),
        ("limits.body_seconds", limits.body_seconds, 1, 3_600),
        ("limits.idle_seconds", limits.idle_seconds, 1, 3_600),
        ("limits.connection_idle_seconds", limits.connection_idle_seconds, 10, 3_600),
        ("limits.shutdown_seconds", limits.shutdown_seconds, 0, 86_400),
        ("issuer.refresh_seconds", issuer.refresh_seconds, 1, 3_600),
        ("admin.every_seconds", admin.every_seconds, 1, 3_600),
        (
            "cluster.notice_seconds",
            loaded.config.cluster.as_ref().map_or(0, |cluster| cluster.notice_seconds),
            0,
            3_600,
        ),
        ("upkeep.every_seconds", upkeep.every_seconds, 1, 3_600),
        ("upkeep.extra_grace_seconds", upkeep.extra_grace_seconds, 0, 12 * MONTH),
        ("upkeep.warn_seconds", upkeep.warn_seconds, 0, 12 * MONTH),
        ("quotas.cancels_per_minute", quotas.cancels_per_minute, 1, u32::MAX),
        ("quotas.rollovers_per_minute", quotas.rollovers_per_minute, 1, u32::MAX),
        ("quotas.transfers_per_minute", quotas.transfers_per_minute, 1, u32::MAX),
        ("quotas.spent_per_minute", quotas.spent_per_minute, 1, u32::MAX),
        ("quotas.admissions_per_minute", quotas.admissions_per_minute.unwrap_or(1), 1, u32::MAX),
        ("directory.session_seconds", directory.session_seconds, 1, 86_400),
        ("directory.evidence_seconds", directory.evidence_seconds, 60, 12 * MONTH),
        ("directory.grid_seconds", directory.grid_seconds, Grid::MIN_STEP, MONTH),
        ("directory.publish_seconds", directory.publish_seconds.unwrap_or(1), 1, MONTH),
        (
            "beside.hold_seconds",
            loaded.config.beside.as_ref().and_then(|beside| beside.hold_seconds).unwrap_or(1),
            1,
            86_400,
        ),
    ] {
        if !(least..=most).contains(&value) {
            return Err(loaded.error(key, format!("{value} is out of range: expected {least} to {most}")));
        }
    }
    for (key, value, least, most) in [
        ("limits.max_body_bytes", limits.max_body_bytes, 1, 1 << 30),
        ("limits.max_whole_bytes", limits.max_whole_bytes, 1, 1 << 30),
        ("limits.requests", limits.requests, 1, 1 << 20),
        ("limits.sessions", limits.sessions, 1, 1 << 20),
        ("limits.queue", limits.queue, 1, 1 << 20),
        ("limits.verify_threads", limits.verify_threads.unwrap_or(1), 1, 1_024),
        ("upstream.max_answer_bytes", upstream.max_answer_bytes, 1, 1 << 40),
    ] {
        if !(least..=most).contains(&value) {
            return Err(loaded.error(key, format!("{value} is out of range: expected {least} to {most}")));
        }
    }
    Ok(())
}

/// Replicas share a set, and reach each other.
fn cluster(loaded: &Loaded) -> Result<(), ConfigError> {
    let Config { cluster: Some(cluster), store, .. } = &loaded.config else { return Ok(()) };
    if store.kind == StoreKind::Durable {
        let what = "needs a store that several processes share; `store.kind = \"durable\"` belongs to one";
        return Err(loaded.error("cluster", what));
    }
    if cluster.address.is_some() && cluster.address_env.is_some() {
        return Err(loaded.error("cluster.address_env", "is said beside `cluster.address`: leave one of them out"));
    }
    let nowhere = cluster.listen.ip().is_unspecified() && cluster.address.is_none() && cluster.address_env.is_none();
    if nowhere {
        let what = "is reached at no address of its own: expected `cluster.address` or `cluster.address_env`";
        return Err(loaded.error("cluster.listen", what));
    }
    Ok(())
}

fn directory(loaded: &Loaded) -> Result<(), ConfigError> {
    let directory = &loaded.config.directory;
    if directory.quantum == 0 {
        return Err(loaded.error("directory.quantum", "expected at least 1 micro-credit"));
    }
    let mut classes = directory.classes.clone();
    classes.sort_unstable();
    let distinct = classes.windows(2).all(|pair| pair[0] < pair[1]);
    let good = classes.iter().all(|class| *class > 0 && class.is_multiple_of(directory.quantum));
    if !(1..=16).contains(&classes.len()) || !distinct || !good {
        let what =
            format!("expected 1 to 16 different multiples of the quantum, {}, none of them 0", directory.quantum);
        return Err(loaded.error("directory.classes", what));
    }
    let limits = Limits { session_seconds: directory.session_seconds };
    let schedule = Schedule::new(loaded.config.issuer.schedule.parts(), limits);
    schedule.map(drop).map_err(|error| loaded.error("issuer.schedule", error.to_string()))
}

impl ScheduleConfig {
    /// As the schedule takes it.
    pub(in crate::gateway) fn parts(&self) -> ScheduleParts {
        ScheduleParts {
            issue: self.issue_seconds,
            beyond: self.beyond_seconds,
            ahead: self.ahead_seconds,
            keep: self.keep_seconds,
        }
    }
}

impl Config {
    /// The prices, as a tariff has them.
    pub(in crate::gateway) fn price_list(&self) -> Vec<Price> {
        let price = |(item, price): (&String, &super::PriceConfig)| Price {
            item: item.clone(),
            credits: Credits::from_micro(price.credits),
            per: price.per,
        };
        self.prices.iter().map(price).collect()
    }
}

impl PricingConfig {
    /// The items that are counted, each with the key that says so.
    pub(in crate::gateway) fn items(&self) -> Vec<(&'static str, &str)> {
        match self.kind {
            PricingKind::Tokens => vec![("pricing.kind", INPUT_TOKEN), ("pricing.kind", OUTPUT_TOKEN)],
            PricingKind::Routes => self.routes.iter().map(|route| ("pricing.routes", route.item.as_str())).collect(),
            PricingKind::Bytes => {
                [("pricing.request_item", &self.request_item), ("pricing.answer_item", &self.answer_item)]
                    .into_iter()
                    .filter_map(|(key, item)| item.as_deref().map(|item| (key, item)))
                    .collect()
            }
            PricingKind::Header => self.item.iter().map(|item| ("pricing.item", item.as_str())).collect(),
        }
    }
}

fn prices(loaded: &Loaded) -> Result<(), ConfigError> {
    let Config { prices, pricing, .. } = &loaded.config;
    if prices.is_empty() {
        return Err(loaded.error("prices", "expected at least one price, as `call = { credits = 100 }`"));
    }
    let always = Window { from: Timestamp::from_seconds(0), until: Timestamp::MAX };
    Tariff::new(always, loaded.config.price_list()).map_err(|error| {
        loaded.error(
            "prices",
            format!("{error}: expected names of 1 to 64 visible ASCII characters, and `per` of at least 1"),
        )
    })?;
    match pricing.items().into_iter().find(|(_, item)| !prices.contains_key(*item)) {
        Some((key, item)) => Err(loaded.error(key, format!("counts `{item}`, of which `prices` has no price"))),
        None => Ok(()),
    }
}

fn pricing(loaded: &Loaded) -> Result<(), ConfigError> {
    let PricingConfig { kind, sold, routes, request_item, answer_item, header, item, otherwise, .. } =
        &loaded.config.pricing;
    let PricingConfig { refuse_compressed, vocabulary, vocabulary_margin, without_stream_options, .. } =
        &loaded.config.pricing;
    if vocabulary_margin.0 == 0 {
        return Err(
            loaded.error("pricing.vocabulary_margin", "is 0: expected 1 for the models' own vocabulary, or more")
        );
    }
    for (key, said, belongs, name) in [
        ("pricing.refuse_compressed", *refuse_compressed, PricingKind::Tokens, "tokens"),
        ("pricing.vocabulary", *vocabulary != VocabularyKind::default(), PricingKind::Tokens, "tokens"),
        ("pricing.vocabulary_margin", *vocabulary_margin != Margin::default(), PricingKind::Tokens, "tokens"),
        ("pricing.without_stream_options", !without_stream_options.is_empty(), PricingKind::Tokens, "tokens"),
        ("pricing.routes", !routes.is_empty(), PricingKind::Routes, "routes"),
        ("pricing.request_item", request_item.is_some(), PricingKind::Bytes, "bytes"),
        ("pricing.answer_item", answer_item.is_some(), PricingKind::Bytes, "bytes"),
        ("pricing.header", header.is_some(), PricingKind::Header, "header"),
        ("pricing.item", item.is_some(), PricingKind::Header, "header"),
        ("pricing.otherwise", otherwise.is_some(), PricingKind::Header, "header"),
    ] {
        if said && belongs != *kind {
            return Err(loaded.error(key, format!("is for kind = \"{name}\" only")));
        }
    }
    match kind {
        PricingKind::Routes if !sold.is_empty() => {
            Err(loaded.error("pricing.sold", "is said by [[pricing.routes]] for kind = \"routes\""))
        }
        PricingKind::Routes if routes.is_empty() => {
            Err(loaded.error("pricing", "kind = \"routes\" expects [[pricing.routes]]"))
        }
        PricingKind::Bytes if request_item.is_none() && answer_item.is_none() => {
            Err(loaded.error("pricing", "kind = \"bytes\" expects `request_item` or `answer_item`"))
        }
        PricingKind::Header if header.as_ref().is_none_or(|name| name.parse::<http::HeaderName>().is_err()) => {
            Err(loaded.error("pricing.header", "expected the name of a header, as \"x-cost\""))
        }
        _ => Ok(()),
    }
}

fn addresses(loaded: &Loaded) -> Result<(), ConfigError> {
    let Config { listen, admin, issuer, beside, cluster, .. } = &loaded.config;
    if !admin.listen.ip().is_loopback() && !admin.allow_others {
        let what = format!(
            "{} is no address of loopback: others could look; if they may, say allow_others = true",
            admin.listen
        );
        return Err(loaded.error("admin.listen", what));
    }
    let same = |one: &std::net::SocketAddr, other: &std::net::SocketAddr| one == other && one.port() != 0;
    if same(listen, &admin.listen) {
        return Err(loaded.error("admin.listen", "is the address of the gateway: expected one of its own"));
    }
    if let Some(beside) = beside {
        let others = [Some(listen), Some(&admin.listen), issuer.listen.as_ref()];
        if others.into_iter().flatten().any(|other| same(&beside.listen, other)) {
            return Err(loaded.error("beside.listen", "is an address that others reach: expected one of its own"));
        }
    }
    if let Some(cluster) = cluster {
        let beside = beside.as_ref().map(|beside| &beside.listen);
        let others = [Some(listen), Some(&admin.listen), issuer.listen.as_ref(), beside];
        if others.into_iter().flatten().any(|other| same(&cluster.listen, other)) {
            return Err(loaded.error("cluster.listen", "is an address that others reach: expected one of its own"));
        }
    }
    match &issuer.listen {
        Some(other) if same(other, listen) => {
            Err(loaded.error("issuer.listen", "is the address of the gateway: leave it out to have both there"))
        }
        Some(other) if same(other, &admin.listen) => {
            Err(loaded.error("issuer.listen", "is the operator's address: expected one of its own"))
        }
        _ => Ok(()),
    }
}

fn payments(loaded: &Loaded) -> Result<(), ConfigError> {
    let IssuerConfig { payments, .. } = &loaded.config.issuer;
    match payments.kind {
        PaymentsKind::Development if !payments.keys.is_empty() => {
            Err(loaded.error("issuer.payments.keys", "is for kind = \"notices\" only"))
        }
        PaymentsKind::Notices if payments.keys.is_empty() => {
            let what = "expected a key that payment notices are signed with, as [issuer.payments.keys.shop], or kind = \"development\"";
            Err(loaded.error("issuer.payments", what))
        }
        _ => {
            let one =
                |(_, key): &(&String, &super::NoticeKeyConfig)| key.hmac_sha256.is_some() != key.ed25519.is_some();
            match payments.keys.iter().find(|key| !one(key)) {
                Some((id, _)) => {
                    Err(loaded
                        .error(&format!("issuer.payments.keys.{id}"), "expected either `hmac_sha256` or `ed25519`"))
                }
                None => Ok(()),
            }
        }
    }
}
