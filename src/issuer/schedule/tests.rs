//! Schedules over years, with processes that are down, clocks that jump and operators that change the schedule.

use super::*;
use std::sync::LazyLock;

use crate::issuer::{DevelopmentPayments, EpochKeys, Issuer, Keystore};
use crate::protocol::DirectoryParts;
use crate::sealed::Lock;
use crate::store::{MemoryMintBook, Pulse};
use crate::testing::world::{DAY, HOUR, T0, directory_parts, micro, rng, root_key};
use halometer_circuits::schnorr::SigningKey;
use proptest::prelude::*;

const LIMITS: Limits = Limits { session_seconds: 600 };
const WEEK: u32 = 7 * DAY as u32;
const WEEKLY: ScheduleParts = ScheduleParts { issue: WEEK, beyond: WEEK, ahead: WEEK / 7, keep: 4 * WEEK };

/// More keys than any test needs: none is used twice.
static KEYS: LazyLock<Vec<PublicKey>> =
    LazyLock::new(|| (0..2000).map(|seed| SigningKey::generate(&mut rng(seed)).public_key()).collect());

fn key(number: EpochNumber) -> PublicKey {
    KEYS[number.number() as usize % KEYS.len()]
}

fn schedule(parts: ScheduleParts) -> Schedule {
    Schedule::new(parts, LIMITS).unwrap()
}

fn of_epochs(epochs: Vec<Epoch>) -> Directory {
    Directory::new(DirectoryParts { epochs, limits: LIMITS, ..directory_parts() }).unwrap()
}

fn start(schedule: &Schedule) -> Directory {
    of_epochs(vec![schedule.first(key(EpochNumber::new(1)), T0)])
}

/// Adds one epoch, if one is due, and checks the rules.
fn step(schedule: &Schedule, known: &Directory, now: Timestamp) -> Result<Option<(Planned, Directory)>, ScheduleError> {
    let Some(planned) = schedule.next(known, now)? else { return Ok(None) };
    let new = planned.clone().into_directory(key(planned.number()), now).unwrap();
    assert_eq!(new.check_follows(known), Ok(()));
    assert_eq!(new.parts().serial, known.parts().serial + 1);
    assert!(new.epochs().len() <= Schedule::MAX_EPOCHS);
    let mut instants: Vec<Timestamp> =
        new.epochs().iter().flat_map(|e| [e.issue.from, e.issue.until, e.spend.from, e.spend.until]).collect();
    instants.push(now);
    for instant in instants {
        assert!(new.epochs().iter().filter(|epoch| epoch.issue.contains(instant)).count() <= 1);
        assert!(new.spendable(instant).count() <= 3);
    }
    for pair in new.epochs().windows(2) {
        assert!(pair[1].issue.from.after(LIMITS.session_seconds.into()) < pair[0].spend.until);
    }
    // What may still serve as evidence is there.
    // By the time that the directory says it was published at.
    let published = known.grid().published(now);
    for epoch in known.epochs() {
        let over = epoch.spend.until.after(schedule.0.keep.into()) <= published;
        assert_eq!(new.epoch(epoch.number).is_none(), over);
    }
    Ok(Some((planned, new)))
}

fn tick(schedule: &Schedule, mut known: Directory, now: Timestamp) -> Result<(Vec<Planned>, Directory), ScheduleError> {
    let mut all = Vec::new();
    while let Some((planned, new)) = step(schedule, &known, now)? {
        all.push(planned);
        known = new;
    }
    Ok((all, known))
}

/// Whether some epoch issues at every instant from `from` to `until`, both included.
fn covers(directory: &Directory, from: Timestamp, until: Timestamp) -> bool {
    let mut at = from;
    while let Some(epoch) = directory.issuing(at) {
        at = epoch.issue.until;
        if at > until {
            return true;
        }
    }
    false
}

fn parts() -> impl Strategy<Value = ScheduleParts> {
    let day = DAY as u32;
    (day..60 * day, 0.0..=1.0f64, 0.0..=1.0f64, 0.0..=1.0f64).prop_map(|(issue, beyond, ahead, keep)| {
        let beyond = 601 + (f64::from(2 * issue - 601) * beyond) as u32;
        let ahead = issue / 16 + (f64::from(issue) * 2.0 * ahead) as u32;
        // Up to what the 64 entries allow.
        let most = u64::from(issue) * 63 - u64::from(beyond) - u64::from(ahead);
        ScheduleParts { issue, beyond, ahead, keep: (most as f64 * keep) as u32 }
    })
}

