//go:build tools

// Package tools pins the name server of the real node; it is never compiled itself.
package tools

import _ "github.com/coredns/coredns"
