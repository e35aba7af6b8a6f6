//! What to paste into a shell: curl, sed, tr and cmp, and no other tool. A test runs every line.

use crate::machine::{Machine, ServerName};

/// Where the photograph is.
pub(crate) const PHOTOGRAPH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/photographs/astronaut.jpg");

/// One upload in one request through V1; then the way of both servers, which differ in nothing but SERVER.
const LINES: &str = r#"# V1: the file in one request; then linked as the profile image, read back and compared
IMAGE=$(curl -sS "$V1/user/images/upload" -H "Authorization: Bearer $TOKEN" -F path=user-profile -F "file=@$PHOTO;type=image/jpeg" | sed 's/.*"id":"\([^"]*\)".*/\1/')
curl -sS "$V1/user/users/profile-image" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d "{\"imageEntityId\":\"$IMAGE\"}"; echo
curl -sSL "$V1/images/$IMAGE" | cmp - "$PHOTO" && echo 'the same bytes'

# Either server: ask for a form, send the file with its fields to its url, link, read back. SERVER=$V1 does the same.
SERVER=$V2
FORM=$(curl -sS "$SERVER/user/images" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{"path":"user-profile","format":"image/jpeg"}')
IMAGE=$(printf '%s' "$FORM" | sed 's/.*"id":"\([^"]*\)".*/\1/')
URL=$(printf '%s' "$FORM" | sed 's/.*"url":"\([^"]*\)".*/\1/')
printf '%s' "$FORM" | sed 's/.*"fields":{\([^}]*\)}.*/\1/' | tr ',' '\n' | sed 's/"\([^"]*\)":"\(.*\)"/form-string = "\1=\2"/' | curl -sS --config - -F "file=@$PHOTO;type=image/jpeg" "$URL"; echo
curl -sS "$SERVER/user/users/profile-image" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d "{\"imageEntityId\":\"$IMAGE\"}"; echo
curl -sSL "$SERVER/images/$IMAGE" | cmp - "$PHOTO" && echo 'the same bytes'
"#;

/// Where everything is, and lines that use it.
pub(crate) fn instructions(machine: &Machine) -> String {
    let (v1, v2) = (machine.url(ServerName::V1), machine.url(ServerName::V2));
    let (store, bucket) = (machine.store_url(), machine.stand().bucket());
    let (token, photograph) = (machine.user_token(), PHOTOGRAPH.replace('\'', r"'\''"));
    format!(
        "
V1, streaming:  {v1}
V2, presigned:  {v2}
store:          {store}, bucket {bucket}
The user's token holds for an hour. To try it, paste into a shell:

V1={v1}
V2={v2}
TOKEN={token}
PHOTO='{photograph}'

{LINES}
Running until Ctrl-C."
    )
}
