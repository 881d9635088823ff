//! Which class a method is in, by the source: V8 keeps only the method's own name.
//!
//! The source is read as tokens, not parsed: a slash after a bracket is a division. A mistake gives
//! a wrong class, never a wrong function. Not here: reading the source.

use super::heap::Text;

/// The longest source that is searched, in characters.
const MAX_SOURCE: usize = 8 << 20;
/// The deepest nesting of brackets.
const MAX_DEPTH: usize = 4096;
/// The longest name, in characters.
const MAX_NAME: usize = 256;

/// The methods of the classes in a source.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Classes {
    names: Vec<String>,
    /// Where the parameters of each method begin, and the number of its class; sorted.
    methods: Vec<(u32, u32)>,
}

impl Classes {
    /// Finds the classes of a source.
    pub fn of(source: &Text) -> Classes {
        if source.len() > MAX_SOURCE {
            return Classes::default();
        }
        let mut scan = Scan::new(source);
        while scan.step() {}
        scan.found
    }

    /// The class of the method whose parameters begin at an offset in the source.
    pub fn of_method(&self, offset: u32) -> Option<&str> {
        let at = self.methods.binary_search_by_key(&offset, |(start, _)| *start).ok()?;
        self.names.get(self.methods[at].1 as usize).map(String::as_str)
    }
}

/// An open bracket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Round,
    Block,
    /// The body of the class with this number; `None`: it has no name.
    Class(Option<u32>),
    /// `${` in a template.
    Substitution,
}

struct Scan<'s> {
    source: &'s Text,
    at: usize,
    open: Vec<Open>,
    /// After `class`, before its body: the name, and how many brackets are open.
    class: Option<(String, usize)>,
    /// The last identifier, and the one before the last `=`.
    last: String,
    assigned: String,
    /// What comes next may be a regular expression.
    before_value: bool,
    found: Classes,
}

fn is_name(unit: u16) -> bool {
    char::from_u32(u32::from(unit)).is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$' || c == '#')
}

