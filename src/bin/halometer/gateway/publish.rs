//! What the next directory says: the one before, and what the configuration wishes.

use std::collections::BTreeMap;

use super::config::{ClearingConfig, Config, Origin, PaymentsKind, PriceConfig, PricingConfig};
use halometer::protocol::{
    Credits, Directory, DirectoryError, DirectoryParts, Epoch, GatewayEntry, GatewayId, GatewayKey, Grid, Limits,
    RootKey, Tariff, TariffError, Timestamp, Window,
};

/// The most tariffs in a directory.
const TARIFFS: usize = 8;

/// Why there is no directory as the configuration wishes it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(super) enum PublishError {
    /// The quantum is never changed: amounts that are about would be no multiples of it.
    #[error("`directory.quantum` is {known} and cannot be changed")]
    Quantum {
        /// As it was published.
        known: Credits,
    },
    /// The grid of publication is never changed: directories of two grids would be evidence against the issuer.
    #[error("`directory.publish_seconds` is {known} and cannot be changed")]
    Publication {
        /// As it was published, seconds.
        known: u32,
    },
    /// Prices were changed so often that spends under too many lists may come.
    #[error("prices were changed {} times in a short time; they can be changed again at {at} s since 1970", TARIFFS - 1)]
    TooOften {
        /// When the oldest list may leave.
        at: u64,
    },
    /// Spends under prices of before may still come, and those have no price for something.
    #[error(
        "`pricing` counts `{item}`, for which prices of before have no price: add it to `prices` first, and use it in `pricing` from \
         {at} s since 1970 on"
    )]
    NotPriced {
        /// The item.
        item: String,
        /// When the last such list leaves.
        at: u64,
    },
    /// The directory does not name the gateway.
    #[error("the directory does not name gateway {0}")]
    NoGateway(GatewayId),
    /// An issuer elsewhere has no price for something.
    #[error("`pricing` counts `{0}`, for which the issuer's directory has no price")]
    Unpriced(String),
    /// A gateway elsewhere cannot have the id of the one that is here.
    #[error("`issuer.clearing` has gateway {0}, which is this one")]
    OwnId(GatewayId),
    /// The prices make no tariff.
    #[error(transparent)]
    Tariff(#[from] TariffError),
    /// The directory breaks a rule.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

impl PublishError {
    /// Whether what is refused now is taken later, by itself.
    pub(super) fn passes(&self) -> bool {
        matches!(self, Self::TooOften { .. } | Self::NotPriced { .. })
    }
}

/// The first directory of an issuer.
pub(super) fn first(
    config: &Config,
    root: RootKey,
    gateway: (GatewayId, GatewayKey),
    epoch: Epoch,
    now: Timestamp,
) -> Result<Directory, PublishError> {
    let (id, key) = gateway;
    let entry = GatewayEntry { id, origins: Vec::new(), key };
    let mut parts = DirectoryParts {
        root,
        serial: 1,
        published: now,
        quantum: Credits::from_micro(config.directory.quantum),
        grid: grid(config, None)?,
        evidence_seconds: 0,
        limits: Limits { session_seconds: 0 },
        classes: Vec::new(),
        tariffs: vec![tariff(config, now)?],
        epochs: vec![epoch],
        gateways: vec![entry],
    };
    wish(&mut parts, config, id, None)?;
    Ok(Directory::new(parts)?)
}

/// The prices of the newest list, as a configuration says them.
pub(super) fn known_prices(known: &Directory) -> BTreeMap<String, PriceConfig> {
    let newest = known.parts().tariffs.iter().max_by_key(|tariff| tariff.valid().from);
    let prices = newest.into_iter().flat_map(Tariff::prices);
    prices.map(|price| (price.item.clone(), PriceConfig { credits: price.credits.micro(), per: price.per })).collect()
}

/// The directory that follows `known`, none if that says all that the configuration wishes and nothing that is over. Where `known` is
/// that of this window, it is published in the next one.
pub(super) fn next(
    known: &Directory,
    config: &Config,
    gateway: GatewayId,
    now: Timestamp,
) -> Result<Option<Directory>, PublishError> {
    let quantum = known.quantum();
    if quantum.micro() != config.directory.quantum {
        return Err(PublishError::Quantum { known: quantum });
    }
    let mut parts = known.parts().clone();
    wish(&mut parts, config, gateway, known.publication())?;
    let keep = keep_seconds(known.grid()).max(keep_seconds(parts.grid));

    // A tariff begins when it replaces the one before, so that its beginning tells since when nobody agrees to that.
    parts.tariffs.sort_by_key(|tariff| tariff.valid().from);
    let newest = parts.tariffs.last().map(|tariff| tariff.valid().from);
    let prices = sorted(config)?;
    if parts.tariffs.last().is_none_or(|tariff| tariff.prices() != prices.prices()) {
        let from = newest.map_or(now, |from| now.max(from.after(1)));
        parts.tariffs.push(tariff(config, from)?);
    }
    let begins: Vec<Timestamp> = parts.tariffs.iter().skip(1).map(|tariff| tariff.valid().from).collect();
    let leaves = |index: usize| begins.get(index).map(|replaced| replaced.after(keep));
    let over = (0..parts.tariffs.len()).take_while(|index| leaves(*index).is_some_and(|at| at <= now)).count();
    if parts.tariffs.len() - over > TARIFFS {
        return Err(PublishError::TooOften { at: leaves(over).map_or(0, Timestamp::seconds) });
    }
    let missing = |(index, tariff)| Some((index, unpriced(&config.pricing, tariff)?));
    if let Some((index, item)) = parts.tariffs.iter().enumerate().skip(over).rev().find_map(missing) {
        let at = leaves(index).map_or(0, Timestamp::seconds);
        return Err(PublishError::NotPriced { item: item.to_owned(), at });
    }
    parts.tariffs.drain(..over);

    // As it would be if only its number were another.
    let same = DirectoryParts { serial: known.parts().serial, published: known.parts().published, ..parts.clone() };
    if Directory::new(same)? == *known {
        return Ok(None);
    }
    parts.serial = parts.serial.saturating_add(1);
    // Of one window there is one directory: what comes in the middle of one waits for the next.
    parts.published = now.max(parts.published.after(parts.grid.publication().into()));
    let next = Directory::new(parts)?;
    next.check_follows(known)?;
    Ok(Some(next))
}

/// The same directory again, for a window in which nothing has changed: callers who see it for the first time can tell by its window
/// that all others are shown the same.
pub(super) fn again(known: &Directory, now: Timestamp) -> Result<Directory, PublishError> {
    let mut parts = known.parts().clone();
    parts.serial = parts.serial.saturating_add(1);
    parts.published = now;
    let next = Directory::new(parts)?;
    next.check_follows(known)?;
    Ok(next)
}

/// Something that is counted and has no price in a tariff.
pub(super) fn unpriced<'a>(pricing: &'a PricingConfig, tariff: &Tariff) -> Option<&'a str> {
    let priced = |item: &str| tariff.prices().iter().any(|price| price.item == item);
    pricing.items().into_iter().map(|(_, item)| item).find(|item| !priced(item))
}

