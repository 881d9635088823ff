//! The table of tools.

use clap::ValueEnum;

use super::{
    arguments::{Form, Parameter},
    capture, reports, text,
    tool::{self, Tool},
};
use crate::{cli::args::SamplerArg, report::output::FORMATS};

/// The largest PID: PID_MAX_LIMIT of the kernel's include/linux/threads.h.
const MAX_PID: u64 = 1 << 22;

const BUDGET: Parameter = Parameter::new(
    "budget",
    Form::Integer(text::RANGE.0, text::RANGE.1),
    "Most bytes of the result (default 8000). What is left out is counted.",
);
const MAY_STOP: Parameter = Parameter::new(
    tool::MAY_STOP,
    Form::Flag,
    "Permit methods that stop threads for microseconds each (default false). Ask the user first.",
);
const PID: Parameter = Parameter::required("pid", Form::Integer(1, MAX_PID), "PID of the process.");
const CHILDREN: Parameter =
    Parameter::new("children", Form::Flag, "Include the descendants of the process (default false).");
const PROFILE: Parameter = Parameter::required(
    "profile",
    Form::Text,
    "An id that attach or dump returned (p1), or the path of a profile file.",
);
const SAMPLE_TYPE: Parameter = Parameter::new(
    "sample_type",
    Form::Text,
    "Value to report, by name, such as samples or cpu (default: that of the profile).",
);
const FOCUS: Parameter =
    Parameter::new("focus", Form::Text, "Keep samples with a frame that matches this regular expression.");
const IGNORE: Parameter =
    Parameter::new("ignore", Form::Text, "Drop samples with a frame that matches this regular expression.");
const CUM: Parameter =
    Parameter::new("cum", Form::Flag, "Count time in called functions too (default false).");
const FORMAT: Parameter =
    Parameter::new("format", Form::Choice(formats), "Format of the result (default text).");

fn formats() -> Vec<&'static str> {
    FORMATS.iter().map(|(name, _)| *name).collect()
}

fn samplers() -> Vec<&'static str> {
    // The names are those of `--sampler`.
    ["auto", "bpf", "perf-cpu", "perf-cgroup", "perf-thread", "ptrace"]
        .into_iter()
        .filter(|name| SamplerArg::from_str(name, false).is_ok())
        .collect()
}

fn expansions() -> Vec<&'static str> {
    vec!["kernel", "runtime", "all"]
}

