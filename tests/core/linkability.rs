//! Whose call was it? A gateway and an issuer that pool all that they see, and know the payer of each mint, look on while two
//! callers make calls in turn; then in another world the two swap roles (protocol, section 8). Apart from what is not
//! hidden (class, epoch, window, time, the request) nothing in either world may tell them apart.

use std::collections::HashSet;

use halometer::protocol::*;
use halometer::wallet::{RootSecret, Wallet};
use rand_core::Rng as _;

use crate::world::*;

/// What the two of them see of one call.
struct Seen {
    opening: Vec<u8>,
    following: Vec<u8>,
    settlement: Vec<u8>,
}

/// What they know of a caller from its mint.
struct Known {
    request: Vec<u8>,
    response: Vec<u8>,
}

/// Which ranges of an opening are the same for all callers at a time: version, purpose, epoch, gateway and tariff; charge and
/// not-after; action and sequence. All else must look random.
fn shared(opening: &[u8]) -> [&[u8]; 3] {
    let session = 1 + 1 + 4 + 16 + 32;
    let charge = session + 32;
    let random = Spend::LENGTH;
    [&opening[..session], &opening[charge..charge + 16], &opening[random..random + 9]]
}

fn hidden(opening: &[u8]) -> [&[u8]; 3] {
    let session = 1 + 1 + 4 + 16 + 32;
    let charge = session + 32;
    [&opening[session..charge], &opening[charge + 16..Spend::LENGTH], &opening[Spend::LENGTH + 9..]]
}

/// A world in which callers make calls in an order, each with a ready lane that chance chooses.
fn world(order: &[usize], seed: u64) -> (Vec<Seen>, Vec<Known>) {
    let world = World::new();
    let mut chance = rng(seed);
    let mut wallets: Vec<Wallet> = Vec::new();
    let mut known = Vec::new();
    for caller in 0..2u8 {
        let mut secret = [0; 32];
        chance.fill_bytes(&mut secret);
        let mut wallet = world.wallet_of(RootSecret::from_bytes(secret), DeviceId::from_bytes([0; 8]));
        let payment = PaymentId::from_bytes([10 + caller; 32]);
        world.payments.grant(payment, micro(100)).unwrap();
        let request = wallet.request_mint(payment, sixty_and_forty(), T0).unwrap();
        let response = world.issuer.mint(&request, T0).unwrap();
        wallet.accept_mint(&payment, &response, T0).unwrap();
        known.push(Known { request: request.to_bytes().to_vec(), response: response.to_bytes() });
        wallets.push(wallet);
    }
    let mut seen = Vec::new();
    for caller in order {
        let wallet = &mut wallets[*caller];
        for lane in wallet.lanes_to_prove(&GATEWAY, micro(10), T0) {
            let ready = prove_by(wallet.plan(lane, &GATEWAY, micro(10), T0).unwrap(), &mut chance);
            wallet.keep(ready);
        }
        let ready = wallet.take(&GATEWAY, micro(10), T0, &mut chance).unwrap();
        let paid = wallet.authorise(ready, &request(), T0).unwrap();
        let following = wallet.fetch(&paid.key, &errand()).unwrap();
        let settled = world.settle(&world.admit(&paid), 3);
        wallet.accept(&paid.key, settled.settlement(), T0).unwrap();
        let settlement = settled.settlement().to_bytes().to_vec();
        seen.push(Seen { opening: paid.opening, following, settlement });
    }
    (seen, known)
}

/// All runs of eight bytes: none of them is in two places by chance.
fn windows<'a>(bytes: impl IntoIterator<Item = &'a [u8]>) -> HashSet<[u8; 8]> {
    bytes.into_iter().flat_map(|part| part.windows(8).map(|window| window.try_into().unwrap())).collect()
}