impl<'s> Scan<'s> {
    fn new(source: &'s Text) -> Scan<'s> {
        Scan {
            source,
            at: 0,
            open: Vec::new(),
            class: None,
            last: String::new(),
            assigned: String::new(),
            before_value: true,
            found: Classes::default(),
        }
    }

    fn unit(&self, ahead: usize) -> u16 {
        self.source.unit(self.at + ahead).unwrap_or(0)
    }

    fn next_is(&self, text: &[u8]) -> bool {
        text.iter().enumerate().all(|(index, byte)| self.unit(index) == u16::from(*byte))
    }

    /// Reads a token. `false`: the source is at its end, or too deep.
    fn step(&mut self) -> bool {
        let unit = self.unit(0);
        let Ok(character) = u8::try_from(unit) else {
            return self.word();
        };
        match character {
            0 => return self.at < self.source.len() && self.advance(1),
            b'/' if self.next_is(b"//") => self.skip_to(b"\n"),
            b'/' if self.next_is(b"/*") => self.skip_to(b"*/"),
            b'/' if self.before_value => self.regular_expression(),
            b'"' | b'\'' => self.string(unit),
            b'`' => self.template(),
            b'{' => self.open_brace(),
            b'}' => match self.open.pop() {
                Some(Open::Substitution) => self.template(),
                _ => self.operator(true),
            },
            b'(' => {
                self.parameters();
                self.open.push(Open::Round);
                self.operator(true);
            }
            b')' => {
                if self.open.last() == Some(&Open::Round) {
                    self.open.pop();
                }
                self.operator(false);
            }
            b']' => self.operator(false),
            b'=' => {
                if self.unit(1) != u16::from(b'=') && self.unit(1) != u16::from(b'>') {
                    self.assigned.clone_from(&self.last);
                }
                self.operator(true);
            }
            _ if is_name(unit) => return self.word(),
            _ if character.is_ascii_whitespace() => self.at += 1,
            _ => self.operator(true),
        }
        self.open.len() < MAX_DEPTH
    }

    fn advance(&mut self, units: usize) -> bool {
        self.at += units;
        true
    }

    fn operator(&mut self, before_value: bool) {
        self.at += 1;
        self.before_value = before_value;
    }

    fn word(&mut self) -> bool {
        let start = self.at;
        while is_name(self.unit(0)) {
            self.at += 1;
        }
        if self.at == start {
            self.at += 1;
            return true;
        }
        let units = (start..self.at.min(start + MAX_NAME)).filter_map(|at| self.source.unit(at));
        let word = String::from_utf16_lossy(&units.collect::<Vec<_>>());
        let is_property = start.checked_sub(1).and_then(|at| self.source.unit(at)) == Some(u16::from(b'.'));
        match word.as_str() {
            "class" if !is_property => self.class = Some((String::new(), self.open.len())),
            "extends" => {}
            _ => {
                if let Some((name, _)) = self.class.as_mut().filter(|(name, _)| name.is_empty()) {
                    name.clone_from(&word);
                }
            }
        }
        // `class extends Base`: the class itself has no name.
        if word == "extends"
            && let Some((name, _)) = self.class.as_mut().filter(|(name, _)| name.is_empty())
        {
            name.clone_from(&self.assigned);
        }
        self.before_value = matches!(
            word.as_str(),
            "return" | "typeof" | "case" | "in" | "of" | "delete" | "void" | "throw" | "new" | "else" | "do"
        );
        self.last = word;
        true
    }

    fn open_brace(&mut self) {
        let depth = self.open.len();
        match self.class.take() {
            Some((name, at)) if at == depth => {
                let name = if name.is_empty() { std::mem::take(&mut self.assigned) } else { name };
                let number = (!name.is_empty()).then_some(self.found.names.len() as u32);
                self.found.names.extend(number.map(|_| name));
                self.open.push(Open::Class(number));
            }
            waiting => {
                self.class = waiting;
                self.open.push(Open::Block);
            }
        }
        self.operator(true);
    }

    /// An opening bracket directly in a class begins the parameters of a method.
    fn parameters(&mut self) {
        if let Some(Open::Class(Some(class))) = self.open.last() {
            self.found.methods.push((self.at as u32, *class));
        }
    }

    fn skip_to(&mut self, end: &[u8]) {
        self.at += end.len();
        while self.at < self.source.len() && !self.next_is(end) {
            self.at += 1;
        }
        self.at += end.len();
    }

    fn string(&mut self, quote: u16) {
        self.at += 1;
        while self.at < self.source.len() && self.unit(0) != quote && self.unit(0) != u16::from(b'\n') {
            self.at += if self.unit(0) == u16::from(b'\\') { 2 } else { 1 };
        }
        self.operator(false);
    }

    /// From a backquote, or the end of a substitution, to the next substitution or the end.
    fn template(&mut self) {
        self.at += 1;
        while self.at < self.source.len() && self.unit(0) != u16::from(b'`') {
            if self.next_is(b"${") {
                self.open.push(Open::Substitution);
                self.at += 1;
                return self.operator(true);
            }
            self.at += if self.unit(0) == u16::from(b'\\') { 2 } else { 1 };
        }
        self.operator(false);
    }

    fn regular_expression(&mut self) {
        self.at += 1;
        let mut in_set = false;
        while self.at < self.source.len() && self.unit(0) != u16::from(b'\n') {
            match u8::try_from(self.unit(0)) {
                Ok(b'/') if !in_set => break,
                Ok(b'\\') => self.at += 1,
                Ok(b'[') => in_set = true,
                Ok(b']') => in_set = false,
                _ => {}
            }
            self.at += 1;
        }
        self.operator(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The class of the method whose parameters follow `name`.
    fn class<'c>(classes: &'c Classes, source: &str, name: &str) -> Option<&'c str> {
        let at = source.find(&format!("{name}(")).expect("a method") + name.len();
        classes.of_method(at as u32)
    }

    #[test]
    fn methods_have_the_name_of_their_class() {
        let source = r#"
            class Alpha extends Base(function () {}) {
                constructor(n) { super(n); const f = { inner() { return `${{}} class X { (`; } }; }
                one(a = "class B {", b = /[}/"]\}/) { return a / b / 2; } // class C {
                static async two() { class Nested { three() {} } call(1); }
                get four() { return this.x; }
            }
            const Beta = class { five() {} };
            exports.Gamma = class extends Alpha { six() {} };
            function seven() { return eight(); }
        "#;
        let classes = Classes::of(&Text::OneByte(source.as_bytes().to_vec()));
        let of = |name: &str| class(&classes, source, name);
        assert_eq!(["constructor", "one", "two", "four"].map(of), [Some("Alpha"); 4]);
        assert_eq!([of("three"), of("five"), of("six")], [Some("Nested"), Some("Beta"), Some("Gamma")]);
        assert_eq!(["inner", "call", "seven", "eight"].map(of), [None; 4]);
    }

    #[test]
    fn any_text_is_read_to_its_end() {
        for text in ["class", "class {", "`${`${`", "/[", "\"\\", "class A { (", "}}}]))", "/*", "a\0b"] {
            Classes::of(&Text::OneByte(text.as_bytes().to_vec()));
            Classes::of(&Text::TwoByte(text.encode_utf16().collect()));
        }
        let deep = Text::OneByte(vec![b'{'; MAX_DEPTH * 2]);
        assert_eq!(Classes::of(&deep), Classes::default());
    }
}
