//! Symbolizes addresses of a file with a language's code. The language names its own code, stripped
//! or not; linked C code has debug information as in other programs.
//!
//! Not here: other files (`names`).

use crate::{
    addr::ElfAddr,
    capture::watch::images::Image,
    symbolize::{NameSource, Symbolized},
};

/// Symbolizes `addresses`; `others` symbolizes those that are not the language's code.
pub fn name(
    image: &Image,
    addresses: &[ElfAddr],
    mut others: impl FnMut(&[ElfAddr]) -> Vec<Symbolized>,
) -> Vec<Symbolized> {
    if image.runtimes.is_empty() {
        return others(addresses);
    }
    let name = |address: &ElfAddr| image.runtimes.iter().find_map(|runtime| runtime.name(*address));
    let named: Vec<_> = addresses.iter().map(name).collect();
    let foreign: Vec<ElfAddr> =
        addresses.iter().zip(&named).filter(|(_, named)| named.is_none()).map(|(at, _)| *at).collect();
    let mut rest = if foreign.is_empty() { Vec::new() } else { others(&foreign) }.into_iter();
    let by_runtime = |frames| Symbolized { frames, source: Some(NameSource::SymbolTable) };
    named.into_iter().map(|name| name.map_or_else(|| rest.next().unwrap_or_default(), by_runtime)).collect()
}
