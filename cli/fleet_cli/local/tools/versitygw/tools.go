//go:build tools

// Package tools pins the object store that the tests speak S3 with; it is never compiled itself.
package tools

import _ "github.com/versity/versitygw/cmd/versitygw"
