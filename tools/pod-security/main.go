// pod-security judges workloads by the Pod Security Standard "restricted", with the library that the API server's admission uses.
//
//	helm template … | pod-security
//
// It prints a line for each workload and fails if one is refused, or if there is none.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

func main() {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		fail(err)
	}
	documents := utilyaml.NewYAMLReader(bufio.NewReader(os.Stdin))
	seen, refused := 0, 0
	for {
		text, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			fail(err)
		}
		name, pod, err := podOf(text)
		if err != nil {
			fail(err)
		}
		if pod == nil {
			continue
		}
		seen++
		restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
		result := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec))
		if result.Allowed {
			fmt.Printf("%s: restricted\n", name)
			continue
		}
		refused++
		fmt.Printf("%s: refused: %s\n", name, strings.ReplaceAll(result.ForbiddenDetail(), "\n", " "))
	}
	if seen == 0 {
		fail(errors.New("there is no workload in the input"))
	}
	if refused > 0 {
		os.Exit(1)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "pod-security:", err)
	os.Exit(1)
}

// podOf answers the name of a workload and the template of its pods; nil for other objects.
func podOf(text []byte) (string, *corev1.PodTemplateSpec, error) {
	var object struct {
		Kind     string
		Metadata struct{ Name string }
	}
	if err := yaml.Unmarshal(text, &object); err != nil {
		return "", nil, err
	}
	name := object.Kind + "/" + object.Metadata.Name
	switch object.Kind {
	case "Pod":
		var pod corev1.Pod
		err := yaml.UnmarshalStrict(text, &pod)
		return name, &corev1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec}, err
	case "Deployment":
		var workload appsv1.Deployment
		err := yaml.UnmarshalStrict(text, &workload)
		return name, &workload.Spec.Template, err
	case "StatefulSet":
		var workload appsv1.StatefulSet
		err := yaml.UnmarshalStrict(text, &workload)
		return name, &workload.Spec.Template, err
	case "DaemonSet":
		var workload appsv1.DaemonSet
		err := yaml.UnmarshalStrict(text, &workload)
		return name, &workload.Spec.Template, err
	case "Job":
		var workload batchv1.Job
		err := yaml.UnmarshalStrict(text, &workload)
		return name, &workload.Spec.Template, err
	case "CronJob":
		var workload batchv1.CronJob
		err := yaml.UnmarshalStrict(text, &workload)
		return name, &workload.Spec.JobTemplate.Spec.Template, err
	}
	return name, nil, nil
}
