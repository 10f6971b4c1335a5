//go:build tools

// Package tools pins Helm; it is never compiled itself.
package tools

import _ "helm.sh/helm/v3/cmd/helm"
