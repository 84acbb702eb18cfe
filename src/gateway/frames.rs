//! Where the frames of a WebSocket begin and end, as its bytes pass by (RFC 6455 §5.2).
//!
//! Nothing is kept and nothing is checked: that is for the two that talk. What is asked is whether something may be
//! put between two frames here, and whether this side has said that it closes.

/// One direction of a WebSocket.
#[derive(Debug, Default)]
pub(super) struct Frames {
    at: At,
    is_closing: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// Between two frames.
    #[default]
    Begin,
    /// Behind the first byte; the second has the mask bit and the length.
    Length,
    /// So many bytes of a longer length are missing.
    More { missing: u8, length: u64, is_masked: bool },
    /// So many bytes of the mask and the payload are missing.
    Rest(u64),
}

/// The opcode of a frame that closes.
const CLOSE: u8 = 0x8;
/// What has gone away: a server that goes down (§7.4.1).
const GOING_AWAY: u16 = 1001;

impl Frames {
    /// Takes what was passed on.
    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            bytes = rest;
            self.at = match self.at {
                At::Begin => {
                    self.is_closing |= byte & 0xf == CLOSE;
                    At::Length
                }
                At::Length => begin(byte),
                At::More { missing, length, is_masked } => {
                    let length = length << 8 | u64::from(byte);
                    more(missing - 1, length, is_masked)
                }
                At::Rest(left) => {
                    // The byte that was split off is one of them.
                    let taken = (left - 1).min(rest.len() as u64);
                    bytes = &rest[usize::try_from(taken).unwrap_or(rest.len())..];
                    payload(left - 1 - taken)
                }
            };
        }
    }

    /// Everything that was passed on is whole.
    pub(super) fn is_between(&self) -> bool {
        self.at == At::Begin
    }

    /// A frame that closes was passed on, or begun: nothing may follow it (§5.5.1).
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing
    }
}

fn begin(byte: u8) -> At {
    let is_masked = byte & 0x80 != 0;
    match byte & 0x7f {
        126 => At::More { missing: 2, length: 0, is_masked },
        127 => At::More { missing: 8, length: 0, is_masked },
        length => more(0, u64::from(length), is_masked),
    }
}

fn more(missing: u8, length: u64, is_masked: bool) -> At {
    match missing {
        0 => payload(length.saturating_add(if is_masked { 4 } else { 0 })),
        _ => At::More { missing, length, is_masked },
    }
}

fn payload(left: u64) -> At {
    if left == 0 { At::Begin } else { At::Rest(left) }
}

/// A frame that says that the server goes away. What a client says is masked (§5.3), with this.
pub(super) fn going_away(mask: Option<[u8; 4]>) -> Vec<u8> {
    let [high, low] = GOING_AWAY.to_be_bytes();
    match mask {
        None => vec![0x80 | CLOSE, 2, high, low],
        Some(mask) => {
            let [a, b, c, d] = mask;
            vec![0x80 | CLOSE, 0x80 | 2, a, b, c, d, high ^ a, low ^ b]
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(opcode: u8, length: usize, mask: bool) -> Vec<u8> {
        let bit = if mask { 0x80 } else { 0 };
        let mut all = vec![0x80 | opcode];
        match length {
            0..126 => all.push(bit | length as u8),
            126..65536 => {
                all.push(bit | 126);
                all.extend((length as u16).to_be_bytes());
            }
            _ => {
                all.push(bit | 127);
                all.extend((length as u64).to_be_bytes());
            }
        }
        all.extend(vec![0x88; length + if mask { 4 } else { 0 }]);
        all
    }

    #[test]
    fn it_is_between_frames_only_where_one_has_ended() {
        for (length, mask) in
            [(0, false), (0, true), (5, true), (125, false), (300, true), (70_000, true)]
        {
            let mut frames = Frames::default();
            let bytes = frame(1, length, mask);
            for n in 1..bytes.len() {
                frames.take(&bytes[n - 1..n]);
                assert!(!frames.is_between(), "{n} of {length}");
            }
            frames.take(&bytes[bytes.len() - 1..]);
            assert!(frames.is_between() && !frames.is_closing(), "{length}");
        }
    }

    #[test]
    fn a_close_is_seen_and_what_looks_like_one_inside_a_payload_is_not() {
        let mut frames = Frames::default();
        frames.take(&frame(2, 40, true));
        assert!(!frames.is_closing());
        frames.take(&going_away(None)[..1]);
        assert!(frames.is_closing() && !frames.is_between());
        frames.take(&going_away(None)[1..]);
        assert!(frames.is_between());
    }

    #[test]
    fn the_last_word_is_1001_masked_or_not() {
        assert_eq!(going_away(None), [0x88, 2, 3, 0xe9]);
        assert_eq!(going_away(Some([1, 2, 3, 4])), [0x88, 0x82, 1, 2, 3, 4, 2, 0xeb]);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_reads_end(
            lengths in prop::collection::vec(0usize..700, 1..6), cut in 1usize..97, mask: bool,
        ) {
            let all: Vec<u8> = lengths.iter().flat_map(|it| frame(1, *it, mask)).collect();
            let mut frames = Frames::default();
            all.chunks(cut).for_each(|it| frames.take(it));
            prop_assert!(frames.is_between() && !frames.is_closing());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 1usize..9) {
            let mut frames = Frames::default();
            bytes.chunks(cut).for_each(|it| frames.take(it));
        }
    }
}
