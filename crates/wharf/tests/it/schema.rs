//! Answers against Heroku's own schema of its Platform API.

use serde_json::{Value, json};

const SCHEMA: &str = include_str!("data/heroku-platform-schema.json");

/// Checks a value against one definition of the schema, and that no field of ours is unknown to it.
/// Two patterns name Heroku's own hosts; ours are elsewhere. And the schema calls a host name a URI,
/// which its own example is not. Those three are not checked.
pub(crate) fn assert_schema(definition: &str, value: &Value) {
    let mut schema: Value = serde_json::from_str(SCHEMA).unwrap();
    for field in ["git_url", "web_url"] {
        let app = &mut schema["definitions"]["app"]["definitions"][field];
        app.as_object_mut().unwrap().remove("pattern");
    }
    let domain = &mut schema["definitions"]["domain"]["definitions"]["hostname"];
    domain.as_object_mut().unwrap().remove("format");
    let properties = schema["definitions"][definition]["properties"].clone();
    let schema = json!({
        "$schema": "http://json-schema.org/draft-04/schema#",
        "$ref": format!("#/definitions/{definition}"),
        "definitions": schema["definitions"],
    });
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{definition}: {errors:#?}\n{value:#}");
    for name in value.as_object().unwrap().keys() {
        assert!(properties.get(name).is_some(), "{definition} has no field {name}");
    }
    for name in properties.as_object().unwrap().keys() {
        assert!(
            value.get(name).is_some() || is_optional(definition, name),
            "{definition} lacks {name}"
        );
    }
}

/// Fields that mean nothing here.
fn is_optional(definition: &str, name: &str) -> bool {
    definition == "account"
        && [
            "country_of_residence",
            "default_organization",
            "default_team",
            "delinquent_at",
            "identity_provider",
            "sms_number",
            "suspended_at",
        ]
        .contains(&name)
}

/// The same for every element of a list, which must not be empty.
pub(crate) fn assert_list(definition: &str, value: &Value) {
    let list = value.as_array().unwrap();
    assert!(!list.is_empty());
    list.iter().for_each(|one| assert_schema(definition, one));
}
