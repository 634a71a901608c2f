//go:build tools

// Package servers pins the Kubernetes programs of the test rig: `cargo xtask kube` builds the commands imported here.
package servers

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
