//go:build tools

// Package helm pins the package manager for the tests of kubeworld: `cargo xtask kube` builds the command imported here.
package helm

import (
	_ "helm.sh/helm/v3/cmd/helm"
)
