//! asyncio's tasks as a dump: grouped by equal stacks, and as text or JSON.
//!
//! Not here: reading tasks.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use super::{
    code::{Code, source_frame},
    tasks::{PythonTask, Waits},
};
use crate::{
    runtime::{CodeMapping, TaskDump, TaskForm, TaskFrame, TaskSample, TaskSummary},
    symbolize::SourceFrame,
};

/// The most tasks that are named beside a group of tasks with equal stacks.
const MAX_NAMED: usize = 8;

/// The tasks of a process at one time.
#[derive(Debug)]
pub struct PythonTasks {
    tasks: Vec<Task>,
    summary: TaskSummary,
}

#[derive(Debug)]
struct Task {
    name: String,
    waits: String,
    /// Leaf first.
    frames: Vec<SourceFrame>,
}

impl PythonTasks {
    /// Names the coroutines of `tasks` by `code`.
    pub fn new(
        version: &str,
        tasks: Vec<PythonTask>,
        code: &mut dyn FnMut(u64) -> Option<Arc<Code>>,
        reading: Duration,
    ) -> PythonTasks {
        let running = tasks.iter().filter(|task| task.waits == Waits::Running).count();
        let mut unnamed = 0;
        let mut named = |task: PythonTask| {
            let frame = |coroutine: &super::Coroutine| match code(coroutine.code) {
                Some(code) => source_frame(&code, coroutine.instr),
                None => {
                    unnamed += 1;
                    SourceFrame { function: "?".to_owned(), system_name: "?".to_owned(), ..unknown() }
                }
            };
            let frames = task.coroutines.iter().map(frame).collect();
            Task { waits: describe(&task.waits), name: task.name, frames }
        };
        let tasks: Vec<Task> = tasks.into_iter().map(&mut named).collect();
        let mut summary = TaskSummary {
            noun: "task",
            version: version.to_owned(),
            shown: tasks.len(),
            running,
            running_captured: running,
            reading,
            ..TaskSummary::default()
        };
        if unnamed > 0 {
            summary.warnings.push(format!("{unnamed} coroutines changed while they were read"));
        }
        let mut dump = PythonTasks { tasks, summary };
        dump.summary.stacks = dump.groups().len();
        dump
    }

    /// Tasks with equal frames and waits, the largest group first.
    fn groups(&self) -> Vec<Vec<&Task>> {
        let key = |task: &Task| {
            let frames =
                task.frames.iter().map(|frame| (frame.function.clone(), frame.file.clone(), frame.line));
            (frames.collect::<Vec<_>>(), task.waits.clone())
        };
        let mut groups: BTreeMap<_, Vec<&Task>> = BTreeMap::new();
        for task in &self.tasks {
            groups.entry(key(task)).or_default().push(task);
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
        groups
    }

    fn write_each(&self, writer: &mut dyn Write) -> io::Result<()> {
        for (index, task) in self.tasks.iter().enumerate() {
            if index > 0 {
                writeln!(writer)?;
            }
            writeln!(writer, "asyncio task {:?} [{}]:", task.name, task.waits)?;
            write_frames(&task.frames, writer)?;
        }
        Ok(())
    }

    /// Equal tasks together, a task that is alone as by [`PythonTasks::write_each`]; in the order
    /// of the first task of each group.
    fn write_grouped(&self, writer: &mut dyn Write) -> io::Result<()> {
        let mut groups = self.groups();
        // All are in one list: the order of addresses is that of the list.
        groups.sort_by_key(|group| std::ptr::from_ref(group[0]));
        for (index, group) in groups.iter().enumerate() {
            if index > 0 {
                writeln!(writer)?;
            }
            match group[..] {
                [one] => writeln!(writer, "asyncio task {:?} [{}]:", one.name, one.waits)?,
                _ => {
                    let (names, count) = (names(group), group.len());
                    writeln!(writer, "{count} asyncio tasks {names} [{}]:", group[0].waits)?;
                }
            }
            write_frames(&group[0].frames, writer)?;
        }
        Ok(())
    }

    fn write_counted(&self, writer: &mut dyn Write) -> io::Result<()> {
        writeln!(writer, "asyncio tasks: total {}", self.tasks.len())?;
        for group in self.groups() {
            writeln!(writer, "\n{} [{}]: {}", group.len(), group[0].waits, names(&group))?;
            write_frames(&group[0].frames, writer)?;
        }
        Ok(())
    }

    fn write_json(&self, writer: &mut dyn Write) -> io::Result<()> {
        let frame = |frame: &SourceFrame| {
            serde_json::json!({
                "function": frame.function, "file": frame.file, "line": frame.line, "start_line": frame.start_line,
            })
        };
        let task = |task: &Task| {
            let frames: Vec<_> = task.frames.iter().map(frame).collect();
            serde_json::json!({ "name": task.name, "state": task.waits, "frames": frames })
        };
        let tasks: Vec<_> = self.tasks.iter().map(task).collect();
        let all = serde_json::json!({ "runtime": self.summary.version, "tasks": tasks });
        serde_json::to_writer_pretty(&mut *writer, &all)?;
        writeln!(writer)
    }
}

/// The names of the first tasks of a group.
fn names(group: &[&Task]) -> String {
    let names: Vec<_> = group.iter().take(MAX_NAMED).map(|task| format!("{:?}", task.name)).collect();
    names.join(", ") + if group.len() > MAX_NAMED { ", …" } else { "" }
}

fn write_frames(frames: &[SourceFrame], writer: &mut dyn Write) -> io::Result<()> {
    for frame in frames {
        let file = frame.file.as_deref().unwrap_or("?");
        writeln!(writer, "{}\n\t{file}:{}", frame.function, frame.line)?;
    }
    Ok(())
}

fn unknown() -> SourceFrame {
    SourceFrame {
        function: String::new(),
        system_name: String::new(),
        file: None,
        line: 0,
        column: 0,
        start_line: 0,
        inlined: false,
    }
}

/// What a task waits for, as text.
fn describe(waits: &Waits) -> String {
    match waits {
        Waits::Nothing => "ready".to_owned(),
        Waits::Running => "running".to_owned(),
        Waits::Task(name) => format!("waits for task {name:?}"),
        Waits::All(names) => {
            let names: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
            format!("waits for all of {}", names.join(", "))
        }
        Waits::Object(kind) => format!("waits for {kind}"),
    }
}

impl TaskDump for PythonTasks {
    fn summary(&self) -> &TaskSummary {
        &self.summary
    }

