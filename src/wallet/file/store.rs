//! The tables of the file, and how they are written.

use redb::{
    Builder, Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
    WriteTransaction,
};
use zeroize::Zeroizing;

use super::WalletFileError;
use super::header::Header;
use super::seat::Seat;
use super::state::State;
use super::vault::Vault;
use crate::sealed::Lock;

/// A table. Its number is part of what its values are sealed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// Version, header, state and directory.
    Meta = 0,
    /// By the name of their number.
    Payments = 1,
    /// The newest spends of the lanes of a payment, and which of them are frozen; by the name of the payment's number.
    Frontiers = 2,
    /// From the name of a nullifier to the number of its spend. Not sealed.
    Pins = 3,
    /// Spends without proofs, by number.
    Spends = 4,
    /// Their proofs, by number.
    Proofs = 5,
    /// By number.
    Disputes = 6,
}

pub(super) const TABLES: [Table; 7] =
    [Table::Meta, Table::Payments, Table::Frontiers, Table::Pins, Table::Spends, Table::Proofs, Table::Disputes];

const FORMAT: u8 = 1;
const VERSION: &[u8] = b"version";
const HEADER: &[u8] = b"header";
const STATE: &[u8] = b"state";

/// Pages that are kept in memory, bytes. A wallet looks at little but its frontier.
const CACHE: usize = 1 << 20;

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

impl Table {
    fn definition(self) -> Definition {
        Definition::new(match self {
            Self::Meta => "meta",
            Self::Payments => "payments",
            Self::Frontiers => "frontiers",
            Self::Pins => "pins",
            Self::Spends => "spends",
            Self::Proofs => "proofs",
            Self::Disputes => "disputes",
        })
    }
}

/// The storage engine on a file or what stands for one, with every page checked against its checksum: a page of which a bit has
/// flipped could otherwise hide a pinned nullifier.
pub(super) fn engine(backend: impl StorageBackend) -> Result<Database, WalletFileError> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    Ok(builder.create_with_backend(backend)?)
}

/// Is shown the key and value of a row, and says whether it wants the next one.
pub(super) type See<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<bool, WalletFileError>;

/// What can be read from: a transaction of either kind.
pub(super) trait Rows {
    /// A value as it stands there.
    fn raw(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, WalletFileError>;

    /// Shows all rows of a table in their order, or against it, until told to stop.
    fn each(&self, table: Table, backwards: bool, see: See<'_>) -> Result<(), WalletFileError>;
}

macro_rules! rows {
    ($transaction:ty) => {
        impl Rows for $transaction {
            fn raw(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, WalletFileError> {
                let table = self.open_table(table.definition())?;
                Ok(table.get(key)?.map(|value| value.value().to_vec()))
            }

            fn each(&self, table: Table, backwards: bool, see: See<'_>) -> Result<(), WalletFileError> {
                let table = self.open_table(table.definition())?;
                let mut range = table.range::<&[u8]>(..)?;
                while let Some(row) = if backwards { range.next_back() } else { range.next() } {
                    let (key, value) = row?;
                    if !see(key.value(), value.value())? {
                        break;
                    }
                }
                Ok(())
            }
        }
    };
}

rows!(ReadTransaction);
rows!(WriteTransaction);

/// What is read and written under the data key.
pub(super) struct View<'a, T> {
    pub(super) rows: &'a T,
    pub(super) vault: &'a Vault,
}

impl<T: Rows> View<'_, T> {
    /// A sealed value.
    pub(super) fn value(&self, table: Table, key: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, WalletFileError> {
        let Some(sealed) = self.rows.raw(table, key)? else { return Ok(None) };
        Ok(Some(self.unseal(table, key, &sealed)?))
    }

    /// Shows the values of a table, as [`Rows::each`] does.
    pub(super) fn values(
        &self,
        table: Table,
        backwards: bool,
        mut see: impl FnMut(&[u8], &[u8]) -> Result<bool, WalletFileError>,
    ) -> Result<(), WalletFileError> {
        self.rows.each(table, backwards, &mut |key, sealed| see(key, &self.unseal(table, key, sealed)?))
    }

    pub(super) fn name(&self, table: Table, of: &[u8]) -> Vec<u8> {
        self.vault.name(table, of).to_vec()
    }

    fn unseal(&self, table: Table, key: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, WalletFileError> {
        self.vault.open(table, key, sealed).ok_or(WalletFileError::Damaged("a value is not what was written"))
    }
}

impl View<'_, WriteTransaction> {
    pub(super) fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<(), WalletFileError> {
        self.put_raw(table, key, &self.vault.seal(table, key, value))
    }

    pub(super) fn put_raw(&self, table: Table, key: &[u8], value: &[u8]) -> Result<(), WalletFileError> {
        self.rows.open_table(table.definition())?.insert(key, value)?;
        Ok(())
    }

    pub(super) fn remove(&self, table: Table, key: &[u8]) -> Result<(), WalletFileError> {
        self.rows.open_table(table.definition())?.remove(key)?;
        Ok(())
    }
}

/// The tables, unlocked, with the state that was committed last.
pub(super) struct Store {
    database: Database,
    pub(super) vault: Vault,
    pub(super) state: State,
    /// None while the file is being made, or only looked at.
    pub(super) seat: Option<Seat>,
    /// Whether a write has failed: what the file holds is then not known, and nothing more may be built on it.
    stopped: bool,
}

/// Whether a change is kept, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Durable before the method returns.
    Now,
    /// With the next one.
    Later,
    /// Nothing was changed.
    Nothing,
}

impl Store {
    /// A new one in an empty database.
    pub(super) fn create(
        database: Database,
        header: &Header,
        sealed_header: &[u8],
        state: State,
    ) -> Result<Self, WalletFileError> {
        let vault = Vault::new(&header.data_key);
        let transaction = database.begin_write()?;
        {
            for table in TABLES {
                transaction.open_table(table.definition())?;
            }
            let view = View { rows: &transaction, vault: &vault };
            view.put_raw(Table::Meta, VERSION, &[FORMAT])?;
            view.put_raw(Table::Meta, HEADER, sealed_header)?;
            view.put(Table::Meta, STATE, &state.to_bytes())?;
        }
        transaction.commit()?;
        Ok(Self { database, vault, state, seat: None, stopped: false })
    }

