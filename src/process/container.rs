//! The containers that a process is in: their IDs are in the paths of its control groups, and the
//! container engines keep their names in files.
//!
//! The paths of the engines, with `ID` for 64 hexadecimal digits: Docker `/docker/ID` and
//! `docker-ID.scope`; containerd `cri-containerd-ID.scope`, `SLICE:cri-containerd:ID` and
//! `/kubepods/…/ID`; CRI-O `crio-ID.scope`; Podman `libpod-ID.scope` and `libpod-ID/container`.
//!
//! Not here: a request to an engine. The files of the names are readable only by root.

use std::{fs::File, io::Read as _, path::PathBuf};

use serde_json::Value;

/// The least number of digits that identify a container: `docker ps` shows as many.
pub const MIN_ID_DIGITS: usize = 12;
/// The number of digits of an ID.
const ID_DIGITS: usize = 64;
/// The most bytes of an engine's file that are read.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The IDs of the containers that a control group belongs to, outermost first.
pub fn ids_in(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(id_of)
}

/// The container of one component of a path. The monitor of a container (`libpod-conmon-ID.scope`)
/// runs outside of it.
fn id_of(component: &str) -> Option<&str> {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    let (before, id) = name.rsplit_once(['-', ':']).unwrap_or(("", name));
    let is_id = id.len() == ID_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_id && !before.ends_with("conmon")).then_some(id)
}

/// Whether `text` is a container's ID or the beginning of it.
pub fn is_id(text: &str, id: &str) -> bool {
    text.len() >= MIN_ID_DIGITS && id.starts_with(&text.to_ascii_lowercase())
}

/// The names of a container, as its engine's files record them; none if they cannot be read.
pub fn names(id: &str) -> Vec<String> {
    let mut names = Vec::new();
    names.extend(json(format!("/var/lib/docker/containers/{id}/config.v2.json")).and_then(docker_name));
    for space in ["k8s.io", "default", "moby"] {
        let file = format!("/run/containerd/io.containerd.runtime.v2.task/{space}/{id}/config.json");
        names.extend(json(file).into_iter().flat_map(annotated_names));
    }
    let crio = json(format!("/run/containers/storage/overlay-containers/{id}/userdata/config.json"));
    names.extend(crio.into_iter().flat_map(annotated_names));
    for list in ["containers", "volatile-containers"] {
        let file = format!("/var/lib/containers/storage/overlay-containers/{list}.json");
        names.extend(json(file).into_iter().flat_map(|all| stored_names(&all, id)));
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// A file as JSON; `None` if it cannot be read.
fn json(path: impl Into<PathBuf>) -> Option<Value> {
    let mut text = Vec::new();
    File::open(path.into()).ok()?.take(MAX_FILE_BYTES).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// `Name` of Docker's config.v2.json, which begins with a slash.
fn docker_name(config: Value) -> Option<String> {
    Some(config.get("Name")?.as_str()?.trim_start_matches('/').to_owned())
}

/// The names in the annotations of an OCI runtime's config.json.
fn annotated_names(config: Value) -> Vec<String> {
    const KEYS: [&str; 4] = [
        "io.kubernetes.cri.container-name",
        "io.kubernetes.container.name",
        "io.kubernetes.cri-o.Name",
        "nerdctl/name",
    ];
    let annotation = |key: &&str| Some(config.get("annotations")?.get(*key)?.as_str()?.to_owned());
    KEYS.iter().filter_map(annotation).collect()
}

/// The names of a container in the list of containers/storage (Podman, CRI-O).
fn stored_names(all: &Value, id: &str) -> Vec<String> {
    let all = all.as_array().map_or(&[][..], Vec::as_slice);
    let of_id = all.iter().filter(|one| one.get("id").and_then(Value::as_str) == Some(id));
    let names = of_id.filter_map(|one| one.get("names")?.as_array()).flatten();
    names.filter_map(|name| Some(name.as_str()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_id_of_a_container_is_found_in_the_paths_of_each_engine() {
        let id = "4f3c9b2e".repeat(8);
        for path in [
            format!("/docker/{id}"),
            format!("/system.slice/docker-{id}.scope"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            format!("/system.slice/containerd.service/kubepods-besteffort.slice:cri-containerd:{id}"),
            format!("/kubepods/besteffort/pod0ab/{id}"),
            format!("/kubepods.slice/crio-{id}.scope/container"),
            format!("/machine.slice/libpod-{id}.scope/container"),
            format!("/../../docker/{id}"),
        ] {
            assert_eq!(ids_in(&path).collect::<Vec<_>>(), [id.as_str()], "{path}");
        }
        for path in [
            "/".to_owned(),
            format!("/machine.slice/libpod-conmon-{id}.scope"),
            format!("/system.slice/docker-{id}0.scope"),
            format!("/{}", "redis-se".repeat(8)),
        ] {
            assert_eq!(ids_in(&path).next(), None, "{path}");
        }
    }

    #[test]
    fn a_container_inside_a_container_has_the_id_of_both() {
        let (outer, inner) = ("a".repeat(64), "b".repeat(64));
        let path = format!("/docker/{outer}/docker/{inner}");
        assert_eq!(ids_in(&path).collect::<Vec<_>>(), [&outer, &inner]);
    }

    #[test]
    fn at_least_twelve_digits_identify_a_container() {
        let id = "4f3c9b2e".repeat(8);
        assert!(is_id(&id, &id) && is_id("4f3c9b2e4f3c", &id) && is_id("4F3C9B2E4F3C", &id));
        assert!(!is_id("4f3c9b2e4f3", &id) && !is_id("5f3c9b2e4f3c", &id) && !is_id("", &id));
    }

    #[test]
    fn the_names_in_the_files_of_engines_are_read() {
        assert_eq!(docker_name(json!({"Name": "/web"})), Some("web".into()));
        assert_eq!(docker_name(json!({"Name": 7})), None);
        let config = json!({"annotations": {"io.kubernetes.cri.container-name": "db", "other": "x"}});
        assert_eq!(annotated_names(config), ["db"]);
        let all = json!([{"id": "1", "names": ["a"]}, {"id": "2", "names": ["b", "c"]}, {"names": 1}, 7]);
        assert_eq!(stored_names(&all, "2"), ["b", "c"]);
        assert!(stored_names(&json!({}), "2").is_empty());
    }
}
