//! Makes a Graphviz drawing fill its window and adds panning and zooming (`pan_zoom.js`), like the
//! reference.
//!
//! Not here: drawing.

const SCRIPT: &str = include_str!("pan_zoom.js");

/// The drawing with panning and zooming. Other text is returned unchanged.
pub fn movable(svg: &str) -> String {
    let svg = repaired(svg);
    let svg = match size_range(&svg) {
        Some((start, end)) => {
            format!("{}<svg width=\"100%\" height=\"100%\"{}", &svg[..start], &svg[end..])
        }
        None => svg,
    };
    let graph = (0..10).filter_map(|number| svg.find(&format!("<g id=\"graph{number}\""))).min();
    let svg = match graph {
        Some(at) => format!(
            "{}<script type=\"text/ecmascript\"><![CDATA[{SCRIPT}]]></script>\
             <g id=\"viewport\" transform=\"scale(0.5,0.5) translate(0,0)\">{}",
            &svg[..at],
            &svg[at..]
        ),
        None => svg,
    };
    match svg.find("</svg>") {
        Some(at) => format!("{}</g>{}", &svg[..at], &svg[at..]),
        None => svg,
    }
}

/// The drawing as valid XML: Graphviz writes an empty reference where a label ends in `&`.
pub fn repaired(svg: &str) -> String {
    svg.replace("&;", "&amp;;")
}

/// The range of `<svg width="…" height="…" viewBox="…"`.
fn size_range(svg: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(start) = svg[from..].find("<svg").map(|at| from + at) {
        from = start + 4;
        let mut rest = &svg[from..];
        let found = ["width=\"", "height=\"", "viewBox=\""].iter().all(|attribute| {
            let value = rest.trim_start().strip_prefix(attribute).and_then(|value| value.split_once('"'));
            let Some((value, behind)) = value else { return false };
            rest = behind;
            !value.is_empty()
        });
        if found {
            return Some((start, svg.len() - rest.len()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_fills_its_window_and_can_be_panned() {
        let svg = "<svg width=\"8pt\" height=\"9pt\"\n viewBox=\"0 0 8 9\" xmlns=\"x\">\n<g id=\"graph0\">\n</g>\n</svg>\n";
        let page = movable(svg);
        assert!(page.starts_with("<svg width=\"100%\" height=\"100%\" xmlns=\"x\">\n<script"), "{page}");
        let end = "<g id=\"viewport\" transform=\"scale(0.5,0.5) translate(0,0)\"><g id=\"graph0\">\n</g>\n</g></svg>\n";
        assert!(page.ends_with(end), "{page}");
        assert!(!SCRIPT.contains("]]>"));
    }

    #[test]
    fn other_texts_are_unchanged() {
        assert_eq!(movable("no drawing"), "no drawing");
        assert_eq!(movable("<svg width=\"\">"), "<svg width=\"\">");
    }
}
