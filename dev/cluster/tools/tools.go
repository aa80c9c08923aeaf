//go:build tools

// Package tools pins the versions of the programs that the local cluster needs and that Go modules bring.
package tools

import _ "helm.sh/helm/v3/cmd/helm"
