//! Looking at a wallet that a running proxy has open: the proxy answers, on a socket beside the wallet's file.
//!
//! It is a Unix socket and no path of the proxy's HTTP server. The history is for the owner of the file: any program and any user of the
//! machine can connect to loopback, and a socket in the file system has an owner and a mode. It is found by the
//! file's name, whatever port the proxy listens on. It only answers questions; nothing can be spent by it. Where there are no such
//! sockets, or the path is too long for one, the commands say that the wallet is open elsewhere, as before.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Place;
use super::prices::PricesReport;
use super::reports::{BalanceReport, LaneReport, SpendReport};
use super::trouble::Trouble;
use halometer::http::clock::now;
use halometer::wallet::{Journal, Wallet};

/// Longest question, bytes.
#[cfg(unix)]
const LONGEST: u64 = 1_024;
/// Longest answer, bytes.
#[cfg(unix)]
const LONGEST_ANSWER: u64 = 64 << 20;
/// Most rows of the history in an answer.
const MOST_ROWS: usize = 100_000;

/// What can be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Question {
    Balance,
    Lanes,
    Prices,
    History(usize),
    Keys,
}

/// What an open wallet answers, as JSON. None if it cannot be told, or not by looking alone.
fn answer<J: Journal>(wallet: &Wallet<J>, question: &Question) -> Option<String> {
    match question {
        Question::Balance => serde_json::to_string(&BalanceReport::of(wallet, now())),
        Question::Lanes => serde_json::to_string(&LaneReport::all(wallet, now())),
        Question::Prices => serde_json::to_string(&PricesReport::of(wallet.directory(), now())),
        Question::History(limit) => serde_json::to_string(&SpendReport::newest(wallet, (*limit).min(MOST_ROWS)).ok()?),
        Question::Keys => return None,
    }
    .ok()
}

/// Asks the proxy that has the wallet open. None if there is none, and then the file can be opened.
pub(super) fn ask<T: DeserializeOwned>(place: &Place, question: &Question) -> Result<Option<T>, Trouble> {
    #[cfg(unix)]
    {
        unix::ask(place, question)
    }
    #[cfg(not(unix))]
    {
        let _ = (place, question, answer::<halometer::wallet::file::FileJournal>);
        Ok(None)
    }
}

#[cfg(unix)]
pub(crate) use unix::Neighbour;

#[cfg(unix)]
mod unix {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
    use std::os::unix::net::UnixStream;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use serde::de::DeserializeOwned;
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;
    use tokio::task::JoinHandle;

    use super::super::reports::KeyReport;
    use super::super::{Place, Trouble};
    use super::{LONGEST, LONGEST_ANSWER, Question};
    use halometer::http::payer::Payer;
    use halometer::wallet::Journal;

    /// How long a question may take.
    const PATIENCE: Duration = Duration::from_secs(10);

    fn beside(file: &Path) -> PathBuf {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(".socket");
        file.with_file_name(name)
    }

    pub(super) fn ask<T: DeserializeOwned>(place: &Place, question: &Question) -> Result<Option<T>, Trouble> {
        // Without a socket, or with one that nobody listens on any more, the file itself is opened.
        let Ok(mut stream) = UnixStream::connect(beside(place.file()?.path())) else { return Ok(None) };
        let mut talk = || {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.write_all(format!("{}\n", serde_json::to_string(question)?).as_bytes())?;
            let mut line = String::new();
            BufReader::new(stream.try_clone()?.take(LONGEST_ANSWER)).read_line(&mut line)?;
            Ok::<_, std::io::Error>(serde_json::from_str(&line)?)
        };
        talk().map(Some).map_err(|error| {
            Trouble::yours(format!("the proxy that has the wallet open gives no answer: {error}"))
                .next("run the command again; if it stays so, end the proxy")
        })
    }

    /// Answers questions about a wallet, until it is dropped.
    #[derive(Debug)]
    pub(crate) struct Neighbour {
        path: PathBuf,
        serving: JoinHandle<()>,
    }

    impl Neighbour {
        /// Listens beside the wallet's file, for its owner alone. The wallet is locked to this process: a socket that is there was left
        /// by one that was killed.
        pub(crate) fn start<J: Journal + 'static>(file: &Path, payer: Payer<J>) -> std::io::Result<Self> {
            let path = beside(file);
            if path.symlink_metadata().is_ok_and(|known| known.file_type().is_socket()) {
                std::fs::remove_file(&path)?;
            }
            // Until its mode is set only the directory guards it; by then nobody is answered.
            let listener = UnixListener::bind(&path)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            let serving = tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let payer = payer.clone();
                    tokio::spawn(tokio::time::timeout(PATIENCE, serve(stream, payer)));
                }
            });
            Ok(Self { path, serving })
        }
    }

    impl Drop for Neighbour {
        fn drop(&mut self) {
            self.serving.abort();
            // One that stays behind is taken for what it is.
            let _ = std::fs::remove_file(&self.path);
        }
    }

    async fn serve<J: Journal + 'static>(stream: tokio::net::UnixStream, payer: Payer<J>) {
        let (read, mut write) = stream.into_split();
        let mut line = String::new();
        if tokio::io::BufReader::new(read.take(LONGEST)).read_line(&mut line).await.is_err() {
            return;
        }
        let Ok(question) = serde_json::from_str::<Question>(&line) else { return };
        let answer = match question {
            // The wallet counts it by itself, and is asked for the sums.
            Question::Keys => payer
                .view(0)
                .await
                .ok()
                .and_then(|view| serde_json::to_string(&KeyReport::all(&view.spending, view.now)).ok()),
            question => payer.look(move |wallet| super::answer(wallet, &question)).await.ok().flatten(),
        };
        if let Some(answer) = answer {
            // A reader that is gone needs no answer.
            let _ = write.write_all(format!("{answer}\n").as_bytes()).await;
        }
    }
}
