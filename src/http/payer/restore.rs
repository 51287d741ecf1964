//! Restoring a wallet over HTTP.

use std::time::Duration;

use rand::RngExt as _;

use super::{Client, ClientError};
use crate::circuits::note::Nullifier;
use crate::http::wire::{RESTORE_CHANGE_PATH, RESTORE_MEMO_PATH, RESTORE_MINTS_PATH};
use crate::protocol::{
    AccountQuery, ChangeQuery, DecodeError, EpochNumber, Memo, MemoQuery, MintsFound, Problem, Settlement,
};
use crate::wallet::{ChangeTold, Question, Restore, RestoreError, RestoreQuestion};

/// How often a party that is busy is asked again, and how long at most it is waited for.
const TRIES: u32 = 6;
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Whom a wallet that is restored asks.
#[derive(Clone, Debug)]
pub struct RestoreFrom {
    /// The issuer's address.
    pub issuer: String,
    /// Addresses of gateways. All that have a spent set are asked about what is spent, and whatever one of them says is spent counts: so
    /// no one of them can hide a spend.
    pub gateways: Vec<String>,
    /// How long the settlement of a spend that is being worked on is waited for.
    pub patience: Duration,
}

/// Why a wallet is not restored. Nothing was spent and nothing written; it can be begun again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreTrouble {
    /// A party did not answer, and no other could be asked.
    #[error("{party}: {error}")]
    Client {
        /// Its address.
        party: String,
        /// What went wrong.
        #[source]
        error: ClientError,
    },
    /// An answer is not believed.
    #[error(transparent)]
    Refused(#[from] RestoreError),
}

impl Client {
    /// What was minted for accounts.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn mints(&self, issuer: &str, query: &AccountQuery) -> Result<MintsFound, ClientError> {
        let bytes = self.post((issuer, RESTORE_MINTS_PATH), query.to_bytes()).await?;
        Ok(MintsFound::from_bytes(&bytes, query.accounts().len())?)
    }

    /// The memo of a recorded spend.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn memo(&self, origin: &str, query: &MemoQuery) -> Result<Memo, ClientError> {
        let bytes = self.post((origin, RESTORE_MEMO_PATH), query.to_bytes()).await?;
        let memo =
            bytes[..].try_into().map_err(|_| DecodeError::Length { expected: Memo::LENGTH, found: bytes.len() })?;
        Ok(Memo::from_bytes(memo))
    }

    /// The settlement of a recorded spend, for the wallet that reads its memo.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn change(&self, origin: &str, query: &ChangeQuery) -> Result<Settlement, ClientError> {
        let bytes = self.post((origin, RESTORE_CHANGE_PATH), query.to_bytes()).await?;
        Ok(Settlement::from_bytes(&bytes)?)
    }
}

fn problem(error: &ClientError) -> Option<Problem> {
    match error {
        ClientError::Problem(details) => details.kind(),
        _ => None,
    }
}

/// The status of a refusal. What has none was no answer.
fn refused(error: &ClientError) -> Option<u16> {
    match error {
        ClientError::Problem(details) => Some(details.status).filter(|status| *status < 500),
        _ => None,
    }
}

/// The parties that are asked about what is spent, and those that do not answer any more.
struct Parties<'a> {
    client: &'a Client,
    asked: Vec<&'a str>,
    silent: Vec<String>,
    trouble: Option<RestoreTrouble>,
}

impl<'a> Parties<'a> {
    /// Does not ask a party again, and remembers why.
    fn drop_out(&mut self, party: &str, error: ClientError) {
        self.asked.retain(|asked| *asked != party);
        self.silent.push(party.to_owned());
        self.trouble = Some(RestoreTrouble::Client { party: party.to_owned(), error });
    }

    /// An error once nobody is left.
    fn answered<T>(&mut self, answer: Option<T>) -> Result<Option<T>, RestoreTrouble> {
        match (answer, self.asked.is_empty(), self.trouble.take()) {
            (None, true, Some(trouble)) => Err(trouble),
            (answer, _, trouble) => {
                self.trouble = trouble;
                Ok(answer)
            }
        }
    }

    /// The most that any says; none if all say that the records are gone.
    async fn count(&mut self, epoch: EpochNumber) -> Result<Option<u64>, RestoreTrouble> {
        let mut most = None;
        for party in self.asked.clone() {
            match patiently(|| self.client.spent_count(party, epoch)).await {
                Ok(spent) => most = most.max(Some(spent)),
                Err(error) if problem(&error) == Some(Problem::UnknownEpoch) => {}
                Err(error) => self.drop_out(party, error),
            }
        }
        self.answered(most)
    }

