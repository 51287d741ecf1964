//! Bytes that are almost right: every fixed-length type refuses every other length, and every other form.

use halometer::circuits::schnorr::SigningKey;
use halometer::protocol::*;

use crate::world::*;

/// Reads, writes again, and tries every shorter and some longer lengths.
fn has_one_length<T>(bytes: &[u8], read: impl Fn(&[u8]) -> Result<T, DecodeError>, write: impl Fn(&T) -> Vec<u8>) {
    let value = read(bytes).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(write(&value), bytes);
    for length in 0..bytes.len() {
        assert!(matches!(read(&bytes[..length]), Err(DecodeError::Length { .. })));
    }
    for tail in [&[0][..], &[0; 32]] {
        assert!(matches!(read(&[bytes, tail].concat()), Err(DecodeError::Length { .. })));
    }
}

fn refuses<T>(bytes: &[u8], at: usize, with: &[u8], read: impl Fn(&[u8]) -> Result<T, DecodeError>) -> DecodeError {
    let mut changed = bytes.to_vec();
    changed[at..at + with.len()].copy_from_slice(with);
    read(&changed).err().unwrap_or_else(|| panic!("accepted at {at}"))
}

#[test]
fn spends_and_openings() {
    let world = World::new();
    let opening = pay(&mut world.funded(1), LANE0, 10, T0).opening;
    has_one_length(&opening, Opening::from_bytes, Opening::to_bytes);
    has_one_length(&opening[..Spend::LENGTH], Spend::from_bytes, Spend::to_bytes);

    let refuses = |at, with: &[u8]| refuses(&opening, at, with, Opening::from_bytes);
    assert_eq!(refuses(0, &[0]), DecodeError::Version(0));
    assert_eq!(refuses(0, &[1]), DecodeError::Version(1));
    // A spend of version 1 had 32 bytes more: it is refused for its version all the same.
    let mut older = [&opening[..], &[0; 32]].concat();
    older[0] = 1;
    assert_eq!(Opening::from_bytes(&older).err(), Some(DecodeError::Version(1)));
    for purpose in (0..=255).filter(|purpose| !(1..=3).contains(purpose)) {
        assert_eq!(refuses(1, &[purpose]), DecodeError::Field("purpose"));
    }
    assert!(matches!(refuses(1, &[2]), DecodeError::Length { .. }), "half a transfer names the other");
    assert_eq!(refuses(54, &[0; 32]), DecodeError::Field("session key"), "of small order");
    let nullifier = 1 + 1 + 4 + 16 + 32 + 32 + 8 + 8 + 64;
    for (at, name) in [(nullifier, "nullifier"), (nullifier + 32, "share"), (nullifier + 64, "change commitment")] {
        assert_eq!(refuses(at, &[0xff; 32]), DecodeError::Field(name), "not below the modulus");
    }
    for action in (0..=255).filter(|action| *action != 1) {
        assert_eq!(refuses(Spend::LENGTH, &[action]), DecodeError::Field("action"));
    }
    assert_eq!(refuses(Spend::LENGTH + 8, &[1]), DecodeError::Field("sequence"), "the opening request is number 0");
}

#[test]
fn following_requests() {
    let world = World::new();
    let mut wallet = world.funded(1);
    let paid = pay(&mut wallet, LANE0, 10, T0);
    let bytes = wallet.fetch(&paid.key, &request()).unwrap();
    has_one_length(&bytes, Following::from_bytes, Following::to_bytes);
    let refuses = |at, with: &[u8]| refuses(&bytes, at, with, Following::from_bytes);
    assert_eq!(refuses(0, &[9]), DecodeError::Version(9));
    assert_eq!(refuses(5, &[0xff; 32]), DecodeError::Field("nullifier"));
    assert_eq!(refuses(37, &[0xff; 32]), DecodeError::Field("context hash"));
    assert_eq!(refuses(37, &[0; 32]), DecodeError::Field("context hash"), "x = 0");
    assert_eq!(refuses(69, &[0; 32]), DecodeError::Field("session key"), "of small order");
    assert_eq!(refuses(101, &[1]), DecodeError::Field("action"), "an opening without its spend");
    assert_eq!(refuses(101, &[5]), DecodeError::Field("action"), "a cancel without its spend");
    assert_eq!(refuses(101, &[0]), DecodeError::Field("action"));
}

