//! Regular expressions with the syntax and meaning of Go's `regexp` package: the same expressions
//! are accepted, and refused with the same messages (<https://pkg.go.dev/regexp/syntax>).
//!
//! Not here: matching, which the `regex` crate does once an expression has been translated: its `\d
//! \w \s \b` are Unicode where Go's are ASCII, it refuses a lone `{`, and `[`, `&&`, `--` and `~~`
//! have a different meaning inside a class.

use regex::bytes::{Regex, RegexBuilder};

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct GoRegexp {
    source: String,
    regex: Regex,
}

/// Why an expression was refused, worded like Go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {what}: `{where_}`")]
pub struct RegexpError {
    what: &'static str,
    where_: String,
}

impl GoRegexp {
    /// Compiles `source`.
    pub fn new(source: &str) -> Result<GoRegexp, RegexpError> {
        let translated = translate(source)?;
        let mut builder = RegexBuilder::new(&translated);
        builder.size_limit(1 << 28).dfa_size_limit(1 << 26).nest_limit(1000);
        let too_large = |_| RegexpError { what: "expression too large", where_: source.into() };
        Ok(GoRegexp { source: source.into(), regex: builder.build().map_err(too_large)? })
    }

    /// The expression as given.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether it matches anywhere in `text`.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text.as_bytes())
    }
}

/// Translates an expression to the syntax of the `regex` crate.
fn translate(source: &str) -> Result<String, RegexpError> {
    let mut translator =
        Translator { source, rest: source, out: String::new(), depth: 0, operand: false, repeat: None };
    while let Some(next) = translator.rest.chars().next() {
        translator.step(next)?;
    }
    if translator.depth > 0 {
        return Err(error("missing closing )", source));
    }
    Ok(translator.out)
}

fn error(what: &'static str, where_: &str) -> RegexpError {
    RegexpError { what, where_: where_.into() }
}

struct Translator<'a> {
    source: &'a str,
    rest: &'a str,
    out: String,
    /// Number of open groups.
    depth: usize,
    /// Whether the previous item can be repeated.
    operand: bool,
    /// The rest of the source from the start of the previous repetition, if there was one.
    repeat: Option<&'a str>,
}

const PERL_CLASSES: [(char, &str); 3] = [('d', "0-9"), ('s', "\\t\\n\\x0C\\r "), ('w', "0-9A-Za-z_")];

impl<'a> Translator<'a> {
    fn step(&mut self, next: char) -> Result<(), RegexpError> {
        match next {
            '(' => return self.open(),
            ')' => {
                self.depth = self.depth.checked_sub(1).ok_or_else(|| error("unexpected )", self.source))?;
                self.emit(1, ")", true);
            }
            '|' => self.emit(1, "|", false),
            '^' | '$' | '.' => self.emit(1, &next.to_string(), true),
            '[' => return self.class(),
            '*' | '+' | '?' => return self.repeat(1, &next.to_string()),
            '{' => match repeat_counts(self.rest) {
                Some((length, min, max)) => {
                    if min > 1000 || max.is_some_and(|max| max > 1000 || min > max) {
                        return Err(error("invalid repeat count", &self.rest[..length]));
                    }
                    let text = self.rest[..length].to_string();
                    return self.repeat(length, &text);
                }
                None => self.emit(1, "\\{", true),
            },
            '\\' => return self.escape(),
            literal => self.emit(literal.len_utf8(), &regex::escape(literal.encode_utf8(&mut [0; 4])), true),
        }
        Ok(())
    }

    fn emit(&mut self, length: usize, text: &str, operand: bool) {
        self.rest = &self.rest[length..];
        self.out.push_str(text);
        self.operand = operand;
        self.repeat = None;
    }

    fn repeat(&mut self, length: usize, text: &str) -> Result<(), RegexpError> {
        let start = self.rest;
        let lazy = start[length..].starts_with('?');
        let length = length + usize::from(lazy);
        if let Some(before) = self.repeat {
            let both = &before[..before.len() - start.len() + length];
            return Err(error("invalid nested repetition operator", both));
        }
        if !self.operand {
            let text = &start[..length - usize::from(lazy)];
            return Err(error("missing argument to repetition operator", text));
        }
        let text = if lazy { format!("{text}?") } else { text.to_string() };
        self.emit(length, &text, true);
        self.repeat = Some(start);
        Ok(())
    }

