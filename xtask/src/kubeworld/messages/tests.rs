use super::*;

const PROTO: &str = r#"
syntax = "proto2";

package k8s.io.api.core.v1;

import "k8s.io/apimachinery/pkg/apis/meta/v1/generated.proto";

// message Fake is a comment
message ExtraValue {
  // items, if empty, will result in an empty slice

  repeated string items = 1;
}

message Port {
  // +optional
  optional .k8s.io.apimachinery.pkg.util.intstr.IntOrString port = 1;

  optional .k8s.io.apimachinery.pkg.apis.meta.v1.ObjectMeta metadata = 2;

  map<string, ExtraValue> extra = 4;

  optional int32 replicas = 5;

  optional Reference localObjectReference = 6;

  optional string Name = 7;
}

message Reference {
}
"#;

const GO: &str = r#"
type ExtraValue []string

// Port is one.
type Port struct {
	metav1.TypeMeta `json:",inline"`
	// Comment with `json:"x"`.
	Port intstr.IntOrString `json:"port,omitempty" protobuf:"bytes,1,opt,name=port"`
	metav1.ObjectMeta `json:"metadata,omitempty" protobuf:"bytes,2,opt,name=metadata"`
	Extra map[string]ExtraValue `json:"extra,omitempty" protobuf:"bytes,4,rep,name=extra"`
	Replicas *int32 `json:"replicas,omitempty" protobuf:"varint,5,opt,name=replicas"`
	Reference `json:"" protobuf:"bytes,6,opt,name=localObjectReference"`
	// Gone *Of `json:"gone" protobuf:"bytes,9,opt,name=gone"`
	Name string `json:"name" protobuf:"bytes,7,opt,name=Name"`
}

type Reference struct {
}
"#;

const META: &str =
    "\npackage k8s.io.apimachinery.pkg.apis.meta.v1;\n\nmessage Time {\n  optional int64 seconds = 1;\n}\n";

fn sources(go: &str) -> [Source; 2] {
    [
        Source { group_version: "v1", proto: PROTO.to_owned(), go: go.to_owned() },
        Source { group_version: "meta.k8s.io/v1", proto: META.to_owned(), go: String::new() },
    ]
}

#[test]
fn a_package_becomes_lines() {
    let expected = "v1.ExtraValue\n1 = []string !\n\n\
                    v1.Port\n1 port int-or-string\n2 metadata meta.k8s.io/v1.ObjectMeta\n4 extra {}.ExtraValue\n\
                    5 replicas int32 !\n6 - .Reference !\n7 name string !\n\n\
                    v1.Reference\n\n";
    assert_eq!(text(&sources(GO)).unwrap(), expected);
}

#[test]
fn a_field_that_go_lacks_is_an_error() {
    let error = text(&sources(&GO.replace("varint,5", "varint,9"))).unwrap_err();
    assert_eq!(format!("{error:#}"), "k8s.io.api.core.v1.Port, field replicas: the Go types do not have it");
}

#[test]
fn a_package_that_nobody_reads_is_an_error() {
    let [core, _] = sources(GO);
    let error = text(&[core]).unwrap_err();
    assert!(format!("{error:#}").ends_with("no package k8s.io.apimachinery.pkg.apis.meta.v1 is read"), "{error:#}");
}
