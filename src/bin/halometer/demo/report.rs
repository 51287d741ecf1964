//! What the demo found: as a table for people, as one JSON object for programs.

use std::fmt::{self, Display, Formatter};

use http::StatusCode;
use serde::Serialize;

use super::figures::{Spread, amount, time};
use halometer::http::payment::MAX_HEADER_LINE;

/// Longest excerpt of a text, characters.
const LINE: usize = 100;

/// Everything that a run of the demo found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of the program.
    pub version: &'static str,
    /// Whether every call was answered and every figure and both attacks came out as they must.
    pub ok: bool,
    /// Calls that were to be made.
    pub calls: usize,
    /// Calls that were paid, answered with success and settled.
    pub answered: usize,
    /// How calls that were not answered failed; each different message once.
    pub failures: Vec<String>,
    /// Where the prompts are from.
    pub prompts: String,
    /// The service behind the gateway.
    pub upstream: String,
    /// The model that was asked.
    pub model: String,
    /// Lanes of the wallet.
    pub lanes: usize,
    /// Threads that make proofs.
    pub provers: usize,
    /// From the first question to the last settlement, seconds. Proofs for the first calls were made before.
    pub seconds: f64,
    /// What an unpaid request is answered with.
    pub unpaid: Refusal,
    /// The first call that was answered.
    pub sample: Option<Sample>,
    /// The wallet's money.
    pub money: Money,
    /// What the calls used, as the service reported it.
    pub tokens: Tokens,
    /// How long things took.
    pub times: Times,
    /// How long things are.
    pub bytes: Sizes,
    /// Figures that must be equal.
    pub checks: Vec<Check>,
    /// The same spend, sent again.
    pub replay: Replay,
    /// A note, spent twice.
    pub double_spend: DoubleSpend,
}

/// A refusal by the gateway.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The problem's name.
    pub problem: String,
}

impl Refusal {
    /// Of a status and the name of its problem.
    pub fn new(status: StatusCode, problem: &str) -> Self {
        Self { status: status.as_u16(), problem: problem.to_owned() }
    }
}

/// One call, as an example.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// What was asked.
    pub question: String,
    /// What was answered.
    pub answer: String,
    /// The charge, micro-credits.
    pub charge: u64,
    /// What it cost.
    pub cost: u64,
    /// What came back.
    pub refund: u64,
}

/// Sums over the calls, micro-credits.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Money {
    /// Paid in.
    pub minted: u64,
    /// The public charges: caps, each of the same class.
    pub charge: u64,
    /// What the calls cost.
    pub cost: u64,
    /// What came back.
    pub refund: u64,
    /// What the wallet has now.
    pub balance: u64,
}

/// Sums over the calls.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Tokens {
    /// Of the questions.
    pub input: u64,
    /// Of the answers.
    pub output: u64,
}

/// Times by what they were spent on.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Times {
    /// To make one proof, on one core, in the background.
    pub prove: Spread,
    /// To authorise a call whose proof is ready: what payment adds at the caller, online.
    pub authorise: Spread,
    /// To verify one spend at the gateway: its share of the batch it was verified in.
    pub verify: Spread,
    /// To be answered, from the request to the settlement.
    pub call: Spread,
}

/// Lengths in bytes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Sizes {
    /// A proof.
    pub proof: usize,
    /// A spend: the proof and what it is bound to.
    pub spend: usize,
    /// The whole `Authorization` header line.
    pub header_line: usize,
}

/// Two figures that must be equal.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What is compared, in words.
    pub name: &'static str,
    /// One of them.
    pub left: u64,
    /// The other.
    pub right: u64,
    /// Whether they are equal.
    pub ok: bool,
}

impl Check {
    /// Compares.
    pub fn new(name: &'static str, left: u64, right: u64) -> Self {
        Self { name, left, right, ok: left == right }
    }
}

/// The first attack: the same spend, sent again.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Replay {
    /// What the gateway answered.
    pub refusal: Refusal,
    /// Whether it gave the settlement that it gave the first time.
    pub same_settlement: bool,
    /// What the issuer's books say was charged before, micro-credits.
    pub cost_before: u64,
    /// And after.
    pub cost_after: u64,
    /// Whether it failed as it must.
    pub ok: bool,
}

/// The second attack: one note, spent twice.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DoubleSpend {
    /// What the gateway answered to the second spend.
    pub refusal: Refusal,
    /// The account that the two shares give, hexadecimal.
    pub named_account: Option<String>,
    /// The payment that the issuer's books have for it, hexadecimal.
    pub named_payment: Option<String>,
    /// The payment that the cheater had made.
    pub cheaters_payment: String,
    /// How many payments are on the books, each of which could have been named.
    pub payments: usize,
    /// Whether the pair of spends convinces somebody who has nothing but the directory.
    pub evidence_holds: bool,
    /// Whether it failed as it must.
    pub ok: bool,
}

impl Report {
    /// Sets [`ok`](Self::ok) by all the rest.
    pub fn judge(mut self) -> Self {
        self.ok = self.answered == self.calls
            && self.failures.is_empty()
            && self.unpaid.status == 402
            && self.checks.iter().all(|check| check.ok)
            && self.replay.ok
            && self.double_spend.ok;
        self
    }
}

