use serde_json::Value;

use super::*;
use crate::{
    profile::{
        Builder, LineSpec,
        columns::{Columns, aggregate::Detail, decode},
        encode_gzip,
    },
    report::pprof::objects::NoObjects,
};

/// `main` (100) calls `work` (90) and `idle` (10); `tight` (60) is inlined into `work`, which also (30)
/// calls `main` again and that `work`.
pub(super) fn profile() -> Columns {
    let mut columns = decoded(["main", "work", "idle", "tight"]);
    let by_function = Detail {
        inlines: true,
        functions: true,
        files: true,
        lines: false,
        columns: false,
        addresses: false,
    };
    columns.aggregate(by_function);
    columns
}

fn decoded(names: [&str; 4]) -> Columns {
    let mut builder = Builder::new(&[("samples", "count"), ("cpu", "nanoseconds")]);
    let [main, work, idle, tight] = names.map(|name| builder.function(name, name, "a.c", 3));
    let line = |function| LineSpec { function, line: 7, column: 0 };
    let main = builder.location(None, 0x10, &[line(main)]);
    let worked = builder.location(None, 0x20, &[line(work)]);
    let inlined = builder.location(None, 0x30, &[line(tight), line(work)]);
    let idle = builder.location(None, 0x40, &[line(idle)]);
    builder.sample(&[inlined, main], &[6, 60], &[]);
    builder.sample(&[worked, main, worked, main], &[3, 30], &[]);
    builder.sample(&[idle, main], &[1, 10], &[]);
    decode::read(encode_gzip(&builder.finish())).expect("a profile")
}

fn site(columns: Columns) -> Site {
    let offered = Offered::loaded("cpu.pb.gz", columns);
    let draw = Box::new(|graph: &[u8]| Ok([b"drawn: ", graph].concat()));
    Site::new(vec![offered], Settings::default(), None, Box::new(NoObjects), draw)
}

fn asked(path: &str, query: &str) -> (u16, Value) {
    let response = site(profile()).answer(Request { path, query, is_post: false });
    let text = String::from_utf8(response.body).expect("text");
    (response.status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[test]
fn a_flame_graph_is_sent_as_arrays() {
    let (status, flame) = asked("api/flame", "");
    assert_eq!(status, 200, "{flame}");
    assert_eq!(flame["total"], 100);
    assert_eq!(flame["frames"]["name"], serde_json::json!(["main", "work", "idle", "tight"]));
    assert_eq!(flame["nodes"]["weight"], serde_json::json!([100, 100, 90, 10, 60, 30, 30]));
    assert_eq!(flame["nodes"]["inlined"], serde_json::json!([4]));
}
