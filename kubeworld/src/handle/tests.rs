use super::*;

use serde_json::Value;

use crate::api::Options;

fn send(api: &Arc<Api>, method: Method, body: &Value) -> Response<Content> {
    let target = "/api/v1/namespaces/default/configmaps";
    let request = Request::builder().method(method).uri(target).header(CONTENT_TYPE, "application/json");
    let request = request.body(Bytes::from(body.to_string())).unwrap();
    match handle(api, &request, &User::admin(), Timestamp::UNIX_EPOCH, || {}) {
        Outcome::Whole(response) => response,
        Outcome::Watch(_) => panic!("a watch"),
    }
}

#[test]
fn a_list_in_pieces_is_the_list() {
    let api = Api::new(Options::default(), Timestamp::UNIX_EPOCH);
    // One piece, then some.
    for (objects, in_pieces) in [(3, false), (300, true)] {
        for number in 0..objects {
            let name = format!("{objects}-{number:04}");
            let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
                              "data": {"text": "t".repeat(1000)}});
            assert_eq!(send(&api, Method::POST, &body).status(), 201);
        }
        let response = send(&api, Method::GET, &Value::Null);
        let length = response.headers().get(CONTENT_LENGTH).map(|length| length.to_str().unwrap().to_owned());
        let body = match response.into_body() {
            Content::Bytes(bytes) => {
                assert!(!in_pieces);
                bytes.to_vec()
            }
            Content::Pieces(pieces) => {
                let pieces: Vec<Bytes> = pieces.collect();
                assert!(in_pieces && pieces.len() > 5, "{} pieces", pieces.len());
                pieces.concat()
            }
        };
        assert_eq!(length, in_pieces.then(|| body.len().to_string()));
        let list: Value = serde_json::from_slice(&body).unwrap();
        let names: Vec<&str> =
            list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect();
        assert!(names.is_sorted() && names.len() >= objects, "{names:?}");
    }
}
