//! HTTP/1.1 by hand: one request on one connection.
//!
//! By hand because the target must go over the wire as a case writes it (`//`, `%2e`), which clients that parse it first
//! do not do, and because a watch is then just a body that takes longer.

use std::io::{Read, Write};

use anyhow::{Context, bail};

/// A request; the answer's connection is closed after it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Vec<u8>>,
}

/// An answer, read to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// All values of a header.
    pub(crate) fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(one, _)| one == name).map(|(_, value)| value.as_str())
    }
}

/// Sends a request over a fresh connection.
pub(crate) fn exchange(mut stream: impl Read + Write, request: &Request) -> anyhow::Result<Response> {
    let mut head =
        format!("{} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", request.method, request.target);
    for (name, value) in &request.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let empty = Vec::new();
    let body = request.body.as_ref().unwrap_or(&empty);
    if request.body.is_some() || matches!(request.method.as_str(), "POST" | "PUT" | "PATCH") {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    head += "\r\n";
    stream.write_all(head.as_bytes()).context("sending the head")?;
    // A server that refuses a large body may close before it has read all: its answer is there all the same.
    let sent = stream.write_all(body).and_then(|()| stream.flush());

    let mut bytes = Vec::new();
    // Not every server takes leave of TLS before it closes; the framing of HTTP says whether all is here.
    let end = stream.read_to_end(&mut bytes);
    parse(&bytes, request.method == "HEAD")
        .with_context(|| format!("sent: {sent:?}, then read {} bytes: {end:?}", bytes.len()))
}

fn parse(bytes: &[u8], head_only: bool) -> anyhow::Result<Response> {
    let end = find(bytes, b"\r\n\r\n").context("no end of the head")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let rest = &bytes[end + 4..];
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status: u16 = status_line.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
    if status == 100 {
        return parse(rest, head_only);
    }
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut response = Response { status, headers, body: Vec::new() };
    let chunked = response.header("transfer-encoding").any(|coding| coding == "chunked");
    let length = response.header("content-length").find_map(|length| length.parse::<usize>().ok());
    if head_only {
        return Ok(response);
    }
    response.body = match (chunked, length) {
        (true, _) => unchunk(rest)?,
        (false, Some(length)) => rest.get(..length).context("the body is cut short")?.to_vec(),
        (false, None) => rest.to_vec(),
    };
    Ok(response)
}

fn unchunk(mut bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = find(bytes, b"\r\n").context("the body ends within a chunk")?;
        let size = String::from_utf8_lossy(&bytes[..end]);
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else { bail!("{size:?} is not the size of a chunk") };
        if size == 0 {
            return Ok(body);
        }
        body.extend(bytes.get(end + 2..end + 2 + size).context("a chunk is cut short")?);
        bytes = bytes.get(end + 2 + size + 2..).context("a chunk has no end")?;
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[test]
fn chunks_are_joined() {
    let answer =
        parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", false);
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"abc0123456789".as_slice()));
    assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", false).is_err());
}
