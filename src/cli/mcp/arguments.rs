//! The arguments of tools: one description of each, from which its JSON schema is made and by which
//! calls are checked.

use serde_json::{Map, Value, json};

use crate::capture::kinds::{self, Kind};

/// An argument of a tool.
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What values it has.
    pub form: Form,
    /// Whether a call must have it.
    pub is_required: bool,
    /// What it means, with the default.
    pub what: &'static str,
}

/// The values of an argument.
#[derive(Clone, Copy)]
pub enum Form {
    /// An integer from the first to the second number.
    Integer(u64, u64),
    /// Seconds: a number greater than 0, at most this one.
    Seconds(f64),
    /// True or false.
    Flag,
    /// A text.
    Text,
    /// One to 50 texts.
    Texts,
    /// One of these words.
    Choice(fn() -> Vec<&'static str>),
    /// A kind of profile. The description has what each shows.
    Kind,
}

/// The most texts of [`Form::Texts`].
const MOST_TEXTS: usize = 50;

/// The kinds that are profiles, not timelines.
fn kinds() -> impl Iterator<Item = &'static Kind> {
    kinds::ALL.iter().filter(|kind| kind.form == kinds::Form::Profile)
}

fn kind_names() -> Vec<&'static str> {
    kinds().map(|kind| kind.name).collect()
}

impl Parameter {
    /// An argument that a call may omit.
    pub const fn new(name: &'static str, form: Form, what: &'static str) -> Parameter {
        Parameter { name, form, is_required: false, what }
    }

    /// An argument that a call must have.
    pub const fn required(name: &'static str, form: Form, what: &'static str) -> Parameter {
        Parameter { name, form, is_required: true, what }
    }

    fn schema(&self) -> Value {
        let mut schema = match self.form {
            Form::Integer(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
            Form::Seconds(most) => json!({ "type": "number", "exclusiveMinimum": 0, "maximum": most }),
            Form::Flag => json!({ "type": "boolean" }),
            Form::Text => json!({ "type": "string" }),
            Form::Texts => json!({
                "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": MOST_TEXTS
            }),
            Form::Choice(words) => json!({ "type": "string", "enum": words() }),
            Form::Kind => json!({ "type": "string", "enum": kind_names() }),
        };
        schema["description"] = json!(self.description());
        schema
    }

    /// What it means, with the default.
    pub fn description(&self) -> String {
        match self.form {
            Form::Kind => {
                let kinds = kinds().map(|kind| format!("{}: {}", kind.name, kind.what));
                format!("{} {}.", self.what, kinds.collect::<Vec<_>>().join("; "))
            }
            _ => self.what.to_owned(),
        }
    }

    /// What values it has, in words.
    pub fn values(&self) -> String {
        match self.form {
            Form::Integer(least, most) => format!("an integer from {least} to {most}"),
            Form::Seconds(most) => format!("a number greater than 0, at most {most}"),
            Form::Flag => "true or false".into(),
            Form::Text => "a text".into(),
            Form::Texts => format!("a list of 1 to {MOST_TEXTS} texts"),
            Form::Choice(words) => format!("one of {}", words().join(", ")),
            Form::Kind => format!("one of {}", kind_names().join(", ")),
        }
    }

    fn accepts(&self, value: &Value) -> bool {
        match self.form {
            Form::Integer(least, most) => {
                value.as_u64().is_some_and(|number| (least..=most).contains(&number))
            }
            Form::Seconds(most) => value.as_f64().is_some_and(|number| number > 0.0 && number <= most),
            Form::Flag => value.is_boolean(),
            Form::Text => value.is_string(),
            Form::Texts => value.as_array().is_some_and(|texts| {
                (1..=MOST_TEXTS).contains(&texts.len()) && texts.iter().all(Value::is_string)
            }),
            Form::Choice(words) => value.as_str().is_some_and(|word| words().contains(&word)),
            Form::Kind => value.as_str().is_some_and(|word| kind_names().contains(&word)),
        }
    }
}

/// The JSON schema of a tool's arguments.
pub fn schema(parameters: &[Parameter]) -> Value {
    let properties: Map<String, Value> =
        parameters.iter().map(|parameter| (parameter.name.to_owned(), parameter.schema())).collect();
    let required: Vec<&str> =
        parameters.iter().filter(|parameter| parameter.is_required).map(|parameter| parameter.name).collect();
    let mut schema = json!({
        "type": "object", "properties": properties, "additionalProperties": false
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// The arguments of a call, which match the tool's schema.
#[derive(Debug, Default)]
pub struct Arguments(Map<String, Value>);

impl Arguments {
    /// Checks the arguments of a call. Errors, for the model: what is wrong, and what is right.
    pub fn check(tool: &str, parameters: &[Parameter], value: Value) -> Result<Arguments, String> {
        let given = match value {
            Value::Object(given) => given,
            Value::Null => Map::new(),
            _ => return Err("error: `arguments` must be an object".into()),
        };
        let names = || {
            let names: Vec<&str> = parameters.iter().map(|parameter| parameter.name).collect();
            if names.is_empty() { "no arguments".into() } else { names.join(", ") }
        };
        for (name, value) in &given {
            let Some(parameter) = parameters.iter().find(|parameter| parameter.name == name) else {
                return Err(format!(
                    "error: there is no argument `{name}`\n  try      {} takes {}",
                    tool,
                    names()
                ));
            };
            if !value.is_null() && !parameter.accepts(value) {
                return Err(format!(
                    "error: `{name}` cannot be {}\n  try      {}: {}",
                    shortened(value),
                    parameter.values(),
                    parameter.what
                ));
            }
        }
        // null is an omitted argument: several clients send it.
        let given: Map<String, Value> = given.into_iter().filter(|(_, value)| !value.is_null()).collect();
        let missing = parameters.iter().find(|it| it.is_required && !given.contains_key(it.name));
        match missing {
            Some(missing) => Err(format!(
                "error: `{}` is missing\n  try      {}: {}",
                missing.name,
                missing.values(),
                missing.what
            )),
            None => Ok(Arguments(given)),
        }
    }

    /// An integer.
    pub fn integer(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.as_u64()
    }

    /// A number of seconds.
    pub fn seconds(&self, name: &str) -> Option<f64> {
        self.0.get(name)?.as_f64()
    }

    /// Whether a flag is given and true.
    pub fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A text; empty if it is omitted.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Texts; none if they are omitted.
    pub fn texts(&self, name: &str) -> Vec<&str> {
        self.0.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    }
}

/// A value as JSON, cut to a readable length.
fn shortened(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
