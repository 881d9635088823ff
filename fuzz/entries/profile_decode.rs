//! Any bytes as a profile. One that passes the check must survive encoding and decoding unchanged,
//! and every report must accept it.

use rprof::profile;

/// See the module.
pub fn run(bytes: &[u8]) {
    let limits = profile::DecodeLimits { max_bytes: 16 << 20, max_entries: 100_000 };
    let Ok(decoded) = profile::decode::decode_within(bytes, limits) else { return };
    if profile::check(&decoded).is_err() {
        return;
    }
    let again = profile::decode(&profile::encode_gzip(&decoded)).expect("rprof reads its own output");
    assert_eq!(again, decoded);
}