/// Whether all that is counted has a price by the list of now; of a gateway whose issuer is elsewhere.
pub(super) fn check_priced(pricing: &PricingConfig, directory: &Directory, now: Timestamp) -> Result<(), PublishError> {
    match directory.tariff(now).and_then(|tariff| unpriced(pricing, tariff)) {
        Some(item) => Err(PublishError::Unpriced(item.to_owned())),
        None => Ok(()),
    }
}

/// For so long spends may come that were agreed to before: until the not-after of a proof that was made at the last moment is over.
fn keep_seconds(grid: Grid) -> u64 {
    2 * u64::from(grid.step()) + Grid::GRACE
}

fn wish(
    parts: &mut DirectoryParts,
    config: &Config,
    gateway: GatewayId,
    publication: Option<u32>,
) -> Result<(), PublishError> {
    parts.grid = grid(config, publication)?;
    parts.evidence_seconds = config.directory.evidence_seconds;
    parts.limits = Limits { session_seconds: config.directory.session_seconds };
    parts.classes = config.directory.classes.iter().copied().map(Credits::from_micro).collect();
    let entry = parts.gateways.iter_mut().find(|entry| entry.id == gateway);
    let entry = entry.ok_or(PublishError::NoGateway(gateway))?;
    entry.origins = texts(&config.origins);
    let clearing = &config.issuer.clearing;
    if clearing.iter().any(|other| other.id.0 == gateway) {
        return Err(PublishError::OwnId(gateway));
    }
    parts.gateways.retain(|entry| entry.id == gateway);
    let entry =
        |other: &ClearingConfig| GatewayEntry { id: other.id.0, origins: texts(&other.origins), key: other.key.0 };
    parts.gateways.extend(clearing.iter().map(entry));
    Ok(())
}

fn texts(origins: &[Origin]) -> Vec<String> {
    origins.iter().map(|origin| origin.as_str().to_owned()).collect()
}

