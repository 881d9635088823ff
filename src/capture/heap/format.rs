//! Sizes, shares and names as text.

const KIB: f64 = 1024.0;

/// A size class, as a name: `≤ 64 B`.
pub fn size_class(bytes: u64) -> String {
    if bytes < 16 << 10 { format!("≤ {bytes} B") } else { format!("≤ {}", size(bytes)) }
}

/// Bytes in the unit that fits: `64 B`, `1.5 KiB`.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < KIB {
            return if unit == "B" || value.fract() == 0.0 {
                format!("{value} {unit}")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= KIB;
    }
    format!("{value:.1} TiB")
}

/// A share, as text.
pub fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}

/// A name without control characters.
pub fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_unit_that_fits() {
        let texts = [0, 64, 1023, 1024, 1536, 5 << 20, 3 << 30].map(size);
        assert_eq!(texts, ["0 B", "64 B", "1023 B", "1 KiB", "1.5 KiB", "5 MiB", "3 GiB"]);
    }
}
