//! Aligns the columns of tables like Go's `text/tabwriter`: right-aligned, with one blank of
//! padding.
//!
//! Not here: the content of the cells.

/// Aligns `text`: a cell ends at a tab; the text after the last tab of a line is not aligned. A
/// column continues while each next line has a cell in it.
pub(super) fn align_right(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len() - 1]).collect();
    let most = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..most {
        let mut start = 0;
        while start < lines.len() {
            let has_cell = |line: &Vec<usize>| line.len() > column;
            let length = widths[start..].iter().take_while(|line| has_cell(line)).count();
            let block = start..start + length;
            let widest = lines[block.clone()].iter().map(|cells| cells[column].chars().count()).max();
            for line in &mut widths[block] {
                line[column] = widest.unwrap_or(0) + 1;
            }
            start += length.max(1);
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    for (at, (cells, widths)) in lines.iter().zip(&widths).enumerate() {
        if at > 0 {
            out.push('\n');
        }
        for (cell, width) in cells.iter().zip(widths) {
            out.push_str(&format!("{cell:>width$}"));
        }
        out.push_str(cells.last().unwrap_or(&""));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_as_wide_as_its_widest_cell() {
        let laid_out = align_right("key:\t Total\n \t12 (3%):\t a\n \t1:\t b\n\nlonger key:\t x\n");
        let expected = " key: Total\n      12 (3%): a\n            1: b\n\n longer key: x\n";
        assert_eq!(laid_out, expected);
    }
}
