package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds what is read: a device or a dump named by mistake is refused.
const maxFile = 1 << 20

// plainKey is what a key looks like that needs no quotes in a message.
var plainKey = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,40}$`)

// readFile lays the YAML file at path over cfg. The document is walked rather than
// decoded whole, so that every mistake is reported, with its line and its remedy.
func (p *problems) readFile(cfg *Config, path string) {
	doc, err := parseFile(path)
	if err != nil {
		p.addf("%s: %s", path, strings.TrimPrefix(err.Error(), "yaml: "))
		return
	}
	if doc == nil {
		return
	}
	file := yamlFile{problems: p, path: path, all: allFields(cfg)}
	file.section(doc, "", 0)
}

// parseFile returns the root of the only document in the file, or nil when it
// holds nothing but comments.
func parseFile(path string) (*yaml.Node, error) {
	file, err := os.Open(path)
	if err != nil {
		// The path stands in front of the message already.
		if pathErr, ok := errors.AsType[*os.PathError](err); ok {
			err = pathErr.Err
		}
		return nil, fmt.Errorf("open: %w", err)
	}
	defer func() { _ = file.Close() }()
	limited := &io.LimitedReader{R: file, N: maxFile + 1}
	decoder := yaml.NewDecoder(limited)
	var doc yaml.Node
	err = decoder.Decode(&doc)
	switch {
	case limited.N == 0:
		return nil, fmt.Errorf("larger than %d bytes", maxFile)
	case errors.Is(err, io.EOF):
		return nil, nil //nolint:nilnil // an empty file is a valid one: nothing is overridden
	case err != nil && strings.Contains(err.Error(), "unknown anchor"):
		// The parser quotes the word: it may be a password that starts with *.
		return nil, errors.New("refers to an anchor that is not defined; quote a value that starts with *")
	case err != nil:
		return nil, err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("holds a second document; keep one")
	}
	return doc.Content[0], nil
}

// yamlFile walks one file.
type yamlFile struct {
	*problems
	path string
	all  []field
}

func (y *yamlFile) addf(node *yaml.Node, format string, args ...any) {
	y.problems.addf("%s: line %d: %s", y.path, node.Line, fmt.Sprintf(format, args...))
}

// section takes the keys of one mapping. Sections nest once, so a document cannot
// make this recurse: a key below a setting is never looked at.
func (y *yamlFile) section(node *yaml.Node, name string, depth int) {
	node = resolve(node)
	if isNull(node) {
		return
	}
	if node.Kind != yaml.MappingNode {
		y.addf(node, "want keys and values%s", in(name))
		return
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if seen[key.Value] {
			y.addf(key, "key %s%s stands there twice; keep one", bare(key.Value), in(name))
			continue
		}
		seen[key.Value] = true
		path := strings.TrimPrefix(name+"."+key.Value, ".")
		index := slices.IndexFunc(y.all, func(f field) bool { return f.key == path })
		switch {
		case key.Kind != yaml.ScalarNode:
			y.addf(key, "want a plain key%s", in(name))
		case strings.Contains(key.Value, "."): // source.slot is not slot in source
			y.unknown(key, name)
		case index >= 0:
			y.set(y.all[index], value)
		case depth == 0 && y.isSection(path):
			y.section(value, path, depth+1)
		default:
			y.unknown(key, name)
		}
	}
}

func (y *yamlFile) isSection(name string) bool {
	return slices.ContainsFunc(y.all, func(f field) bool { return strings.HasPrefix(f.key, name+".") })
}

// unknown reports a key that is no setting and guesses which one was meant: a
// neighbour with a similar name, or the same name in another section.
func (y *yamlFile) unknown(key *yaml.Node, section string) {
	var siblings []string
	elsewhere := ""
	for _, f := range y.all {
		parent, leaf := splitKey(f.key)
		switch {
		case parent == section:
			siblings = append(siblings, leaf)
		case leaf == key.Value:
			elsewhere = f.key
		case section == "":
			siblings = append(siblings, parent)
		}
	}
	hint := closest(key.Value, siblings)
	if elsewhere != "" {
		hint = elsewhere
	}
	if hint != "" {
		hint = "; did you mean " + hint + "?"
	}
	y.addf(key, "unknown key %s%s%s", bare(key.Value), in(section), hint)
}

// set decodes one value. A null leaves the default.
func (y *yamlFile) set(f field, node *yaml.Node) {
	node = resolve(node)
	if isNull(node) {
		return
	}
	// yaml would take the bare number 15 for 15 nanoseconds.
	_, isDuration := reflect.TypeAssert[time.Duration](f.value)
	_, isDurations := reflect.TypeAssert[[]time.Duration](f.value)
	unitless := isDuration && node.Tag == "!!int" ||
		isDurations && slices.ContainsFunc(node.Content, func(n *yaml.Node) bool { return resolve(n).Tag == "!!int" })
	fresh := reflect.New(f.value.Type())
	if unitless || node.Decode(fresh.Interface()) != nil {
		y.addf(node, "%s:%s %s", f.key, f.shown(node.Value), f.wanted())
		return
	}
	value := fresh.Elem()
	if value.Kind() == reflect.Slice && value.Len() == 0 {
		value.SetZero() // [] is the same as nothing
	}
	f.value.Set(value)
}

// bare returns a key for a message, quoted only when it does not look like one.
func bare(key string) string {
	if plainKey.MatchString(key) {
		return key
	}
	return quote(key)
}

func resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

func isNull(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && node.Tag == "!!null"
}

func splitKey(key string) (section, leaf string) {
	if section, leaf, ok := strings.Cut(key, "."); ok {
		return section, leaf
	}
	return "", key
}

// in names a section at the end of a phrase; the top level needs no name.
func in(section string) string {
	if section == "" {
		return ""
	}
	return " in " + section
}
