//! Outputs of the audit trail besides standard error: a file that may be rotated, and the sockets of syslog and
//! systemd's journal.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a socket may refuse a message before it is lost.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// A file that is appended to. It is opened anew where its name leads to another file or to none.
#[derive(Debug)]
pub(super) struct RotatedFile {
    path: PathBuf,
    file: File,
}

impl RotatedFile {
    /// Opens the file, and creates it with mode 0640 if it is missing.
    ///
    /// # Errors
    ///
    /// It cannot be opened.
    pub(super) fn open(path: &Path) -> io::Result<RotatedFile> {
        let mut options = OpenOptions::new();
        let file = match options.append(true).create_new(true).mode(0o640).open(path) {
            Ok(file) => {
                // Whatever the umask: who collects the trail is in the file's group.
                file.set_permissions(Permissions::from_mode(0o640))?;
                file
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                options.create_new(false).open(path)?
            }
            Err(error) => return Err(error),
        };
        Ok(RotatedFile { path: path.to_owned(), file })
    }

    fn is_current(&self) -> io::Result<bool> {
        let open = self.file.metadata()?;
        Ok(std::fs::metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == (open.dev(), open.ino())))
    }
}

impl Write for RotatedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_current()? {
            // Where it cannot be opened, the moved file goes on being written.
            match RotatedFile::open(&self.path) {
                Ok(next) => *self = next,
                Err(error) => {
                    tracing::error!(%error, path = %self.path.display(), "audit.file cannot be opened anew")
                }
            }
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A datagram socket; each message is a datagram of its own. It is connected anew where the other side was
/// restarted.
#[derive(Debug)]
pub(super) struct DatagramOutput {
    path: PathBuf,
    /// What ends a message.
    separator: &'static str,
    socket: Option<UnixDatagram>,
}

impl DatagramOutput {
    /// Connects to the socket.
    ///
    /// # Errors
    ///
    /// Nothing listens there.
    pub(super) fn connect(path: &Path, separator: &'static str) -> io::Result<DatagramOutput> {
        let mut output = DatagramOutput { path: path.to_owned(), separator, socket: None };
        output.socket()?;
        Ok(output)
    }

    fn socket(&mut self) -> io::Result<&UnixDatagram> {
        if self.socket.is_none() {
            let socket = UnixDatagram::unbound()?;
            socket.connect(&self.path)?;
            socket.set_write_timeout(Some(SEND_TIMEOUT))?;
            self.socket = Some(socket);
        }
        self.socket.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        if self.socket().and_then(|socket| socket.send(message)).is_err() {
            self.socket = None;
            self.socket()?.send(message)?;
        }
        Ok(())
    }
}

impl Write for DatagramOutput {
    /// Sends whole messages: the caller writes only such.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let mut failed = None;
        for message in text.split_terminator(self.separator) {
            // What follows is tried as well.
            failed = self.send(message.as_bytes()).err().or(failed);
        }
        failed.map_or(Ok(bytes.len()), Err)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_that_was_moved_is_opened_anew() {
        let dir = tempfile::tempdir().unwrap();
        let [path, moved] = ["audit.log", "audit.log.1"].map(|name| dir.path().join(name));
        let mut output = RotatedFile::open(&path).unwrap();
        output.write_all(b"one\n").unwrap();
        fs::rename(&path, &moved).unwrap();
        output.write_all(b"two\n").unwrap();
        fs::remove_file(&path).unwrap();
        output.write_all(b"three\n").unwrap();
        assert_eq!(fs::read_to_string(&moved).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_file_that_cannot_be_opened_anew_goes_on_under_its_new_name() {
        let dir = tempfile::tempdir().unwrap();
        let [path, moved] = ["audit.log", "audit.log.1"].map(|name| dir.path().join(name));
        let mut output = RotatedFile::open(&path).unwrap();
        fs::rename(&path, &moved).unwrap();
        fs::create_dir(&path).unwrap();
        output.write_all(b"one\n").unwrap();
        assert_eq!(fs::read_to_string(&moved).unwrap(), "one\n");
    }

    #[test]
    fn each_message_is_a_datagram_and_a_restarted_daemon_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut output = DatagramOutput::connect(&path, "\n").unwrap();
        output.write_all(b"one\ntwo\n").unwrap();
        let mut buffer = [0; 16];
        for expected in ["one", "two"] {
            let len = daemon.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], expected.as_bytes());
        }
        drop(daemon);
        output.write_all(b"lost\n").unwrap_err();
        fs::remove_file(&path).unwrap();
        let daemon = UnixDatagram::bind(&path).unwrap();
        output.write_all(b"three\n").unwrap();
        let len = daemon.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"three");
    }
}
