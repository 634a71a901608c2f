//! Blobs from the hub, by their digest.

use std::time::Duration;

use bytes::Bytes;

use super::Link;
use crate::code::Code;
use crate::message::{BLOB_BYTES_MAX, StreamHead};
use crate::transport::{Connection, StreamError, read_all, write_frame};

/// Between two tries of a fetch: a hundredth of the silence after which a dead connection is noticed as such.
const FETCH_AGAIN: Duration = Duration::from_millis(100);

/// Why a blob could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// That is no digest.
    #[error("a digest is the 32 bytes of a SHA-256, not {0}")]
    Digest(usize),
    /// The hub does not have it.
    #[error("the hub has no blob {0}")]
    NotFound(String),
    /// The hub sent something else.
    #[error("the hub sent other bytes than those of blob {0}")]
    Corrupt(String),
    /// It is over the limit.
    #[error("blob {0} is over the limit of {BLOB_BYTES_MAX} bytes")]
    TooLarge(String),
    /// There was no connection, or not for long enough.
    #[error("no connection brought blob {digest} within {within:?}")]
    Late {
        /// Which.
        digest: String,
        /// The time given.
        within: Duration,
    },
    /// The link is closed.
    #[error("the link is closed")]
    Closed,
}

impl Link {
    /// The blob of a SHA-256, checked. Waits for a connection, and tries again on the next if one breaks, until `within`
    /// is over.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn fetch(&self, digest: &[u8], within: Duration) -> Result<Bytes, FetchError> {
        let wanted: [u8; 32] = digest.try_into().map_err(|_| FetchError::Digest(digest.len()))?;
        let work = async {
            let _place = self.shared.fetches.acquire().await.map_err(|_| FetchError::Closed)?;
            let mut live = self.shared.live.subscribe();
            let mut done = self.done.clone();
            loop {
                let connection = tokio::select! {
                    live = live.wait_for(Option::is_some) => live.ok().and_then(|live| live.clone()),
                    _ = done.wait_for(|done| *done) => None,
                };
                let connection = connection.ok_or(FetchError::Closed)?;
                match fetch_once(&*connection, &wanted).await {
                    Ok(blob) => return Ok(blob),
                    Err(FetchOnce::Final(error)) => return Err(error),
                    Err(FetchOnce::Broken(error)) => {
                        tracing::debug!(
                            digest = short(&wanted),
                            error = &error as &dyn std::error::Error,
                            "fetch broke"
                        );
                        // Not again over a connection that is dead and not yet noticed as such.
                        tokio::time::sleep(FETCH_AGAIN).await;
                    }
                }
            }
        };
        match tokio::time::timeout(within, work).await {
            Ok(result) => result,
            Err(_) => Err(FetchError::Late { digest: short(&wanted), within }),
        }
    }
}

enum FetchOnce {
    Final(FetchError),
    Broken(StreamError),
}

async fn fetch_once(connection: &dyn Connection, digest: &[u8; 32]) -> Result<Bytes, FetchOnce> {
    let broken = FetchOnce::Broken;
    let mut stream = connection.open_bi().await.map_err(|ending| broken(StreamError::Connection(ending)))?;
    write_frame(&mut *stream.send, &StreamHead::fetch(digest)).await.map_err(broken)?;
    stream.send.finish();
    match read_all(&mut *stream.recv, BLOB_BYTES_MAX).await {
        Ok((blob, hash)) if hash == *digest => Ok(blob),
        Ok(_) => Err(FetchOnce::Final(FetchError::Corrupt(short(digest)))),
        Err(StreamError::Reset(code)) if Code::from_number(code) == Some(Code::NotFound) => {
            Err(FetchOnce::Final(FetchError::NotFound(short(digest))))
        }
        Err(StreamError::TooLarge(_)) => Err(FetchOnce::Final(FetchError::TooLarge(short(digest)))),
        Err(error) => Err(broken(error)),
    }
}

fn short(digest: &[u8; 32]) -> String {
    digest.iter().take(6).map(|b| format!("{b:02x}")).collect()
}