#[test]
fn settlements() {
    let key = SigningKey::generate(&mut rng(1));
    let leaf = halometer::circuits::note::Leaf::from_bytes(&[1; 32]).unwrap();
    let settlement = Settlement { epoch: EPOCH[0], refund: micro(u64::MAX), signature: key.sign(&leaf) };
    let bytes = settlement.to_bytes();
    has_one_length(&bytes, Settlement::from_bytes, |settlement| settlement.to_bytes().to_vec());
    assert_eq!(refuses(&bytes, 0, &[0], Settlement::from_bytes), DecodeError::Version(0));
    assert_eq!(refuses(&bytes, 13 + 16, &[0xff; 32], Settlement::from_bytes), DecodeError::Field("signature"));
    assert_eq!(format!("{settlement:?}"), "Settlement(..)");
}

#[test]
fn mint_requests_and_responses() {
    let world = World::new();
    let payment = PaymentId::from_bytes([1; 32]);
    world.payments.grant(payment, micro(100)).unwrap();
    let request = world.wallet(1).request_mint(payment, sixty_and_forty(), T0).unwrap();
    let bytes = request.to_bytes();
    has_one_length(&bytes, MintRequest::from_bytes, |request| request.to_bytes().to_vec());
    let refuse = |at, with: &[u8]| refuses(&bytes, at, with, MintRequest::from_bytes);
    assert_eq!(refuse(0, &[0]), DecodeError::Version(0));
    assert_eq!(refuse(33, &[0xff; 32]), DecodeError::Field("account id"));
    for lane in 0..LANES {
        assert_eq!(refuse(65 + 40 * lane, &[0xff; 32]), DecodeError::Field("note secret"));
        assert_eq!(refuse(65 + 40 * lane, &[0; 32]), DecodeError::Field("note secret"), "rho = 0");
    }
    let bytes = world.issuer.mint(&request, T0).unwrap().to_bytes();
    has_one_length(&bytes, MintAnswer::from_bytes, MintAnswer::to_bytes);
    let refuse = |at, with: &[u8]| refuses(&bytes, at, with, MintAnswer::from_bytes);
    assert_eq!(refuse(0, &[0]), DecodeError::Version(0));
    assert_eq!(refuse(5 + 48 * 7 + 16, &[0xff; 32]), DecodeError::Field("signature"));
    assert_eq!(refuse(MintResponse::LENGTH, &[0xff; 32]), DecodeError::Field("mint key"));
    let statement = MintStatement::of(&request, &MintAnswer::from_bytes(&bytes).unwrap());
    let bytes = statement.to_bytes();
    has_one_length(&bytes, MintStatement::from_bytes, MintStatement::to_bytes);
    let refuse = |at, with: &[u8]| refuses(&bytes, at, with, MintStatement::from_bytes);
    assert_eq!(refuse(0, &[0]), DecodeError::Version(0));
    assert_eq!(refuse(33, &[0xff; 32]), DecodeError::Field("account id"));
}

#[test]
fn problems_keep_their_names() {
    let names: Vec<&str> = Problem::ALL.iter().map(|problem| problem.as_str()).collect();
    // As section 9 lists them.
    let listed = "unpaid, malformed, wrong-gateway, expired, unknown-epoch, class-unknown, proof-invalid, \
                  session-signature-invalid, in-progress, already-spent, double-spend, cap-reached, wrong-owner, busy, \
                  store-unavailable";
    assert_eq!(names.join(", "), listed);
    assert!(Problem::ALL.iter().all(|problem| Problem::from_name(problem.as_str()) == Some(*problem)));
    assert_eq!(Problem::from_name("fine"), None);
}

#[test]
fn every_part_of_a_context_changes_its_hash() {
    let world = World::new();
    let spend = Opening::from_bytes(&pay(&mut world.funded(1), LANE0, 10, T0).opening).unwrap().spend;
    let directory = world.gateway.directory();
    let context = spend.context(&directory.issuer(), directory.epoch(EPOCH[0]).unwrap());
    type Change = fn(&mut Context);
    let changes: [Change; 10] = [
        |context| context.issuer = IssuerId::from_bytes([0; 32]),
        |context| context.epoch = EPOCH[1],
        |context| context.entry = Digest::from_bytes([0; 32]),
        |context| context.gateway = OTHER_GATEWAY,
        |context| context.tariff = Digest::from_bytes([0; 32]),
        |context| context.session = SessionKey::from_bytes(&[7; 32]).public_key(),
        |context| context.charge = micro(20),
        |context| context.change = halometer::circuits::note::ValueCommitment::from_bytes(&[1; 32]).unwrap(),
        |context| context.not_after = context.not_after.after(1),
        |context| context.memo = Digest::from_bytes([0; 32]),
    ];
    let x = context.hash().unwrap();
    for change in changes {
        let mut changed = context;
        change(&mut changed);
        assert_ne!(changed.hash().unwrap(), x);
    }
}
