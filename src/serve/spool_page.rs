//! The first page of a spool: its services and kinds, the chosen one over time, and the forms that
//! open a window or compare two. It works without a script.
//!
//! Names of services come from processes and are hostile: they are escaped.

use std::fmt::Write;

use super::{pages::escaped, route::Parameters};
use crate::{
    report::units::format_value,
    spool::{Catalog, Query, Series, Time, parse_time},
};

/// The most bars of the chart.
const BARS: i64 = 120;
/// The range that is shown first, in milliseconds.
const FIRST_RANGE: i64 = 3_600_000;
/// Ranges to choose from: their name and their length in milliseconds.
const PRESETS: [(&str, i64); 6] = [
    ("15 minutes", 900_000),
    ("1 hour", 3_600_000),
    ("6 hours", 21_600_000),
    ("1 day", 86_400_000),
    ("1 week", 604_800_000),
    ("all", i64::MAX),
];
/// The size of the chart in its own units.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 150.0;

/// What is chosen: a service, a kind and a range of time; and the range to compare with.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// The window.
    pub query: Query,
    /// The window to compare with.
    pub base: Query,
}

/// A time as forms have it: `2026-11-30T10:00`, UTC.
pub fn minute(at: Time) -> String {
    formatted(at, "%Y-%m-%dT%H:%M")
}

fn formatted(at: Time, format: &str) -> String {
    jiff::Timestamp::from_millisecond(at).unwrap_or_default().strftime(format).to_string()
}

impl Choice {
    /// What the parameters choose. Where they are absent: the first service, CPU time, the last
    /// hour, and before it a range of the same length.
    pub fn of(catalog: &Catalog, parameters: &Parameters) -> Choice {
        let given = |key: &str| Some(parameters.get(key)).filter(|value| !value.is_empty());
        let series = catalog.series(&Query::default());
        let service = given("service").map(str::to_owned);
        let service = service.or_else(|| series.first().map(|series| series.service.clone()));
        let of_service = Query { service, ..Query::default() };
        let kind = given("kind").map(str::to_owned).or_else(|| catalog.default_kind(&of_service));
        let last = end_of_minute(catalog.last().unwrap_or_default());
        let time = |key: &str| given(key).and_then(|text| parse_time(text, last).ok());
        let until = time("until").unwrap_or(last);
        let since = time("since").unwrap_or(until - FIRST_RANGE);
        let base_until = time("base-until").unwrap_or(since);
        let base_since = time("base-since").unwrap_or(base_until - (until - since));
        let window = |since, until| Query {
            since: Some(since),
            until: Some(until),
            kind: kind.clone(),
            ..of_service.clone()
        };
        Choice { query: window(since, until), base: window(base_since, base_until) }
    }

    /// A link to `page` with this window.
    pub fn link(&self, page: &str) -> String {
        link(page, &self.query)
    }
}

fn link(page: &str, query: &Query) -> String {
    let time = |at: Option<Time>| at.map(|at| formatted(at, "%Y-%m-%dT%H:%M:%S")).unwrap_or_default();
    let (service, kind) = (query.service.as_deref().unwrap_or(""), query.kind.as_deref().unwrap_or(""));
    format!(
        "{page}?service={}&kind={}&since={}&until={}",
        url(service),
        url(kind),
        url(&time(query.since)),
        url(&time(query.until))
    )
}

/// A text as the value of a parameter.
fn url(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => escaped.push(byte.into()),
            _ => drop(write!(escaped, "%{byte:02X}")),
        }
    }
    escaped
}

/// The next full minute, so that a form that has no seconds contains the last profile.
fn end_of_minute(at: Time) -> Time {
    (at + 59_999).div_euclid(60_000) * 60_000
}

/// The content of the page.
pub struct Page<'a> {
    /// The directory.
    pub folder: &'a str,
    /// What is in it.
    pub catalog: &'a Catalog,
    /// What is chosen.
    pub choice: &'a Choice,
    /// An error message; may be empty.
    pub message: &'a str,
}

