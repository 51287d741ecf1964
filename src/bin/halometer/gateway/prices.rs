//! What calls cost, and which are free, by the configuration.

use std::sync::LazyLock;

use super::config::{Config, PerKind, PricingConfig, PricingKind, RouteConfig, Sold, VocabularyKind};
use halometer::http::pattern::RoutePattern;
use halometer::http::pricing::{
    BytePricing, FixedPricing, HeaderPricing, Metered, Per, Pricing, Refusals, SoldRoutes, TokenPricing, Vocabulary,
};
use halometer::protocol::Credits;

/// What calls cost.
pub(super) fn pricing(config: &Config) -> Box<dyn Pricing> {
    let Config { pricing: config, limits, .. } = config;
    let everything = config.sold.contains(&Sold::Everything);
    let routes = config.sold.iter().flat_map(|sold| match sold {
        Sold::Everything => &[],
        Sold::Routes(routes) => &routes[..],
    });
    if config.kind == PricingKind::Tokens {
        let pricing = match (everything, config.sold.is_empty()) {
            (true, _) => TokenPricing::new().everything(),
            (false, true) => TokenPricing::new(),
            (false, false) => TokenPricing::new().sells(routes.cloned()),
        };
        return Box::new(tokens(config, pricing.max_decoded(limits.max_body_bytes)));
    }
    let pricing = prices(config);
    if config.sold.is_empty() || everything {
        return pricing;
    }
    Box::new(routes.fold(SoldRoutes::of(pricing), |sold, route| sold.route(route.clone())))
}

/// What the services behind this program's one gateway refused: it outlasts a reload.
static REFUSALS: LazyLock<Refusals> = LazyLock::new(Refusals::default);

fn tokens(config: &PricingConfig, pricing: TokenPricing) -> TokenPricing {
    let pricing = pricing.remembering(&REFUSALS);
    let vocabulary = match config.vocabulary {
        VocabularyKind::O200k => Vocabulary::O200k,
        VocabularyKind::Cl100k => Vocabulary::Cl100k,
        VocabularyKind::None => Vocabulary::None,
    };
    let unasked = config.without_stream_options.iter().map(|route| route.0.clone());
    let pricing = pricing.vocabulary(vocabulary, config.vocabulary_margin.0).without_stream_options(unasked);
    if config.refuse_compressed { pricing.without_compressed_requests() } else { pricing }
}

fn prices(config: &PricingConfig) -> Box<dyn Pricing> {
    match config.kind {
        PricingKind::Tokens => Box::new(TokenPricing::new()),
        PricingKind::Routes => {
            Box::new(config.routes.iter().fold(FixedPricing::new(), |pricing, RouteConfig { route, item, per }| {
                let per = match per {
                    PerKind::Call => Per::Call,
                    PerKind::Picture => Per::Picture,
                    PerKind::Second => Per::Second,
                };
                pricing.route_per(route.0.clone(), item, per)
            }))
        }
        PricingKind::Bytes => {
            let pricing = BytePricing::new();
            let pricing = config.request_item.iter().fold(pricing, |pricing, item| pricing.request(item));
            Box::new(config.answer_item.iter().fold(pricing, |pricing, item| pricing.answer(item)))
        }
        PricingKind::Header => {
            // It was checked when the file was read; of a header that is none nothing is ever reported.
            let name = config.header.as_deref().and_then(|name| name.parse().ok());
            let name = name.unwrap_or(http::HeaderName::from_static("x-cost"));
            let pricing = match &config.item {
                Some(item) => HeaderPricing::units(name, item),
                None => HeaderPricing::credits(name),
            };
            Box::new(match config.otherwise {
                Some(micro) => pricing.otherwise(Metered::Cost(Credits::from_micro(micro))),
                None => pricing,
            })
        }
    }
}

/// What is free.
pub(super) fn free(config: &Config) -> Vec<RoutePattern> {
    config.free.iter().map(|route| route.0.clone()).collect()
}