#[derive(Clone, Debug)]
enum Step {
    /// Asked again in time, after this part of `ahead`.
    InTime(f64),
    /// Down for so many seconds.
    Down(u64),
    /// The operator takes another schedule.
    Change(ScheduleParts),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        60 => (0.0..=1.0f64).prop_map(Step::InTime),
        2 => (0..400 * DAY).prop_map(Step::Down),
        1 => parts().prop_map(Step::Change),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn years_of_rotation_break_no_rule(first in parts(), steps in steps()) {
        let mut schedule = schedule(first);
        let (mut now, mut known) = (T0, tick(&schedule, start(&schedule), T0).unwrap().1);
        // A wallet that fetched the directory once and long ago, and must be able to follow.
        let old = known.clone();
        for step in steps {
            let end = known.epochs().last().unwrap().issue.until;
            now = match step {
                Step::InTime(part) => now.after((f64::from(schedule.0.ahead) * part) as u64),
                Step::Down(seconds) => now.after(seconds),
                Step::Change(parts) => {
                    schedule = Schedule::new(parts, LIMITS).unwrap();
                    now
                }
            };
            let planned = match tick(&schedule, known.clone(), now) {
                Ok((planned, new)) => {
                    known = new;
                    planned
                }
                // Only what another schedule wants kept fills a directory. As an operator does, keep less.
                Err(ScheduleError::Full(_)) => {
                    schedule = Schedule::new(ScheduleParts { keep: 0, ..schedule.0 }, LIMITS).unwrap();
                    let (planned, new) = tick(&schedule, known, now).unwrap();
                    known = new;
                    planned
                }
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            };
            // From now until it must be asked again some epoch issues, whatever was before.
            prop_assert!(covers(&known, now, now.after(schedule.0.ahead.into())));
            // And none was missing between the last time and now, unless that was too long ago, which is told.
            let missed = (end < now).then_some(Window { from: end, until: now });
            prop_assert_eq!(planned.iter().find_map(Planned::pause), missed);
            prop_assert!(planned.iter().skip(1).all(|planned| planned.pause().is_none()));
            if let Step::InTime(_) = step {
                prop_assert_eq!(missed, None);
            }
            prop_assert_eq!(known.check_follows(&old), Ok(()));
            let ends = [end].into_iter().chain(planned.iter().map(|planned| planned.issue().until));
            prop_assert!(ends.zip(&planned).all(|(end, planned)| planned.issue().from == end));
            // However short the rest of a window was, no epoch issues for a moment only.
            prop_assert!(planned.iter().all(|planned| planned.issue().until > now.after(HOUR)));
        }
    }

    #[test]
    fn a_schedule_that_is_made_can_be_kept_for_ever(parts in parts()) {
        let schedule = schedule(parts);
        let (mut now, mut known) = (T0, start(&schedule));
        for _ in 0..150 {
            // At the last moment, and each time an epoch.
            now = known.epochs().last().unwrap().issue.until.before(parts.ahead.into()).max(now);
            known = tick(&schedule, known, now).unwrap().1;
            prop_assert!(known.epochs().len() <= Schedule::MAX_EPOCHS);
        }
    }
}

#[test]
fn a_schedule_that_breaks_a_rule_is_refused() {
    let refused = |parts| Schedule::new(parts, LIMITS).unwrap_err();
    assert_eq!(refused(ScheduleParts { issue: 0, ..WEEKLY }), ScheduleError::Issue);
    assert_eq!(refused(ScheduleParts { beyond: 600, ..WEEKLY }), ScheduleError::Beyond);
    assert!(Schedule::new(ScheduleParts { beyond: 601, ..WEEKLY }, LIMITS).is_ok());
    assert_eq!(refused(ScheduleParts { beyond: 2 * WEEK + 1, ..WEEKLY }), ScheduleError::Beyond);
    assert!(Schedule::new(ScheduleParts { beyond: 2 * WEEK, ..WEEKLY }, LIMITS).is_ok());
    assert_eq!(refused(ScheduleParts { ahead: 0, ..WEEKLY }), ScheduleError::Ahead);
    let most = 63 * WEEK - WEEKLY.beyond - WEEKLY.ahead;
    assert!(Schedule::new(ScheduleParts { keep: most, ..WEEKLY }, LIMITS).is_ok());
    assert_eq!(refused(ScheduleParts { keep: most + 1, ..WEEKLY }), ScheduleError::Keep);
    assert_eq!(
        refused(ScheduleParts { issue: 1000, beyond: 601, ahead: u32::MAX, keep: u32::MAX }),
        ScheduleError::Keep
    );
}

#[test]
fn an_epoch_is_announced_ahead_and_not_before() {
    let schedule = schedule(WEEKLY);
    let known = start(&schedule);
    let end = T0.after(WEEK.into());
    assert_eq!(schedule.next(&known, end.before(DAY + 1)), Ok(None));
    let planned = schedule.next(&known, end.before(DAY)).unwrap().unwrap();
    assert_eq!(planned.number(), EpochNumber::new(2));
    assert_eq!(planned.issue(), Window { from: end, until: end.after(WEEK.into()) });
    assert_eq!(planned.spend(), Window { from: end, until: end.after(2 * u64::from(WEEK)) });
    assert_eq!((planned.pause(), planned.leaving()), (None, &[][..]));
}

