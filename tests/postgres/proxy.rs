//! A proxy between store and server that cuts connections.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Where the next change is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Before the server sees any of it.
    Before,
    /// When the server has half of it.
    Half,
    /// When the server has it, and before it answers.
    In,
    /// When the server has answered.
    After,
}

/// Where to cut, and by which bytes the statement is known.
type Armed = Mutex<Option<(Cut, Vec<u8>)>>;

pub(crate) struct Proxy {
    pub(crate) port: u16,
    armed: Arc<Armed>,
}

impl Proxy {
    pub(crate) fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let armed: Arc<Armed> = Arc::default();
        let accepted = Arc::clone(&armed);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let armed = Arc::clone(&accepted);
                std::thread::spawn(move || forward(client, server, &armed));
            }
        });
        Self { port, armed }
    }

    /// Cuts the next statement that names these bytes.
    pub(crate) fn arm(&self, cut: Cut, marker: &[u8]) {
        *self.armed.lock().unwrap() = Some((cut, marker.to_vec()));
    }

    /// Whether it has cut.
    pub(crate) fn has_cut(&self) -> bool {
        self.armed.lock().unwrap().is_none()
    }
}

fn forward(client: TcpStream, server: TcpStream, armed: &Armed) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    // Held while nothing is to come back.
    let mute: Arc<Mutex<bool>> = Arc::default();
    let muted = Arc::clone(&mute);
    std::thread::spawn(move || {
        let mut buffer = [0; 1 << 16];
        while let Ok(n @ 1..) = from_server.read(&mut buffer) {
            if !*muted.lock().unwrap() && to_client.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let (mut client, mut server) = (client, server);
    let mut buffer = [0; 1 << 16];
    while let Ok(n @ 1..) = client.read(&mut buffer) {
        let bytes = &buffer[..n];
        let cut = {
            let mut armed = armed.lock().unwrap();
            // A bound statement, as opposed to one that is being prepared.
            let hit =
                |(_, marker): &(Cut, Vec<u8>)| bytes[0] == b'B' && bytes.windows(marker.len()).any(|at| at == marker);
            if armed.as_ref().is_some_and(hit) { armed.take() } else { None }
        };
        let Some((cut, _)) = cut else {
            if server.write_all(bytes).is_err() {
                break;
            }
            continue;
        };
        *mute.lock().unwrap() = true;
        match cut {
            Cut::Before => {}
            Cut::Half => drop(server.write_all(&bytes[..n / 2])),
            Cut::In => drop(server.write_all(bytes)),
            Cut::After => {
                let _ = server.write_all(bytes);
                std::thread::sleep(Duration::from_millis(300));
            }
        }
        break;
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}
