//go:build tools

// Package tools pins the store of the local control plane; it is never compiled itself.
package tools

import _ "go.etcd.io/etcd/server/v3"
