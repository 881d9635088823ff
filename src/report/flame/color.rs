//! The colour of a frame: each module has a hue (the kernel and the main binary have fixed ones),
//! functions have shades of it. A name has the same colour in every picture.
//!
//! Not here: layout.

use crate::report::stacks::Frame;

/// `#rrggbb`.
pub type Color = String;

/// Hues of libraries in degrees, different from those of the main binary and the kernel.
const LIBRARY_HUES: [f64; 8] = [205.0, 150.0, 265.0, 180.0, 95.0, 230.0, 290.0, 120.0];
const MAIN_HUE: f64 = 36.0;
const KERNEL_HUE: f64 = 350.0;

/// The box of all samples.
pub const ROOT: &str = "#d5d9e0";
/// The boxes of threads.
pub const THREAD: &str = "#b9c6d8";
/// The boxes of frames that are too narrow to be drawn.
pub const REST: &str = "#e3e5e9";
/// Saturation and lightness of named frames.
const NAMED: (f64, f64) = (0.62, 0.71);
/// Saturation and lightness of unnamed frames.
const UNNAMED: (f64, f64) = (0.16, 0.76);

/// The colour of `frame`; `main_module` is the path of the main binary.
pub fn frame_color(frame: &Frame<'_>, main_module: &str) -> Color {
    let shade = hash_of(&frame.name);
    let spread = |bits: u64| (shade >> bits & 0xff) as f64 / 255.0 - 0.5;
    let hue = module_hue(&frame.module, main_module);
    if !frame.named {
        return hex(hue, UNNAMED.0, UNNAMED.1 + spread(0) * 0.06);
    }
    // Most frames usually belong to the main binary: it has a wider range.
    let range = if frame.module == main_module { 34.0 } else { 20.0 };
    hex(hue + spread(0) * range, NAMED.0 + spread(8) * 0.14, NAMED.1 + spread(16) * 0.09)
}

/// The colour of a module in the legend.
pub fn module_color(module: &str, main_module: &str) -> Color {
    hex(module_hue(module, main_module), NAMED.0, NAMED.1)
}

/// The colour of a change: red if it grew, blue if it shrank, paler the smaller the change
/// (`growth` is relative to the largest change, -1 to 1).
pub fn change_color(growth: f64) -> Color {
    // The eye distinguishes pale colours better than strong ones.
    let strength = growth.abs().min(1.0).sqrt();
    hex(if growth > 0.0 { 4.0 } else { 212.0 }, 0.82 * strength, 0.93 - 0.3 * strength)
}

fn module_hue(module: &str, main_module: &str) -> f64 {
    if module == main_module {
        MAIN_HUE
    } else if module.starts_with("[kernel") || module.ends_with(".ko") {
        KERNEL_HUE
    } else {
        // By the file name without its version: libc.so.6 has the same colour on every machine.
        let name = module.rsplit('/').next().unwrap_or(module);
        let name = name.split(".so").next().unwrap_or(name);
        LIBRARY_HUES[(hash_of(name) >> 20) as usize % LIBRARY_HUES.len()]
    }
}

/// A stable hash: FNV-1a, then a step of splitmix64, because FNV-1a alone gives similar values for
/// similar names.
fn hash_of(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    let mixed = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ mixed >> 27
}

/// The colour of a hue (degrees), saturation and lightness (0 to 1).
fn hex(hue: f64, saturation: f64, lightness: f64) -> Color {
    let chroma = (1.0 - (2.0 * lightness - 1.0).abs()) * saturation;
    let channel = |offset: f64| {
        let position = (offset + hue.rem_euclid(360.0) / 30.0) % 12.0;
        let level = lightness - chroma / 2.0 * (position - 3.0).min(9.0 - position).clamp(-1.0, 1.0);
        (level * 255.0).round() as u8
    };
    format!("#{:02x}{:02x}{:02x}", channel(0.0), channel(8.0), channel(4.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hues_are_converted_to_rgb() {
        assert_eq!(
            [0.0, 120.0, 240.0, 60.0].map(|hue| hex(hue, 1.0, 0.5)),
            ["#ff0000", "#00ff00", "#0000ff", "#ffff00"]
        );
        assert_eq!(hex(77.0, 0.0, 1.0), "#ffffff");
    }

    #[test]
    fn a_name_has_the_same_colour_everywhere_regardless_of_library_versions() {
        let frame = |name: &'static str, module: &'static str| Frame {
            name: name.into(),
            file: "".into(),
            start_line: 0,
            module: module.into(),
            named: true,
        };
        let color = |name, module| frame_color(&frame(name, module), "/bin/app");
        assert_eq!(color("memcpy", "/lib/libc.so.6"), color("memcpy", "/opt/x/libc.so.7"));
        assert_ne!(color("memcpy", "/lib/libc.so.6"), color("memmove", "/lib/libc.so.6"));
        assert_eq!(color("main", "/bin/app"), "#e1c892");
    }
}
