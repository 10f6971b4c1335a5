//go:build tools

// Package tools pins the message broker of the local cluster; it is never compiled itself.
package tools

import _ "github.com/nats-io/nats-server/v2"
