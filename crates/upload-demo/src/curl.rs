//! Lines to paste into a shell. They need only curl, sed, tr and cmp. A test runs every line.

use crate::machine::{Machine, ServerName};

/// Where the photograph is.
pub(crate) const PHOTOGRAPH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/photographs/astronaut.jpg");

/// One upload in one request through V1; then the steps that work with both servers.
const LINES: &str = r#"# V1: upload the file in one request; then link it as the profile image, read it back and compare
IMAGE=$(curl -sS "$V1/user/images/upload" -H "Authorization: Bearer $TOKEN" -F path=user-profile -F "file=@$PHOTO;type=image/jpeg" | sed 's/.*"id":"\([^"]*\)".*/\1/')
curl -sS "$V1/user/users/profile-image" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d "{\"imageEntityId\":\"$IMAGE\"}"; echo
curl -sSL "$V1/images/$IMAGE" | cmp - "$PHOTO" && echo 'the same bytes'

# Both servers: get a form, send its fields and the file to its url, link, read back. Set SERVER=$V1 to try V1.
SERVER=$V2
FORM=$(curl -sS "$SERVER/user/images" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{"path":"user-profile","format":"image/jpeg"}')
IMAGE=$(printf '%s' "$FORM" | sed 's/.*"id":"\([^"]*\)".*/\1/')
URL=$(printf '%s' "$FORM" | sed 's/.*"url":"\([^"]*\)".*/\1/')
printf '%s' "$FORM" | sed 's/.*"fields":{\([^}]*\)}.*/\1/' | tr ',' '\n' | sed 's/"\([^"]*\)":"\(.*\)"/form-string = "\1=\2"/' | curl -sS --config - -F "file=@$PHOTO;type=image/jpeg" "$URL"; echo
curl -sS "$SERVER/user/users/profile-image" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d "{\"imageEntityId\":\"$IMAGE\"}"; echo
curl -sSL "$SERVER/images/$IMAGE" | cmp - "$PHOTO" && echo 'the same bytes'
"#;

/// All addresses, and the lines to try them.
pub(crate) fn instructions(machine: &Machine) -> String {
    let (v1, v2) = (machine.url(ServerName::V1), machine.url(ServerName::V2));
    let (store, bucket) = (machine.store_url(), machine.stand().bucket());
    let (token, photograph) = (machine.user_token(), PHOTOGRAPH.replace('\'', r"'\''"));
    format!(
        "
V1, streaming:  {v1}
V2, presigned:  {v2}
store:          {store}, bucket {bucket}
The user's token is valid for an hour. To try the servers, paste this into a shell:

V1={v1}
V2={v2}
TOKEN={token}
PHOTO='{photograph}'

{LINES}
Running until Ctrl-C."
    )
}
