// kstatus reads Kubernetes objects as one JSON array and prints what GitOps tools make of each, one a line: by kstatus, as kpt and
// Config Sync do, or, for kinds that a Flux Kustomization named as an argument has health expressions for, by Flux's evaluator.
// Tests hold our conditions and our expressions against it.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	evaluators, err := evaluatorsByKind(os.Args[1:])
	if err != nil {
		return err
	}
	var objects []json.RawMessage
	if err := json.NewDecoder(os.Stdin).Decode(&objects); err != nil {
		return fmt.Errorf("standard input must be a JSON array of objects: %w", err)
	}
	for _, text := range objects {
		// The library's own decoder: it reads whole numbers as int64, as kstatus expects them.
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(text); err != nil {
			return err
		}
		computed, err := statusOf(object, evaluators[object.GetKind()])
		if err != nil {
			return fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
		}
		fmt.Println(computed)
	}
	return nil
}

func statusOf(object *unstructured.Unstructured, evaluator *cel.StatusEvaluator) (string, error) {
	if evaluator != nil {
		result, err := evaluator.Evaluate(context.Background(), object)
		if err != nil {
			return "", err
		}
		return result.Status.String(), nil
	}
	result, err := status.Compute(object)
	if err != nil {
		return "", err
	}
	return result.Status.String(), nil
}

// evaluatorsByKind reads spec.healthCheckExprs of Flux Kustomizations.
func evaluatorsByKind(files []string) (map[string]*cel.StatusEvaluator, error) {
	found := map[string]*cel.StatusEvaluator{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var kustomization struct {
			Spec struct {
				HealthCheckExprs []kustomize.CustomHealthCheck `json:"healthCheckExprs"`
			} `json:"spec"`
		}
		if err := yaml.Unmarshal(text, &kustomization); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, check := range kustomization.Spec.HealthCheckExprs {
			if found[check.Kind], err = cel.NewStatusEvaluator(&check.HealthCheckExpressions); err != nil {
				return nil, fmt.Errorf("%s: %s: %w", file, check.Kind, err)
			}
		}
	}
	return found, nil
}
