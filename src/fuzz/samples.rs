//! Honest messages, of which the seeds are made. Proofs are left out: they are made of blanks of the right length, which every
//! parser passes on unread.

use std::sync::LazyLock;

use halometer_circuits::note::AccountId;

use crate::protocol::*;
use crate::testing::world::*;
use crate::wallet::{LaneId, ProofJob};

/// Messages of one small market.
pub(crate) struct Samples {
    pub(crate) directory: Directory,
    pub(crate) signed: SignedDirectory,
    pub(crate) key: SpendKey,
    pub(crate) spend: Spend,
    /// Another spend of the same note.
    pub(crate) double: Spend,
    pub(crate) opening: Vec<u8>,
    pub(crate) cancellation: Vec<u8>,
    pub(crate) transfer: Vec<u8>,
    /// The cancel of half the transfer.
    pub(crate) half_cancellation: Vec<u8>,
    pub(crate) mint_request: Vec<u8>,
    pub(crate) account: AccountId,
    pub(crate) answer: MintAnswer,
    pub(crate) minted: MintResponse,
    pub(crate) statement: MintStatement,
    pub(crate) settlement: Settlement,
    pub(crate) receipt: Vec<u8>,
}

/// They are made once.
pub(crate) static SAMPLES: LazyLock<Samples> = LazyLock::new(|| {
    let world = World::without_keys();
    let spend_of = |opening: &[u8]| Opening::from_bytes(opening).expect("an opening").spend;
    let pay = |class| {
        let mut wallet = world.funded(1);
        let job = wallet.plan(LANE0, &GATEWAY, micro(class), T0).expect("a plan");
        let paid = wallet.authorise(job.without_proof(), &errand(), T0).expect("an authorised spend");
        let cancellation = wallet.cancel(&paid.key, &errand()).expect("in flight");
        (paid, cancellation)
    };
    let ((paid, cancellation), (again, _)) = (pay(10), pay(20));
    let mut other = world.funded(2);
    let lanes: [LaneId; 2] = [LANE0, LANE1];
    let jobs = other.plan_transfer(lanes[0], lanes[1], micro(5), &GATEWAY, T0).expect("a plan");
    let sent = other.authorise_transfer(jobs.map(ProofJob::without_proof), &errand(), T0).expect("a transfer");
    let half_cancellation = other.cancel(&sent.keys[0], &errand()).expect("in flight");
    let payment = PaymentId::from_bytes([4; 32]);
    let mut payer = world.wallet(4);
    world.payments.grant(payment, micro(100)).expect("a payment");
    let request = payer.request_mint(payment, sixty_and_forty(), T0).expect("a request");
    let answer = world.issuer.mint(&request, T0).expect("a mint");
    let minted = answer.response.clone();
    let statement = MintStatement {
        payment,
        account: request.account,
        amounts: sixty_and_forty(),
        epoch: minted.epoch,
        seal: answer.seal,
    };
    let spend = spend_of(&paid.opening);
    let settlement = Settlement { epoch: spend.epoch, refund: micro(7), signature: minted.signatures[0].clone() };
    let directory = world.issuer.directory().clone();
    let subject = ReceiptSubject {
        issuer: directory.issuer(),
        gateway: GATEWAY,
        spend: paid.key,
        content: ContentDigest::of(b"question"),
    };
    let usage = vec![("token".to_owned(), 30), ("input".to_owned(), u64::MAX)];
    let key = GatewaySigningKey::from_bytes(&[10; 32]);
    let receipt = Receipt::sign(&key, &subject, usage, micro(3), [6; Receipt::SALT]).expect("a receipt").to_bytes();
    Samples {
        signed: world.issuer.signed_directory().clone(),
        directory,
        key: paid.key,
        double: spend_of(&again.opening),
        spend,
        opening: paid.opening,
        cancellation,
        transfer: sent.transfer,
        half_cancellation,
        mint_request: request.to_bytes().to_vec(),
        account: request.account,
        answer,
        minted,
        statement,
        settlement,
        receipt,
    }
});
