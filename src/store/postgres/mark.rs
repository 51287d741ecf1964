//! How far the commits of this process had come, outside of the database.
//!
//! A directory: `member` (the name of this member, 16 bytes, and the token of the set, 16 bytes), `line-N` (a mark for each line of
//! commits), `lock` (held by the process that uses it).

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use rand::Rng as _;

use super::error::PostgresError;
use crate::store::mark::Mark;

/// The name of a member: of one directory of marks, or of one process without.
pub(super) type Member = [u8; 16];

/// Where the lines of this process had come to.
pub(super) struct Marks {
    pub(super) member: Member,
    /// None for a member that is new.
    pub(super) token: Option<[u8; 16]>,
    pub(super) lines: Vec<LineMark>,
    place: Option<PathBuf>,
    _lock: Option<File>,
}

/// The mark of one line.
pub(super) struct LineMark {
    /// How far it had come. If `half`, further than that.
    pub(super) number: i64,
    pub(super) half: bool,
    pub(super) file: Option<Mark>,
}

impl Marks {
    /// Of a process without a disk: its lines begin with it.
    pub(super) fn none(lines: usize) -> Self {
        let mut member = [0; 16];
        rand::rng().fill_bytes(&mut member);
        let lines = (0..lines).map(|_| LineMark { number: 0, half: false, file: None }).collect();
        Self { member, token: None, lines, place: None, _lock: None }
    }

    /// Of a directory, which is made if it is not there.
    pub(super) fn open(place: &Path, lines: usize) -> Result<Self, PostgresError> {
        let wrong = |path: &Path| {
            let path = path.display().to_string();
            move |error: std::io::Error| PostgresError::Mark { path, what: error.to_string() }
        };
        std::fs::create_dir_all(place).map_err(wrong(place))?;
        let lock = place.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&lock).map_err(wrong(&lock))?;
        crate::sealed::try_lock(&file).map_err(|error| match error {
            TryLockError::WouldBlock => PostgresError::Taken,
            TryLockError::Error(error) => wrong(&lock)(error),
        })?;
        let path = place.join("member");
        let known = match std::fs::read(&path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(wrong(&path)(error)),
        };
        let mut marks = Self::none(0);
        if let Some(bytes) = &known {
            let damaged = || wrong(&path)(std::io::Error::other("it is damaged"));
            let (member, token) = bytes.split_first_chunk().ok_or_else(damaged)?;
            (marks.member, marks.token) = (*member, Some(token.try_into().map_err(|_| damaged())?));
        }
        for line in 0.. {
            let path = place.join(format!("line-{line}"));
            // Lines that are not used any more still tell how far they had come.
            let exists = path.exists();
            if !exists && line >= lines {
                break;
            }
            marks.lines.push(match exists && known.is_some() {
                true => {
                    let (file, reading) = Mark::open(&path).map_err(wrong(&path))?;
                    let number = i64::try_from(reading.number).unwrap_or(i64::MAX);
                    LineMark { number, half: reading.half, file: Some(file) }
                }
                false => {
                    // A first start that was cut short left it.
                    if exists {
                        std::fs::remove_file(&path).map_err(wrong(&path))?;
                    }
                    LineMark { number: 0, half: false, file: Some(Mark::create(&path).map_err(wrong(&path))?) }
                }
            });
        }
        (marks.place, marks._lock) = (Some(place.to_owned()), Some(file));
        Ok(marks)
    }

    /// Ties a member that is new to a set. Its lines are in the set by then.
    pub(super) fn tie(&mut self, token: [u8; 16]) -> Result<(), PostgresError> {
        let Some(place) = self.place.as_ref().filter(|_| self.token.is_none()) else { return Ok(()) };
        let path = place.join("member");
        let bytes = [self.member, token].concat();
        let written = crate::sealed::write_atomically(&path, &bytes);
        written.map_err(|error| PostgresError::Mark { path: path.display().to_string(), what: error.to_string() })?;
        self.token = Some(token);
        Ok(())
    }
}

impl LineMark {
    /// Notes that the line has come this far.
    pub(super) fn advance(&mut self, number: i64) -> Result<(), PostgresError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let written = file.advance(u64::try_from(number).unwrap_or_default());
        written.map_err(|error| PostgresError::Mark { path: "of this process".into(), what: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_used_by_one_process_and_kept_for_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("mark");
        let mut marks = Marks::open(&place, 2).unwrap();
        assert!(matches!(Marks::open(&place, 2), Err(PostgresError::Taken)));
        let member = marks.member;
        marks.tie([7; 16]).unwrap();
        marks.lines[1].advance(9).unwrap();
        drop(marks);
        let marks = Marks::open(&place, 1).unwrap();
        assert_eq!((marks.member, marks.token), (member, Some([7; 16])));
        assert_eq!(marks.lines.iter().map(|line| line.number).collect::<Vec<_>>(), [0, 9]);
    }

    #[test]
    fn a_damaged_mark_is_not_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut marks = Marks::open(dir.path(), 1).unwrap();
        marks.tie([7; 16]).unwrap();
        drop(marks);
        std::fs::write(dir.path().join("line-0"), [0; 9]).unwrap();
        assert!(matches!(Marks::open(dir.path(), 1), Err(PostgresError::Mark { .. })));
        std::fs::write(dir.path().join("member"), [0; 9]).unwrap();
        assert!(matches!(Marks::open(dir.path(), 1), Err(PostgresError::Mark { .. })));
    }
}