#[test]
fn after_weeks_down_windows_have_no_gap_and_the_pause_shows() {
    let schedule = schedule(WEEKLY);
    let known = start(&schedule);
    let end = T0.after(WEEK.into());
    for weeks in [0, 1, 2, 3, 10, 500] {
        let now = end.after(weeks * u64::from(WEEK) + DAY);
        assert!(known.issuing(now).is_none());
        let (planned, new) = tick(&schedule, known.clone(), now).unwrap();
        assert_eq!(planned.len(), 1);
        assert_eq!(planned[0].pause(), Some(Window { from: end, until: now }));
        assert_eq!(planned[0].issue(), Window { from: end, until: end.after((weeks + 1) * u64::from(WEEK)) });
        assert_eq!(new.issuing(now).unwrap().number, EpochNumber::new(2));
    }
    // Just before the end of a week the new epoch has the next one too: an epoch of a minute has no crowd.
    let now = end.after(2 * u64::from(WEEK)).before(60);
    let (planned, _) = tick(&schedule, known, now).unwrap();
    assert_eq!(planned[0].issue().until, end.after(3 * u64::from(WEEK)));
}

#[test]
fn a_clock_that_goes_back_and_forth_makes_no_contradiction() {
    let schedule = schedule(ScheduleParts { keep: 0, ..WEEKLY });
    let late = T0.after(4 * u64::from(WEEK));
    let known = tick(&schedule, start(&schedule), late).unwrap().1;
    assert!(known.epoch(EpochNumber::new(1)).is_none());
    let back = T0.after(DAY);
    assert_eq!(schedule.next(&known, back), Ok(None));
    let due = known.epochs()[0].issue.until.before(DAY);
    let planned = schedule.next(&known, due).unwrap().unwrap();
    let new = planned.into_directory(key(EpochNumber::new(3)), back).unwrap();
    assert!(new.parts().published >= known.parts().published);
}

#[test]
fn the_key_of_another_epoch_is_refused() {
    let schedule = schedule(ScheduleParts { keep: 0, ..WEEKLY });
    let known = start(&schedule);
    let (soon, late) = (T0.after(u64::from(WEEK)), T0.after(4 * u64::from(WEEK)));
    let reused = key(EpochNumber::new(1));
    let planned = schedule.next(&known, soon).unwrap().unwrap();
    assert_eq!(planned.into_directory(reused, soon), Err(DirectoryError::Epoch(EpochNumber::new(2))));
    // Also when that epoch leaves at this very moment.
    let planned = schedule.next(&known, late).unwrap().unwrap();
    assert_eq!(planned.leaving(), [EpochNumber::new(1)]);
    assert_eq!(planned.into_directory(reused, late), Err(DirectoryError::Contradiction));
}

#[test]
fn a_shorter_schedule_applies_once_the_old_windows_allow() {
    let long = schedule(ScheduleParts { beyond: 2 * WEEK, ..WEEKLY });
    let mut now = T0;
    let mut known = start(&long);
    for _ in 0..6 {
        known = tick(&long, known, now).unwrap().1;
        now = now.after(WEEK.into());
    }
    let day = DAY as u32;
    let short = schedule(ScheduleParts { issue: day, beyond: day, ahead: day, keep: day });
    for _ in 0..60 {
        let (planned, new) = tick(&short, known, now).unwrap();
        assert!(planned.iter().all(|planned| planned.pause().is_none()));
        known = new;
        now = now.after(DAY);
    }
    let last = known.epochs().last().unwrap();
    assert_eq!(last.issue.until.seconds() - last.issue.from.seconds(), DAY);
}

