//! The steps of a history: drawn by proptest, or read from bytes.

#[cfg(test)]
use proptest::prelude::*;

/// One of several that are not known yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pick(u64);

impl Pick {
    /// Which of `count`, which is not 0.
    pub(super) fn index(&self, count: usize) -> usize {
        (self.0 % count as u64) as usize
    }
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A wallet spends a lane's frontier under a class. Nothing reaches a gateway yet.
    Pay { wallet: usize, lane: u32, class: usize },
    /// It moves credit from one lane to the other.
    Transfer { wallet: usize, from: u32, amount: usize },
    /// It brings a lane into the next epoch.
    Roll { wallet: usize, lane: u32 },
    /// Something that was sent reaches a gateway, for the first time or again.
    Deliver { sent: Pick, gateway: usize },
    /// The last that was sent, or the one before, goes all the way without trouble.
    Finish { before: usize, cost: u64 },
    /// The cancel of something that was sent reaches a gateway; of a transfer, that of one half.
    Cancel { sent: Pick, half: usize, gateway: usize },
    /// A gateway settles something that it admitted, for the first time or again, at some cost.
    Settle { admitted: Pick, cost: u64 },
    /// It writes down what it has metered.
    Meter { admitted: Pick, metered: u64 },
    /// It takes over what others left open.
    Sweep { gateway: usize },
    /// A settlement reaches a wallet, for the first time or again.
    Accept { settled: Pick, wallet: usize },
    /// Time passes.
    Wait { seconds: u64 },
    /// Time passes until an epoch has ended for one of the gateways and not for the other.
    WaitForFlip,
    /// Evidence of a certain age is erased.
    Erase { epoch: usize, age: u64 },
    /// A partition closes; one that is closed goes.
    End { epoch: usize },
}

#[cfg(test)]
pub(super) fn step() -> impl Strategy<Value = Step> {
    let index = || any::<u64>().prop_map(Pick);
    let wallets = || prop::sample::select(vec![0, 0, 1, 2]);
    prop_oneof![
        9 => (wallets(), 0..2u32, 0..3usize).prop_map(|(wallet, lane, class)| Step::Pay { wallet, lane, class }),
        5 => (wallets(), 0..2u32, 0..3usize).prop_map(|(wallet, from, amount)| Step::Transfer { wallet, from, amount }),
        4 => (wallets(), 0..2u32).prop_map(|(wallet, lane)| Step::Roll { wallet, lane }),
        12 => (index(), 0..2usize).prop_map(|(sent, gateway)| Step::Deliver { sent, gateway }),
        9 => (0..2usize, 0..6u64).prop_map(|(before, cost)| Step::Finish { before, cost }),
        6 => (index(), 0..2usize, 0..2usize).prop_map(|(sent, half, gateway)| Step::Cancel { sent, half, gateway }),
        9 => (index(), 0..25u64).prop_map(|(admitted, cost)| Step::Settle { admitted, cost }),
        3 => (index(), 0..25u64).prop_map(|(admitted, metered)| Step::Meter { admitted, metered }),
        1 => (0..2usize).prop_map(|gateway| Step::Sweep { gateway }),
        10 => (index(), wallets()).prop_map(|(settled, wallet)| Step::Accept { settled, wallet }),
        3 => prop::sample::select(vec![1, 61, 61, 200, 200, 900, 3_600]).prop_map(|seconds| Step::Wait { seconds }),
        2 => Just(Step::WaitForFlip),
        1 => (0..2usize, 0..1_000u64).prop_map(|(epoch, age)| Step::Erase { epoch, age }),
        1 => prop::sample::select(vec![0, 0, 0, 1]).prop_map(|epoch| Step::End { epoch }),
    ]
}

impl Step {
    /// Reads a step: what it is, then two bytes that say more. Every string of bytes is a history. None at its end.
    pub(super) fn read(bytes: &mut impl Iterator<Item = u8>) -> Option<Self> {
        let [what, a, b] = [bytes.next()?, bytes.next()?, bytes.next()?];
        let among = |byte: u8, count: usize| usize::from(byte) % count;
        let (pick, cost) = (Pick(a.into()), u64::from(b) % 25);
        let wallet = [0, 0, 1, 2][among(a, 4)];
        let lane = u32::from(a >> 2) % 2;
        Some(match what % 76 {
            0..9 => Step::Pay { wallet, lane, class: among(b, 3) },
            9..14 => Step::Transfer { wallet, from: lane, amount: among(b, 3) },
            14..18 => Step::Roll { wallet, lane },
            18..30 => Step::Deliver { sent: pick, gateway: among(b, 2) },
            30..39 => Step::Finish { before: among(a, 2), cost: u64::from(b) % 6 },
            39..45 => Step::Cancel { sent: pick, half: among(b, 2), gateway: among(b >> 1, 2) },
            45..54 => Step::Settle { admitted: pick, cost },
            54..57 => Step::Meter { admitted: pick, metered: cost },
            57 => Step::Sweep { gateway: among(a, 2) },
            58..68 => Step::Accept { settled: pick, wallet: [0, 0, 1, 2][among(b, 4)] },
            68..71 => Step::Wait { seconds: [1, 61, 61, 200, 200, 900, 3_600][among(a, 7)] },
            71..73 => Step::WaitForFlip,
            73..75 => Step::Erase { epoch: among(a, 2), age: 4 * u64::from(b) },
            _ => Step::End { epoch: usize::from(a % 4 == 3) },
        })
    }
}
