//! The profiles that a Go runtime keeps itself, as accounts: heap, allocs, block, mutex,
//! threadcreate.
//!
//! Not here: how they are read (`buckets`, `threads`), the profile's file.

use std::collections::BTreeMap;

use super::{
    BucketKind,
    bucket_text::{write_contention, write_heap},
    buckets::{BucketError, Contention, Heap, scaled},
    process::GoProcess,
    stacks::{GoStacks, mappings, synthetic},
};
use crate::{
    budget::Exhausted,
    runtime::{Account, AccountSample, AccountValue},
};

/// The profiles' names.
pub const NAMES: [&str; 5] = ["heap", "allocs", "block", "mutex", "threadcreate"];

const UNSETTLED: &str = "counts kept changing while they were read: some may be older than others";

/// Reads a profile; `None`: there is none of this name. Errors: the program does not collect it, or
/// it cannot be read.
pub fn read(process: &GoProcess, name: &str) -> Result<Option<Account>, BucketError> {
    let mut account = match name {
        "heap" | "allocs" => heap(process, name == "allocs")?,
        "block" => contention(process, BucketKind::Block)?,
        "mutex" => contention(process, BucketKind::Mutex)?,
        "threadcreate" => thread_create(process)?,
        _ => return Ok(None),
    };
    if !process.is_known_release {
        account.warnings.push(format!(
            "{} is newer than the releases rprof knows: read with the layout of {}, which passed its checks",
            process.version_text, process.layout.source
        ));
    }
    account.mappings = mappings(process);
    Ok(Some(account))
}

/// A profile in Go's text form (`debug=1`); `None` for threadcreate, whose text is made from the
/// profile. Errors: as [`read`].
pub fn text(process: &GoProcess, name: &str) -> Result<Option<Vec<u8>>, BucketError> {
    let mut text = Vec::new();
    let kind = match name {
        "heap" | "allocs" => {
            write_heap(process, &process.heap()?, &mut text).expect("writing to memory does not fail");
            return Ok(Some(text));
        }
        "block" => BucketKind::Block,
        "mutex" => BucketKind::Mutex,
        _ => return Ok(None),
    };
    let counted = process.contention(kind)?;
    write_contention(process, &counted, kind, &mut text).expect("writing to memory does not fail");
    Ok(Some(text))
}

fn heap(process: &GoProcess, is_allocs: bool) -> Result<Account, BucketError> {
    let Heap { records, rate, is_consistent, limit, .. } = process.heap()?;
    let mut stacks = GoStacks::new(process);
    let mut account = Account {
        sample_types: vec![
            ("alloc_objects", "count"),
            ("alloc_space", "bytes"),
            ("inuse_objects", "count"),
            ("inuse_space", "bytes"),
        ],
        default_sample_type: if is_allocs { "alloc_space" } else { "" },
        period: ("space", "bytes", rate.cast_signed()),
        comments: vec![format!("rate: one allocation per {rate} bytes is sampled, and scaled up")],
        ..Account::default()
    };
    for record in records.iter().filter(|record| record.allocs > 0) {
        let allocated = scaled(record.allocs, record.alloc_bytes, rate);
        let in_use = scaled(record.in_use_objects(), record.in_use_bytes(), rate);
        account.samples.push(AccountSample {
            frames: stacks.allocation(&record.stack),
            values: vec![allocated.0, allocated.1, in_use.0, in_use.1],
            labels: vec![("bytes", AccountValue::Number(record.size.cast_signed(), "bytes"))],
        });
    }
    account.records = account.samples.len();
    settle(&mut account, limit.or(stacks.limit), is_consistent);
    Ok(account)
}

fn contention(process: &GoProcess, kind: BucketKind) -> Result<Account, BucketError> {
    let Contention { records, rate, is_consistent, ticks_hz, limit } = process.contention(kind)?;
    let mut stacks = GoStacks::new(process);
    let unit = if kind == BucketKind::Block { "ticks of waiting" } else { "events" };
    let mut account = Account {
        sample_types: vec![("contentions", "count"), ("delay", "nanoseconds")],
        period: ("contentions", "count", 1),
        records: records.len(),
        comments: vec![format!("rate: one in {rate} {unit}; {:.0} MHz", ticks_hz / 1e6)],
        ..Account::default()
    };
    for record in &records {
        let (frames, values) = (stacks.returns(&record.stack), vec![record.count, record.delay_ns]);
        account.samples.push(AccountSample { frames, values, labels: Vec::new() });
    }
    if rate == 0 {
        account.warnings.push("the program has switched this profile off: it no longer grows".into());
    }
    settle(&mut account, limit.or(stacks.limit), is_consistent);
    Ok(account)
}

fn thread_create(process: &GoProcess) -> Result<Account, BucketError> {
    let threads = process.threads()?;
    let mut stacks = GoStacks::new(process);
    let mut counts: BTreeMap<&[u64], i64> = BTreeMap::new();
    for thread in &threads {
        *counts.entry(&thread.created_at).or_default() += 1;
    }
    let mut account = Account {
        sample_types: vec![("threadcreate", "count")],
        period: ("threadcreate", "count", 1),
        records: threads.len(),
        ..Account::default()
    };
    for (stack, count) in counts {
        let frames = match stack {
            [] => vec![synthetic("[started by the scheduler]")],
            stack => stacks.returns(stack),
        };
        account.samples.push(AccountSample { frames, values: vec![count], labels: Vec::new() });
    }
    Ok(account)
}

fn settle(account: &mut Account, limit: Option<Exhausted>, is_consistent: bool) {
    account.limit = limit;
    if !is_consistent {
        account.warnings.push(UNSETTLED.to_owned());
    }
}
