//! Properties for fuzzing: each function takes bytes and panics where its property does not hold.
//!
//! The targets in `gateway/fuzz` only call these; the tests below replay the saved corpora.

mod bodies;
mod config;
mod headers;
mod proxy_protocol;
mod strict_io;
mod target;
mod token;

pub use bodies::{chunked, response_head};
pub use config::config;
pub use headers::{bearer, headers};
pub use proxy_protocol::proxy_protocol;
pub use strict_io::strict_io;
pub use target::target;
pub use token::token;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    /// Replays every file of a corpus.
    fn replay(name: &str, property: fn(&[u8])) {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let mut files = 0;
        for file in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            property(&std::fs::read(file.unwrap().path()).unwrap());
            files += 1;
        }
        assert!(files > 0, "{} is empty", folder.display());
    }

    #[test]
    fn the_kept_corpora_have_the_properties() {
        replay("target", super::target);
        replay("headers", super::headers);
        replay("bearer", super::bearer);
        replay("token", super::token);
        replay("config", super::config);
        replay("proxy_protocol", super::proxy_protocol);
        replay("chunked", super::chunked);
        replay("response_head", super::response_head);
        replay("strict_io", super::strict_io);
    }
}
