use super::*;

#[test]
fn paths_name_what_they_name() {
    let cases = [
        ("/api/v1/pods", "|v1|pods||||"),
        ("/api/v1/namespaces", "|v1|namespaces||||"),
        ("/api/v1/namespaces/a", "|v1|namespaces|a|a||"),
        ("/api/v1/namespaces/a/status", "|v1|namespaces|a|a|status|"),
        ("/api/v1/namespaces/a/pods", "|v1|pods|a|||"),
        ("/api/v1/namespaces/a/pods/p/log", "|v1|pods|a|p|log|"),
        ("/apis/apps/v1/namespaces/a/deployments/d/scale", "apps|v1|deployments|a|d|scale|"),
        ("/apis/x.io/v1/things/t", "x.io|v1|things||t||"),
        ("/api/v1/namespaces/a/services/s/proxy/x/y", "|v1|services|a|s|proxy|x/y"),
        ("/api/v1/namespaces/a/pods/p%2Fq", "|v1|pods|a|p/q||"),
    ];
    for (path, expected) in cases {
        let t = target(path).unwrap();
        let got = [t.group, t.version, t.plural, t.namespace, t.name, t.subresource, t.rest].join("|");
        assert_eq!(got, expected, "{path}");
    }
    for path in ["/", "/healthz", "/api", "/api/v1", "/apis/apps/v1", "/openapi/v3"] {
        assert_eq!(target(path), None, "{path}");
    }
}

#[test]
fn escapes_that_are_none_stay() {
    assert_eq!(decoded("a%zz%"), "a%zz%");
    assert_eq!(decoded("%41"), "A");
}