fn grid(config: &Config, known: Option<u32>) -> Result<Grid, PublishError> {
    let step = config.directory.grid_seconds;
    // Trying things out must not wait an hour for each; an issuer that is paid does not get to mark callers.
    let usual = if config.issuer.payments.kind == PaymentsKind::Development { 1 } else { step };
    let publication = match (config.directory.publish_seconds, known) {
        (Some(wished), Some(known)) if wished != known => return Err(PublishError::Publication { known }),
        (wished, known) => wished.or(known).unwrap_or(usual),
    };
    let grid = Grid::with_publication(step, publication);
    // The range was checked when the file was read.
    grid.ok_or(PublishError::Directory(DirectoryError::Decode(halometer::protocol::DecodeError::Field(
        "not-after grid",
    ))))
}

fn sorted(config: &Config) -> Result<Tariff, PublishError> {
    tariff(config, Timestamp::from_seconds(0))
}

fn tariff(config: &Config, from: Timestamp) -> Result<Tariff, PublishError> {
    Ok(Tariff::new(Window { from, until: Timestamp::MAX }, config.price_list())?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::gateway::config::Loaded;
    use halometer::testing::world::directory_parts;

    const HOUR: u64 = 3_600;

    fn config(prices: &str, more: &str) -> Config {
        let text = format!(
            "origins = [\"http://a\"]\n{more}\n[upstream]\nurl = \"http://b\"\n[pricing]\nkind = \"routes\"\n\
             routes = [{{ route = \"* /**\", item = \"call\" }}]\n[prices]\n{prices}\n[issuer.payments]\nkind = \"development\""
        );
        Loaded::parse(Path::new("gateway.toml"), &text).unwrap().config
    }

    /// The directory of the tests' issuer, with this configuration.
    fn known(config: &Config, now: Timestamp) -> (Directory, GatewayId) {
        let parts = directory_parts();
        let (epoch, entry) = (parts.epochs[0], parts.gateways[0].clone());
        (first(config, parts.root, (entry.id, entry.key), epoch, now).unwrap(), entry.id)
    }

    #[test]
    fn old_prices_stay_while_spends_under_them_can_still_arrive() {
        let now = Timestamp::from_seconds(1_000_000);
        let cheap = config("call = { credits = 1 }", "");
        let (first, id) = known(&cheap, now);
        assert_eq!(next(&first, &cheap, id, now.after(100)), Ok(None));

        let dear = config("call = { credits = 2 }", "");
        let changed = now.after(500);
        let second = next(&first, &dear, id, changed).unwrap().unwrap();
        assert_eq!(second.parts().serial, first.parts().serial + 1);
        let (old, new) = (first.tariff(now).unwrap(), second.tariff(changed).unwrap());
        assert_eq!(new.prices()[0].credits.micro(), 2);
        let keep = 2 * HOUR + Grid::GRACE;
        for (later, accepted) in [(0, true), (keep - 1, true), (keep, false)] {
            let at = changed.after(later);
            let directory = next(&second, &dear, id, at).unwrap().unwrap_or_else(|| second.clone());
            assert_eq!(directory.accepted_tariff(&old.digest(), at).is_some(), accepted, "{later}");
            assert!(directory.accepted_tariff(&new.digest(), at).is_some());
        }
        // In one second, and with a clock that goes back.
        let third = next(&second, &cheap, id, changed.before(900)).unwrap().unwrap();
        assert_eq!(third.parts().tariffs.len(), 3);
        assert_eq!(third.tariff(changed.after(1)).unwrap().prices()[0].credits.micro(), 1);
    }

    #[test]
    fn prices_changed_too_often_are_refused_until_a_stated_time() {
        let now = Timestamp::from_seconds(1_000_000);
        let (mut directory, id) = known(&config("call = { credits = 1 }", ""), now);
        for price in 2..=8 {
            let config = config(&format!("call = {{ credits = {price} }}"), "");
            directory = next(&directory, &config, id, now.after(price)).unwrap().unwrap();
        }
        let ninth = config("call = { credits = 9 }", "");
        let leaves = now.after(2 + 2 * HOUR + Grid::GRACE);
        assert_eq!(next(&directory, &ninth, id, now.after(9)), Err(PublishError::TooOften { at: leaves.seconds() }));
        assert!(next(&directory, &ninth, id, leaves).is_ok());
        // Until then the list that callers know is good.
        assert!(PublishError::TooOften { at: 1 }.passes());
        let known = Config { prices: known_prices(&directory), ..ninth };
        assert_eq!(next(&directory, &known, id, now.after(9)), Ok(None));
    }

    #[test]
    fn what_old_prices_lack_is_not_counted_until_they_are_over() {
        let now = Timestamp::from_seconds(1_000_000);
        let (first, id) = known(&config("call = { credits = 1 }", ""), now);
        let mut other = config("call = { credits = 1 }\npage = { credits = 5 }", "");
        other.pricing.routes[0].item = "page".to_owned();
        let Err(PublishError::NotPriced { item, .. }) = next(&first, &other, id, now.after(1)) else { panic!() };
        assert_eq!(item, "page");
        other.pricing.routes[0].item = "call".to_owned();
        let second = next(&first, &other, id, now.after(1)).unwrap().unwrap();
        other.pricing.routes[0].item = "page".to_owned();
        let Err(PublishError::NotPriced { at, .. }) = next(&second, &other, id, now.after(2)) else { panic!() };
        assert!(next(&second, &other, id, Timestamp::from_seconds(at)).unwrap().is_some());
    }

    #[test]
    fn what_changes_within_a_window_waits_for_the_next() {
        let now = Timestamp::from_seconds(1_000_000);
        let hourly = |prices: &str| config(prices, "directory.publish_seconds = 3600");
        let (first, id) = known(&hourly("call = { credits = 1 }"), now);
        let begun = first.parts().published;
        assert!(begun <= now && begun.seconds().is_multiple_of(HOUR));
        let dear = hourly("call = { credits = 2 }");
        let second = next(&first, &dear, id, now.after(5)).unwrap().unwrap();
        assert_eq!(second.parts().published, begun.after(HOUR), "of this window there is one already");
        // Unchanged it is published again, in a window of its own.
        assert!(again(&first, begun.after(HOUR - 1)).is_err());
        let third = again(&first, begun.after(HOUR)).unwrap();
        assert_eq!((third.parts().serial, third.parts().published), (2, begun.after(HOUR)));
        assert!(third.contradicts(&second), "and of that there is one as well");
        // After a clock that went back nothing comes out before the newest window is over.
        assert_eq!(
            next(&third, &dear, id, now.before(9 * HOUR)).unwrap().unwrap().parts().published,
            begun.after(2 * HOUR)
        );
        // The grid stays.
        let other = config("call = { credits = 1 }", "directory.publish_seconds = 600");
        assert_eq!(next(&first, &other, id, now), Err(PublishError::Publication { known: 3_600 }));
        assert_eq!(
            next(&first, &config("call = { credits = 1 }", ""), id, now),
            Ok(None),
            "as it was, if it is not said"
        );
    }

    #[test]
    fn gateways_elsewhere_come_and_go() {
        let now = Timestamp::from_seconds(1_000_000);
        let alone = config("call = { credits = 1 }", "");
        let (first, id) = known(&alone, now);
        let key = hex::encode(halometer::protocol::GatewaySigningKey::from_bytes(&[6; 32]).public_key().to_bytes());
        let with = |other: GatewayId, origin: &str| {
            let clearing = format!(
                "issuer.clearing = [{{ id = \"{other}\", key = \"{key}\", origins = [\"{origin}\"] }}]\n\
                 issuer.payments.kind = \"development\""
            );
            let text = "origins = [\"http://a\"]\nupstream.url = \"http://b\"\npricing.kind = \"routes\"\n\
                        pricing.routes = [{ route = \"* /**\", item = \"call\" }]\nprices.call.credits = 1\n";
            Loaded::parse(Path::new("gateway.toml"), &format!("{text}{clearing}")).unwrap().config
        };
        // On either side of the one that is here.
        for other in [GatewayId::from_bytes([0; 16]), GatewayId::from_bytes([255; 16])] {
            let second = next(&first, &with(other, "https://x"), id, now).unwrap().unwrap();
            assert_eq!(second.gateway(&other).unwrap().origins, ["https://x"]);
            assert_eq!(second.gateway(&id), first.gateway(&id));
            assert_eq!(next(&second, &with(other, "https://x"), id, now), Ok(None));
            let third = next(&second, &with(other, "https://y"), id, now).unwrap().unwrap();
            assert_eq!(third.gateway(&other).unwrap().origins, ["https://y"]);
            let fourth = next(&third, &alone, id, now).unwrap().unwrap();
            assert_eq!((fourth.gateway(&other), fourth.parts().serial), (None, 4));
        }
        assert_eq!(next(&first, &with(id, "https://x"), id, now), Err(PublishError::OwnId(id)));
    }

    #[test]
    fn what_can_never_change_is_refused() {
        let now = Timestamp::from_seconds(1_000_000);
        let (first, id) = known(&config("call = { credits = 1 }", ""), now);
        let mut other = config("call = { credits = 1 }", "");
        other.directory.quantum = 2;
        assert!(matches!(next(&first, &other, id, now), Err(PublishError::Quantum { .. })));
        let other = config("call = { credits = 1 }", "");
        let stranger = GatewayId::from_bytes([77; 16]);
        assert_eq!(next(&first, &other, stranger, now), Err(PublishError::NoGateway(stranger)));
    }
}
