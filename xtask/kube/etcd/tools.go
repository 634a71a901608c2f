//go:build tools

// Package etcd pins the store of the test rig: `cargo xtask kube` builds the command imported here.
package etcd

import (
	_ "go.etcd.io/etcd/server/v3"
)
