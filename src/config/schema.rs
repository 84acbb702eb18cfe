//! The JSON Schema of a configuration file, for editors: made from the table of keys the reader uses.
//!
//! `assets/config.schema.json` is a copy; a test compares the two. It says less than
//! `opsdeck config check`: what only makes sense beside other values is not in it.

use serde_json::{Map, Value, json};

use super::keys;
use super::shape::{Choice, Key, Kind, Naming, ROOT};

/// The schema (draft 2020-12). Durations, sizes and signals are described by patterns.
pub fn schema() -> Value {
    let mut root = table(ROOT);
    let about = [
        ("$schema", json!("https://json-schema.org/draft/2020-12/schema")),
        ("title", json!("opsdeck configuration")),
    ];
    if let Value::Object(root) = &mut root {
        root.extend(about.map(|(name, value)| (name.to_owned(), value)));
    }
    root
}

fn table(keys: &[Key]) -> Value {
    let properties: Map<String, Value> = keys
        .iter()
        .filter(|it| !matches!(it.kind, Kind::Later(_)))
        .map(|it| (it.name.to_owned(), described(it)))
        .collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

fn described(key: &Key) -> Value {
    let mut value = kind(&key.kind);
    if let Value::Object(it) = &mut value {
        it.insert("description".into(), json!(key.doc));
        if let Ok(default) = serde_json::from_str::<Value>(key.default) {
            it.insert("default".into(), default);
        }
    }
    value
}

fn kind(kind: &Kind) -> Value {
    match kind {
        Kind::Text | Kind::Path | Kind::Pattern | Kind::Url => {
            json!({ "type": "string", "minLength": 1 })
        }
        Kind::Loose => json!({ "type": ["string", "integer", "boolean"] }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Duration { .. } => pattern(
            r"^(?=.)([0-9]+(\.[0-9]+)?d)?([0-9]+(\.[0-9]+)?h)?([0-9]+(\.[0-9]+)?m)?([0-9]+(\.[0-9]+)?s)?([0-9]+ms)?$",
        ),
        Kind::Size { .. } => pattern(r"^[0-9]+ *([kKmMgGtT]i?)?[bB]$"),
        Kind::Signal | Kind::AnySignal => {
            pattern(r"^([sS][iI][gG])?[a-zA-Z][a-zA-Z0-9]*(\+[0-9]+)?$|^[0-9]+$")
        }
        Kind::Choice(words) => json!({ "enum": choices(words) }),
        Kind::Profile => json!({ "anyOf": [
            { "enum": std::iter::once("auto").chain(super::profiles::built_in_names()).collect::<Vec<_>>() },
            { "type": "string", "minLength": 1 },
        ] }),
        Kind::Command => json!({ "anyOf": [
            { "type": "string", "minLength": 1 },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
        ] }),
        Kind::Port => json!({
            "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 65535 }, { "const": "auto" }]
        }),
        Kind::Retries => json!({ "anyOf": [
            { "type": "integer", "minimum": 0, "maximum": 1_000_000 },
            { "const": "unlimited" },
        ] }),
        Kind::Status => json!({ "anyOf": [
            { "type": "integer", "minimum": 100, "maximum": 599 },
            pattern("^([1-5][0-9][0-9](-[1-5][0-9][0-9])?|[1-5]xx)$"),
        ] }),
        Kind::Listen => json!({ "anyOf": [
            { "type": "integer", "minimum": 1, "maximum": 65535 },
            pattern("^([0-9.]*:|\\[[0-9a-fA-F:.]+\\]:)?[0-9]{1,5}$"),
        ] }),
        Kind::List(of) => json!({ "type": "array", "items": self::kind(of) }),
        Kind::OneOrMore(of) => {
            let of = self::kind(of);
            json!({ "anyOf": [of, { "type": "array", "items": of }] })
        }
        Kind::Table(keys) => table(keys),
        Kind::Either(of, keys) => json!({ "anyOf": [self::kind(of), table(keys)] }),
        Kind::Named(of, naming) => named(self::kind(of), *naming),
        Kind::Later(_) => json!(false),
    }
}

fn pattern(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

fn choices(words: &[Choice]) -> Vec<&str> {
    let word = |it: &Choice| match it {
        Choice::Word(word) => Some(*word),
        Choice::Later(..) => None,
    };
    words.iter().filter_map(word).collect()
}

fn named(of: Value, naming: Naming) -> Value {
    let names = match naming {
        Naming::Name => pattern("^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$"),
        Naming::Variable => pattern("^[^=]+$"),
        Naming::Field => pattern("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"),
        Naming::Action => {
            json!({ "enum": keys::ACTIONS.iter().map(|it| it.0).collect::<Vec<_>>() })
        }
    };
    json!({ "type": "object", "propertyNames": names, "additionalProperties": of })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a change of the table of keys: `OPSDECK_WRITE_SCHEMA=1 cargo test schema`.
    #[test]
    fn the_file_in_assets_is_this_schema() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/config.schema.json");
        let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
        if std::env::var_os("OPSDECK_WRITE_SCHEMA").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), text);
    }

    #[test]
    fn every_default_is_json() {
        fn visit(keys: &[Key]) {
            for key in keys {
                let default = serde_json::from_str::<Value>(key.default);
                assert!(key.default.is_empty() || default.is_ok(), "{}", key.name);
                if let Kind::Table(keys)
                | Kind::Either(_, keys)
                | Kind::Named(&Kind::Table(keys), _)
                | Kind::List(&Kind::Table(keys)) = key.kind
                {
                    visit(keys);
                }
            }
        }
        visit(ROOT);
    }

    #[test]
    fn every_key_of_the_example_is_in_the_schema() {
        fn visit(value: &toml::Value, schema: &Value, path: &str) {
            match value {
                toml::Value::Table(table) => {
                    for (name, value) in table {
                        let path = format!("{path}.{name}");
                        let of = &schema["properties"][name];
                        let of = if of.is_null() { &schema["additionalProperties"] } else { of };
                        assert!(
                            !of.is_null() && *of != json!(false),
                            "{path} is not in the schema"
                        );
                        visit(value, of, &path);
                    }
                }
                toml::Value::Array(array) => {
                    array.iter().for_each(|it| visit(it, &schema["items"], path));
                }
                _ => {}
            }
        }
        let example: toml::Table = include_str!("../../config.example.toml").parse().unwrap();
        visit(&toml::Value::Table(example), &schema(), "");
    }
}
