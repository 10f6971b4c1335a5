//go:build tools

// Package tools pins what holds the real node's pods to NetworkPolicies; it is never compiled itself.
package tools

import _ "sigs.k8s.io/kube-network-policies/cmd"