    /// What any says to be spent.
    async fn spent(&mut self, question: &Question) -> Result<Vec<Nullifier>, RestoreTrouble> {
        let mut all = None;
        for party in self.asked.clone() {
            match patiently(|| self.client.spent_bucket(party, question.epoch, question.prefix)).await {
                Ok(spent) => all.get_or_insert_with(Vec::new).extend(spent),
                Err(error) if problem(&error) == Some(Problem::UnknownEpoch) => {}
                Err(error) => self.drop_out(party, error),
            }
        }
        Ok(self.answered(all)?.unwrap_or_default())
    }

    /// From the first that has the right one.
    async fn memo(&mut self, restore: &mut Restore, query: &MemoQuery) -> Result<(), RestoreTrouble> {
        for party in self.asked.clone() {
            match patiently(|| self.client.memo(party, query)).await {
                Ok(memo) if restore.memo(Some(&memo)).is_ok() => return Ok(()),
                // Not the one that this wallet sealed, or none.
                Ok(_) => {}
                Err(error) if refused(&error).is_some() => {}
                Err(error) => self.drop_out(party, error),
            }
        }
        self.answered::<()>(None)?;
        Ok(restore.contested()?)
    }

    /// From the first that has the right one. While one says that the spend is being worked on, it is waited for.
    async fn change(
        &mut self,
        restore: &mut Restore,
        query: &ChangeQuery,
        patience: Duration,
    ) -> Result<(), RestoreTrouble> {
        let end = tokio::time::Instant::now() + patience;
        loop {
            let (mut running, mut untold) = (false, false);
            for party in self.asked.clone() {
                match patiently(|| self.client.change(party, query)).await {
                    Ok(settlement) if restore.change(ChangeTold::Settled(settlement.clone())).is_ok() => return Ok(()),
                    Ok(_) => {}
                    Err(error) if problem(&error) == Some(Problem::InProgress) => running = true,
                    Err(error) if refused(&error) == Some(403) => untold = true,
                    Err(error) if refused(&error).is_some() => {}
                    Err(error) => self.drop_out(party, error),
                }
            }
            self.answered::<()>(None)?;
            if running && tokio::time::Instant::now() < end {
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
            match (running, untold) {
                (true, _) => restore.change(ChangeTold::Running)?,
                (false, true) => restore.change(ChangeTold::Untold)?,
                (false, false) => restore.contested()?,
            }
            return Ok(());
        }
    }
}

impl RestoreFrom {
    /// Asks until all is known, and tells of each step. Interrupted at any point, by dropping it too, it can be begun again: nothing is
    /// written and nothing spent meanwhile. Gives the parties that did not answer: a spend that the others hide is not found.
    ///
    /// # Errors
    /// [`RestoreTrouble`].
    pub async fn run(
        &self,
        client: &Client,
        restore: &mut Restore,
        mut step: impl FnMut(&Restore),
    ) -> Result<Vec<String>, RestoreTrouble> {
        let all = core::iter::once(&self.issuer).chain(&self.gateways).map(String::as_str);
        let mut parties = Parties { client, asked: all.collect(), silent: Vec::new(), trouble: None };
        while let Some(question) = restore.question()? {
            match question {
                RestoreQuestion::Mints(query) => {
                    let found = patiently(|| client.mints(&self.issuer, &query)).await;
                    let trouble = |error| RestoreTrouble::Client { party: self.issuer.clone(), error };
                    restore.minted(found.map_err(trouble)?)?;
                }
                RestoreQuestion::Count(epoch) => restore.counted(parties.count(epoch).await?)?,
                RestoreQuestion::Bucket(question) => restore.bucket(parties.spent(&question).await?)?,
                RestoreQuestion::Memo(query) => parties.memo(restore, &query).await?,
                RestoreQuestion::Change(query) => parties.change(restore, &query, self.patience).await?,
            }
            step(restore);
        }
        Ok(parties.silent)
    }
}

/// Asks again where too much is waiting, or the store did not answer.
async fn patiently<T, F>(mut ask: impl FnMut() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let mut pause = Duration::from_millis(250);
    for _ in 1..TRIES {
        let error = match ask().await {
            Err(error) if matches!(problem(&error), Some(Problem::Busy | Problem::StoreUnavailable)) => error,
            other => return other,
        };
        let asked = match &error {
            ClientError::Problem(details) => details.retry_after.map(|after| Duration::from_secs(after.into())),
            _ => None,
        };
        let more = rand::rng().random_range(0..=pause.as_millis() as u64 / 2);
        tokio::time::sleep(asked.unwrap_or(pause).min(LONGEST_PAUSE) + Duration::from_millis(more)).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
    ask().await
}