    fn samples(&self, _system: bool) -> Vec<TaskSample> {
        let sample = |group: Vec<&Task>| {
            let frame =
                |frame: &SourceFrame| TaskFrame { lines: [frame.clone()].into(), ..TaskFrame::default() };
            let names: Vec<_> = group.iter().take(MAX_NAMED).map(|task| task.name.clone()).collect();
            let mut labels = vec![("state".to_owned(), group[0].waits.clone())];
            if group.len() == 1 {
                labels.push(("task".to_owned(), names[0].clone()));
            }
            TaskSample {
                frames: group[0].frames.iter().map(frame).collect(),
                labels: Some(Arc::new(labels)),
                count: group.len() as i64,
            }
        };
        self.groups().into_iter().map(sample).collect()
    }

    fn mappings(&self) -> Vec<CodeMapping> {
        Vec::new()
    }

    fn write(&self, form: TaskForm, _system: bool, writer: &mut dyn Write) -> io::Result<()> {
        match form {
            TaskForm::Each => self.write_each(writer),
            TaskForm::Grouped => self.write_grouped(writer),
            TaskForm::Counted => self.write_counted(writer),
            TaskForm::Json => self.write_json(writer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: &str, waits: &str) -> Task {
        let frame = SourceFrame {
            function: "waiter".to_owned(),
            file: Some("/app.py".to_owned()),
            line: 7,
            ..unknown()
        };
        Task { name: name.to_owned(), waits: waits.to_owned(), frames: vec![frame] }
    }

    fn text(form: TaskForm, tasks: Vec<Task>) -> String {
        let mut bytes = Vec::new();
        let dump = PythonTasks { tasks, summary: TaskSummary::default() };
        dump.write(form, false, &mut bytes).expect("written");
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn equal_tasks_are_shown_together_in_the_order_of_the_first() {
        let mut tasks = vec![task("first", "running")];
        tasks.extend((0..10).map(|number| task(&format!("w{number}"), "waits for Future")));
        let grouped = text(TaskForm::Grouped, tasks);
        let stack = "waiter\n\t/app.py:7\n";
        let names: Vec<String> = (0..8).map(|number| format!("\"w{number}\"")).collect();
        let expected = format!(
            "asyncio task \"first\" [running]:\n{stack}\n10 asyncio tasks {}, … [waits for Future]:\n{stack}",
            names.join(", ")
        );
        assert_eq!(grouped, expected);
        let each = text(TaskForm::Each, vec![task("a", "ready"), task("b", "ready")]);
        assert_eq!(each.matches("asyncio task ").count(), 2, "{each}");
    }
}
