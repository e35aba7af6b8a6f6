//! The real clients of this machine. The other tests use a boundary of each client everywhere. Here the programs themselves
//! run, if they are installed; the test says if one is not.

use std::{io::ErrorKind, path::Path};

use tokio::process::Command;
use upload_domain::{ImageFormat, ImagePath};
use upload_sandbox::samples::jpeg_of_exactly;

use crate::rig::{Rig, STREAM};

const NODE: &str = r"
const [url, token, path] = process.argv.slice(1);
const form = new FormData();
form.append('path', 'user-profile');
form.append('file', new Blob([require('fs').readFileSync(path)], { type: 'image/jpeg' }), 'a.jpg');
fetch(url, { method: 'POST', body: form, headers: { Authorization: 'Bearer ' + token } })
  .then((answer) => console.log(answer.status), (error) => { console.error(error); process.exit(1); });
";

#[tokio::test]
async fn curl_node_and_reqwest_are_streamed() {
    let rig = Rig::start(&[]).await;
    let file = jpeg_of_exactly(3_000_000, 1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jpg");
    std::fs::write(&path, &file).unwrap();
    let url = format!("{}{STREAM}", rig.server.url);
    let token = &rig.person.token;

    let (curl, node) = (curl(&url, token, &path), node(&url, token, &path));

    let reqwest = rig.client().stream(ImagePath::UserProfile, ImageFormat::Jpeg, file.clone()).await.unwrap();
    assert_eq!(reqwest.status, 201);
    let mut streamed = 1;
    for (name, mut command) in [("curl", curl), ("node", node)] {
        match command.output().await {
            Ok(output) => {
                assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "201", "{name}: {output:?}");
                streamed += 1;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => println!("{name} is not installed: not tried"),
            Err(error) => panic!("{name} does not start: {error}"),
        }
    }
    assert_eq!(rig.uploads("streamed").await, streamed);
    for key in rig.keys().await {
        assert!(rig.stand.storage.read(&key).await.unwrap().unwrap() == file);
    }
}

/// The answer comes before the file, and the server reads little more.
#[tokio::test]
async fn curl_and_node_hear_a_refusal_while_they_send() {
    let rig = Rig::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jpg");
    std::fs::write(&path, jpeg_of_exactly(20_000_000, 1)).unwrap();
    let url = format!("{}{STREAM}", rig.server.url);
    for (name, mut command) in [("curl", curl(&url, "none", &path)), ("node", node(&url, "none", &path))] {
        for _ in 0..10 {
            match command.output().await {
                Ok(output) => assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "401", "{name}: {output:?}"),
                Err(error) if error.kind() == ErrorKind::NotFound => println!("{name} is not installed: not tried"),
                Err(error) => panic!("{name} does not start: {error}"),
            }
        }
    }
}

fn curl(url: &str, token: &str, path: &Path) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--noproxy", "*"]);
    curl.args(["--header", &format!("Authorization: Bearer {token}"), "--form", "path=user-profile"]);
    curl.args(["--form", &format!("file=@{};type=image/jpeg", path.display()), url]);
    curl
}

fn node(url: &str, token: &str, path: &Path) -> Command {
    let mut node = Command::new("node");
    node.args(["--eval", NODE, url, token]).arg(path);
    node
}
