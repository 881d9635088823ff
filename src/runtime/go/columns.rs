//! Aligns columns with tabs at tab stops of 8, as Go's `text/tabwriter` does in the `debug=1`
//! forms.
//!
//! Not here: the content of the columns.

use std::io::{self, Write};

const TAB: usize = 8;

/// Writes rows of cells; the last cell of a row is not aligned.
pub fn write<const CELLS: usize>(rows: Vec<[String; CELLS]>, writer: &mut dyn Write) -> io::Result<()> {
    let width = |text: &String| text.chars().count();
    let stops: [usize; CELLS] = std::array::from_fn(|cell| {
        let widest = rows.iter().map(|row| width(&row[cell]) + 1).max().unwrap_or(0);
        widest.next_multiple_of(TAB)
    });
    for row in &rows {
        for (cell, text) in row.iter().enumerate() {
            writer.write_all(text.as_bytes())?;
            if cell + 1 < CELLS {
                let tabs = (stops[cell] - width(text)).div_ceil(TAB);
                writer.write_all(&b"\t".repeat(tabs))?;
            }
        }
        writer.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorter_cells_get_more_tabs() {
        let mut out = Vec::new();
        let rows = [["#", "short", "x"], ["#", "much longer than it", "y"]];
        write(rows.map(|row| row.map(str::to_owned)).to_vec(), &mut out).expect("memory");
        assert_eq!(String::from_utf8(out).expect("text"), "#\tshort\t\t\tx\n#\tmuch longer than it\ty\n");
    }
}
