//go:build tools

// Package kubectl pins an older kubectl for the tests of kubeworld: `cargo xtask kube` builds the command imported here.
package kubectl

import (
	_ "k8s.io/kubernetes/cmd/kubectl"
)
