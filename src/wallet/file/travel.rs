//! Moving a wallet to another device: the old one is closed for ever before the bundle is written.
//!
//! | bytes | field of a bundle | |
//! | --- | --- | --- |
//! | 16 | `halometer-bundle` | |
//! | 1 | version | 1 |
//! | 32 | digest of the code that it is for | |
//! | 32 | X25519 key | made for this bundle |
//! | | pieces | |
//!
//! A piece is its length (4), ciphertext and tag: XChaCha20-Poly1305 under BLAKE2b, keyed with the shared secret, of both public
//! keys; the nonce is the number of the piece and whether it is the last; all in front of the pieces is associated data.
//! Inside stand header, state and rows, each behind its table (1), the length of its key (2) and of its value (4).

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use chacha20poly1305::aead::{Aead as _, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use rand_core::{CryptoRng, Rng};
use redb::WriteTransaction;
use x25519_dalek::{PublicKey, SharedSecret, StaticSecret};
use zeroize::{Zeroize as _, Zeroizing};

use super::arrival::{Arrival, ArrivalCode};
use super::header::{Header, WALLET_ID};
use super::place::Unfinished;
use super::seat::{SEAT_ID, Seat};
use super::state::State;
use super::store::{Keep, Rows, TABLES, View, travels};
use super::vault::keyed;
use super::{FileJournal, WalletFile, WalletFileError, wallet};
use crate::sealed::Lock;
use crate::wallet::Wallet;

const MAGIC: &[u8; 16] = b"halometer-bundle";
const VERSION: u8 = 1;
const HEAD: usize = 16 + 1 + 32 + 32;
const CIPHER: &[u8; 16] = b"halometer1-movec";
const PLACE: &[u8; 16] = b"halometer1-movep";
/// How much goes into one piece, bytes, and how long a row may be.
const PIECE: usize = 1 << 20;
const LONGEST_VALUE: usize = 16 << 20;
const TAG: usize = 16;
/// In the place of a table's number.
const HEADER: u8 = 0xf0;
const STATE: u8 = 0xf1;
const END: u8 = 0xff;

impl WalletFile {
    /// Makes ready for a wallet that will move to this device, and gives the code to export it to. Its secret waits
    /// beside the seats.
    ///
    /// # Errors
    /// [`WalletFileError::Io`].
    pub fn prepare_arrival<R: Rng + CryptoRng>(
        seats: impl AsRef<Path>,
        rng: &mut R,
    ) -> Result<ArrivalCode, WalletFileError> {
        Arrival::prepare(seats.as_ref(), rng)
    }

    /// [`prepare_arrival`](Self::prepare_arrival) where this file has its seats.
    ///
    /// # Errors
    /// As there.
    pub fn prepare<R: Rng + CryptoRng>(&self, rng: &mut R) -> Result<ArrivalCode, WalletFileError> {
        Self::prepare_arrival(&self.seats, rng)
    }

    /// Closes the wallet for ever, then writes all of it into a new file `out`, which only the device that made the code can open.
    /// Interrupted at any point, or should the bundle be lost, it can be run again with the same code; the wallet itself
    /// opens no more once it is closed.
    ///
    /// # Errors
    /// [`WalletFileError`]. After [`WalletFileError::Exists`], which speaks of `out`, nothing was done.
    pub fn export<R: Rng + CryptoRng>(
        &self,
        lock: &Lock,
        code: &ArrivalCode,
        out: &Path,
        rng: &mut R,
    ) -> Result<(), WalletFileError> {
        Self { path: out.to_owned(), seats: self.seats.clone() }.vacant()?;
        // Whether it can be sealed to the code, and all of it be moved, is seen before anything is closed.
        let mut sealer = Sealer::to(code, rng)?;
        let (mut store, header) = self.unlock(lock)?;
        match store.state.moved {
            Some(to) if to == code.digest() => {}
            Some(_) => return Err(WalletFileError::OtherArrival),
            None => {
                self.sit(&mut store, &header)?;
                store.read(all_fit)?;
                store.write(|_, state| {
                    state.moved = Some(code.digest());
                    Ok::<_, WalletFileError>(((), Keep::Now))
                })?;
            }
        }
        let (unfinished, file) = Unfinished::beside(out).map_err(WalletFileError::Io)?;
        let mut out_file = BufWriter::new(&file);
        store.read(|view| {
            sealer.begin(&mut out_file)?;
            sealer.row(HEADER, &[], &header.to_bytes(), &mut out_file)?;
            sealer.row(STATE, &[], &store.state.to_bytes(), &mut out_file)?;
            for table in TABLES {
                view.rows.each(table, false, &mut |key, value| {
                    if travels(table, key) {
                        sealer.row(table as u8, key, value, &mut out_file)?;
                    }
                    Ok(true)
                })?;
            }
            sealer.row(END, &[], &[], &mut out_file)?;
            sealer.end(&mut out_file)
        })?;
        out_file.flush().and_then(|()| file.sync_all()).map_err(WalletFileError::Io)?;
        drop(out_file);
        unfinished.become_new(out)
    }

    /// Takes over a wallet from a bundle that was exported to a code of this device: makes the file, under a lock of its own, and
    /// destroys the secret of the code, so that nothing can be imported with it again. Interrupted, it can be run again.
    ///
    /// Knowing a code is enough to make a bundle for it: take only one that you exported, and look whether the wallet
    /// is yours before you pay into it.
    ///
    /// # Errors
    /// [`WalletFileError`].
    pub fn import<R: Rng + CryptoRng>(
        &self,
        bundle: &Path,
        lock: &Lock,
        rng: &mut R,
    ) -> Result<Wallet<FileJournal>, WalletFileError> {
        let file = File::open(bundle).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => WalletFileError::Missing,
            _ => WalletFileError::Io(error),
        })?;
        let (mut opener, arrival) = Opener::begin(BufReader::new(file), &self.seats)?;
        let (wallet_id, seat_id) = place(&arrival.code);
        let mut header = Header::from_bytes(&opener.expect(HEADER)?)?;
        let moved = State::from_bytes(&opener.expect(STATE)?)?;
        header.wallet = wallet_id;
        // The seat, which is that of every import of this bundle, is held from here on: of two at once one comes too late.
        let commits = moved.commits.checked_add(1).ok_or(WalletFileError::Bundle("its state is out of range"))?;
        let path = Seat::path(&self.seats, &wallet_id);
        let (seat, fresh) = match Seat::take(&path)? {
            Some(seat) => (seat, false),
            None => (Seat::create(&path, seat_id, commits)?, true),
        };
        if !arrival.is_there() || *seat.id() != seat_id {
            return Err(WalletFileError::NoArrival);
        }
        if self.path.symlink_metadata().is_ok() {
            // Perhaps an import that was interrupted made it.
            let (mut store, found) = self.unlock(lock)?;
            if found.wallet != wallet_id || store.state.seat != seat_id {
                return Err(WalletFileError::Exists);
            }
            if let Some(behind) = seat.commits().checked_sub(store.state.commits).filter(|behind| *behind > 0) {
                return Err(WalletFileError::RolledBack { behind });
            }
            store.seat = Some(seat);
            arrival.destroy()?;
            return wallet(found, store, None);
        }
        if seat.commits() > commits {
            return Err(WalletFileError::NoArrival);
        }
        let state = State { commits, seat: seat_id, moved: None, ..moved };
        let make = || {
            let (unfinished, mut store) = self.build(&header, lock, state, rng)?;
            store.fill(|view| opener.fill(view))?;
            Ok((unfinished, store))
        };
        let (unfinished, mut store) = make().inspect_err(|_: &WalletFileError| {
            // A bundle that is none leaves no seat, which would be in the way of the right one.
            if fresh {
                let _ = std::fs::remove_file(&path);
            }
        })?;
        store.seat = Some(seat);
        // That all of it holds together is seen before it has a name.
        let made = wallet(header, store, None)?;
        unfinished.become_new(&self.path)?;
        arrival.destroy()?;
        Ok(made)
    }
}

