//! Getting a second share out of a wallet (protocol, section 5, "Journal").

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use halometer::circuits::note::Nullifier;
use halometer::protocol::*;
use halometer::wallet::{
    AuthoriseError, Dispute, Heard, Journal, JournalEntry, JournalError, LaneId, MemoryJournal, OutcomeNote,
    PaymentEntry, PlanError, ProvingKeys, PursuitError, PursuitStep, ReadySpend, RootSecret, Saved, Wallet,
};

use crate::world::*;

/// What these journals do as the one inside does it.
macro_rules! rest_as_inside {
    () => {
        fn annotate(&mut self, key: &SpendKey, outcome: &OutcomeNote) -> Result<(), JournalError> {
            self.inside.annotate(key, outcome)
        }
        fn put_payment(&mut self, payment: &PaymentEntry) -> Result<(), JournalError> {
            self.inside.put_payment(payment)
        }
        fn put_directory(&mut self, directory: &SignedDirectory) -> Result<(), JournalError> {
            self.inside.put_directory(directory)
        }
        fn freeze(&mut self, lane: LaneId) -> Result<(), JournalError> {
            self.inside.freeze(lane)
        }
        fn put_dispute(&mut self, dispute: &Dispute) -> Result<(), JournalError> {
            self.inside.put_dispute(dispute)
        }
        fn disputes(&self) -> Result<Vec<Dispute>, JournalError> {
            self.inside.disputes()
        }
        fn history(&self, limit: usize) -> Result<Vec<JournalEntry>, JournalError> {
            self.inside.history(limit)
        }
    };
}

#[test]
fn a_second_proof_of_a_note_is_never_sent() {
    let world = World::new();
    let mut wallet = world.funded(1);
    // Two proofs of one note lie ready, for two contexts; one of them in the wallet's own store.
    let first = ready(&wallet, LANE0, 10, T0);
    let second = ready(&wallet, LANE0, 20, T0);
    let third = ready(&wallet, LANE0, 5, T0);
    wallet.keep(third);
    let paid = wallet.authorise(first, &request(), T0).unwrap();
    assert!(matches!(wallet.authorise(second, &request(), T0), Err(AuthoriseError::NotFrontier(_))));
    assert_eq!(wallet.ready(&GATEWAY, micro(5), T0), 0);
    assert!(matches!(wallet.plan(LANE0, &GATEWAY, micro(20), T0), Err(PlanError::InFlight(_))));
    // Nor after the lane has moved on, not even one that a copy of the wallet made.
    let settled = world.settle(&world.admit(&paid), 10);
    let late = ready(&world.funded(1), LANE0, 20, T0);
    wallet.accept(&paid.key, settled.settlement(), T0).unwrap();
    assert!(matches!(wallet.authorise(late, &request(), T0), Err(AuthoriseError::NotFrontier(_))));
}

#[test]
fn no_error_of_a_gateway_frees_a_note() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    // Whatever the gateway says, or if it says nothing, there is nothing to tell the wallet that would free the note. Time
    // does not either.
    for now in [T0, T0.after(HOUR), T0.after(DAY)] {
        assert!(matches!(wallet.plan(LANE0, &GATEWAY, micro(10), now), Err(PlanError::InFlight(_))));
        wallet.discard_stale(now);
        let again = wallet.resend(&paid.key, &request()).unwrap();
        assert_eq!(again.opening, paid.opening, "the same spend, and only it");
    }
}

/// The journal of a wallet that has sent a spend of lane 0.
fn journal_of_the_original(world: &World) -> MemoryJournal {
    let mut original = world.funded(1);
    let paid = pay(&mut original, LANE0, 10, T0);
    let entry = original.journal().entry(&paid.key.nullifier).unwrap().unwrap();
    assert_eq!(entry.spend, paid.opening[..Spend::LENGTH]);
    let mut journal = MemoryJournal::new();
    journal.pin(&[entry]).unwrap();
    journal
}

#[test]
fn old_notes_beside_a_newer_journal_give_no_second_proof() {
    let world = World::new();
    let journal = Forgetful { inside: journal_of_the_original(&world), tells: true };
    let mut restored = wallet_with(&world, journal);
    fund(&world, &mut restored);
    assert!(matches!(restored.plan(LANE0, &GATEWAY, micro(20), T0), Err(PlanError::Pinned(_))));
    assert!(restored.plan(LaneId { lane: 1, ..LANE0 }, &GATEWAY, micro(20), T0).is_ok());
}

#[test]
fn a_proof_made_without_the_journal_is_refused_by_it() {
    let world = World::new();
    let mut wallet = wallet_with(&world, Forgetful { inside: journal_of_the_original(&world), tells: false });
    fund(&world, &mut wallet);
    let ready = prove(&wallet, 20);
    assert!(matches!(
        wallet.authorise(ready, &request(), T0),
        Err(AuthoriseError::Journal(JournalError::OtherContext))
    ));
}

