//! A proxy between a gateway and Redis that injects faults: black hole, connection loss after a command.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

const WHOLE: u8 = 0;
const SWALLOWS: u8 = 1;
const CUTS: u8 = 2;

/// See the module.
pub(super) struct Wire {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    mode: AtomicU8,
    /// Answers that were lost on purpose.
    lost: AtomicUsize,
    ends: Mutex<Vec<TcpStream>>,
    over: std::sync::atomic::AtomicBool,
}

impl Wire {
    /// A wire that leads to that port.
    pub(super) fn to(port: u16) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let carried = Arc::clone(&state);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if carried.over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                near.set_nodelay(true).unwrap();
                far.set_nodelay(true).unwrap();
                let ends = [near.try_clone().unwrap(), far.try_clone().unwrap()];
                carried.ends.lock().unwrap().extend(ends);
                let (one, other) = (Arc::clone(&carried), Arc::clone(&carried));
                let (near_too, far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                thread::spawn(move || carry(near, far, &one, false));
                thread::spawn(move || carry(far_too, near_too, &other, true));
            }
        });
        Wire { address, state }
    }

    pub(super) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// From now on all bytes are dropped silently (black hole).
    pub(super) fn swallow(&self) {
        self.state.mode.store(SWALLOWS, Ordering::SeqCst);
    }

    /// Closes every connection at the first response to a swap, which is lost; until it is restored.
    pub(super) fn lose_answers_to_swaps(&self) {
        self.state.mode.store(CUTS, Ordering::SeqCst);
    }

    /// New connections work again. Those that were swallowed have lost what they carried, so they are cut.
    pub(super) fn restore(&self) {
        if self.state.mode.swap(WHOLE, Ordering::SeqCst) == SWALLOWS {
            self.cut();
        }
    }

    /// How many answers were lost on purpose.
    pub(super) fn lost(&self) -> usize {
        self.state.lost.load(Ordering::SeqCst)
    }

    fn cut(&self) {
        for end in self.state.ends.lock().unwrap().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, state: &State, answers: bool) {
    let mut buffer = [0; 64 * 1024];
    let mut unread = Vec::new();
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let bytes = &buffer[..read];
        let is_swap = answers && {
            unread.extend_from_slice(bytes);
            take_until_a_swap(&mut unread)
        };
        match state.mode.load(Ordering::SeqCst) {
            SWALLOWS => continue,
            CUTS if is_swap => {
                state.lost.fetch_add(1, Ordering::SeqCst);
                break;
            }
            _ => {}
        }
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// Whether one of the whole answers that are next is `:1`, which a swap that was made answers and nothing else. They are taken.
fn take_until_a_swap(answers: &mut Vec<u8>) -> bool {
    while let Some(len) = answer_len(answers) {
        let answer: Vec<u8> = answers.drain(..len).collect();
        if answer == b":1\r\n" {
            return true;
        }
    }
    false
}

/// The length of the first answer with all that it holds, once it is there (RESP, versions 2 and 3).
fn answer_len(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|w| w == b"\r\n")? + 2;
    let count = || std::str::from_utf8(&bytes[1..line - 2]).ok()?.parse::<i64>().ok();
    let parts = match bytes[0] {
        b'$' | b'=' | b'!' => {
            let len = count()?.try_into().map_or(0, |len: usize| len + 2);
            return (bytes.len() >= line + len).then_some(line + len);
        }
        b'*' | b'>' | b'~' => count()?,
        b'%' => 2 * count()?,
        _ => 0,
    };
    (0..parts).try_fold(line, |len, _| Some(len + answer_len(&bytes[len..])?))
}