    fn open(&mut self) -> Result<(), RegexpError> {
        let Some(after) = self.rest.strip_prefix("(?") else {
            self.depth += 1;
            self.emit(1, "(", false);
            return Ok(());
        };
        if let Some(named) = after.strip_prefix("P<").or_else(|| after.strip_prefix('<')) {
            let Some(end) = named.find('>') else {
                return Err(error("invalid named capture", self.rest));
            };
            let name = &named[..end];
            let length = self.rest.len() - named.len() + end + 1;
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(error("invalid named capture", &self.rest[..length]));
            }
            self.depth += 1;
            // Group names are never used, and Go allows names that the crate does not.
            self.emit(length, "(", false);
            return Ok(());
        }
        self.flags(after)
    }

    fn flags(&mut self, after: &str) -> Result<(), RegexpError> {
        let (mut negated, mut any) = (false, false);
        for (at, flag) in after.char_indices() {
            let length = 2 + at + flag.len_utf8();
            match flag {
                'i' | 'm' | 's' | 'U' => any = true,
                '-' if !negated => (negated, any) = (true, false),
                ':' | ')' if !negated || any => {
                    let text = self.rest[..length].to_string();
                    self.depth += usize::from(flag == ':');
                    let text = if text == "(?)" { "(?:)" } else { &text };
                    self.emit(length, text, false);
                    return Ok(());
                }
                _ => {
                    return Err(error("invalid or unsupported Perl syntax", &self.rest[..length]));
                }
            }
        }
        Err(error("missing closing )", self.source))
    }

    fn escape(&mut self) -> Result<(), RegexpError> {
        let Some(next) = self.rest[1..].chars().next() else {
            return Err(error("trailing backslash at end of expression", ""));
        };
        let length = 1 + next.len_utf8();
        match next {
            'A' | 'z' => self.emit(length, if next == 'A' { "\\A" } else { "\\z" }, true),
            'b' => self.emit(length, "(?-u:\\b)", true),
            'B' => self.emit(length, "(?-u:\\B)", true),
            'Q' => {
                let quoted = &self.rest[2..];
                let (text, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
                let text = regex::escape(text);
                let read = self.rest.len() - after.len();
                let operand = self.operand || !text.is_empty();
                // A following repetition applies to the last letter only, as in Go.
                self.emit(read, &text, operand);
            }
            _ => {
                if let Some((read, class)) = class_escape(self.rest)? {
                    self.emit(read, &format!("[{class}]"), true);
                } else {
                    let (read, letter) = letter_escape(self.rest)?;
                    self.emit(read, &regex::escape(letter.encode_utf8(&mut [0; 4])), true);
                }
            }
        }
        Ok(())
    }

    fn class(&mut self) -> Result<(), RegexpError> {
        let whole = self.rest;
        let mut rest = &whole[1..];
        let mut out = String::from("[");
        if let Some(after) = rest.strip_prefix('^') {
            rest = after;
            out.push('^');
        }
        let mut first = true;
        while first || !rest.starts_with(']') {
            first = false;
            if rest.is_empty() {
                return Err(error("missing closing ]", whole));
            }
            if rest.starts_with("[:")
                && let Some(end) = rest[2..].find(":]")
            {
                let name = &rest[..end + 4];
                if !is_posix_class(&name[2..name.len() - 2]) {
                    return Err(error("invalid character class range", name));
                }
                out.push_str(name);
                rest = &rest[end + 4..];
                continue;
            }
            if let Some((read, class)) = class_escape(rest)? {
                out.push_str(&class);
                rest = &rest[read..];
                continue;
            }
            rest = range(rest, whole, &mut out)?;
        }
        out.push(']');
        self.emit(whole.len() - rest.len() + 1, &out, true);
        Ok(())
    }
}

/// Reads `a` or `a-z` in a class and returns the rest.
fn range<'a>(start: &'a str, whole: &str, out: &mut String) -> Result<&'a str, RegexpError> {
    let (low, mut rest) = class_letter(start, whole)?;
    let mut high = low;
    if rest.len() >= 2 && rest.starts_with('-') && !rest[1..].starts_with(']') {
        (high, rest) = class_letter(&rest[1..], whole)?;
        if high < low {
            return Err(error("invalid character class range", &start[..start.len() - rest.len()]));
        }
    }
    out.push_str(&format!("\\x{{{:X}}}", u32::from(low)));
    if high != low {
        out.push_str(&format!("-\\x{{{:X}}}", u32::from(high)));
    }
    Ok(rest)
}

fn class_letter<'a>(rest: &'a str, whole: &str) -> Result<(char, &'a str), RegexpError> {
    let letter = rest.chars().next().ok_or_else(|| error("missing closing ]", whole))?;
    if letter != '\\' {
        return Ok((letter, &rest[letter.len_utf8()..]));
    }
    let (read, letter) = letter_escape(rest)?;
    Ok((letter, &rest[read..]))
}

fn is_posix_class(name: &str) -> bool {
    let names = [
        "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
        "upper", "word", "xdigit",
    ];
    names.contains(&name.strip_prefix('^').unwrap_or(name))
}

