//! A wallet against a hostile gateway and network (protocol, sections 5 and 8). Random histories of calls, transfers, rollovers,
//! restarts and failing journals, in which everything that leaves the wallet may be lost, held back, delivered twice or late,
//! and every answer may be lost, forged, another spend's, or any lie of section 9. Whatever happens: of each note at most one
//! share leaves; no credit is lost or made; and once the world is honest again, every lane can be used. Where it stays
//! hostile, what is stuck is in a dispute. Only the proofs are left out, by the seam of the model test.

pub(crate) mod outside;

use halometer_circuits::note::{Leaf, Nullifier};
use halometer_circuits::schnorr::{Signature, SigningKey};
use proptest::prelude::*;

use crate::protocol::*;
use crate::testing::world::*;
use outside::{Message, Outside};

use crate::wallet::{
    AuthoriseError, Dispute, Heard, Journal, JournalEntry, JournalError, LaneId, LaneStatus, MemoryJournal, OpenError,
    OutcomeNote, PaymentEntry, PlanError, ProofJob, Pursued, RootSecret, Saved, Wallet,
};

const CLASSES: [u64; 3] = [5, 10, 20];
const FUNDED: u64 = 100;

/// What becomes of something that is sent, and of its answer.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Honest,
    /// It never arrives.
    Lost,
    /// It arrives at a later step, if ever.
    Held,
    /// It arrives, its answer does not.
    Unanswered,
    /// It arrives twice.
    Twice,
    /// It does not arrive, and somebody answers this.
    Lie(Problem),
    /// It arrives, and somebody answers this instead.
    LieAfter(Problem),
    /// It arrives, and another settlement is answered.
    Forged(Forgery),
}

#[derive(Clone, Copy, Debug)]
enum Forgery {
    /// That of the last spend that was settled before.
    Another,
    /// With a refund that differs.
    Refund(u64),
    /// Of another epoch.
    Epoch,
    /// Signed by the issuer itself under another epoch, perhaps one that does not issue.
    Marked,
}

#[derive(Clone, Debug)]
enum Step {
    Call {
        lane: u32,
        class: usize,
        fate: Fate,
        work: Option<u64>,
    },
    /// The call that is on its way sends its spend again.
    Again {
        flight: prop::sample::Index,
        fate: Fate,
    },
    /// The call that is on its way is given up.
    GiveUp {
        flight: prop::sample::Index,
    },
    Transfer {
        from: u32,
        amount: usize,
        fate: Fate,
    },
    Roll {
        lane: u32,
        fate: Fate,
    },
    Pursue {
        fate: Fate,
    },
    /// Something that was held arrives.
    Late {
        held: prop::sample::Index,
    },
    /// The process dies; whether the next one can ask after its notes.
    Restart {
        asked: bool,
    },
    /// The journal fails at the next write, before or after it is done.
    Fail {
        after: bool,
    },
    Wait {
        seconds: u64,
    },
    Flip,
}

/// A journal that fails once.
#[derive(Default)]
struct Flaky {
    inside: MemoryJournal,
    fail: Option<bool>,
}

impl Flaky {
    fn write(
        &mut self,
        write: impl FnOnce(&mut MemoryJournal) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        let failed = || JournalError::Failed("the disk".into());
        match self.fail.take() {
            None => write(&mut self.inside),
            Some(false) => Err(failed()),
            Some(true) => write(&mut self.inside).and(Err(failed())),
        }
    }
}

