//! `/debug/pprof/symbol`: names of addresses. A request has numbers joined by `+`, in the query or
//! in the body; the response has a line `0xADDRESS name` for each address that has a name.
//!
//! Not here: finding names (`capture`).

use std::fmt::Write;

use crate::addr::RuntimeAddr;

/// The most addresses that one request may name.
pub const MOST_ADDRESSES: usize = 10_000;

/// The addresses of a request, in the forms of Go's strconv.ParseUint with base 0: 0x, 0o, 0b,
/// decimal. Other words are ignored.
pub fn addresses(text: &str) -> Vec<RuntimeAddr> {
    // URL decoding turns a plus into a blank.
    let words = text.split(['+', ' ', '\n']).map(str::trim);
    words.filter_map(number).filter(|address| *address != 0).take(MOST_ADDRESSES).map(RuntimeAddr).collect()
}

fn number(word: &str) -> Option<u64> {
    let lower = word.to_ascii_lowercase();
    for (prefix, radix) in [("0x", 16), ("0b", 2), ("0o", 8)] {
        if let Some(digits) = lower.strip_prefix(prefix) {
            return u64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'));
        }
    }
    if word.starts_with('+') { None } else { word.parse().ok() }
}

/// The response: `num_symbols: 1` (names are available), then the names.
pub fn response(addresses: &[RuntimeAddr], names: &[Option<String>]) -> String {
    let mut text = "num_symbols: 1\n".to_owned();
    for (address, name) in addresses.iter().zip(names) {
        if let Some(name) = name {
            // A name must stay on one line.
            let _ = writeln!(text, "{:#x} {}", address.0, name.replace(['\n', '\r'], " "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_numbers_joined_by_plus() {
        let found = |text: &str| addresses(text).iter().map(|address| address.0).collect::<Vec<u64>>();
        assert_eq!(found("0x401000+0X402000+17+0b11+x+"), [0x401000, 0x402000, 17, 3]);
        assert_eq!(found("0xffffffffffffffff 0x1ffffffffffffffff"), [u64::MAX]);
        assert!(found("").is_empty());
        assert_eq!(addresses(&"1+".repeat(20_000)).len(), MOST_ADDRESSES);
    }

    #[test]
    fn addresses_without_a_name_are_left_out() {
        let names = [Some("main.main\nx".to_owned()), None];
        assert_eq!(
            response(&[RuntimeAddr(16), RuntimeAddr(32)], &names),
            "num_symbols: 1\n0x10 main.main x\n"
        );
    }
}