fn mark(ok: bool) -> &'static str {
    if ok { "ok" } else { "WRONG" }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let money = &self.money;
        let Refusal { status, problem } = &self.unpaid;
        writeln!(f, "Without a payment the gateway answers {status} {problem}.")?;
        if let Some(sample) = &self.sample {
            let Sample { question, answer, charge, cost, refund } = sample;
            let (charge, cost, refund) = (amount(*charge), amount(*cost), amount(*refund));
            writeln!(
                f,
                "With one it answers, and gives back what was too much: charge {charge}, cost {cost}, refund {refund}."
            )?;
            writeln!(f, "  asked     {}", line(question))?;
            writeln!(f, "  answered  {}", line(answer))?;
        }
        writeln!(f)?;
        writeln!(f, "The wallet's money, in micro-credits")?;
        for (name, figure, note) in [
            ("paid in", money.minted, String::new()),
            ("charge", money.charge, "one cap a call: all that the gateway sees of a note".to_owned()),
            (
                "cost",
                money.cost,
                format!("{} tokens in, {} out", amount(self.tokens.input), amount(self.tokens.output)),
            ),
            ("refund", money.refund, "charge - cost, hidden again from the next call on".to_owned()),
            ("balance", money.balance, String::new()),
        ] {
            writeln!(f, "{}", format!("  {name:<28}{:>12}   {note}", amount(figure)).trim_end())?;
        }
        writeln!(f)?;
        writeln!(f, "{:<30}{:>12}{:>12}", "Time", "median", "worst")?;
        for (name, spread, note) in [
            ("prove, in the background", self.times.prove, format!("one core each, {} at a time", self.provers)),
            ("authorise, online", self.times.authorise, "all that paying costs the caller while it waits".to_owned()),
            ("verify, at the gateway", self.times.verify, "each one's share of its batch".to_owned()),
            ("whole call", self.times.call, format!("{} of them in {:.1} s", self.answered, self.seconds)),
        ] {
            let line = format!(
                "  {name:<28}{:>12}{:>12}   {note}",
                shown(spread, spread.median_ms),
                shown(spread, spread.worst_ms)
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        let Sizes { proof, spend, header_line } = self.bytes;
        let [proof, spend, line, limit] =
            [proof, spend, header_line, MAX_HEADER_LINE].map(|bytes| amount(bytes as u64));
        writeln!(f, "  a proof has {proof} bytes, a spend {spend}; as a header line it has {line} of at most {limit}")?;
        writeln!(f)?;
        writeln!(f, "Books")?;
        for check in &self.checks {
            let relation = if check.ok { "=" } else { "is not" };
            writeln!(f, "  {:<56}{:>14} {relation} {}", check.name, amount(check.left), amount(check.right))?;
        }
        writeln!(f)?;
        self.fmt_replay(f)?;
        writeln!(f)?;
        self.fmt_double_spend(f)?;
        for failure in &self.failures {
            writeln!(f, "\nA call failed: {}.", clean(failure))?;
        }
        let verdict = if self.ok { "Every figure reconciles." } else { "NOT everything is as it must be." };
        write!(f, "\n{verdict}")
    }
}

impl Report {
    fn fmt_replay(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let replay = &self.replay;
        writeln!(f, "Attack: a spend that was used, sent again, byte for byte")?;
        writeln!(f, "  {:<28}{} {}", "the gateway answers", replay.refusal.status, replay.refusal.problem)?;
        let settlement = if replay.same_settlement { "the one of the first time" } else { "ANOTHER ONE" };
        writeln!(f, "  {:<28}{settlement}", "with the settlement")?;
        let (before, after) = (amount(replay.cost_before), amount(replay.cost_after));
        writeln!(f, "  {:<28}{before} before, {after} after: {}", "cost on the books", mark(replay.ok))
    }

    fn fmt_double_spend(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let double = &self.double_spend;
        let name = |id: &Option<String>| id.as_deref().map_or("nobody".to_owned(), short);
        writeln!(f, "Attack: one note, spent twice, by a wallet that was copied")?;
        writeln!(f, "  {:<28}{} {}", "the gateway answers", double.refusal.status, double.refusal.problem)?;
        writeln!(f, "  {:<28}{}", "the two shares name account", name(&double.named_account))?;
        let payment = name(&double.named_payment);
        writeln!(f, "  {:<28}{payment}, of {} on the books", "which is of payment", double.payments)?;
        writeln!(f, "  {:<28}{}: {}", "and the cheater had paid", short(&double.cheaters_payment), mark(double.ok))
    }
}

/// A time of a spread; a dash if nothing was timed.
fn shown(spread: Spread, ms: f64) -> String {
    if spread.count == 0 { "-".to_owned() } else { time(ms) }
}

/// A text on one line, without what could steer a terminal.
fn clean(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().filter(|c| !c.is_control()).collect()
}

/// The beginning of a text.
fn line(text: &str) -> String {
    let mut line = clean(text);
    if line.chars().count() > LINE {
        line = line.chars().take(LINE - 3).collect::<String>() + "...";
    }
    line
}

/// The beginning of a long hexadecimal number.
fn short(hex: &str) -> String {
    match hex.get(..16) {
        Some(head) if hex.len() > 16 => format!("{head}..."),
        _ => hex.to_owned(),
    }
}
