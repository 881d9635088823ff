//! Named settings, in the file format of `go tool pprof`: `{"configs": [{"name": ..., "focus":
//! ...}]}`.
//!
//! Not here: the path of the file (`cli` chooses it).

use std::{fs, io, path::Path};

use serde_json::{Map, Value, json};

use super::{DataError, query::Query};
use crate::{
    profile::write_atomically,
    report::pprof::{OPTIONS, Settings},
};

/// Options of input and output, which do not belong to a view.
const NOT_SAVED: [&str; 3] = ["output", "source_path", "trim_path"];

fn trouble(path: &Path, error: &dyn std::fmt::Display) -> DataError {
    DataError { status: 500, why: format!("{}: {error}", path.display()) }
}

/// The content of the file; empty if there is no file.
fn read(path: &Path) -> Result<Vec<Map<String, Value>>, DataError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(trouble(path, &error)),
    };
    let file: Value = serde_json::from_str(&text).map_err(|error| trouble(path, &error))?;
    let configs = file["configs"].as_array().cloned().unwrap_or_default();
    Ok(configs.into_iter().filter_map(|config| config.as_object().cloned()).collect())
}

fn write(path: &Path, configs: Vec<Map<String, Value>>) -> Result<(), DataError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| trouble(folder, &error))?;
    }
    let text = format!("{:#}\n", json!({ "configs": configs }));
    write_atomically(path, |file| file.write_all(text.as_bytes())).map_err(|error| trouble(path, &error))
}

/// All saved settings as URL parameters, after the default.
///
/// # Errors
/// [`DataError`] when the file is not readable or a parameter is invalid.
pub fn list(path: Option<&Path>, query: &Query, given: &Settings) -> Result<Value, DataError> {
    let now = query.settings(given)?;
    let saved = path.map_or_else(|| Ok(Vec::new()), read)?;
    let entry = |name: &str, config: &Map<String, Value>, is_own: bool| {
        let settings = parameters(config);
        let text =
            |(name, value): (&String, &Value)| (name.clone(), value.as_str().unwrap_or_default().into());
        let same = Query::of(settings.iter().map(text).collect()).settings(given).is_ok_and(|own| own == now);
        json!({ "name": name, "settings": settings, "is_own": is_own, "current": same })
    };
    let mut configs = vec![entry("Default", &Map::new(), false)];
    configs.extend(saved.iter().map(|config| entry(name_of(config), config, true)));
    Ok(json!({ "configs": configs }))
}

fn name_of(config: &Map<String, Value>) -> &str {
    config.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// Saved settings as URL parameters.
fn parameters(config: &Map<String, Value>) -> Map<String, Value> {
    let options = OPTIONS.iter().filter(|option| !option.url_name.is_empty());
    options
        .filter_map(|option| {
            let text = match config.get(option.name)? {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            Some((option.url_name.to_string(), text.into()))
        })
        .collect()
}

/// Saves the settings of the URL under the name in `config`.
///
/// # Errors
/// [`DataError`] when the name or a parameter is invalid or the file cannot be written.
pub fn save(path: Option<&Path>, query: &Query, given: &Settings) -> Result<(), DataError> {
    let (path, name) = file_and_name(path, query)?;
    let settings = query.settings(given)?;
    let default = Settings::default();
    let mut config = Map::from_iter([("name".to_string(), Value::from(name))]);
    for option in OPTIONS.iter().filter(|option| !NOT_SAVED.contains(&option.name)) {
        let text = option.get(&settings);
        if text == option.get(&default) {
            continue;
        }
        let as_is =
            serde_json::from_str::<Value>(&text).ok().filter(|value| value.is_number() || value.is_boolean());
        let is_text = option.get(&default).is_empty() || !option.choices.is_empty() || option.name == "unit";
        config.insert(option.name.into(), as_is.filter(|_| !is_text).unwrap_or(text.into()));
    }
    let mut configs = read(path)?;
    match configs.iter_mut().find(|known| name_of(known) == name) {
        Some(known) => *known = config,
        None => configs.push(config),
    }
    write(path, configs)
}

/// Deletes the settings named in `config`.
///
/// # Errors
/// [`DataError`] when there are none of this name or the file cannot be written.
pub fn delete(path: Option<&Path>, query: &Query) -> Result<(), DataError> {
    let (path, name) = file_and_name(path, query)?;
    let mut configs = read(path)?;
    let before = configs.len();
    configs.retain(|config| name_of(config) != name);
    if configs.len() == before {
        return Err(DataError::bad_request(&format!("unknown config: {name}")));
    }
    write(path, configs)
}

fn file_and_name<'a>(path: Option<&'a Path>, query: &'a Query) -> Result<(&'a Path, &'a str), DataError> {
    let path = path.ok_or_else(|| {
        DataError::bad_request("settings cannot be saved here: no configuration folder is known")
    })?;
    match query.get("config") {
        "" | "Default" => Err(DataError::bad_request("invalid config name")),
        name => Ok((path, name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_settings_are_listed_and_have_the_format_of_the_reference() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pprof/settings.json");
        let file = Some(path.as_path());
        let given = Settings::default();
        let query = Query::parse("config=mine&f=12&n=30&g=lines&trim=false&unit=ms");
        save(file, &query, &given).unwrap();
        let text: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let wanted = json!({"configs": [{"name": "mine", "focus": "12", "nodecount": 30, "granularity": "lines",
            "trim": false, "unit": "ms"}]});
        assert_eq!(text, wanted);
        let listed = list(file, &query, &given).unwrap();
        assert_eq!(listed["configs"][1]["settings"]["n"], "30");
        assert_eq!(
            (&listed["configs"][0]["current"], &listed["configs"][1]["current"]),
            (&json!(false), &json!(true))
        );
        delete(file, &query).unwrap();
        assert_eq!(list(file, &query, &given).unwrap()["configs"].as_array().map(Vec::len), Some(1));
        assert_eq!(delete(file, &query).unwrap_err().why, "unknown config: mine");
    }

    #[test]
    fn a_name_is_required_and_a_file_that_is_not_json_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.json");
        fs::write(&path, "not json").unwrap();
        let given = Settings::default();
        assert_eq!(save(Some(&path), &Query::parse("f=x"), &given).unwrap_err().why, "invalid config name");
        assert_eq!(save(Some(&path), &Query::parse("config=a"), &given).unwrap_err().status, 500);
        assert_eq!(fs::read_to_string(&path).unwrap(), "not json");
    }
}
