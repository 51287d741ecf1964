//! What this process knows of how far the set had come, and why it serves nothing any more.
//!
//! Held against the set on each new connection and once a second: its own lines of commits, exactly, and those of every other process
//! as they were seen last. A line that is behind is a set that went back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use tokio_postgres::Client;

use super::error::{Fault, PostgresError, said};
use super::mark::{Marks, Member};

pub(super) struct Standing {
    pub(super) member: Member,
    /// The last commit of each line that was acknowledged.
    acked: Vec<AtomicI64>,
    /// Of other processes, as it was seen.
    witnessed: Mutex<BTreeMap<(Member, i32), i64>>,
    /// A note in the set that does not stop this process, which wrote it.
    despite: Option<&'static str>,
    /// For good.
    stopped: OnceLock<PostgresError>,
    /// Until it is over.
    trouble: Mutex<Option<PostgresError>>,
    /// Why the last new connection was not taken.
    refused: Mutex<Option<PostgresError>>,
    /// The lock of the marks, for as long as this process has them.
    marks: OnceLock<Marks>,
}

/// The name of a process in an error.
fn name(member: &[u8]) -> String {
    format!("member {}", hex::encode(member.get(..4).unwrap_or_default()))
}

impl Standing {
    pub(super) fn new(member: Member, acked: impl IntoIterator<Item = i64>, despite: Option<&'static str>) -> Self {
        let acked = acked.into_iter().map(AtomicI64::new).collect();
        let (witnessed, stopped, trouble, refused, marks) = Default::default();
        Self { member, acked, witnessed, despite, stopped, trouble, refused, marks }
    }

    pub(super) fn acked(&self, line: usize) -> i64 {
        self.acked.get(line).map_or(0, |acked| acked.load(Ordering::SeqCst))
    }

    pub(super) fn land(&self, line: usize, number: i64) {
        if let Some(acked) = self.acked.get(line) {
            acked.store(number, Ordering::SeqCst);
        }
    }

    /// Whether anything is served.
    pub(super) fn check(&self) -> Result<(), PostgresError> {
        if let Some(error) = self.stopped.get() {
            return Err(error.clone());
        }
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }

    /// Serves nothing any more. The first reason stays.
    pub(super) fn stop(&self, error: PostgresError) -> PostgresError {
        self.stopped.get_or_init(|| error).clone()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.get().is_some()
    }

    /// Serves nothing until this is over.
    pub(super) fn set_trouble(&self, error: Option<PostgresError>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// Notes why a new connection was not taken.
    pub(super) fn refuse(&self, error: PostgresError) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// Why the last new connection was not taken.
    pub(super) fn refused(&self) -> Option<PostgresError> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Holds the lock of the marks.
    pub(super) fn hold(&self, marks: Marks) {
        let _ = self.marks.set(marks);
    }

    /// How many lines of others are watched.
    pub(super) fn watched(&self) -> usize {
        self.witnessed.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(super) fn behind(&self, member: &[u8], line: i32, found: i64, expected: i64) -> PostgresError {
        let whose = if member == self.member { "this process".into() } else { name(member) };
        self.stop(PostgresError::SetBack { whose, line, found, expected, by: expected.saturating_sub(found) })
    }

    /// Holds the set behind a connection against what is known of it, and takes note of where others are. What went back stops this
    /// process, and by a note in the set all others.
    pub(super) async fn watch(&self, client: &Client, since: i64) -> Result<(), Fault> {
        if let Some(error) = self.stopped.get() {
            return Err(error.clone().into());
        }
        // Before the look: commits that are acknowledged meanwhile are not missing.
        let acked: Vec<i64> = (0..self.acked.len()).map(|line| self.acked(line)).collect();
        let witnessed = self.witnessed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let wrong = |error: tokio_postgres::Error| Fault::Other(PostgresError::Unreachable(said(&error)));
        let sql = "SELECT m.member, m.line, m.commits, (SELECT stopped FROM halometer_meta WHERE id = 1) FROM halometer_member m \
                   WHERE m.line >= 0 AND (m.member = $2 OR m.member IN (SELECT p.member FROM halometer_member p WHERE p.line = -1 \
                   AND p.seen >= $1))";
        let rows = client.query(sql, &[&since, &&self.member[..]]).await.map_err(wrong)?;
        let mut found = BTreeMap::new();
        let mut stopped: Option<String> = None;
        let undecoded = |error: tokio_postgres::Error| Fault::Other(PostgresError::Damaged(said(&error)));
        for row in rows {
            let (member, line): (Vec<u8>, i32) =
                (row.try_get(0).map_err(undecoded)?, row.try_get(1).map_err(undecoded)?);
            let commits: i64 = row.try_get(2).map_err(undecoded)?;
            stopped = row.try_get(3).map_err(undecoded)?;
            if let Ok(member) = Member::try_from(member) {
                found.insert((member, line), commits);
            }
        }
        if let Some(why) = stopped.filter(|why| self.despite != Some(why)) {
            return Err(self.stop(PostgresError::Stopped(why)).into());
        }
        let own = acked.iter().enumerate();
        let own = own.map(|(line, acked)| ((self.member, i32::try_from(line).unwrap_or(i32::MAX)), *acked));
        let mut expected: Vec<((Member, i32), i64)> = own.collect();
        for (key, commits) in &witnessed {
            match found.get(key) {
                Some(_) => expected.push((*key, *commits)),
                // Not seen for long, or gone with the rest: looked at by its name.
                None => {
                    let sql = "SELECT commits FROM halometer_member WHERE member = $1 AND line = $2";
                    let row = client.query_opt(sql, &[&&key.0[..], &key.1]).await.map_err(wrong)?;
                    if let Some(row) = row {
                        found.insert(*key, row.try_get(0).map_err(undecoded)?);
                    }
                    expected.push((*key, *commits));
                }
            }
        }
        for ((member, line), expected) in expected {
            let there = found.get(&(member, line)).copied().unwrap_or(-1);
            if there < expected {
                let error = self.behind(&member, line, there, expected);
                let sql = "UPDATE halometer_meta SET stopped = $1 WHERE id = 1 AND stopped IS NULL";
                // Others find it by themselves if this does not get there.
                let _ = client.execute(sql, &[&error.to_string()]).await;
                return Err(error.into());
            }
        }
        let mut known = self.witnessed.lock().unwrap_or_else(PoisonError::into_inner);
        for ((member, line), commits) in found {
            if member != self.member {
                let known = known.entry((member, line)).or_insert(commits);
                *known = commits.max(*known);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_to_stop_stays() {
        let standing = Standing::new([1; 16], [3, 0], None);
        assert!(standing.check().is_ok());
        standing.set_trouble(Some(PostgresError::NoSchema));
        assert!(standing.check().is_err());
        standing.set_trouble(None);
        let error = standing.behind(&[1; 16], 0, 1, 3);
        assert!(error.to_string().contains("went back by 2 commits"), "{error}");
        standing.stop(PostgresError::Taken);
        assert!(matches!(standing.check(), Err(PostgresError::SetBack { by: 2, .. })));
    }
}
