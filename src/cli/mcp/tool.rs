//! A tool and a call of it.

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    arguments::{Arguments, Parameter, schema},
    store::Store,
    text,
};
use crate::{capture::Stop, cli::args::DebugArgs};

/// The name of the argument that permits stopping threads.
pub const MAY_STOP: &str = "may_stop_threads";

/// A tool.
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What it does and returns, for the model.
    pub what: &'static str,
    /// Its arguments.
    pub parameters: &'static [Parameter],
    /// Does it. Returns the text for the model.
    pub call: fn(&Call<'_>) -> Result<String>,
}

/// A call of a tool.
pub struct Call<'c> {
    /// The arguments, which match the schema.
    pub arguments: &'c Arguments,
    /// The captured profiles.
    pub store: &'c Store,
    /// Set when the call should end early.
    pub stop: Stop,
    /// Where debug files are looked up.
    pub debug: &'c DebugArgs,
}

impl Call<'_> {
    /// The most bytes that the call returns.
    pub fn budget(&self) -> usize {
        self.arguments.integer("budget").unwrap_or(text::DEFAULT) as usize
    }
}

impl Tool {
    /// The tool as `tools/list` returns it.
    pub fn json(&self) -> Value {
        json!({
            "name": self.name,
            "title": self.title,
            "description": self.what,
            "inputSchema": schema(self.parameters),
            "annotations": {
                "title": self.title,
                "readOnlyHint": true,
                "destructiveHint": false,
                "idempotentHint": false,
                "openWorldHint": false,
            },
        })
    }

    /// Whether it has the argument that permits stopping threads.
    pub fn may_stop(&self) -> bool {
        self.parameters.iter().any(|parameter| parameter.name == MAY_STOP)
    }
}
