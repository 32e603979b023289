// Package schema compiles the JSON Schemas of the event registry, and holds the data
// of events to them.
//
// A schema is one document: nothing is ever fetched, from the network or from files.
// Its size, its depth and its patterns are bounded when it is compiled, and the work on
// one event when that is checked, so neither can hold up capture for long. What a check
// says names places and keywords, never a value.
package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// Bounds of a schema that is accepted.
const (
	maxSize    = 64 << 10 // bytes
	maxDepth   = 64
	maxValues  = 5000   // members, elements and the like
	maxProgram = 20_000 // instructions of all patterns
)

// base is the address of every schema; it is cut from what errors say.
const base = "registry:///payload_schema"

// Schema is a compiled schema that takes less than every object. It is used by one
// goroutine.
type Schema struct {
	compiled *jsonschema.Schema
	work     *work
}

// Compile reads a schema of draft 4 to 2020-12; without $schema it is 2020-12. It
// returns nil for one that takes every object, such as {} and {"type":"object"}: there
// is nothing to check then.
func Compile(raw []byte) (*Schema, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) > maxSize {
		return nil, fmt.Errorf("it has %d bytes, and %d are allowed", len(raw), maxSize)
	}
	if len(raw) == 0 || !json.Valid(raw) {
		return nil, errors.New("it is no JSON")
	}
	d := decoder{b: raw, maxDepth: maxDepth, maxValues: maxValues}
	doc, err := d.decode()
	if err != nil {
		return nil, err
	}
	if trivial(doc) {
		return nil, nil
	}
	w := &work{bounded: !d.refers && d.objects <= maxUncounted}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(closed{})
	c.UseRegexpEngine(w.pattern)
	c.RegisterVocabulary(&jsonschema.Vocabulary{URL: "urn:relay:work", Compile: w.attach})
	c.AssertVocabs()
	if err := c.AddResource(base, doc); err != nil {
		return nil, plain(err)
	}
	compiled, err := c.Compile(base)
	if w.refused != nil {
		return nil, w.refused
	}
	if err != nil {
		return nil, plain(err)
	}
	w.compiled, w.patterns = true, nil
	return &Schema{compiled: compiled, work: w}, nil
}

// trivial reports whether the schema takes every object: annotations apart it says
// nothing, or only that the data is an object, which it always is.
func trivial(doc any) bool {
	switch s := doc.(type) {
	case nil:
		return true
	case bool:
		return s
	case map[string]any:
		for key, value := range s {
			switch key {
			case "$comment", "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly":
			case "type":
				types, several := value.([]any)
				if value != "object" && (!several || !slices.Contains(types, any("object"))) {
					return false
				}
			default:
				return false
			}
		}
		return true
	}
	return false
}

// closed is the loader of references that lead out of the schema.
type closed struct{}

// Load implements jsonschema.URLLoader.
func (closed) Load(url string) (any, error) {
	return nil, &remoteError{url: strings.TrimPrefix(url, "registry:///")}
}

type remoteError struct{ url string }

func (e *remoteError) Error() string {
	return fmt.Sprintf("it refers to %q, and nothing outside of the schema is read: put what is meant under $defs, and refer to #/$defs/…", shortened(e.url))
}

// plain says in one line why a schema was refused.
func plain(err error) error {
	if remote, ok := errors.AsType[*remoteError](err); ok {
		return remote
	}
	if load, ok := errors.AsType[*jsonschema.LoadURLError](err); ok {
		return plain(load.Err)
	}
	if invalid, ok := errors.AsType[*jsonschema.SchemaValidationError](err); ok {
		if wrong, ok := errors.AsType[*jsonschema.ValidationError](invalid.Err); ok {
			return fmt.Errorf("it is no valid JSON Schema: %s", describe(wrong, "it"))
		}
	}
	return errors.New(shortened(strings.ReplaceAll(strings.ReplaceAll(err.Error(), base, ""), "\n", " ")))
}

// Document is the data of an event, decoded once for all schemas that it is held to.
type Document struct {
	value any
	size  int
	err   error
}

