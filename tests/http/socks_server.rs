//! A SOCKS5 server that remembers what it was asked for, and behaves as it is told.

#![allow(dead_code)]

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) host: String,
    /// Whether it was a name, and not an address that somebody looked up before.
    pub(crate) is_name: bool,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
    /// The first line of what was sent, where it could be read.
    pub(crate) line: String,
}

/// How it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Serves,
    /// Says no to every address.
    Refuses,
    /// Takes no user names.
    Anonymous,
    /// Hangs up in the middle of the handshake.
    DiesEarly,
    /// Hangs up when the first bytes of an answer come.
    DiesLate,
}

pub(crate) struct SocksServer {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    names: Mutex<HashMap<String, SocketAddr>>,
    mood: Mutex<Mood>,
    asked: Mutex<Vec<Asked>>,
    connections: Mutex<usize>,
}

impl SocksServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            names: Mutex::default(),
            mood: Mutex::new(Mood::Serves),
            asked: Mutex::default(),
            connections: Mutex::default(),
        });
        let serving = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *serving.connections.lock().unwrap() += 1;
                tokio::spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        Self { address, state, task }
    }

    /// As it is written on a command line.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Where a name leads. Names that it was not told of it does not know.
    pub(crate) fn knows(&self, name: &str, url: &str) {
        let to = url.trim_start_matches("http://").parse().unwrap();
        self.state.names.lock().unwrap().insert(name.to_owned(), to);
    }

    pub(crate) fn is(&self, mood: Mood) {
        *self.state.mood.lock().unwrap() = mood;
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    pub(crate) fn forget(&self) {
        self.state.asked.lock().unwrap().clear();
        *self.state.connections.lock().unwrap() = 0;
    }

    pub(crate) fn connections(&self) -> usize {
        *self.state.connections.lock().unwrap()
    }
}

impl Drop for SocksServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) -> Option<()> {
    let mood = *state.mood.lock().unwrap();
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.ok()?;
    let mut methods = vec![0; head[1].into()];
    stream.read_exact(&mut methods).await.ok()?;
    if mood == Mood::Anonymous {
        let chosen = if methods.contains(&0) { 0 } else { 0xff };
        stream.write_all(&[5, chosen]).await.ok()?;
        return None;
    }
    stream.write_all(&[5, 2]).await.ok()?;
    if mood == Mood::DiesEarly {
        return None;
    }
    stream.read_u8().await.ok()?;
    let user = text(&mut stream).await?;
    let password = text(&mut stream).await?;
    stream.write_all(&[1, 0]).await.ok()?;
    let mut request = [0; 4];
    stream.read_exact(&mut request).await.ok()?;
    let (host, is_name) = match request[3] {
        1 => (Ipv4Addr::from(stream.read_u32().await.ok()?).to_string(), false),
        3 => (text(&mut stream).await?, true),
        _ => return None,
    };
    let port = stream.read_u16().await.ok()?;
    let known = state.names.lock().unwrap().get(&host).copied();
    let at = {
        let mut asked = state.asked.lock().unwrap();
        asked.push(Asked { host, is_name, port, user, password, line: String::new() });
        asked.len() - 1
    };
    let answer = |code: u8| [5, code, 0, 1, 0, 0, 0, 0, 0, 0];
    let to = match (mood, known) {
        (Mood::Refuses, _) => {
            stream.write_all(&answer(2)).await.ok()?;
            return None;
        }
        (_, None) => {
            stream.write_all(&answer(4)).await.ok()?;
            return None;
        }
        (_, Some(to)) => to,
    };
    let mut server = TcpStream::connect(to).await.ok()?;
    stream.write_all(&answer(0)).await.ok()?;
    let mut first = vec![0; 65_536];
    let read = stream.read(&mut first).await.ok()?;
    if let Some(asked) = state.asked.lock().unwrap().get_mut(at) {
        asked.line = String::from_utf8_lossy(&first[..read]).lines().next().unwrap_or_default().to_owned();
    }
    server.write_all(&first[..read]).await.ok()?;
    if mood == Mood::DiesLate {
        let _ = server.read(&mut first).await;
        return None;
    }
    tokio::io::copy_bidirectional(&mut stream, &mut server).await.ok()?;
    Some(())
}

async fn text(stream: &mut TcpStream) -> Option<String> {
    let length = stream.read_u8().await.ok()?;
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await.ok()?;
    String::from_utf8(bytes).ok()
}