impl Journal for Flaky {
    fn load(&self) -> Result<Saved, JournalError> {
        self.inside.load()
    }
    fn pin(&mut self, entries: &[JournalEntry]) -> Result<(), JournalError> {
        self.write(|inside| inside.pin(entries))
    }
    fn entry(&self, nullifier: &Nullifier) -> Result<Option<JournalEntry>, JournalError> {
        self.inside.entry(nullifier)
    }
    fn settle(&mut self, settled: &[(SpendKey, Settlement)]) -> Result<(), JournalError> {
        self.write(|inside| inside.settle(settled))
    }
    fn annotate(&mut self, key: &SpendKey, outcome: &OutcomeNote) -> Result<(), JournalError> {
        self.write(|inside| inside.annotate(key, outcome))
    }
    fn put_payment(&mut self, payment: &PaymentEntry) -> Result<(), JournalError> {
        self.write(|inside| inside.put_payment(payment))
    }
    fn put_directory(&mut self, directory: &SignedDirectory) -> Result<(), JournalError> {
        self.write(|inside| inside.put_directory(directory))
    }
    fn freeze(&mut self, lane: LaneId) -> Result<(), JournalError> {
        self.write(|inside| inside.freeze(lane))
    }
    fn put_dispute(&mut self, dispute: &Dispute) -> Result<(), JournalError> {
        self.write(|inside| inside.put_dispute(dispute))
    }
    fn disputes(&self) -> Result<Vec<Dispute>, JournalError> {
        self.inside.disputes()
    }
    fn history(&self, limit: usize) -> Result<Vec<JournalEntry>, JournalError> {
        self.inside.history(limit)
    }
}

struct Play {
    outside: Outside,
    wallet: Option<Wallet<Flaky>>,
    held: Vec<Message>,
}

/// What an issuer that cheats signs with the key of any epoch.
fn sign_with(epoch: EpochNumber, leaf: &Leaf) -> Signature {
    SigningKey::generate(&mut rng(u64::from(epoch.number()))).sign(leaf)
}

fn lane(lane: u32) -> LaneId {
    LaneId { payment: 0, lane }
}

fn open(world: &World, journal: Flaky) -> Result<Wallet<Flaky>, OpenError> {
    let (root, device) = (RootSecret::from_bytes([1; 32]), DeviceId::from_bytes([1; 8]));
    Wallet::new(root, device, world.root.public_key(), world.issuer.signed_directory(), journal)
}

impl Play {
    fn new() -> Self {
        let outside = Outside::new();
        let world = &outside.world;
        let mut wallet = open(world, Flaky::default()).unwrap();
        let payment = PaymentId::from_bytes([1; 32]);
        world.payments.grant(payment, micro(FUNDED)).unwrap();
        let request = wallet.request_mint(payment, sixty_and_forty(), T0).unwrap();
        wallet.accept_mint(&payment, &world.issuer.mint(&request, T0).unwrap(), T0).unwrap();
        Self { outside, wallet: Some(wallet), held: Vec::new() }
    }

    fn wallet(&mut self) -> &mut Wallet<Flaky> {
        self.wallet.as_mut().unwrap()
    }