// Decoder reads the data of one event after the other. The zero Decoder is ready to use.
type Decoder struct{ names map[string]string }

// Decode reads data. What is wrong with it is said by the check.
func (r *Decoder) Decode(data []byte) Document {
	if r.names == nil {
		r.names = map[string]string{}
	}
	d := decoder{b: data, maxDepth: 10_000, maxValues: len(data) + 1, names: r.names}
	value, err := d.decode()
	return Document{value: value, size: len(data), err: err}
}

// Check holds the data to the schema. The error names the place in the data and the
// keyword of the schema. What cannot be checked has an error too: it is not let through.
func (s *Schema) Check(d Document) (err error) {
	if d.err != nil {
		return fmt.Errorf("data cannot be checked: %w", d.err)
	}
	s.work.left = leastWork + workPerByte*d.size
	defer func() {
		if r := recover(); r != nil {
			text := "data cannot be checked: a panic of the validator"
			if _, isSpent := r.(spent); isSpent {
				text = "data cannot be checked: the schema needs too much work for it"
			}
			err = errors.New(text)
		}
	}()
	wrong := s.compiled.Validate(d.value)
	if wrong == nil {
		return nil
	}
	if v, ok := errors.AsType[*jsonschema.ValidationError](wrong); ok {
		return errors.New(describe(v, "data"))
	}
	return errors.New("data does not satisfy its schema")
}

// describe tells the first of what is wrong, by place, and how much more there is.
func describe(e *jsonschema.ValidationError, root string) string {
	all := leaves(nil, e)
	texts := make([]string, len(all))
	for i, leaf := range all {
		texts[i] = shortened(root+pointer(leaf.InstanceLocation)) + " " + told(leaf)
	}
	slices.Sort(texts)
	texts = slices.Compact(texts)
	if more := len(texts) - 1; more > 0 {
		return fmt.Sprintf("%s; and %d more", texts[0], more)
	}
	return texts[0]
}

// maxLeaves bounds how much that is wrong is gathered.
const maxLeaves = 1000

// leaves descends to what is wrong itself, but not into alternatives: there, most of it
// is right.
func leaves(dst []*jsonschema.ValidationError, e *jsonschema.ValidationError) []*jsonschema.ValidationError {
	switch e.ErrorKind.(type) {
	case *kind.Group, *kind.Schema, *kind.Reference, *kind.AllOf:
		for _, cause := range e.Causes {
			if len(dst) < maxLeaves {
				dst = leaves(dst, cause)
			}
		}
		if len(e.Causes) > 0 {
			return dst
		}
	}
	return append(dst, e)
}

// told says what is wrong without a value of the data. Names of members are told: of
// rows they are columns.
func told(e *jsonschema.ValidationError) string {
	switch k := e.ErrorKind.(type) {
	case *kind.Type:
		return "is " + k.Got + ", not " + strings.Join(k.Want, " or ")
	case *kind.Required:
		return "lacks " + names(k.Missing)
	case *kind.AdditionalProperties:
		return "has what the schema does not name: " + names(k.Properties)
	case *kind.FalseSchema:
		return "is not allowed"
	}
	return "does not satisfy " + shortened(strings.TrimPrefix(e.SchemaURL, base)+pointer(e.ErrorKind.KeywordPath()))
}

func names(all []string) string {
	const most = 5
	all = slices.Sorted(slices.Values(all))
	text := make([]string, 0, most)
	for _, name := range all[:min(most, len(all))] {
		text = append(text, shortened(name))
	}
	if more := len(all) - most; more > 0 {
		return strings.Join(text, ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(text, ", ")
}

func pointer(path []string) string {
	var b strings.Builder
	for _, part := range path {
		b.WriteByte('/')
		b.WriteString(strings.ReplaceAll(strings.ReplaceAll(part, "~", "~0"), "/", "~1"))
	}
	return b.String()
}

// shortened cuts text that somebody else wrote, and makes it one line.
func shortened(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}