#[test]
fn what_cannot_be_planned_is_said() {
    let weekly = schedule(WEEKLY);
    let window = |from, until| Window { from: T0.after(from), until: T0.after(until) };
    let epoch = |n: u32, issue: Window, spend: Window| {
        let number = EpochNumber::new(n);
        Epoch { number, key: key(number), issue, spend }
    };
    // Three epochs that are spendable to the same instant: a fourth can begin only then, and then it is too late.
    let day = |n: u32| window(u64::from(n - 1) * DAY, u64::from(n) * DAY);
    let stuck = of_epochs((1..=3).map(|n| epoch(n, day(n), window(0, 10 * DAY))).collect());
    assert_eq!(weekly.next(&stuck, T0.after(3 * DAY)), Err(ScheduleError::Stuck(EpochNumber::new(3))));
    // A window later: an entry leaves by the time that the directory says it was published at.
    let gone = T0.after(10 * DAY + u64::from(WEEKLY.keep) + HOUR);
    let (planned, new) = tick(&weekly, stuck, gone).unwrap();
    assert_eq!(planned[0].pause(), Some(Window { from: T0.after(3 * DAY), until: gone }));
    assert_eq!(new.epochs().len(), 1);
    // A third that lasts longer: room for a fourth later, and nobody issues until then, which is told ahead.
    let ends = [10, 11, 12];
    let gap = of_epochs((1..=3).map(|n| epoch(n, day(n), window(0, ends[n as usize - 1] * DAY))).collect());
    let planned = weekly.next(&gap, T0.after(3 * DAY).before(DAY)).unwrap().unwrap();
    assert_eq!(planned.pause(), Some(window(3 * DAY, 10 * DAY)));
    assert_eq!(planned.issue().from, T0.after(10 * DAY));
    // Full of what must be kept.
    let hour = |n: u32, more: u64| window(u64::from(n) * 3600, u64::from(n) * 3600 + 3600 + more);
    let full = of_epochs((1..=64).map(|n| epoch(n, hour(n, 0), hour(n, 601))).collect());
    let now = full.epochs()[63].issue.until;
    assert_eq!(weekly.next(&full, now), Err(ScheduleError::Full(EpochNumber::new(1))));
    let keeps_less = schedule(ScheduleParts { keep: 0, ..WEEKLY });
    assert_eq!(tick(&keeps_less, full, now).unwrap().1.epochs().len(), 2);
    // No number, and a session that has become longer than the schedule allows for.
    let last = epoch(u32::MAX, window(0, DAY), window(0, 2 * DAY));
    assert_eq!(weekly.next(&of_epochs(vec![last]), T0.after(DAY)), Err(ScheduleError::Numbers));
    let limits = Limits { session_seconds: WEEKLY.beyond };
    let longer = Directory::new(DirectoryParts { limits, ..start(&weekly).parts().clone() }).unwrap();
    assert_eq!(weekly.next(&longer, T0.after(u64::from(WEEK))), Err(ScheduleError::Beyond));
}

/// The whole way: plan, key on disk, publish; and a crash between the key and the publication.
#[test]
fn rotation_survives_a_crash_before_publication() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let lock = || Lock::key_bytes(&[7; 32]).unwrap();
    let (root, schedule) = (root_key(), schedule(WEEKLY));
    let id = root.public_key().issuer_id();
    let mut store = Keystore::create(&path, id, lock(), &mut rng(1)).unwrap();
    let first = schedule.first(store.add(EpochNumber::new(1), &mut rng(2)).unwrap(), T0);
    let directory = of_epochs(vec![first]);
    let book = || std::sync::Arc::new(MemoryMintBook::new());
    let payments = std::sync::Arc::new(DevelopmentPayments::new());
    let mut issuer = Issuer::new(&root, directory, store.keys().unwrap(), book(), payments.clone()).unwrap();

    let due = T0.after(u64::from(WEEK)).before(DAY);
    let planned = schedule.next(issuer.directory(), due).unwrap().unwrap();
    let public = store.add(planned.number(), &mut rng(3)).unwrap();
    // The process ends here. The next one finds the directory of before, and the key.
    drop(store);
    let directory = issuer.directory().clone();
    let mut store = Keystore::open(&path, id, lock()).unwrap();
    store.check(&directory, due).unwrap();
    issuer = Issuer::new(&root, directory, store.keys().unwrap(), book(), payments).unwrap();
    let planned = schedule.next(issuer.directory(), due).unwrap().unwrap();
    assert_eq!(store.add(planned.number(), &mut rng(4)).unwrap(), public, "the same key, not a second one");
    let directory = planned.into_directory(public, due).unwrap();
    issuer.publish(&root, directory, store.keys().unwrap()).unwrap();
    assert_eq!(schedule.next(issuer.directory(), due), Ok(None));

    let begun = due.after(2 * DAY);
    assert_eq!(issuer.directory().issuing(begun).unwrap().key, public);
    assert_eq!(store.forget(issuer.directory(), &Pulse::confirmed(begun), &mut rng(5)).unwrap(), [EpochNumber::new(1)]);
    store.check(issuer.directory(), begun).unwrap();
    // A key that another process drew is not the one in the directory.
    let mut stray = EpochKeys::new();
    stray.generate(EpochNumber::new(2), &mut rng(6));
    let mut parts = issuer.directory().parts().clone();
    (parts.serial, parts.classes) = (parts.serial + 1, vec![micro(5)]);
    parts.published = parts.published.after(parts.grid.publication().into());
    assert!(issuer.publish(&root, Directory::new(parts).unwrap(), stray).is_err());
}