/// All tools.
pub const ALL: &[Tool] = &[
    Tool {
        name: "list_processes",
        title: "List processes",
        what: "Lists running processes, the busiest first, with PID, CPU use over 0.3 s, threads, user and \
               command line.",
        parameters: &[
            Parameter::new(
                "name",
                Form::Text,
                "Regular expression of names and program paths (default: all).",
            ),
            Parameter::new("match_args", Form::Flag, "Match command-line arguments too (default false)."),
            BUDGET,
        ],
        call: capture::list_processes,
    },
    Tool {
        name: "attach",
        title: "Profile a process",
        what: "Samples a running process, keeps the profile under an id, and returns its heaviest call paths, its \
               quality and the id. The process is not changed and goes on running.",
        parameters: &[
            PID,
            Parameter::new("kind", Form::Kind, "The kind of profile (default: the first)."),
            Parameter::new("seconds", Form::Seconds(300.0), "How long to sample (default 5)."),
            Parameter::new(
                "frequency_hz",
                Form::Integer(1, 5000),
                "Samples per second of CPU time (default 99).",
            ),
            CHILDREN,
            Parameter::new(
                "sampler",
                Form::Choice(samplers),
                "Sampling method (default auto: the best one permitted). ptrace needs may_stop_threads.",
            ),
            MAY_STOP,
            BUDGET,
        ],
        call: capture::attach,
    },
    Tool {
        name: "dump",
        title: "Show all threads",
        what: "Shows the stack of every thread of a process now (of every task, where a runtime runs tasks), equal stacks \
               together, with the state and what it waits for.",
        parameters: &[
            PID,
            CHILDREN,
            Parameter::new(
                "threads",
                Form::Flag,
                "Show threads, not the tasks of the language (default false).",
            ),
            Parameter::new(
                "each",
                Form::Flag,
                "Show each thread, not equal stacks together (default false).",
            ),
            Parameter::new(
                "consistent",
                Form::Flag,
                "Stop all threads together, so that all stacks are of the same instant (default false). Needs \
                 may_stop_threads.",
            ),
            MAY_STOP,
            BUDGET,
        ],
        call: capture::dump,
    },
    Tool {
        name: "top",
        title: "Hottest functions",
        what: "Shows the functions of a profile with the most time of their own (flat) and with called functions (cum).",
        parameters: &[PROFILE, CUM, FOCUS, IGNORE, SAMPLE_TYPE, FORMAT, BUDGET],
        call: reports::top,
    },
    Tool {
        name: "paths",
        title: "Call paths",
        what: "Shows the heaviest call paths as a tree; with `function`, only those through that function.",
        parameters: &[
            PROFILE,
            Parameter::new("function", Form::Text, "Part of a function's name, or a regular expression."),
            Parameter::new("rows", Form::Integer(1, 500), "Most rows of the tree (default 40)."),
            Parameter::new(
                "expand",
                Form::Choice(expansions),
                "Show all frames of the kernel, of libraries and runtimes, or of both (default: folded).",
            ),
            SAMPLE_TYPE,
            BUDGET,
        ],
        call: reports::paths,
    },
    Tool {
        name: "source",
        title: "Annotated source",
        what: "Shows the source lines of matching functions with the time of each line. Without the source file, the \
               line numbers.",
        parameters: &[
            PROFILE,
            Parameter::required(
                "function",
                Form::Text,
                "Part of a function's name, or a regular expression.",
            ),
            SAMPLE_TYPE,
            BUDGET,
        ],
        call: reports::source,
    },
    Tool {
        name: "diff",
        title: "Compare profiles",
        what: "Compares two profiles, or several runs on each side: which functions grew or shrank by more than \
               chance explains.",
        parameters: &[
            Parameter::required("base", Form::Texts, "Profiles to compare with: ids or paths, one per run."),
            Parameter::required("new", Form::Texts, "The newer profiles: ids or paths, one per run."),
            Parameter::new("all", Form::Flag, "Also show changes that are within noise (default false)."),
            CUM,
            SAMPLE_TYPE,
            FORMAT,
            BUDGET,
        ],
        call: reports::diff,
    },
    Tool {
        name: "quality",
        title: "Quality of a profile",
        what: "Says how far to trust a profile: how uncertain its shares are, what was lost, cut or not named, and what \
               each of its comments means.",
        parameters: &[PROFILE, BUDGET],
        call: reports::quality,
    },
    Tool {
        name: "doctor",
        title: "What works here",
        what: "Checks what this machine and user allow (of a process, or in general), why something does not work, and \
               how to allow it.",
        parameters: &[Parameter::new("pid", Form::Integer(1, MAX_PID), "PID of a process."), BUDGET],
        call: capture::doctor,
    },
];

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::arguments::Arguments, *};

    /// The section on a tool in docs/MCP.md.
    fn section(tool: &Tool) -> String {
        let what = wrapped(tool.what);
        let mut text = format!("### `{}`\n\n{what}\n\n", tool.name);
        text += "| argument | values | meaning |\n|---|---|---|\n";
        for parameter in tool.parameters {
            let required = if parameter.is_required { " (required)" } else { "" };
            let (name, values) = (parameter.name, without_invented(parameter.values()));
            let what = without_invented(parameter.description());
            text += &format!("| `{name}`{required} | {values} | {what} |\n");
        }
        text
    }

    /// Lines of at most 100 characters.
    fn wrapped(text: &str) -> String {
        let mut lines = vec![String::new()];
        for word in text.split(' ') {
            let last = lines.len() - 1;
            let line = &mut lines[last];
            if line.is_empty() {
                line.push_str(word);
            } else if line.len() + 1 + word.len() <= 100 {
                *line += &format!(" {word}");
            } else {
                lines.push(word.to_owned());
            }
        }
        lines.join("\n")
    }

    /// A list of kinds without the one that only tests have.
    fn without_invented(text: String) -> String {
        let invented = &crate::capture::kinds::invented::ROW;
        let explained = format!("; {}: {}", invented.name, invented.what);
        text.replace(&explained, "").replace(&format!(", {}", invented.name), "")
    }

    #[test]
    fn the_document_has_every_tool_and_argument_in_the_order_of_the_list() {
        let document = include_str!("../../../docs/MCP.md");
        let sections: Vec<String> = ALL.iter().map(section).collect();
        let expected = sections.join("\n");
        let tools = document.split_once("\n### ").map_or("", |(_, rest)| rest);
        let tools = tools.split_once("\n## ").map_or(tools, |(tools, _)| tools);
        assert!(
            format!("### {tools}").trim_end() == expected.trim_end(),
            "docs/MCP.md must have:\n{expected}"
        );
        assert!(document.contains(super::super::protocol::SCHEMA));
    }

    #[test]
    fn every_argument_has_a_description_and_every_tool_only_reads() {
        for tool in ALL {
            let json = tool.json();
            assert_eq!(json["annotations"]["readOnlyHint"], true, "{}", tool.name);
            assert_eq!(json["inputSchema"]["additionalProperties"], false);
            for (name, schema) in json["inputSchema"]["properties"].as_object().expect("an object") {
                assert!(schema["description"].as_str().is_some_and(|text| text.ends_with('.')), "{name}");
            }
        }
    }

    #[test]
    fn every_sampler_of_the_command_line_is_accepted() {
        assert_eq!(samplers().len(), SamplerArg::value_variants().len());
    }

    fn tool(name: &str) -> &'static Tool {
        ALL.iter().find(|tool| tool.name == name).expect("a tool")
    }

    fn refused(name: &str, arguments: Value) -> String {
        Arguments::check(name, tool(name).parameters, arguments).expect_err("refused")
    }

    #[test]
    fn wrong_arguments_are_explained() {
        assert!(refused("attach", json!({ "pid": "redis" })).contains("an integer from 1 to"));
        assert!(refused("attach", json!({})).contains("`pid` is missing"));
        assert!(refused("attach", json!({ "pid": 1, "secs": 5 })).contains("attach takes pid, "));
        assert!(refused("attach", json!({ "pid": 1, "seconds": 0 })).contains("greater than 0"));
        assert!(refused("attach", json!({ "pid": 1, "kind": "x".repeat(500) })).len() < 600);
        assert!(refused("attach", json!([1])).contains("must be an object"));
        assert!(refused("diff", json!({ "base": [], "new": ["p1"] })).contains("1 to 50 texts"));
    }

    #[test]
    fn an_argument_that_is_null_is_omitted() {
        let given =
            Arguments::check("attach", tool("attach").parameters, json!({ "pid": 1, "seconds": null }))
                .expect("valid");
        assert_eq!((given.integer("pid"), given.seconds("seconds")), (Some(1), None));
    }
}
