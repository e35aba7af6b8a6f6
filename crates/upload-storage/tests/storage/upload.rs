//! A client's request, built by hand so that each part of it can be wrong.

use reqwest::{Client, Method, Response};

const BOUNDARY: &str = "----upload-storage-test-boundary";

/// One part of a form.
#[derive(Debug, Clone)]
pub struct Part {
    pub name: String,
    pub file_name: Option<String>,
    pub content_type: Option<String>,
    pub body: Vec<u8>,
}

/// A form that is about to be sent.
#[derive(Debug, Clone)]
pub struct Upload {
    pub method: Method,
    pub url: String,
    pub parts: Vec<Part>,
    /// The request's own Content-Type.
    pub content_type: String,
    /// Sent instead of the parts.
    pub raw_body: Option<Vec<u8>>,
    /// How many bytes at the end of the body are left out. Content-Length has the shorter length.
    pub cut_off_bytes: usize,
}

impl Upload {
    /// The correct form: every field, then the file.
    pub fn new(url: &str, fields: &[(String, String)], file: &[u8]) -> Self {
        let mut parts: Vec<Part> = fields.iter().map(|(name, value)| field(name, value)).collect();
        parts.push(Part {
            name: "file".to_owned(),
            file_name: Some("picture.png".to_owned()),
            content_type: Some("image/png".to_owned()),
            body: file.to_vec(),
        });
        Self {
            method: Method::POST,
            url: url.to_owned(),
            parts,
            content_type: format!("multipart/form-data; boundary={BOUNDARY}"),
            raw_body: None,
            cut_off_bytes: 0,
        }
    }

    fn position(&self, name: &str) -> usize {
        self.parts.iter().position(|part| part.name == name).unwrap_or_else(|| panic!("the form has no {name}"))
    }

    pub fn part(&mut self, name: &str) -> &mut Part {
        let position = self.position(name);
        &mut self.parts[position]
    }

    pub fn value(&self, name: &str) -> String {
        String::from_utf8(self.parts[self.position(name)].body.clone()).unwrap()
    }

    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.part(name).body = value.as_ref().to_vec();
    }

    /// Changes a field's value. Panics if that changes nothing.
    pub fn edit(&mut self, name: &str, change: impl FnOnce(&str) -> String) {
        let old = self.value(name);
        let new = change(&old);
        assert_ne!(old, new, "{name}");
        self.set(name, new);
    }

    pub fn remove(&mut self, name: &str) -> Part {
        let position = self.position(name);
        self.parts.remove(position)
    }

    /// Adds a field before all others.
    pub fn add_first(&mut self, name: &str, value: &str) {
        self.parts.insert(0, field(name, value));
    }

    /// Adds a field after the others, before the file.
    pub fn add(&mut self, name: &str, value: &str) {
        let position = self.position("file");
        self.parts.insert(position, field(name, value));
    }

    pub fn move_to_end(&mut self, name: &str) {
        let part = self.remove(name);
        self.parts.push(part);
    }

    /// The body's bytes.
    pub fn body(&self) -> Vec<u8> {
        let mut body = self.raw_body.clone().unwrap_or_else(|| {
            let mut body = Vec::new();
            for part in &self.parts {
                body.extend(format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{}\"", part.name).bytes());
                if let Some(file_name) = &part.file_name {
                    body.extend(format!("; filename=\"{file_name}\"").bytes());
                }
                if let Some(content_type) = &part.content_type {
                    body.extend(format!("\r\nContent-Type: {content_type}").bytes());
                }
                body.extend(b"\r\n\r\n");
                body.extend(&part.body);
                body.extend(b"\r\n");
            }
            body.extend(format!("--{BOUNDARY}--\r\n").bytes());
            body
        });
        body.truncate(body.len() - self.cut_off_bytes);
        body
    }

    pub async fn send(&self, client: &Client) -> Response {
        let request = client.request(self.method.clone(), &self.url).header("content-type", &self.content_type);
        request.body(self.body()).send().await.unwrap()
    }
}

fn field(name: &str, value: &str) -> Part {
    Part { name: name.to_owned(), file_name: None, content_type: None, body: value.as_bytes().to_vec() }
}
