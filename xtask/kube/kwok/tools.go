//go:build tools

// Package kwok pins the node simulator of the test rig: `cargo xtask kube` builds the command imported here.
package kwok

import (
	_ "sigs.k8s.io/kwok/cmd/kwok"
)