    fn step(&mut self, step: &Step) {
        let now = self.outside.now;
        match step {
            Step::Call { lane: from, class, fate, work } => {
                let planned = self.wallet().plan(lane(*from), &GATEWAY, micro(CLASSES[*class]), now);
                let Some(job) = plannable(planned) else { return };
                match self.wallet().authorise(job.without_proof(), &errand(), now) {
                    Ok(paid) => self.call(&[paid.key], Message::Open(paid.opening, *work), *fate),
                    Err(AuthoriseError::Journal(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Again { flight, fate } => {
                let keys = self.flying();
                if keys.is_empty() {
                    return;
                }
                let key = *flight.get(&keys);
                if let Ok(paid) = self.wallet().resend(&key, &errand()) {
                    self.call(&[key], Message::Open(paid.opening, Some(1)), *fate);
                } else if let Ok(sent) = self.wallet().resend_transfer(&key, &errand()) {
                    self.call(&sent.keys, Message::Transfer(sent.transfer), *fate);
                }
            }
            Step::GiveUp { flight } => {
                let keys = self.flying();
                if !keys.is_empty() {
                    let key = *flight.get(&keys);
                    self.wallet().release(&key);
                }
            }
            Step::Transfer { from, amount, fate } => {
                let ends = (lane(*from), lane(1 - from));
                let planned = self.wallet().plan_transfer(ends.0, ends.1, micro(CLASSES[*amount]), &GATEWAY, now);
                let Some(jobs) = plannable(planned) else { return };
                match self.wallet().authorise_transfer(jobs.map(ProofJob::without_proof), &errand(), now) {
                    Ok(sent) => self.call(&sent.keys, Message::Transfer(sent.transfer), *fate),
                    Err(AuthoriseError::Journal(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Roll { lane: from, fate } => {
                let Some(job) = plannable(self.wallet().plan_rollover(lane(*from), &GATEWAY, now)) else { return };
                match self.wallet().authorise(job.without_proof(), &errand(), now) {
                    Ok(paid) => self.call(&[paid.key], Message::Roll(paid.opening), *fate),
                    Err(AuthoriseError::Journal(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Pursue { fate } => {
                self.pursue(*fate);
            }
            Step::Late { held } => {
                if !self.held.is_empty() {
                    let message = self.held.swap_remove(held.index(self.held.len()));
                    let _ = self.outside.arrive(&message);
                }
            }
            Step::Restart { asked } => self.restart(*asked),
            Step::Fail { after } => {
                // A journal that failed is opened anew, as a real one must be.
                let mut journal = self.wallet.take().unwrap().into_journal();
                journal.fail = Some(*after);
                let wallet = open(&self.outside.world, journal);
                self.wallet = Some(wallet.unwrap());
                self.ask();
            }
            Step::Wait { seconds } => self.outside.now = now.after(*seconds),
            Step::Flip => self.outside.now = now.max(FLIP),
        }
        self.check();
    }

    fn flying(&mut self) -> Vec<SpendKey> {
        let flying = |(_, status)| if let LaneStatus::InFlight { spend, .. } = status { Some(spend) } else { None };
        self.wallet().lanes().filter_map(flying).collect()
    }

    /// Sends something for a call, and takes the answer as a call does.
    fn call(&mut self, keys: &[SpendKey], message: Message, fate: Fate) {
        let answers = self.send(message, fate);
        let now = self.outside.now;
        match (keys, answers) {
            ([give, take], Ok(settlements)) if settlements.len() == 2 => {
                let settlements = [settlements[0].clone(), settlements[1].clone()];
                let _ = self.wallet().accept_transfer(&[*give, *take], &settlements, now);
            }
            ([key], Ok(settlements)) => {
                let _ = self.wallet().accept(key, &settlements[0], now);
            }
            _ => {}
        }
        keys.iter().for_each(|key| self.wallet().release(key));
    }

    /// Takes one step of every pursuit that is due.
    fn pursue(&mut self, fate: Fate) {
        let now = self.outside.now;
        for (key, step) in self.wallet().pursuits(now) {
            let message = Message::pursuit(self.wallet(), &key, step).unwrap();
            let heard = match self.send(message, fate) {
                Ok(settlements) => Heard::Settlement(settlements[0].clone()),
                Err(Some(problem)) => Heard::Problem(problem),
                Err(None) => Heard::Nothing,
            };
            match self.wallet().heard(&key, step, &heard, now, &mut rng(7)) {
                Ok(Pursued::Settled(_)) => {}
                Ok(Pursued::Again(at)) => assert!(at >= now),
                Err(_) => {}
            }
        }
    }

    fn send(&mut self, message: Message, fate: Fate) -> Result<Vec<Settlement>, Option<Problem>> {
        self.outside.leave(&message);
        match fate {
            Fate::Lost => Err(None),
            Fate::Held => {
                self.held.push(message);
                Err(None)
            }
            Fate::Lie(problem) => Err(Some(problem)),
            Fate::Honest => self.outside.arrive(&message).map_err(Some),
            Fate::Unanswered => {
                let _ = self.outside.arrive(&message);
                Err(None)
            }
            Fate::Twice => {
                let first = self.outside.arrive(&message);
                let second = self.outside.arrive(&message);
                first.or(second).map_err(Some)
            }
            Fate::LieAfter(problem) => {
                let _ = self.outside.arrive(&message);
                Err(Some(problem))
            }
            Fate::Forged(forgery) => {
                let before = self.outside.last.clone();
                let truth = self.outside.arrive(&message).ok();
                let changes = self.outside.changes(&message);
                let forge = |(i, mut settlement): (usize, Settlement)| {
                    match forgery {
                        Forgery::Another => {}
                        Forgery::Refund(refund) => settlement.refund = micro(refund),
                        Forgery::Epoch => settlement.epoch = EpochNumber::new(3 - settlement.epoch.number()),
                        Forgery::Marked => {
                            settlement.epoch = EpochNumber::new(3 - settlement.epoch.number());
                            settlement.signature =
                                sign_with(settlement.epoch, &changes[i].leaf(settlement.refund.micro()));
                        }
                    }
                    settlement
                };
                let forged = if matches!(forgery, Forgery::Another) { before.map(|other| vec![other]) } else { truth };
                forged.map(|settlements| settlements.into_iter().enumerate().map(forge).collect()).ok_or(None)
            }
        }
    }

    fn restart(&mut self, asked: bool) {
        let journal = self.wallet.take().unwrap().into_journal();
        self.wallet = Some(open(&self.outside.world, Flaky { inside: journal.inside, fail: None }).unwrap());
        if asked {
            self.ask();
        }
    }

    /// Asks the spent set after notes of which it is not known whether they are spent.
    fn ask(&mut self) {
        let now = self.outside.now;
        for epoch in EPOCH {
            let bucket = self.outside.spent(epoch);
            for question in self.wallet().questions(epoch, bucket.len() as u64, now) {
                let frozen = self.wallet().answer(&question, &bucket, now).unwrap();
                assert_eq!(frozen, [], "nobody else spends this wallet's notes");
            }
        }
    }

    /// What the wallet thinks it has is never more than it was given less what its calls are known to have cost, and never less
    /// than what cannot have been taken from it.
    fn check(&mut self) {
        let books = self.outside.world.issuer.books(&*self.outside.world.set).expect("books that balance");
        assert_eq!(books.minted, u128::from(FUNDED));
        let total = self.wallet().balance().total();
        // A wallet that has taken half a transfer waits for the other half.
        assert!(total <= u128::from(FUNDED) + 20, "{total}");
        // No note is of an epoch that does not issue yet: nobody else's is.
        let now = self.outside.now.after(CLOCK_TOLERANCE);
        for (id, status) in self.wallet.as_ref().unwrap().lanes() {
            if let LaneStatus::Idle { epoch, .. } = status {
                let issue = self.outside.world.issuer.directory().epoch(epoch).unwrap().issue;
                assert!(issue.from <= now, "lane {id} is marked");
            }
        }
    }

    /// From now on everybody is honest.
    fn calm_down(&mut self) {
        self.restart(true);
        for _ in 0..200 {
            self.pursue(Fate::Honest);
            self.ask();
            match self.wallet().next_pursuit() {
                Some(due) => self.outside.now = self.outside.now.max(due).max(self.outside.now.after(1)),
                None => break,
            }
        }
        assert_eq!(self.wallet().awaited(), 0, "a spend that is not settled");
        for (id, status) in self.wallet.as_ref().unwrap().lanes() {
            assert!(matches!(status, LaneStatus::Idle { .. }), "lane {id} cannot be used: {status:?}");
        }
        // What is late comes too late to change anything.
        for message in core::mem::take(&mut self.held) {
            let _ = self.outside.arrive(&message);
        }
        let books = self.outside.world.issuer.books(&*self.outside.world.set).expect("books that balance");
        let total = self.wallet().balance().total();
        assert_eq!(total + books.charged, u128::from(FUNDED), "credit is lost or made");
        assert_eq!(books.held, 0);
    }

    /// From now on nobody is.
    fn stay_hostile(&mut self, lie: Fate) {
        self.restart(false);
        for _ in 0..40 {
            self.pursue(lie);
            match self.wallet().next_pursuit() {
                Some(due) => self.outside.now = self.outside.now.max(due),
                None => break,
            }
        }
        let disputes = self.wallet().journal().disputes().unwrap();
        let disputed: Vec<_> = disputes.iter().filter_map(|dispute| dispute.spend.clone()).collect();
        for key in self.flying() {
            let entry = self.wallet().journal().entry(&key.nullifier).unwrap().unwrap();
            assert!(disputed.contains(&entry.spend), "credit that is stuck without evidence");
        }
        for dispute in disputes {
            assert_eq!(Dispute::from_json(&dispute.to_json()).unwrap(), dispute);
        }
    }
}

fn plannable<T>(planned: Result<T, PlanError>) -> Option<T> {
    match planned {
        Ok(job) => Some(job),
        Err(
            PlanError::InFlight(_)
            | PlanError::Balance(_)
            | PlanError::NothingToRoll(_)
            | PlanError::Unchecked(_)
            | PlanError::Pinned(_)
            | PlanError::NotSpendable(_),
        ) => None,
        Err(error) => panic!("{error}"),
    }
}

fn problem() -> impl Strategy<Value = Problem> {
    prop::sample::select(Problem::ALL.to_vec())
}

fn fate() -> impl Strategy<Value = Fate> {
    let forgery = prop_oneof![
        Just(Forgery::Another),
        prop::sample::select(vec![0, 1, 3, 9, 20, u64::MAX]).prop_map(Forgery::Refund),
        Just(Forgery::Epoch),
        Just(Forgery::Marked),
    ];
    prop_oneof![
        4 => Just(Fate::Honest),
        2 => Just(Fate::Lost),
        2 => Just(Fate::Held),
        2 => Just(Fate::Unanswered),
        1 => Just(Fate::Twice),
        2 => problem().prop_map(Fate::Lie),
        2 => problem().prop_map(Fate::LieAfter),
        2 => forgery.prop_map(Fate::Forged),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let work = prop_oneof![3 => (0..25u64).prop_map(Some), 1 => Just(None)];
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => (0..2u32, 0..3usize, fate(), work).prop_map(|(lane, class, fate, work)| Step::Call { lane, class, fate, work }),
        2 => (index(), fate()).prop_map(|(flight, fate)| Step::Again { flight, fate }),
        2 => index().prop_map(|flight| Step::GiveUp { flight }),
        2 => (0..2u32, 0..3usize, fate()).prop_map(|(from, amount, fate)| Step::Transfer { from, amount, fate }),
        1 => (0..2u32, fate()).prop_map(|(lane, fate)| Step::Roll { lane, fate }),
        6 => fate().prop_map(|fate| Step::Pursue { fate }),
        2 => index().prop_map(|held| Step::Late { held }),
        2 => any::<bool>().prop_map(|asked| Step::Restart { asked }),
        1 => any::<bool>().prop_map(|after| Step::Fail { after }),
        3 => prop::sample::select(vec![1, 10, 400, 1_000]).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Flip),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn after_the_dust_has_settled_every_lane_can_be_used(steps in prop::collection::vec(step(), 1..60)) {
        let mut play = Play::new();
        steps.iter().for_each(|step| play.step(step));
        play.calm_down();
    }

    #[test]
    fn credit_that_stays_stuck_is_shown_to_be(
        steps in prop::collection::vec(step(), 1..20),
        lie in prop_oneof![problem().prop_map(Fate::Lie), problem().prop_map(Fate::LieAfter), Just(Fate::Lost)],
    ) {
        let mut play = Play::new();
        steps.iter().for_each(|step| play.step(step));
        play.stay_hostile(lie);
    }
}