impl Page<'_> {
    /// The page as HTML.
    pub fn html(&self) -> String {
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{0} · spool · rprof</title>\n<link rel=\"icon\" href=\"data:,\">\n\
             <link rel=\"stylesheet\" href=\"assets/style.css\">\n\
             <link rel=\"stylesheet\" href=\"assets/spool.css\">\n\
             <script type=\"module\" src=\"assets/spool.js\"></script>\n</head>\n<body>\n\
             <a class=\"skip\" href=\"#view\">Skip to the content</a>\n\
             <header><div class=\"line\"><a class=\"title\" href=\"./\"><strong>rprof</strong>\
             <span>spool {0}</span></a><div class=\"menus\" id=\"theme\"></div></div></header>\n\
             <main id=\"view\" tabindex=\"-1\">\n",
            escaped(self.folder)
        );
        if !self.message.is_empty() {
            let _ = writeln!(page, "<p class=\"trouble\" role=\"alert\">{}</p>", escaped(self.message));
        }
        let series = self.catalog.series(&Query::default());
        if series.is_empty() {
            page.push_str("<p class=\"quiet\">The spool has no profile yet. Reload this page after the first window.</p>\n");
        } else {
            self.chosen(&mut page);
            self.series(&series, &mut page);
        }
        page.push_str("</main>\n</body>\n</html>\n");
        page
    }

    /// The services and kinds.
    fn series(&self, series: &[Series], page: &mut String) {
        page.push_str(
            "<h2 id=\"series\">Services and kinds</h2>\n<table class=\"series\" aria-labelledby=\"series\"><thead><tr>\
             <th scope=\"col\">Service</th><th scope=\"col\">Kind</th><th scope=\"col\">Profiles</th>\
             <th scope=\"col\">Size</th><th scope=\"col\">First (UTC)</th><th scope=\"col\">Last (UTC)</th></tr></thead>\n<tbody>\n",
        );
        let query = &self.choice.query;
        for one in series {
            let is_chosen =
                query.service.as_ref() == Some(&one.service) && query.kind.as_ref() == Some(&one.kind);
            let of =
                Query { service: Some(one.service.clone()), kind: Some(one.kind.clone()), ..query.clone() };
            let time = |at: Time| formatted(at, "%Y-%m-%d %H:%M");
            let _ = writeln!(
                page,
                "<tr{}><td>{}</td><td><a href=\"{}\">{}</a></td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                if is_chosen { " class=\"chosen\"" } else { "" },
                escaped(&one.service),
                escaped(&link("./", &of)),
                escaped(&one.kind),
                one.count,
                format_value(i64::try_from(one.bytes).unwrap_or(i64::MAX), "bytes"),
                time(one.first),
                time(one.last)
            );
        }
        page.push_str("</tbody></table>\n");
    }

    /// The chosen service and kind over time, and the forms.
    fn chosen(&self, page: &mut String) {
        let query = &self.choice.query;
        let (service, kind) = (query.service.as_deref().unwrap_or(""), query.kind.as_deref().unwrap_or(""));
        let _ = writeln!(page, "<h1>{} · {}</h1>", escaped(service), escaped(kind));
        self.presets(page);
        self.chart(page);
        let count = self.catalog.entries(query).count();
        let windows = if count == 1 { "1 profile".to_owned() } else { format!("{count} profiles") };
        let field = |label: &str, name: &str, at: Option<Time>| {
            let value = at.map(minute).unwrap_or_default();
            format!(
                "<label>{label}<input type=\"datetime-local\" name=\"{name}\" value=\"{value}\"></label>\n"
            )
        };
        let base = &self.choice.base;
        let _ = write!(
            page,
            "<form class=\"range\" action=\"./\">\n<input type=\"hidden\" name=\"service\" value=\"{}\">\
             <input type=\"hidden\" name=\"kind\" value=\"{}\">\n\
             <fieldset><legend>Window (UTC): {windows}</legend>\n{}{}<button>Show</button>\n\
             <button class=\"main\" formaction=\"open\">Open merged</button></fieldset>\n\
             <fieldset><legend>Compare with (UTC)</legend>\n{}{}\
             <button formaction=\"compare\">Compare</button></fieldset>\n</form>\n",
            escaped(service),
            escaped(kind),
            field("From", "since", query.since),
            field("To", "until", query.until),
            field("From", "base-since", base.since),
            field("To", "base-until", base.until),
        );
    }

    /// Links to ranges that end with the last profile.
    fn presets(&self, page: &mut String) {
        let query = &self.choice.query;
        let of = Query { since: None, until: None, ..query.clone() };
        let series = self.catalog.series(&of);
        let (Some(first), Some(last)) =
            (series.iter().map(|one| one.first).min(), series.iter().map(|one| one.last).max())
        else {
            return;
        };
        let until = end_of_minute(last);
        page.push_str("<div class=\"presets\">");
        for (name, length) in PRESETS {
            let since = if length == i64::MAX { first.div_euclid(60_000) * 60_000 } else { until - length };
            let range = Query { since: Some(since), until: Some(until), ..of.clone() };
            let current = if range == *query { " aria-current=\"true\"" } else { "" };
            let _ = write!(page, "<a href=\"{}\"{current}>{name}</a>", escaped(&link("./", &range)));
        }
        page.push_str("</div>\n");
    }

    /// The main value over time; each bar opens its profiles.
    fn chart(&self, page: &mut String) {
        let query = &self.choice.query;
        let (Some(since), Some(until)) = (query.since, query.until) else { return };
        let length = (until - since).max(1);
        let step = (length / BARS).max(1);
        let (sums, unit) = self.sums(since, step, length);
        let most = sums.iter().copied().fold(0.0, f64::max);
        let label = if most > 0.0 { rate(most, &unit) } else { "no profile in this range".to_owned() };
        let _ = write!(
            page,
            "<figure>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"group\" \
             aria-label=\"The value over time\">\n"
        );
        let width = WIDTH / sums.len().max(1) as f64;
        for (at, value) in sums.iter().enumerate().filter(|(_, value)| **value > 0.0) {
            let begin = since + at as i64 * step;
            let bar = Query { since: Some(begin), until: Some(begin + step), ..query.clone() };
            let height = (value / most * (HEIGHT - 4.0)).max(1.0);
            let title = format!("{} UTC: {}", formatted(begin, "%Y-%m-%d %H:%M:%S"), rate(*value, &unit));
            let _ = writeln!(
                page,
                "<a href=\"{}\" aria-label=\"{title}\"><title>{title}</title><rect class=\"hit\" x=\"{x:.1}\" y=\"0\" \
                 width=\"{width:.1}\" height=\"{HEIGHT}\"/><rect class=\"bar\" x=\"{x:.1}\" y=\"{:.1}\" \
                 width=\"{:.1}\" height=\"{height:.1}\"/></a>",
                escaped(&link("open", &bar)),
                HEIGHT - height,
                (width - 0.8).max(0.8),
                x = at as f64 * width,
            );
        }
        let time = |at: Time| formatted(at, "%Y-%m-%d %H:%M");
        let _ = write!(
            page,
            "</svg>\n<figcaption><span>{} UTC</span><span>at most {label}</span><span>{} UTC</span></figcaption>\n</figure>\n",
            time(since),
            time(until)
        );
    }

    /// The main value per second in each step; of instant profiles, the average of the value.
    fn sums(&self, since: Time, step: i64, length: i64) -> (Vec<f64>, String) {
        let count = usize::try_from((length + step - 1) / step).unwrap_or(1).min(2 * BARS as usize);
        let (mut sums, mut weights) = (vec![0.0; count], vec![0.0; count]);
        // Files of several processes may be of the same window.
        let mut last_start = vec![None; count];
        let mut unit = String::new();
        for (entry, total, of) in self.catalog.totals(&self.choice.query) {
            unit = of.to_owned();
            // The bar that has the middle of the window.
            let middle = entry.start + i64::try_from(entry.duration_ms / 2).unwrap_or_default();
            let at = usize::try_from((middle - since) / step).unwrap_or_default().min(count - 1);
            sums[at] += total as f64;
            if last_start[at].replace(entry.start) != Some(entry.start) {
                // An instant profile shows an amount, not a rate.
                weights[at] += if entry.duration_ms == 0 { 1.0 } else { entry.duration_ms as f64 / 1000.0 };
            }
        }
        let per_second =
            sums.iter().zip(&weights).map(|(sum, weight)| sum / f64::max(*weight, 0.001)).collect();
        (per_second, unit)
    }
}

/// A value per second as text: nanoseconds per second are seconds in each second.
fn rate(value: f64, unit: &str) -> String {
    match unit {
        "nanoseconds" => format!("{:.2} s each second", value / 1e9),
        _ => format_value(value as i64, unit),
    }
}
