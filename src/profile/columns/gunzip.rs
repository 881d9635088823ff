//! Decompresses gzip piece by piece, with a limit on the output.
//!
//! Not here: the meaning of the bytes.

use std::{
    io::{self, Read},
    sync::mpsc,
    thread,
};

use flate2::bufread::MultiGzDecoder;

use super::error::{MAX_BYTES, ReadError};

/// Whether `bytes` begin with the gzip magic.
pub(super) fn is_packed(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

const PIECE_BYTES: usize = 256 << 10;

/// Most bytes that `packed_bytes` may decompress to: stacks and names compress to a tenth or a
/// thirtieth, data crafted to exhaust memory to a thousandth.
pub(super) fn limit(packed_bytes: usize) -> usize {
    packed_bytes.saturating_mul(128).clamp(256 << 20, MAX_BYTES)
}

/// Decompresses everything.
pub(super) fn whole(packed: &[u8]) -> Result<Vec<u8>, ReadError> {
    let mut unpacked = Vec::new();
    let done = pieces(packed, |piece| {
        unpacked.extend_from_slice(piece);
        Ok(())
    });
    match done {
        Ok(()) => Ok(unpacked),
        Err(Stopped::Unpacking(error) | Stopped::Taking(error)) => Err(error),
    }
}

/// Why decompression stopped early.
pub(super) enum Stopped<E> {
    /// The input is damaged.
    Unpacking(ReadError),
    /// The receiver wanted no more.
    Taking(E),
}

/// Passes the decompressed content to `take` piece by piece.
pub(super) fn pieces<E>(
    packed: &[u8],
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), Stopped<E>> {
    let mut decoder = Limited::new(packed);
    let mut piece = vec![0; PIECE_BYTES.min(packed.len().saturating_mul(8))];
    loop {
        match decoder.next(&mut piece).map_err(Stopped::Unpacking)? {
            0 => return Ok(()),
            length => take(&piece[..length]).map_err(Stopped::Taking)?,
        }
    }
}

/// Like [`pieces`], but decompresses the next piece on another thread.
pub(super) fn pieces_beside<E>(
    packed: &[u8],
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), Stopped<E>> {
    let (full, pieces) = mpsc::sync_channel::<Result<Vec<u8>, ReadError>>(3);
    let (empty, used) = mpsc::channel::<Vec<u8>>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut decoder = Limited::new(packed);
            loop {
                let mut piece = used.try_recv().unwrap_or_default();
                piece.resize(PIECE_BYTES, 0);
                let length = decoder.next(&mut piece);
                let sent = match length {
                    Ok(0) => return,
                    Ok(length) => {
                        piece.truncate(length);
                        full.send(Ok(piece))
                    }
                    Err(error) => full.send(Err(error)),
                };
                // The receiver has stopped.
                if sent.is_err() {
                    return;
                }
            }
        });
        for piece in pieces {
            let piece = piece.map_err(Stopped::Unpacking)?;
            take(&piece).map_err(Stopped::Taking)?;
            // The thread ends by itself once everything is decompressed.
            let _ = empty.send(piece);
        }
        Ok(())
    })
}

struct Limited<'a> {
    decoder: MultiGzDecoder<&'a [u8]>,
    left: usize,
    limit: usize,
}

impl<'a> Limited<'a> {
    fn new(packed: &'a [u8]) -> Limited<'a> {
        let limit = limit(packed.len());
        Limited { decoder: MultiGzDecoder::new(packed), left: limit, limit }
    }

    /// Fills `piece` as far as there is content; returns 0 at its end.
    fn next(&mut self, piece: &mut [u8]) -> Result<usize, ReadError> {
        let mut length = 0;
        while length < piece.len() {
            match self.decoder.read(&mut piece[length..]) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ReadError::Gzip(words(&error))),
            }
        }
        if length > self.left {
            return Err(ReadError::TooLarge { max_bytes: self.limit });
        }
        self.left -= length;
        Ok(length)
    }
}

/// The error, worded like the reference.
fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "unexpected EOF".into(),
        io::ErrorKind::InvalidInput if error.to_string().contains("header") => "gzip: invalid header".into(),
        _ if error.to_string().contains("checksum") => "gzip: invalid checksum".into(),
        _ => format!("flate: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn pack(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_pieces_together_are_the_whole_content() {
        let content: Vec<u8> = (0..700_000u32).flat_map(|at| (at % 1000).to_le_bytes()).collect();
        let packed = [pack(&content), pack(b"and more")].concat();
        let mut all = Vec::new();
        let done = pieces_beside::<()>(&packed, |piece| {
            all.extend_from_slice(piece);
            Ok(())
        });
        assert!(done.is_ok() && all == whole(&packed).unwrap() && all.ends_with(b"and more"));
        assert!(matches!(pieces_beside(&packed, |_| Err(5)), Err(Stopped::Taking(5))));
        assert!(matches!(
            pieces_beside::<()>(&packed[..packed.len() - 1], |_| Ok(())),
            Err(Stopped::Unpacking(ReadError::Gzip(why))) if why == "unexpected EOF"
        ));
    }

    #[test]
    fn a_file_that_decompresses_to_far_more_is_refused() {
        let bomb = pack(&vec![0; (256 << 20) + 1]);
        assert!(bomb.len() < 1 << 20);
        assert_eq!(whole(&bomb).err(), Some(ReadError::TooLarge { max_bytes: 256 << 20 }));
    }
}