/// The class content for `\d`, `\pL` and similar, and their length.
fn class_escape(rest: &str) -> Result<Option<(usize, String)>, RegexpError> {
    let mut letters = rest.chars();
    if letters.next() != Some('\\') {
        return Ok(None);
    }
    let Some(letter) = letters.next() else { return Ok(None) };
    if let Some((_, class)) = PERL_CLASSES.iter().find(|(name, _)| *name == letter.to_ascii_lowercase()) {
        let class = if letter.is_ascii_lowercase() { (*class).into() } else { format!("[^{class}]") };
        return Ok(Some((2, class)));
    }
    if !matches!(letter, 'p' | 'P') {
        return Ok(None);
    }
    let name = &rest[2..];
    let (length, name) = match name.strip_prefix('{') {
        Some(braced) => match braced.find('}') {
            Some(end) => (end + 4, &braced[..end]),
            None => return Err(error("invalid character class range", rest)),
        },
        None => {
            let length = name.chars().next().map_or(0, char::len_utf8);
            (2 + length, &name[..length])
        }
    };
    let (negated, name) = name.strip_prefix('^').map_or((false, name), |name| (true, name));
    let letter = if negated == (letter == 'p') { 'P' } else { 'p' };
    let class = format!("\\{letter}{{{name}}}");
    if Regex::new(&class).is_err() {
        return Err(error("invalid character class range", &rest[..length]));
    }
    Ok(Some((length, class)))
}

/// The character of an escape sequence, and the length of the sequence.
fn letter_escape(rest: &str) -> Result<(usize, char), RegexpError> {
    let body = &rest[1..];
    let Some(letter) = body.chars().next() else {
        return Err(error("trailing backslash at end of expression", ""));
    };
    let bytes = body.as_bytes();
    let is_octal = |byte: &&u8| (b'0'..=b'7').contains(*byte);
    let value = match letter {
        '1'..='7' if !bytes.get(1).as_ref().is_some_and(is_octal) => None,
        '0'..='7' => {
            let digits = bytes.iter().take(3).take_while(is_octal).count();
            u32::from_str_radix(&body[..digits], 8).ok().map(|value| (1 + digits, value))
        }
        'x' => hex_escape(body).map(|(length, value)| (1 + length, value)),
        'a' => Some((2, 7)),
        'f' => Some((2, 12)),
        'n' => Some((2, 10)),
        'r' => Some((2, 13)),
        't' => Some((2, 9)),
        'v' => Some((2, 11)),
        _ if letter.is_ascii() && !letter.is_ascii_alphanumeric() => Some((2, letter.into())),
        _ => None,
    };
    let read = value.and_then(|(length, value)| Some((length, char::from_u32(value)?)));
    read.ok_or_else(|| error("invalid escape sequence", &rest[..1 + letter.len_utf8()]))
}

/// Parses `x41` or `x{1F600}`: length and value.
fn hex_escape(body: &str) -> Option<(usize, u32)> {
    let is_hex = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (length, digits) = match body[1..].strip_prefix('{') {
        Some(braced) => {
            let end = braced.find('}')?;
            (end + 3, &braced[..end])
        }
        None => (3, body.get(1..3)?),
    };
    if !is_hex(digits) {
        return None;
    }
    Some((length, u32::from_str_radix(digits, 16).ok()?))
}

/// Parses `{2}`, `{2,}`, `{2,5}`: length, minimum, maximum. Anything else is literal text.
fn repeat_counts(text: &str) -> Option<(usize, u32, Option<u32>)> {
    let end = text.find('}')?;
    let body = &text[1..end];
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let plain = plain && (digits == "0" || !digits.starts_with('0'));
        plain.then(|| digits.parse().unwrap_or(u32::MAX))
    };
    let (min, max) = match body.split_once(',') {
        None => {
            let count = number(body)?;
            (count, Some(count))
        }
        Some((min, "")) => (number(min)?, None),
        Some((min, max)) => (number(min)?, Some(number(max)?)),
    };
    Some((end + 1, min, max))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(source: &str) -> String {
        GoRegexp::new(source).unwrap_err().to_string()
    }

    #[test]
    fn expressions_that_go_refuses_are_refused_with_its_messages() {
        for (source, words) in [
            ("foo(", "missing closing ): `foo(`"),
            ("foo)", "unexpected ): `foo)`"),
            ("[a", "missing closing ]: `[a`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("\\y", "invalid escape sequence: `\\y`"),
            ("a\\", "trailing backslash at end of expression: ``"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ] {
            assert_eq!(refused(source), format!("error parsing regexp: {words}"));
        }
    }

    #[test]
    fn expressions_that_go_accepts_have_the_same_meaning() {
        let matches = |source: &str, text| GoRegexp::new(source).unwrap().is_match(text);
        assert!(matches("a{,2}", "a{,2}"));
        assert!(matches("{", "x{"));
        assert!(!matches("\\d", "٣"));
        assert!(matches("^\\W$", "é"));
        assert!(matches("[[&&a]", "&"));
        assert!(matches("\\Qa.b\\E+$", "a.bb"));
        assert!(matches("(?i)MAIN", "main"));
        assert!(matches("(?P<name>a)(?<other>b)", "ab"));
        assert!(matches("[]a]", "]"));
        assert!(matches("\\bfoo\\B", "foobar"));
        assert!(matches("std::vec<.*>|operator\\(\\)", "operator()"));
        assert!(matches("\\x{41}\\101", "AA"));
        assert!(matches("a|", ""));
        assert!(matches("[a\\-z]", "-"));
        assert!(matches("x[^\\D]", "x5"));
    }
}
