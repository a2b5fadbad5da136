// kube-schemas writes a JSON schema for every kind of object that the chart may contain, for kubeconform: Kubernetes' own from its
// OpenAPI document, the others from the resource definitions of their projects. All come from the Go modules in modules.txt.
//
//	kube-schemas <folder>
//
// A schema is strict: a field that the API does not know is an error. Files are named <group>/<kind>_<version>.json; the resource
// definitions themselves are in definitions/, for an API server.
package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

//go:embed modules.txt
var modules string

// definitions lists where a module keeps its resource definitions; Kubernetes has an OpenAPI document instead.
var definitions = map[string]string{
	"github.com/prometheus-operator/prometheus-operator": "example/prometheus-operator-crd/*.yaml",
	"github.com/cert-manager/cert-manager":               "deploy/crds/*.yaml",
	"sigs.k8s.io/gateway-api":                            "config/crd/standard/*.yaml",
}

const openAPI = "api/openapi-spec/swagger.json"

type schema = map[string]any

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: kube-schemas <folder>")
		os.Exit(2)
	}
	count := 0
	for line := range strings.Lines(modules) {
		written, err := convert(strings.Fields(line), os.Args[1])
		if err != nil {
			fmt.Fprintln(os.Stderr, "kube-schemas:", err)
			os.Exit(1)
		}
		count += written
	}
	fmt.Printf("%d schemas\n", count)
}

// convert writes the schemas of one module, given by name, version and hash, and answers how many there are.
func convert(module []string, out string) (int, error) {
	folder, err := download(module[0], module[1], module[2])
	if err != nil {
		return 0, err
	}
	pattern, ok := definitions[module[0]]
	if !ok {
		return kubernetes(filepath.Join(folder, openAPI), out)
	}
	files, err := filepath.Glob(filepath.Join(folder, pattern))
	if err != nil {
		return 0, err
	}
	if len(files) == 0 {
		return 0, fmt.Errorf("%s has no files %s", module[0], pattern)
	}
	count := 0
	if err := os.MkdirAll(filepath.Join(out, "definitions"), 0o755); err != nil {
		return 0, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		if err := os.WriteFile(filepath.Join(out, "definitions", filepath.Base(file)), text, 0o644); err != nil {
			return 0, err
		}
		written, err := custom(text, out)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		count += written
	}
	return count, nil
}

// download answers the folder of a module, whose hash must be the given one.
func download(path, version, sum string) (string, error) {
	command := exec.Command("go", "mod", "download", "-json", path+"@"+version)
	// Outside any module: what is downloaded is named in full.
	command.Dir = os.TempDir()
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, failed := command.Output()
	var got struct{ Dir, Sum, Error string }
	if err := json.Unmarshal(output, &got); err != nil {
		return "", fmt.Errorf("%s: %s", path, strings.TrimSpace(stderr.String()))
	}
	if failed != nil {
		return "", errors.New(got.Error)
	}
	if got.Sum != sum {
		return "", fmt.Errorf("%s@%s has the hash %s and not %s", path, version, got.Sum, sum)
	}
	return got.Dir, nil
}

func kubernetes(file, out string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	var document struct{ Definitions map[string]schema }
	if err := json.Unmarshal(text, &document); err != nil {
		return 0, err
	}
	all := document.Definitions
	for name, definition := range all {
		switch {
		case strings.HasSuffix(name, ".util.intstr.IntOrString"):
			all[name] = schema{"type": []string{"string", "integer"}}
		case strings.HasSuffix(name, ".api.resource.Quantity"):
			all[name] = schema{"type": []string{"string", "number"}}
		case strings.Contains(name, ".apiextensions."):
			delete(all, name)
		default:
			strict(definition)
		}
	}
	count := 0
	for name, definition := range all {
		kinds, _ := definition["x-kubernetes-group-version-kind"].([]any)
		// Kinds of many groups are options of requests, never objects that are applied.
		if len(kinds) != 1 {
			continue
		}
		kind, _ := kinds[0].(map[string]any)
		needed := schema{}
		collect(all, name, needed)
		own := schema{"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/" + name, "definitions": needed}
		if err := write(out, kind["group"].(string), kind["kind"].(string), kind["version"].(string), own); err != nil {
			return 0, err
		}
		count++
	}
	return count, nil
}

// collect adds a definition and all that it refers to.
func collect(all map[string]schema, name string, needed schema) {
	if _, seen := needed[name]; seen {
		return
	}
	needed[name] = all[name]
	var visit func(any)
	visit = func(value any) {
		switch value := value.(type) {
		case map[string]any:
			if ref, ok := value["$ref"].(string); ok {
				collect(all, strings.TrimPrefix(ref, "#/definitions/"), needed)
			}
			for _, item := range value {
				visit(item)
			}
		case []any:
			for _, item := range value {
				visit(item)
			}
		}
	}
	visit(map[string]any(all[name]))
}

// custom writes a schema for each version of each resource definition in a text.
func custom(text []byte, out string) (int, error) {
	count := 0
	for _, part := range strings.Split("\n"+string(text), "\n---") {
		var object struct {
			Kind string
			Spec struct {
				Group    string
				Names    struct{ Kind string }
				Versions []struct {
					Name   string
					Schema struct{ OpenAPIV3Schema schema }
				}
			}
		}
		if err := yaml.Unmarshal([]byte(part), &object); err != nil {
			return 0, err
		}
		if object.Kind != "CustomResourceDefinition" {
			continue
		}
		for _, version := range object.Spec.Versions {
			own := version.Schema.OpenAPIV3Schema
			strict(own)
			if err := write(out, object.Spec.Group, object.Spec.Names.Kind, version.Name, own); err != nil {
				return 0, err
			}
			count++
		}
	}
	return count, nil
}

// strict makes what the API prunes or refuses an error, and says in JSON schema what OpenAPI says in words of its own.
func strict(value any) {
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			strict(item)
		}
	case map[string]any:
		properties, has := value["properties"].(map[string]any)
		_, open := value["additionalProperties"]
		if value["x-kubernetes-preserve-unknown-fields"] == true {
			open = true
		}
		if has && len(properties) > 0 && !open {
			value["additionalProperties"] = false
		}
		if value["x-kubernetes-int-or-string"] == true {
			delete(value, "anyOf")
			value["type"] = []any{"string", "integer"}
		}
		if kind, ok := value["type"].(string); ok && value["nullable"] == true {
			value["type"] = []any{kind, "null"}
		}
		for name, item := range value {
			if name == "allOf" || name == "anyOf" || name == "oneOf" || name == "not" {
				// Branches only narrow what the schema around them declares.
				continue
			}
			if name == "properties" {
				for _, property := range properties {
					strict(property)
				}
				continue
			}
			if name != "default" && name != "enum" && name != "required" {
				strict(item)
			}
		}
	}
}

func write(out, group, kind, version string, content schema) error {
	file := filepath.Join(out, group, strings.ToLower(kind)+"_"+version+".json")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	text, err := json.Marshal(content)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}