/// Sees that every row can be moved.
fn all_fit<T: Rows>(view: &View<'_, T>) -> Result<(), WalletFileError> {
    for table in TABLES {
        view.rows.each(table, false, &mut |_, value| match value.len() <= LONGEST_VALUE {
            true => Ok(true),
            false => Err(TOO_LONG),
        })?;
    }
    Ok(())
}

/// What two devices have in common: the cipher of a bundle.
fn agree(shared: &SharedSecret, bundle: &PublicKey, code: &ArrivalCode) -> Result<XChaCha20Poly1305, WalletFileError> {
    if !shared.was_contributory() {
        return Err(WalletFileError::Code);
    }
    let key = keyed::<32>(shared.as_bytes(), CIPHER, &[bundle.as_bytes(), code.public().as_bytes()]);
    Ok(XChaCha20Poly1305::new(<&Key>::from(&*key)))
}

/// The ids of the wallet and the seat that come of a code: the same for whatever bundle is exported to it, so that of several
/// imports one wallet can come.
pub(super) fn place(code: &ArrivalCode) -> ([u8; WALLET_ID], [u8; SEAT_ID]) {
    let place = keyed::<{ WALLET_ID + SEAT_ID }>(&code.digest(), PLACE, &[]);
    let (mut wallet, mut seat) = ([0; WALLET_ID], [0; SEAT_ID]);
    wallet.copy_from_slice(&place[..WALLET_ID]);
    seat.copy_from_slice(&place[WALLET_ID..]);
    (wallet, seat)
}

