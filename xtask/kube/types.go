//go:build ignore

// Writes how Go encodes each built-in kind: for each struct its JSON fields, their types, and whether an empty one is
// left out. kubeworld needs it, since a real API server decodes every object into these structs and encodes it again:
// that drops what is empty, adds what is not omitted, and gives quantities and times their one form.
//
// Run in xtask/kube/servers, whose go.mod names the versions: go run ../types.go > ../../../kubeworld/src/kinds/types.txt
package main

import (
	"fmt"
	"os"
	"reflect"
	"sort"
	"strings"

	admissionregistration "k8s.io/api/admissionregistration/v1"
	apps "k8s.io/api/apps/v1"
	authentication "k8s.io/api/authentication/v1"
	authorization "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	certificates "k8s.io/api/certificates/v1"
	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	events "k8s.io/api/events/v1"
	flowcontrol "k8s.io/api/flowcontrol/v1"
	networking "k8s.io/api/networking/v1"
	node "k8s.io/api/node/v1"
	policy "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	resource "k8s.io/api/resource/v1"
	scheduling "k8s.io/api/scheduling/v1"
	storage "k8s.io/api/storage/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

var scheme = runtime.NewScheme()

// structs are written once each, found by walking from the kinds.
var structs = map[string][]string{}

// leaf types have an encoding of their own.
var leaves = map[string]string{
	"k8s.io/apimachinery/pkg/api/resource.Quantity":      "quantity",
	"k8s.io/apimachinery/pkg/apis/meta/v1.Time":          "time",
	"k8s.io/apimachinery/pkg/apis/meta/v1.MicroTime":     "microtime",
	"k8s.io/apimachinery/pkg/apis/meta/v1.Duration":      "duration",
	"k8s.io/apimachinery/pkg/apis/meta/v1.FieldsV1":      "raw",
	"k8s.io/apimachinery/pkg/util/intstr.IntOrString":    "intorstring",
	"k8s.io/apimachinery/pkg/runtime.RawExtension":       "raw",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSON":                     "raw",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrBool":    "raw",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrArray":   "raw",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrStringArray": "raw",
}

func name(t reflect.Type) string {
	path := t.PkgPath()
	for _, prefix := range []string{"k8s.io/api/", "k8s.io/apimachinery/pkg/apis/", "k8s.io/apiextensions-apiserver/pkg/apis/", "k8s.io/kube-aggregator/pkg/apis/"} {
		path = strings.TrimPrefix(path, prefix)
	}
	return strings.ReplaceAll(path, "/", ".") + "." + t.Name()
}

func kind(t reflect.Type) string {
	if leaf, ok := leaves[t.PkgPath()+"."+t.Name()]; ok {
		return leaf
	}
	switch t.Kind() {
	case reflect.Ptr:
		return "*" + kind(t.Elem())
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "bytes"
		}
		return "[]" + kind(t.Elem())
	case reflect.Map:
		return "{}" + kind(t.Elem())
	case reflect.Struct:
		walk(t)
		return name(t)
	default:
		return t.Kind().String()
	}
}

func walk(t reflect.Type) {
	if _, ok := structs[name(t)]; ok {
		return
	}
	structs[name(t)] = nil
	structs[name(t)] = fields(t)
}

func fields(t reflect.Type) []string {
	var out []string
	for i := 0; i < t.NumField(); i++ {
		field := t.Field(i)
		tag := strings.Split(field.Tag.Get("json"), ",")
		if !field.IsExported() || tag[0] == "-" {
			continue
		}
		flags := ""
		inline := field.Anonymous && tag[0] == ""
		for _, flag := range tag[1:] {
			switch flag {
			case "omitempty":
				flags += "?"
			case "omitzero":
				flags += "!"
			case "inline":
				inline = true
			}
		}
		if inline {
			if leaf := kind(field.Type); !strings.Contains(leaf, ".") {
				panic(leaf)
			}
			out = append(out, fields(field.Type)...)
			continue
		}
		if tag[0] == "" {
			panic(name(t) + field.Name)
		}
		out = append(out, fmt.Sprintf("%s%s %s", tag[0], flags, kind(field.Type)))
	}
	return out
}

func main() {
	add := []func(*runtime.Scheme) error{
		core.AddToScheme, apps.AddToScheme, batch.AddToScheme, autoscalingv1.AddToScheme, autoscaling.AddToScheme,
		networking.AddToScheme, policy.AddToScheme, rbac.AddToScheme, storage.AddToScheme, coordination.AddToScheme,
		discovery.AddToScheme, events.AddToScheme, scheduling.AddToScheme, node.AddToScheme, certificates.AddToScheme,
		admissionregistration.AddToScheme, authentication.AddToScheme, authorization.AddToScheme, flowcontrol.AddToScheme,
		resource.AddToScheme, apiextensions.AddToScheme, apiregistration.AddToScheme,
	}
	for _, one := range add {
		if err := one(scheme); err != nil {
			panic(err)
		}
	}
	roots := map[schema.GroupVersionKind]string{}
	for gvk, t := range scheme.AllKnownTypes() {
		path := t.PkgPath()
		if strings.HasSuffix(gvk.Kind, "List") && gvk.Kind != "List" || strings.HasSuffix(gvk.Kind, "Options") || gvk.Kind == "WatchEvent" ||
			strings.HasPrefix(path, "k8s.io/apimachinery") {
			continue
		}
		walk(t)
		roots[gvk] = name(t)
	}
	var lines []string
	for gvk, one := range roots {
		lines = append(lines, fmt.Sprintf("kind %s/%s/%s %s", gvk.Group, gvk.Version, gvk.Kind, one))
	}
	sort.Strings(lines)
	var names []string
	for one := range structs {
		names = append(names, one)
	}
	sort.Strings(names)
	for _, one := range names {
		lines = append(lines, one)
		for _, field := range structs[one] {
			lines = append(lines, " "+field)
		}
	}
	fmt.Fprintln(os.Stdout, strings.Join(lines, "\n"))
}
