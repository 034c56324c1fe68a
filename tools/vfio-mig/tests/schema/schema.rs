// SPDX-License-Identifier: GPL-2.0

//! Whether an object is what the schema of `vfio-mig --json` says. Also compiled into the
//! init of test machines, where there are devices.
//!
//! Knows the keywords of JSON Schema that our schema has, and refuses others. A validator for
//! all of JSON Schema would add 40 crates to our lock file. It is stricter in one thing:
//! every key of an object must be described, although the schema lets new keys come.

use serde_json::{
    Map,
    Value, //
};

/// The schema.
pub const TEXT: &str = include_str!("../../schema.json");

/// The schema, parsed.
pub struct Schema(Value);

/// Keywords that are for people.
const ANNOTATIONS: [&str; 5] = ["$schema", "$comment", "$defs", "title", "description"];

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_of_type(value: &Value, wanted: &Value) -> bool {
    let is = type_of(value);
    let fits = |wanted: &Value| *wanted == is || (*wanted == "number" && is == "integer");
    wanted
        .as_array()
        .map_or(fits(wanted), |all| all.iter().any(fits))
}

impl Schema {
    /// Parses [`TEXT`].
    pub fn new() -> Result<Self, String> {
        serde_json::from_str(TEXT)
            .map(Self)
            .map_err(|err| err.to_string())
    }

    /// Says what is wrong with an object that the tool has printed.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        self.check_by(&self.0, value, "")
    }

    fn referred(&self, reference: &Value) -> Result<&Value, String> {
        let name = reference
            .as_str()
            .and_then(|text| text.strip_prefix("#/$defs/"));
        name.and_then(|name| self.0["$defs"].get(name))
            .ok_or(format!("the schema has no {reference}"))
    }

    /// Checks `value`, which is at `path`.
    fn check_by(&self, schema: &Value, value: &Value, path: &str) -> Result<(), String> {
        let Some(keywords) = schema.as_object() else {
            return Err(format!("{path}: the schema is no object: {schema}"));
        };
        for (keyword, wanted) in keywords {
            let fits = match keyword.as_str() {
                "$ref" => return self.check_by(self.referred(wanted)?, value, path),
                "type" => is_of_type(value, wanted),
                "const" => value == wanted,
                "enum" => wanted.as_array().is_some_and(|all| all.contains(value)),
                "minimum" => value.is_null() || value.as_f64() >= wanted.as_f64(),
                "oneOf" => {
                    self.check_one_of(wanted, value, path)?;
                    true
                }
                "items" => {
                    for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check_by(wanted, item, &format!("{path}[{i}]"))?;
                    }
                    true
                }
                "required" => {
                    let mut names = wanted.as_array().into_iter().flatten();
                    names.all(|name| name.as_str().is_some_and(|name| value.get(name).is_some()))
                }
                "properties" | "additionalProperties" => {
                    self.check_keys(keywords, value, path)?;
                    true
                }
                annotation if ANNOTATIONS.contains(&annotation) => true,
                other => return Err(format!("{path}: the schema has {other:?}")),
            };
            if !fits {
                return Err(format!("{path}: {value} is not {keyword} {wanted}"));
            }
        }
        Ok(())
    }

    fn check_one_of(&self, all: &Value, value: &Value, path: &str) -> Result<(), String> {
        let mut wrong = Vec::new();
        let all = all.as_array().map_or(&[][..], Vec::as_slice);
        for one in all {
            wrong.extend(self.check_by(one, value, path).err());
        }
        match all.len() - wrong.len() {
            1 => Ok(()),
            n => Err(format!("{path}: {n} fit: {}", wrong.join("; "))),
        }
    }

    fn check_keys(
        &self,
        keywords: &Map<String, Value>,
        value: &Value,
        path: &str,
    ) -> Result<(), String> {
        for (key, item) in value.as_object().into_iter().flatten() {
            let described = keywords.get("properties").and_then(|all| all.get(key));
            let described = described.or(keywords.get("additionalProperties"));
            let described = described.ok_or(format!("{path}: {key:?} is not described"))?;
            self.check_by(described, item, &format!("{path}.{key}"))?;
        }
        Ok(())
    }
}
