//go:build tools

// Package tools pins Flux's kustomize-controller; it is never compiled itself.
package tools

import _ "github.com/fluxcd/kustomize-controller"
