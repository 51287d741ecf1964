//! Restoring a wallet over HTTP.

use std::time::Duration;

use rand::RngExt as _;

use super::{Client, ClientError};
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

fn status(error: &ClientError) -> Option<u16> {
    match error {
        ClientError::Problem(details) => Some(details.status),
        _ => None,
    }
}

impl RestoreFrom {
    /// Asks until all is known, and tells of each step. Interrupted at any point, by dropping it too, it can be begun again: nothing is
    /// written and nothing spent meanwhile.
    ///
    /// # Errors
    /// [`RestoreTrouble`].
    pub async fn run(
        &self,
        client: &Client,
        restore: &mut Restore,
        mut step: impl FnMut(&Restore),
    ) -> Result<(), RestoreTrouble> {
        while let Some(question) = restore.question()? {
            match question {
                RestoreQuestion::Mints(query) => {
                    let found = patiently(|| client.mints(&self.issuer, &query)).await;
                    restore.minted(found.map_err(|error| self.trouble(&self.issuer, error))?)?;
                }
                RestoreQuestion::Count(epoch) => restore.counted(self.count(client, epoch).await?)?,
                RestoreQuestion::Bucket(question) => restore.bucket(self.spent(client, &question).await?)?,
                RestoreQuestion::Memo(query) => self.memo(client, restore, &query).await?,
                RestoreQuestion::Change(query) => self.change(client, restore, &query).await?,
            }
            step(restore);
        }
        Ok(())
    }

    fn trouble(&self, party: &str, error: ClientError) -> RestoreTrouble {
        RestoreTrouble::Client { party: party.to_owned(), error }
    }

    /// The issuer, then the gateways.
    fn parties(&self) -> impl Iterator<Item = &str> {
        core::iter::once(self.issuer.as_str()).chain(self.gateways.iter().map(String::as_str))
    }

    /// The most that any says; none if all say that the records are gone.
    async fn count(&self, client: &Client, epoch: EpochNumber) -> Result<Option<u64>, RestoreTrouble> {
        let (mut most, mut gone, mut trouble) = (None, false, None);
        for party in self.parties() {
            match patiently(|| client.spent_count(party, epoch)).await {
                Ok(spent) => most = most.max(Some(spent)),
                Err(error) if problem(&error) == Some(Problem::UnknownEpoch) => gone = true,
                Err(error) => trouble = Some(self.trouble(party, error)),
            }
        }
        match (most, trouble) {
            (None, Some(trouble)) if !gone => Err(trouble),
            _ => Ok(most),
        }
    }

    /// What any says to be spent.
    async fn spent(
        &self,
        client: &Client,
        question: &Question,
    ) -> Result<Vec<crate::circuits::note::Nullifier>, RestoreTrouble> {
        let (mut all, mut trouble) = (None, None);
        for party in self.parties() {
            match patiently(|| client.spent_bucket(party, question.epoch, question.prefix)).await {
                Ok(spent) => all.get_or_insert_with(Vec::new).extend(spent),
                Err(error) => trouble = Some(self.trouble(party, error)),
            }
        }
        match (all, trouble) {
            (Some(all), _) => Ok(all),
            (None, Some(trouble)) => Err(trouble),
            (None, None) => Ok(Vec::new()),
        }
    }

    /// From the first that has the right one.
    async fn memo(&self, client: &Client, restore: &mut Restore, query: &MemoQuery) -> Result<(), RestoreTrouble> {
        let mut trouble = None;
        for party in self.parties() {
            match patiently(|| client.memo(party, query)).await {
                Ok(memo) => match restore.memo(Some(&memo)) {
                    Ok(()) => return Ok(()),
                    Err(refused) => trouble = Some(refused.into()),
                },
                Err(error) => trouble = trouble.or(Some(self.trouble(party, error))),
            }
        }
        Err(trouble.unwrap_or(RestoreTrouble::Refused(RestoreError::Memo)))
    }

    /// From the first that has the right one. While one says that the spend is being worked on, it is waited for.
    async fn change(&self, client: &Client, restore: &mut Restore, query: &ChangeQuery) -> Result<(), RestoreTrouble> {
        let end = tokio::time::Instant::now() + self.patience;
        loop {
            let (mut running, mut untold, mut trouble) = (false, false, None);
            for party in self.parties() {
                match patiently(|| client.change(party, query)).await {
                    Ok(settlement) => match restore.change(ChangeTold::Settled(settlement)) {
                        Ok(()) => return Ok(()),
                        Err(refused) => trouble = Some(refused.into()),
                    },
                    Err(error) if problem(&error) == Some(Problem::InProgress) => running = true,
                    Err(error) if status(&error) == Some(403) => untold = true,
                    Err(error) => trouble = trouble.or(Some(self.trouble(party, error))),
                }
            }
            let told = match trouble {
                _ if running && tokio::time::Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    continue;
                }
                _ if running => ChangeTold::Running,
                _ if untold => ChangeTold::Untold,
                trouble => return Err(trouble.unwrap_or(RestoreTrouble::Refused(RestoreError::Change))),
            };
            return Ok(restore.change(told)?);
        }
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