    /// The one in a database, and its header.
    pub(super) fn open(database: Database, lock: &Lock) -> Result<(Self, Header), WalletFileError> {
        let rows = database.begin_read()?;
        let header = Header::open(&sealed_header(&rows)?, lock)?;
        let vault = Vault::new(&header.data_key);
        let state = View { rows: &rows, vault: &vault }.value(Table::Meta, STATE)?;
        let state = State::from_bytes(&state.ok_or(WalletFileError::Damaged("its state is missing"))?)?;
        drop(rows);
        Ok((Self { database, vault, state, seat: None, stopped: false }, header))
    }

    /// Reads.
    pub(super) fn read<T, E: From<WalletFileError>>(
        &self,
        read: impl FnOnce(&View<'_, ReadTransaction>) -> Result<T, E>,
    ) -> Result<T, E> {
        let rows = self.database.begin_read().map_err(WalletFileError::from)?;
        read(&View { rows: &rows, vault: &self.vault })
    }

    /// Writes all of it or nothing; the seat follows. After an error of the disk nothing more is written: whether the last
    /// change is in the file only opening it again tells. A refusal, which is any other error of `work`, changes nothing.
    pub(super) fn write<T, E: From<WalletFileError>>(
        &mut self,
        work: impl FnOnce(&View<'_, WriteTransaction>, &mut State) -> Result<(T, Keep), E>,
    ) -> Result<T, E> {
        if self.stopped {
            return Err(WalletFileError::Stopped.into());
        }
        // Only what is seen to have gone well takes it back.
        self.stopped = true;
        let mut transaction = self.database.begin_write().map_err(WalletFileError::from)?;
        let mut state = self.state.clone();
        let view = View { rows: &transaction, vault: &self.vault };
        let (value, keep) = match work(&view, &mut state) {
            Ok(done) => done,
            Err(refusal) => {
                transaction.abort().map_err(WalletFileError::from)?;
                self.stopped = false;
                return Err(refusal);
            }
        };
        match keep {
            Keep::Nothing => transaction.abort().map_err(WalletFileError::from)?,
            Keep::Later => {
                transaction.set_durability(Durability::None).map_err(WalletFileError::from)?;
                transaction.commit().map_err(WalletFileError::from)?;
            }
            Keep::Now => {
                state.commits += 1;
                view.put(Table::Meta, STATE, &state.to_bytes())?;
                transaction.commit().map_err(WalletFileError::from)?;
                if let Some(seat) = &mut self.seat {
                    seat.advance(state.commits).map_err(WalletFileError::Io)?;
                }
                self.state = state;
            }
        }
        self.stopped = false;
        Ok(value)
    }

    /// Writes rows as they are sealed, for files that are being made.
    pub(super) fn fill(
        &mut self,
        work: impl FnOnce(&View<'_, WriteTransaction>) -> Result<(), WalletFileError>,
    ) -> Result<(), WalletFileError> {
        let transaction = self.database.begin_write()?;
        work(&View { rows: &transaction, vault: &self.vault })?;
        Ok(transaction.commit()?)
    }
}

/// The header as it is sealed, of a file of a version that is known.
pub(super) fn sealed_header(rows: &ReadTransaction) -> Result<Vec<u8>, WalletFileError> {
    let meta = |key| match rows.raw(Table::Meta, key) {
        Err(WalletFileError::Storage(error))
            if matches!(error.downcast_ref(), Some(redb::TableError::TableDoesNotExist(_))) =>
        {
            Err(WalletFileError::NotAWallet)
        }
        other => other,
    };
    match meta(VERSION)?.as_deref() {
        Some([FORMAT]) => {}
        Some([other]) => return Err(WalletFileError::Version(*other)),
        _ => return Err(WalletFileError::NotAWallet),
    }
    meta(HEADER)?.ok_or(WalletFileError::Damaged("its header is missing"))
}

/// Which of the rows of [`Table::Meta`] go along when a file is written anew: all but those that the new one has of its own.
pub(super) fn travels(table: Table, key: &[u8]) -> bool {
    table != Table::Meta || ![VERSION, HEADER, STATE].contains(&key)
}
