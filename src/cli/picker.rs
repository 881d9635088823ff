//! Lets the user choose one of several processes: a numbered list on standard error, and a line
//! from standard input.

use std::io::{BufRead, IsTerminal, Write};

use crate::process::{Identity, comm::printable, select};

/// How many processes are listed.
const LISTED: usize = 20;
/// How often a wrong answer is asked again.
const ATTEMPTS: usize = 3;
/// The columns of a line.
const COLUMNS: usize = 100;

/// What the user chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The process with this index.
    One(usize),
    /// All processes.
    All,
}

/// Whether there is a terminal to choose on.
pub fn is_possible() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// PID, name and command of a process, shortened to one line.
pub fn line(identity: &Identity) -> String {
    let command = printable(select::command_line(identity.pid).as_bytes());
    let command = if command.is_empty() { select::program(identity) } else { command };
    let line = format!("{:>7}  {:<15}  {command}", identity.pid, identity.display_name());
    shortened(line.trim_end(), COLUMNS)
}

/// The beginning of a text, with `…` in place of the rest.
fn shortened(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns - 1).chain(['…']).collect()
}

/// The first of the lines, with the number of those that are not shown.
pub fn bounded(lines: &[String]) -> Vec<String> {
    let mut shown: Vec<String> = lines.iter().take(LISTED).cloned().collect();
    if lines.len() > LISTED {
        shown.push(format!("        … and {} more", lines.len() - LISTED));
    }
    shown
}

/// Lets the user choose; `None`: nothing was chosen.
pub fn ask(head: &str, lines: &[String], may_be_all: bool) -> Option<Choice> {
    let (stdin, mut stderr) = (std::io::stdin().lock(), std::io::stderr());
    ask_on(head, lines, may_be_all, stdin, &mut stderr)
}

fn ask_on(
    head: &str,
    lines: &[String],
    may_be_all: bool,
    mut input: impl BufRead,
    output: &mut impl Write,
) -> Option<Choice> {
    let count = lines.len().min(LISTED);
    writeln!(output, "{head}:").ok()?;
    for (number, line) in (1..).zip(bounded(lines)) {
        let number = if number > LISTED { String::new() } else { number.to_string() };
        writeln!(output, "{number:>3} {line}").ok()?;
    }
    let all = if may_be_all { ", a: all of them" } else { "" };
    for _ in 0..ATTEMPTS {
        write!(output, "which? (1 to {count}{all}, Enter: none) ").ok()?;
        output.flush().ok()?;
        let mut answer = String::new();
        input.read_line(&mut answer).ok()?;
        match answer.trim() {
            "" => return None,
            "a" | "all" if may_be_all => return Some(Choice::All),
            number => match number.parse::<usize>() {
                Ok(number) if (1..=count).contains(&number) => return Some(Choice::One(number - 1)),
                _ => writeln!(output, "{number:?} is not one of the numbers").ok()?,
            },
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(answers: &str, may_be_all: bool) -> (Option<Choice>, String) {
        let lines = ["1234  redis".to_owned(), "5678  redis".to_owned()];
        let mut output = Vec::new();
        let choice = ask_on("redis matches 2 processes", &lines, may_be_all, answers.as_bytes(), &mut output);
        (choice, String::from_utf8(output).expect("text"))
    }

    #[test]
    fn a_number_chooses_a_process_and_a_all_of_them() {
        let (choice, shown) = answered("2\n", true);
        assert_eq!(choice, Some(Choice::One(1)));
        assert_eq!(
            shown,
            "redis matches 2 processes:\n  1 1234  redis\n  2 5678  redis\nwhich? (1 to 2, a: all of them, Enter: none) "
        );
        assert_eq!(answered("a\n", true).0, Some(Choice::All));
        assert_eq!(answered("", true).0, None);
        assert_eq!(answered("\n1\n", true).0, None);
    }

    #[test]
    fn a_wrong_number_is_asked_again_a_few_times() {
        let (choice, shown) = answered("0\n3\n1\n", false);
        assert_eq!(choice, Some(Choice::One(0)));
        assert!(shown.contains("\"3\" is not one of the numbers"), "{shown}");
        assert_eq!(answered("a\nb\nc\n1\n", false).0, None);
    }

    #[test]
    fn a_long_list_and_a_long_line_are_shortened() {
        let lines: Vec<String> = (0..30).map(|number| number.to_string()).collect();
        let shown = bounded(&lines);
        assert_eq!((shown.len(), &*shown[20]), (21, "        … and 10 more"));
        assert_eq!(shortened("abcdef", 4), "abc…");
        assert_eq!(shortened("abcd", 4), "abcd");
    }
}
