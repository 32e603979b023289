package main

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Bounds for schemas that refer to themselves.
const (
	maxSampleDepth  = 12
	maxSampleValues = 10_000
)

// sampler makes values that look as a JSON Schema says: by its examples, default, const
// or enum where it has them, else by type and format. Patterns and the like are left
// to whoever writes the examples.
type sampler struct {
	root any
	now  time.Time
	made *int // values so far
}

func (m sampler) of(schema any, name string, depth int) any {
	s, ok := schema.(map[string]any)
	if *m.made++; !ok || depth > maxSampleDepth || *m.made > maxSampleValues {
		return "sample"
	}
	if v, ok := stated(s); ok {
		return v
	}
	if ref, ok := s["$ref"].(string); ok {
		return m.of(m.resolve(ref), name, depth+1)
	}
	for _, word := range []string{"anyOf", "oneOf"} {
		if choices, ok := s[word].([]any); ok && len(choices) > 0 && s["properties"] == nil {
			return m.of(choices[0], name, depth+1)
		}
	}
	if all, ok := s["allOf"].([]any); ok && s["properties"] == nil {
		return m.merged(all, name, depth+1)
	}
	switch typeOf(s) {
	case "object":
		return m.object(s, depth)
	case "array":
		if s["items"] == nil {
			return []any{}
		}
		return []any{m.of(s["items"], name, depth+1)}
	case "integer", "number":
		if least, ok := s["minimum"].(float64); ok {
			return least
		}
		return 1
	case "boolean":
		return true
	case "null":
		return nil
	}
	return m.text(s, name)
}

// stated returns a value that the schema itself gives.
func stated(s map[string]any) (any, bool) {
	if all, ok := s["examples"].([]any); ok && len(all) > 0 {
		return all[0], true
	}
	for _, word := range []string{"const", "default"} {
		if v, ok := s[word]; ok {
			return v, true
		}
	}
	if all, ok := s["enum"].([]any); ok && len(all) > 0 {
		return all[0], true
	}
	return nil, false
}

// typeOf is the first type that is not null.
func typeOf(s map[string]any) string {
	switch t := s["type"].(type) {
	case string:
		return t
	case []any:
		for _, one := range t {
			if name, ok := one.(string); ok && name != "null" {
				return name
			}
		}
		return "null"
	}
	switch {
	case s["properties"] != nil:
		return "object"
	case s["items"] != nil:
		return "array"
	}
	return "string"
}

func (m sampler) object(s map[string]any, depth int) map[string]any {
	out := map[string]any{}
	properties, _ := s["properties"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		out[name] = m.of(properties[name], name, depth+1)
	}
	return out
}

func (m sampler) merged(all []any, name string, depth int) any {
	out := map[string]any{}
	for _, part := range all {
		if object, ok := m.of(part, name, depth).(map[string]any); ok {
			maps.Copy(out, object)
		}
	}
	return out
}

func (m sampler) text(s map[string]any, name string) string {
	switch s["format"] {
	case "date-time":
		return m.now.Format(time.RFC3339)
	case "date":
		return m.now.Format(time.DateOnly)
	case "email":
		return "sample@example.com"
	case "uri", "url":
		return "https://example.com/sample"
	case "uuid":
		return "00000000-0000-4000-8000-000000000000"
	}
	out := "sample"
	if name != "" {
		out += " " + name
	}
	if least, ok := s["minLength"].(float64); ok && int(least) > len(out) && least < 1e4 {
		out += strings.Repeat(".", int(least)-len(out))
	}
	if most, ok := s["maxLength"].(float64); ok && most >= 0 && int(most) < len(out) {
		out = out[:int(most)]
	}
	return out
}

// resolve follows a reference within the schema, such as #/$defs/money.
func (m sampler) resolve(ref string) any {
	path, ok := strings.CutPrefix(ref, "#")
	if !ok {
		return nil
	}
	at := m.root
	for step := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if step == "" {
			continue
		}
		object, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = object[strings.NewReplacer("~1", "/", "~0", "~").Replace(step)]
	}
	return at
}