#[test]
fn two_callers_with_swapped_roles_are_not_told_apart() {
    let (one, _) = world(&[0, 1, 0, 1, 1, 0], 1);
    let (other, _) = world(&[1, 0, 1, 0, 0, 1], 2);
    for (a, b) in one.iter().zip(&other) {
        // Whatever is not random is the same, call by call, and so are all sizes.
        assert_eq!(shared(&a.opening), shared(&b.opening));
        assert_eq!((a.opening.len(), a.following.len()), (b.opening.len(), b.following.len()));
        assert_eq!(a.following[..5], b.following[..5], "version and epoch");
        assert_eq!(a.settlement[..13], b.settlement[..13], "version, epoch, refund");
    }
    // Within a world as well: a caller's second call is as unlike its first as another's.
    for calls in [&one, &other] {
        for (i, a) in calls.iter().enumerate() {
            for b in &calls[..i] {
                assert_eq!(shared(&a.opening), shared(&b.opening));
                let common = windows(hidden(&a.opening)).intersection(&windows(hidden(&b.opening))).count();
                assert_eq!(common, 0, "two calls have something in common");
            }
        }
    }
}

#[test]
fn no_call_repeats_bytes_of_its_mint_or_of_an_earlier_call() {
    let (seen, known) = world(&[0, 0, 0, 1, 0], 3);
    for (i, call) in seen.iter().enumerate() {
        let here = windows(hidden(&call.opening));
        for mint in &known {
            // Account ids, note secrets, amounts, signatures.
            let there = windows([&mint.request[..], &mint.response[..]]);
            assert_eq!(here.intersection(&there).count(), 0, "a mint shows in a call");
        }
        for earlier in &seen[..i] {
            // The change that was signed, its signature, the request for it.
            let there = windows([&earlier.settlement[13..], &earlier.following[5..]]);
            assert_eq!(here.intersection(&there).count(), 0, "an earlier settlement shows in a call");
        }
    }
}

#[test]
fn the_lane_that_pays_is_left_to_chance() {
    // Were it the first that is ready, or the richest, the order of calls would tell of the wallet.
    let world = World::new();
    let mut wallet = world.funded(1);
    let mut counts = [0u32; 2];
    let mut chance = rng(4);
    for lane in wallet.lanes_to_prove(&GATEWAY, micro(10), T0) {
        let ready = prove(wallet.plan(lane, &GATEWAY, micro(10), T0).unwrap());
        wallet.keep(ready);
    }
    for _ in 0..1_000 {
        let ready = wallet.take(&GATEWAY, micro(10), T0, &mut chance).unwrap();
        counts[ready.lane().lane as usize] += 1;
        wallet.keep(ready);
    }
    // Five standard deviations.
    assert!(counts.iter().all(|count| (420..=580).contains(count)), "{counts:?}");
}

#[test]
fn clones_of_one_machine_blind_two_proofs_differently() {
    let world = World::new();
    let (first, second) = (world.funded(1), world.funded(1));
    let plan = |wallet: &halometer::wallet::Wallet, class| wallet.plan(LANE0, &GATEWAY, micro(class), T0).unwrap();
    let proof = |job, seed| {
        let mut wallet = world.funded(1);
        let paid = wallet.authorise(prove_by(job, &mut rng(seed)), &request(), T0).unwrap();
        Opening::from_bytes(&paid.opening).unwrap().spend.proof.as_bytes().to_vec()
    };
    // The same state of the machine, and so the same randomness from its system.
    let same = proof(plan(&first, 10), 5);
    assert!(same == proof(plan(&second, 10), 5), "one statement, one proof");
    let other = proof(plan(&second, 20), 5);
    // The first column of the witness is the same but for its blinding, and then alike but for a few cells: no point is the same.
    let points = |proof: &[u8]| proof[..16 * 64].chunks(64).map(<[u8]>::to_vec).collect::<Vec<_>>();
    assert!(points(&same).iter().zip(points(&other)).all(|(one, other)| *one != other));
    assert!(same != proof(plan(&first, 10), 6), "fresh randomness counts too");
}
