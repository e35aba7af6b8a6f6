//! Whether a schema allows a shape of `answers.txt`. All names must be known, no required name may be missing, and the kinds of values
//! must fit. This covers the part of JSON Schema that the documents use, without rules for the content of texts.

use serde_json::Value;

/// The shape of a value, without its content.
#[derive(Debug, PartialEq, Eq)]
enum Shape {
    /// `string`, `number`, `boolean` or `null`.
    Plain(&'static str),
    List(Vec<Shape>),
    Object(Vec<(String, Shape)>),
    /// An object whose names the interface does not define.
    HandedOn,
}

/// Says what does not fit.
pub(super) fn fits(shape: &str, schema: &Value, root: &Value) -> Result<(), String> {
    let (parsed, rest) = parse(shape)?;
    if !rest.is_empty() {
        return Err(format!("{rest} follows"));
    }
    check(&parsed, schema, root, "it")
}

fn parse(text: &str) -> Result<(Shape, &str), String> {
    if let Some(rest) = text.strip_prefix("{…}") {
        return Ok((Shape::HandedOn, rest));
    }
    if let Some(mut rest) = text.strip_prefix('{') {
        let mut members = Vec::new();
        while !rest.starts_with('}') {
            let end = rest.find([':', ',', '}']).ok_or("an object has no end")?;
            let (name, after) = rest.split_at(end);
            let (shape, after) = match after.strip_prefix(": ") {
                Some(after) => parse(after)?,
                None => (Shape::Plain("string"), after),
            };
            members.push((name.to_owned(), shape));
            rest = after.strip_prefix(", ").unwrap_or(after);
        }
        return Ok((Shape::Object(members), &rest[1..]));
    }
    if let Some(mut rest) = text.strip_prefix('[') {
        let mut items = Vec::new();
        while !rest.starts_with(']') {
            let (item, after) = parse(rest)?;
            items.push(item);
            rest = after.strip_prefix(" | ").unwrap_or(after);
        }
        return Ok((Shape::List(items), &rest[1..]));
    }
    let plain = [("text", "string"), ("number", "number"), ("boolean", "boolean"), ("null", "null")];
    let found = plain.into_iter().find_map(|(word, kind)| Some((Shape::Plain(kind), text.strip_prefix(word)?)));
    found.ok_or_else(|| format!("{text} is no shape"))
}

fn check(shape: &Shape, schema: &Value, root: &Value, at: &str) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target =
            root.pointer(reference.trim_start_matches('#')).ok_or_else(|| format!("{reference} is missing"))?;
        return check(shape, target, root, at);
    }
    if let Some(choices) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
        let refusals: Vec<String> = choices.iter().filter_map(|choice| check(shape, choice, root, at).err()).collect();
        return if refusals.len() < choices.len() { Ok(()) } else { Err(refusals.join("; ")) };
    }
    let types = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
        _ => return Err(format!("the schema of {at} has no type")),
    };
    let kind = match shape {
        Shape::Plain("number") if types.contains(&"integer") => "integer",
        Shape::Plain(kind) => kind,
        Shape::List(_) => "array",
        Shape::Object(_) | Shape::HandedOn => "object",
    };
    if !types.contains(&kind) {
        return Err(format!("{at} is {kind} in place of {types:?}"));
    }
    match shape {
        Shape::Plain(_) => Ok(()),
        Shape::List(items) => items.iter().try_for_each(|item| check(item, &schema["items"], root, at)),
        Shape::HandedOn if schema["additionalProperties"].is_object() => Ok(()),
        Shape::HandedOn => Err(format!("{at} has names of its own")),
        Shape::Object(members) => check_members(members, schema, root, at),
    }
}

fn check_members(members: &[(String, Shape)], schema: &Value, root: &Value, at: &str) -> Result<(), String> {
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !members.iter().any(|(name, _shape)| name == required) {
            return Err(format!("{at} has no {required}"));
        }
    }
    for (name, shape) in members {
        let known =
            schema["properties"].get(name).ok_or_else(|| format!("{at} has {name}, of which nothing is said"))?;
        check(shape, known, root, name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_shape_fits_a_schema_that_knows_all_of_its_names() {
        let root = json!({ "components": { "schemas": { "Id": { "type": "string" } } } });
        let schema = json!({
            "type": "object",
            "required": ["id", "at"],
            "properties": {
                "id": { "$ref": "#/components/schemas/Id" },
                "at": { "type": ["string", "null"] },
                "list": { "type": "array", "items": { "type": "integer" } },
                "fields": { "type": "object", "additionalProperties": { "type": "string" } },
                "one": { "oneOf": [{ "type": "null" }, { "type": "object", "properties": {} }] },
            },
        });
        for fitting in ["{at, id}", "{at: null, id, list: []}", "{at, fields: {…}, id, list: [number], one: {}}"] {
            assert_eq!(fits(fitting, &schema, &root), Ok(()), "{fitting}");
        }
        for other in ["{id}", "{at, id, more}", "{at: number, id}", "{at, id: null}", "{at, id, list: [text | number]}"]
        {
            assert!(fits(other, &schema, &root).is_err(), "{other}");
        }
    }
}