fn nonce(piece: u64, last: bool) -> XNonce {
    let mut nonce = [0; 24];
    nonce[..8].copy_from_slice(&piece.to_be_bytes());
    nonce[23] = last.into();
    XNonce::from(nonce)
}

/// Writes pieces.
struct Sealer {
    head: [u8; HEAD],
    cipher: XChaCha20Poly1305,
    piece: u64,
    buffer: Zeroizing<Vec<u8>>,
}

impl Sealer {
    fn to<R: Rng + CryptoRng>(code: &ArrivalCode, rng: &mut R) -> Result<Self, WalletFileError> {
        let mut secret = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut secret[..]);
        let secret = StaticSecret::from(*secret);
        let public = PublicKey::from(&secret);
        let cipher = agree(&secret.diffie_hellman(&code.public()), &public, code)?;
        let mut head = [0; HEAD];
        head[..16].copy_from_slice(MAGIC);
        head[16] = VERSION;
        head[17..49].copy_from_slice(&code.digest());
        head[49..].copy_from_slice(public.as_bytes());
        // The buffer never grows: it would leave copies behind.
        Ok(Self { head, cipher, piece: 0, buffer: Zeroizing::new(Vec::with_capacity(PIECE)) })
    }

    fn begin(&mut self, out: &mut impl Write) -> Result<(), WalletFileError> {
        out.write_all(&self.head).map_err(WalletFileError::Io)
    }

    fn row(&mut self, table: u8, key: &[u8], value: &[u8], out: &mut impl Write) -> Result<(), WalletFileError> {
        let (Ok(key_length), true) = (u16::try_from(key.len()), value.len() <= LONGEST_VALUE) else {
            return Err(TOO_LONG);
        };
        let length = u32::try_from(value.len()).map_err(|_| WalletFileError::Damaged("a value is too long"))?;
        self.bytes(&[table], out)?;
        self.bytes(&key_length.to_be_bytes(), out)?;
        self.bytes(&length.to_be_bytes(), out)?;
        self.bytes(key, out)?;
        self.bytes(value, out)
    }

    fn bytes(&mut self, mut bytes: &[u8], out: &mut impl Write) -> Result<(), WalletFileError> {
        while !bytes.is_empty() {
            if self.buffer.len() == PIECE {
                self.seal(false, out)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    fn end(&mut self, out: &mut impl Write) -> Result<(), WalletFileError> {
        self.seal(true, out)
    }

    fn seal(&mut self, last: bool, out: &mut impl Write) -> Result<(), WalletFileError> {
        let payload = Payload { msg: &self.buffer, aad: &self.head };
        let sealed = self.cipher.encrypt(&nonce(self.piece, last), payload);
        let sealed = sealed.map_err(|_| WalletFileError::Damaged("a piece is too long to be sealed"))?;
        self.piece += 1;
        self.buffer.zeroize();
        let length = u32::try_from(sealed.len()).map_err(|_| WalletFileError::Damaged("a piece is too long"))?;
        out.write_all(&length.to_be_bytes()).and_then(|()| out.write_all(&sealed)).map_err(WalletFileError::Io)
    }
}

/// Reads pieces; no row is given before its piece is authentic.
struct Opener<R> {
    from: R,
    head: [u8; HEAD],
    cipher: XChaCha20Poly1305,
    piece: u64,
    last: bool,
    buffer: Zeroizing<Vec<u8>>,
    at: usize,
}

type Row = (u8, Vec<u8>, Zeroizing<Vec<u8>>);

const TOO_LONG: WalletFileError = WalletFileError::Damaged("a value is too long to be moved");
const CUT_OFF: WalletFileError = WalletFileError::Bundle("it is cut off");

impl<R: Read> Opener<R> {
    fn begin(mut from: R, seats: &Path) -> Result<(Self, Arrival), WalletFileError> {
        let mut head = [0; HEAD];
        from.read_exact(&mut head).map_err(read_error)?;
        if &head[..16] != MAGIC {
            return Err(WalletFileError::Bundle("it is no bundle"));
        }
        if head[16] != VERSION {
            return Err(WalletFileError::Version(head[16]));
        }
        let (mut digest, mut public) = ([0; 32], [0; 32]);
        digest.copy_from_slice(&head[17..49]);
        public.copy_from_slice(&head[49..]);
        let (arrival, public) = (Arrival::find(seats, &digest)?, PublicKey::from(public));
        let cipher = agree(&arrival.secret.diffie_hellman(&public), &public, &arrival.code)?;
        let buffer = Zeroizing::new(Vec::new());
        Ok((Self { from, head, cipher, piece: 0, last: false, buffer, at: 0 }, arrival))
    }

    /// The next row; none at the end.
    fn row(&mut self) -> Result<Option<Row>, WalletFileError> {
        let head = self.bytes(1 + 2 + 4)?;
        let table = head[0];
        let key = usize::from(u16::from_be_bytes([head[1], head[2]]));
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST_VALUE);
        let length = length.ok_or(WalletFileError::Bundle("a value is too long"))?;
        if table == END {
            return Ok(None);
        }
        Ok(Some((table, self.bytes(key)?.to_vec(), self.bytes(length)?)))
    }

    fn expect(&mut self, wanted: u8) -> Result<Zeroizing<Vec<u8>>, WalletFileError> {
        match self.row()? {
            Some((table, _, value)) if table == wanted => Ok(value),
            _ => Err(WalletFileError::Bundle("its parts are not in order")),
        }
    }

    /// Writes all rows that are left.
    fn fill(&mut self, view: &View<'_, WriteTransaction>) -> Result<(), WalletFileError> {
        while let Some((table, key, value)) = self.row()? {
            let table = TABLES.into_iter().find(|known| *known as u8 == table);
            let table = table.ok_or(WalletFileError::Bundle("it has a table that is not known"))?;
            if !travels(table, &key) {
                return Err(WalletFileError::Bundle("it has a row that does not travel"));
            }
            view.put_raw(table, &key, &value)?;
        }
        self.finish()
    }

    fn finish(&mut self) -> Result<(), WalletFileError> {
        let mut more = [0];
        let ended = self.last && self.at == self.buffer.len() && self.from.read(&mut more).map_err(read_error)? == 0;
        if ended { Ok(()) } else { Err(WalletFileError::Bundle("something follows its end")) }
    }

    fn bytes(&mut self, length: usize) -> Result<Zeroizing<Vec<u8>>, WalletFileError> {
        let mut out = Zeroizing::new(Vec::with_capacity(length));
        while out.len() < length {
            if self.at == self.buffer.len() {
                self.next()?;
            }
            let until = self.buffer.len().min(self.at + (length - out.len()));
            out.extend_from_slice(&self.buffer[self.at..until]);
            self.at = until;
        }
        Ok(out)
    }

    fn next(&mut self) -> Result<(), WalletFileError> {
        if self.last {
            return Err(CUT_OFF);
        }
        let mut length = [0; 4];
        self.from.read_exact(&mut length).map_err(read_error)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if !(TAG..=PIECE + TAG).contains(&length) {
            return Err(WalletFileError::Bundle("a piece is out of range"));
        }
        let mut sealed = vec![0; length];
        self.from.read_exact(&mut sealed).map_err(read_error)?;
        let open = |last| {
            let payload = Payload { msg: &sealed, aad: &self.head };
            self.cipher.decrypt(&nonce(self.piece, last), payload).ok()
        };
        let (opened, last) = match open(false) {
            Some(opened) => (opened, false),
            None => (open(true).ok_or(WalletFileError::Bundle("a piece was altered"))?, true),
        };
        (self.buffer, self.at, self.last) = (Zeroizing::new(opened), 0, last);
        self.piece += 1;
        Ok(())
    }
}

fn read_error(error: io::Error) -> WalletFileError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => CUT_OFF,
        _ => WalletFileError::Io(error),
    }
}
