//! Test vectors of our own: one set of values that binds all implementations. The files say how they are made.

mod common;

use std::fmt::Write as _;

use blake2b_simd::Params;
use common::{compare, hex};
use ff::PrimeField;
use group::{Curve, GroupEncoding};
use halometer_circuits::hash::{Tag, hash_two};
use halometer_circuits::note::{AccountSecret, ContextHash, Leaf, NoteSecret};
use halometer_circuits::schnorr::{Signature, SigningKey, generator};
use pasta_curves::pallas;

const BYTES: &str = "# All numbers are little-endian bytes in hexadecimal. `seed(text)` is BLAKE2b-256 of the text, without key or\n\
                     # personalisation, with the two highest bits cleared: a canonical encoding of an element of both fields.\n";

fn seed(text: &str) -> [u8; 32] {
    let mut bytes: [u8; 32] =
        Params::new().hash_length(32).hash(text.as_bytes()).as_bytes().try_into().expect("32 bytes");
    bytes[31] &= 0x3f;
    bytes
}

fn base(text: &str) -> pallas::Base {
    pallas::Base::from_repr(seed(text)).expect("below 2^254")
}

#[test]
fn signatures() {
    let mut text = String::from(
        "# Schnorr signatures over Pallas (protocol, section 3): s and e of leaf L under the key D = [d]G.\n",
    );
    text += BYTES;
    text += "# d = seed(\"halometer key i\"), L = seed(\"halometer leaf j\"). R = [t]G, where t is BLAKE2b-512 of d, D and L,\n\
             # personalised \"halometer1-nonce\", modulo q. Points are compressed: x, with the lowest bit of y as bit 255.\n\n";
    writeln!(text, "G = {}", hex(&generator().to_affine().to_bytes())).expect("a string");
    for i in 0..3 {
        let key = SigningKey::from_bytes(&seed(&format!("halometer key {i}"))).expect("a scalar");
        writeln!(text, "\nd = {}", hex(&key.to_bytes())).expect("a string");
        writeln!(text, "D = {}", hex(&key.public_key().to_bytes())).expect("a string");
        for j in 0..3 {
            let leaf = Leaf::from_bytes(&seed(&format!("halometer leaf {j}"))).expect("an element");
            let signature = key.sign(&leaf);
            assert!(key.public_key().verify(&leaf, &signature));
            let bytes = signature.to_bytes();
            assert!(Signature::from_bytes(&bytes).expect("canonical") == signature);
            writeln!(text, "L = {}", hex(&leaf.to_bytes())).expect("a string");
            writeln!(text, "e = {}", hex(&bytes[..16])).expect("a string");
            writeln!(text, "s = {}", hex(&bytes[16..])).expect("a string");
        }
    }
    compare("vectors/schnorr.txt", &text);
}

#[test]
fn hashes() {
    let mut text = String::from(
        "# H_tag(a, b): Poseidon P128Pow5T3 of the state [a, b, tag], first word (protocol, section 3).\n",
    );
    text += BYTES;
    text += "# a = seed(\"halometer a\"), b = seed(\"halometer b\").\n\n";
    let (a, b) = (base("halometer a"), base("halometer b"));
    writeln!(text, "a = {}\nb = {}", hex(&a.to_repr()), hex(&b.to_repr())).expect("a string");
    for tag in Tag::ALL {
        writeln!(text, "\ntag {tag:?}").expect("a string");
        writeln!(text, "capacity = {}", hex(&tag.capacity().to_repr())).expect("a string");
        writeln!(text, "H(0, 0)  = {}", hex(&hash_two(tag, 0.into(), 0.into()).to_repr())).expect("a string");
        writeln!(text, "H(a, b)  = {}", hex(&hash_two(tag, a, b).to_repr())).expect("a string");
        writeln!(text, "H(b, a)  = {}", hex(&hash_two(tag, b, a).to_repr())).expect("a string");
    }
    compare("vectors/hashes.txt", &text);
}

#[test]
fn notes() {
    let mut text = String::from("# A note from its secrets to its share (protocol, section 3).\n");
    text += BYTES;
    text += "# k = seed(\"halometer k i\"), rho = seed(\"halometer rho i\"), x = seed(\"halometer x i\").\n";
    for (i, (v, r)) in [(0u64, 0u64), (50_000_000, 7_000_000), (u64::MAX, u64::MAX)].into_iter().enumerate() {
        let k = AccountSecret::from_bytes(&seed(&format!("halometer k {i}"))).expect("not zero");
        let rho = NoteSecret::from_bytes(&seed(&format!("halometer rho {i}"))).expect("not zero");
        let x = ContextHash::from_bytes(&seed(&format!("halometer x {i}"))).expect("not zero");
        let commitment = k.account_id().commit(&rho, v);
        for (name, value) in [
            ("k", k.to_bytes()),
            ("rho", rho.to_bytes()),
            ("x", x.to_bytes()),
            ("A", k.account_id().to_bytes()),
            ("C", commitment.to_bytes()),
            ("L", commitment.leaf(r).to_bytes()),
            ("nf", k.nullifier(&rho).to_bytes()),
            ("y", k.share(&rho, &x).to_bytes()),
        ] {
            if name == "k" {
                writeln!(text, "\nv = {v}\nr = {r}").expect("a string");
            }
            writeln!(text, "{name} = {}", hex(&value)).expect("a string");
        }
    }
    compare("vectors/notes.txt", &text);
}
