//go:build tools

package cluster

import _ "helm.sh/helm/v3/cmd/helm"