fn prove<J: Journal>(wallet: &Wallet<J>, class: u64) -> ReadySpend {
    let job = wallet.plan(LANE0, &GATEWAY, micro(class), T0).unwrap();
    let key = ProvingKeys::new().of(&job.epoch_key());
    job.prove(&key, &mut rng(1)).unwrap()
}

/// A journal that pins, but does not say at the start what is pinned, and perhaps not when it is asked.
struct Forgetful {
    inside: MemoryJournal,
    tells: bool,
}

impl Journal for Forgetful {
    fn entry(&self, nullifier: &Nullifier) -> Result<Option<JournalEntry>, JournalError> {
        if self.tells { self.inside.entry(nullifier) } else { Ok(None) }
    }
    fn pin(&mut self, entries: &[JournalEntry]) -> Result<(), JournalError> {
        self.inside.pin(entries)
    }
    fn load(&self) -> Result<Saved, JournalError> {
        Ok(Saved::default())
    }
    fn settle(&mut self, settled: &[(SpendKey, Settlement)]) -> Result<(), JournalError> {
        self.inside.settle(settled)
    }
    rest_as_inside!();
}

fn wallet_with<J: Journal>(world: &World, journal: J) -> Wallet<J> {
    let signed = world.issuer.signed_directory();
    let device = DeviceId::from_bytes([0; 8]);
    Wallet::new(RootSecret::from_bytes([1; 32]), device, world.root.public_key(), signed, journal).unwrap()
}

fn fund<J: Journal>(world: &World, wallet: &mut Wallet<J>) {
    let payment = PaymentId::from_bytes([1; 32]);
    world.payments.grant(payment, micro(100)).unwrap();
    let response = world.issuer.mint(&wallet.request_mint(payment, sixty_and_forty(), T0).unwrap(), T0).unwrap();
    wallet.accept_mint(&payment, &response, T0).unwrap();
}

/// A journal whose disk is full, at times.
struct Full {
    inside: MemoryJournal,
    full: Arc<AtomicBool>,
}

impl Full {
    fn new(full: bool) -> (Self, Arc<AtomicBool>) {
        let full = Arc::new(AtomicBool::new(full));
        (Self { inside: MemoryJournal::new(), full: Arc::clone(&full) }, full)
    }

    fn room(&self) -> Result<(), JournalError> {
        if self.full.load(Ordering::Relaxed) { Err(JournalError::Failed("no space left".into())) } else { Ok(()) }
    }
}

impl Journal for Full {
    fn pin(&mut self, entries: &[JournalEntry]) -> Result<(), JournalError> {
        self.room()?;
        self.inside.pin(entries)
    }
    fn settle(&mut self, settled: &[(SpendKey, Settlement)]) -> Result<(), JournalError> {
        self.room()?;
        self.inside.settle(settled)
    }
    fn entry(&self, nullifier: &Nullifier) -> Result<Option<JournalEntry>, JournalError> {
        self.inside.entry(nullifier)
    }
    fn load(&self) -> Result<Saved, JournalError> {
        self.inside.load()
    }
    rest_as_inside!();
}

#[test]
fn nothing_leaves_before_the_journal_has_it() {
    let world = World::new();
    let (journal, full) = Full::new(true);
    let mut wallet = wallet_with(&world, journal);
    fund(&world, &mut wallet);
    let (first, second) = (prove(&wallet, 10), prove(&wallet, 20));
    assert!(matches!(wallet.authorise(first, &request(), T0), Err(AuthoriseError::Journal(JournalError::Failed(_)))));
    // The first may be on the disk for all that. Another proof of the note, which was made before, is not even tried.
    full.store(false, Ordering::Relaxed);
    assert!(matches!(wallet.authorise(second, &request(), T0), Err(AuthoriseError::NotFrontier(_))));
}

#[test]
fn a_full_disk_does_not_have_the_gateway_asked_without_pause() {
    let world = World::new();
    let (journal, full) = Full::new(false);
    let mut wallet = wallet_with(&world, journal);
    fund(&world, &mut wallet);
    let paid = wallet.authorise(prove(&wallet, 10), &request(), T0).unwrap();
    let settled = world.settle(&world.admit(&paid), 3);
    wallet.release(&paid.key);
    full.store(true, Ordering::Relaxed);
    let heard = Heard::Settlement(settled.settlement().clone());
    let mut now = T0;
    for _ in 0..40 {
        assert_eq!(wallet.pursuits(now), [(paid.key, PursuitStep::Fetch)]);
        let refused = wallet.heard(&paid.key, PursuitStep::Fetch, &heard, now, &mut rng(1));
        assert!(matches!(refused, Err(PursuitError::Journal(_))));
        assert!(wallet.pursuits(now).is_empty(), "at once again");
        now = wallet.next_pursuit().unwrap();
    }
    assert!(now >= T0.after(HOUR), "ever more slowly");
    full.store(false, Ordering::Relaxed);
    assert!(wallet.heard(&paid.key, PursuitStep::Fetch, &heard, now, &mut rng(1)).is_ok());
    assert_eq!(wallet.journal().disputes().unwrap(), [], "the gateway did nothing wrong");
}
