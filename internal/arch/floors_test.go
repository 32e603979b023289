package arch

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	module = "github.com/dot-do/relay"
	root   = "../.."
	// A dependency is a decision: see CONTRIBUTING.md before raising this.
	maxDirectModules = 16
)

// floors lists every package from the ground up.
var floors = [][]string{
	{"internal/secret", "internal/arch", "internal/failpoint", "bench/figures", "bench/rig"},
	{"outbox", "filters", "relay/pgoutput", "internal/config", "internal/pgproc", "internal/schema"},
	{"relay"},
	{
		"relay/pgsource", "relay/pgstore", "relay/natsstream", "relay/webhook",
		"internal/api", "internal/oauth", "internal/ops", "migrations",
	},
	{"cmd/relay", "e2e", "e2e/faults", "bench/filters", "bench/capture", "bench/delivery"},
}

// testSupport lists the packages that only test files, and each other, import.
var testSupport = []string{"internal/pgtest", "internal/natstest", "internal/faultproxy", "relay/relaytest"}

// owners says which packages import a module outside their test files.
var owners = map[string][]string{
	"github.com/alecthomas/kong":               {"cmd/relay"},
	"github.com/caarlos0/env/v11":              {"internal/config"},
	"github.com/jackc/pglogrepl":               {"relay/pgsource"},
	"github.com/jackc/pgx/v5":                  {"relay/pgsource", "relay/pgstore", "migrations", "outbox", "internal/oauth", "internal/pgproc", "internal/pgtest", "cmd/relay", "bench/filters", "bench/capture", "bench/delivery"},
	"github.com/nats-io/nats-server/v2":        {"relay/natsstream", "internal/natstest", "bench/rig"},
	"github.com/nats-io/nats.go":               {"relay/natsstream", "internal/natstest", "bench/capture", "bench/delivery"},
	"github.com/prometheus/client_golang":      {"internal/ops"},
	"github.com/santhosh-tekuri/jsonschema/v6": {"internal/schema"},
	"github.com/tidwall/gjson":                 {"filters", "relay/webhook", "bench/filters"},
	"go.yaml.in/yaml/v3":                       {"internal/config"},
	"golang.org/x/sync":                        {"relay", "relay/pgsource", "relay/pgstore", "relay/natsstream", "relay/webhook", "internal/api", "internal/ops", "cmd/relay"},
	"golang.org/x/term":                        {"cmd/relay"},

	"github.com/rogpeppe/go-internal":                          testSupport,
	"github.com/standard-webhooks/standard-webhooks/libraries": testSupport,
	"github.com/stretchr/testify":                              testSupport,
	"go.uber.org/goleak":                                       testSupport,
}

// source is one Go file: its folder below the root, and what it imports.
type source struct {
	dir, name string
	imports   []string
}

func (s source) isTest() bool { return strings.HasSuffix(s.name, "_test.go") }

func TestImportsRunDownwardsAndModulesHaveOwners(t *testing.T) {
	require.Empty(t, violations(sources(t)))
}

func TestEveryModuleHasAnOwnerAndThereAreFew(t *testing.T) {
	direct := directModules(t)
	require.LessOrEqual(t, len(direct), maxDirectModules)
	for _, m := range direct {
		require.Contains(t, owners, m, "give the module its owners")
	}
	require.Len(t, direct, len(owners), "a module of the table is no longer required")
}

func TestTheRulesCatchWhatTheyForbid(t *testing.T) {
	cases := map[string]struct {
		file source
		want string
	}{
		"sideways":         {file("relay/webhook", "a.go", "relay/pgstore"), "relay/webhook/a.go imports relay/pgstore, which is on the same floor"},
		"sideways, ground": {file("filters", "a.go", "outbox"), "filters/a.go imports outbox, which is on the same floor"},
		"upwards":          {file("relay", "a.go", "relay/pgsource"), "relay/a.go imports relay/pgsource, which is on a floor above"},
		"test support":     {file("cmd/relay", "a.go", "internal/pgtest"), "cmd/relay/a.go imports internal/pgtest, which only tests may"},
		"no floor":         {file("internal/util", "a.go"), "internal/util/a.go is on no floor; give its package one"},
		"import of none":   {file("relay", "a.go", "pkg/log"), "relay/a.go imports pkg/log, which is on no floor"},
		"the root":         {file("relay/pgsource", "a.go", "."), "relay/pgsource/a.go imports ., which is on no floor"},
		"not the owner":    {foreign("relay/pgstore", "a.go", "github.com/nats-io/nats.go/jetstream"), "relay/pgstore/a.go imports github.com/nats-io/nats.go/jetstream, which belongs to relay/natsstream, internal/natstest, bench/capture, bench/delivery"},
		"a test's module":  {foreign("relay", "a.go", "github.com/stretchr/testify/require"), "relay/a.go imports github.com/stretchr/testify/require, which belongs to " + strings.Join(testSupport, ", ")},
		"nobody's module":  {foreign("relay", "a.go", "github.com/pkg/errors"), "relay/a.go imports github.com/pkg/errors, which belongs to no package"},
		"nearly its name":  {foreign("relay/natsstream", "a.go", "github.com/nats-io/nats.gopher"), "relay/natsstream/a.go imports github.com/nats-io/nats.gopher, which belongs to no package"},
		"pgoutput is bare": {foreign("relay/pgoutput", "a.go", "github.com/jackc/pglogrepl"), "relay/pgoutput/a.go imports github.com/jackc/pglogrepl, which belongs to relay/pgsource"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, []string{c.want}, violations([]source{c.file}))
		})
	}
}

func TestTheRulesPermitWhatTheyShould(t *testing.T) {
	require.Empty(t, violations([]source{
		file("cmd/relay", "a.go", "relay/webhook", "relay", "filters"),
		file("relay/webhook", "a.go", "relay", "filters"),
		file("relay/webhook", "a_test.go", "relay/pgstore", "internal/pgtest"),
		file("relay/relaytest", "a.go", "relay/webhook", "internal/pgtest"),
		file("bench", "a_test.go", "relay/pgsource"),
		foreign("filters", "a.go", "github.com/tidwall/gjson", "strings", "go/parser"),
		foreign("relay/pgoutput", "a_test.go", "github.com/jackc/pglogrepl"),
		foreign("relay/natsstream", "a.go", "github.com/nats-io/nats-server/v2/server"),
	}))
}

// file is a planted file that imports packages of this module.
func file(dir, name string, packages ...string) source {
	s := source{dir: dir, name: name}
	for _, p := range packages {
		s.imports = append(s.imports, path.Join(module, p))
	}
	return s
}

// foreign is a planted file that imports packages of others.
func foreign(dir, name string, imports ...string) source {
	return source{dir: dir, name: name, imports: imports}
}

// violations lists, one sentence each, what the files do against the rules.
func violations(files []source) []string {
	var found []string
	for _, f := range files {
		if f.isTest() {
			continue
		}
		if floorOf(f.dir) < 0 {
			found = append(found, fmt.Sprintf("%s/%s is on no floor; give its package one", f.dir, f.name))
			continue
		}
		for _, imported := range f.imports {
			fault := ""
			if own, ok := strings.CutPrefix(imported+"/", module+"/"); ok {
				imported = path.Clean(own) // the root is .
				fault = ownFault(f.dir, imported)
			} else if strings.Contains(strings.Split(imported, "/")[0], ".") {
				fault = foreignFault(f.dir, imported)
			}
			if fault != "" {
				found = append(found, fmt.Sprintf("%s/%s imports %s, which %s", f.dir, f.name, imported, fault))
			}
		}
	}
	return found
}

func ownFault(from, to string) string {
	above, below := floorOf(from), floorOf(to)
	switch {
	case below < 0:
		return "is on no floor"
	case slices.Contains(testSupport, to):
		if slices.Contains(testSupport, from) {
			return ""
		}
		return "only tests may"
	case below == above:
		return "is on the same floor"
	case below > above:
		return "is on a floor above"
	}
	return ""
}

func foreignFault(from, imported string) string {
	for m, allowed := range owners {
		if imported == m || strings.HasPrefix(imported, m+"/") {
			if slices.Contains(allowed, from) {
				return ""
			}
			return "belongs to " + strings.Join(allowed, ", ")
		}
	}
	return "belongs to no package"
}

// floorOf counts from the ground; test support stands above all, nothing is -1.
func floorOf(dir string) int {
	if slices.Contains(testSupport, dir) {
		return len(floors)
	}
	return slices.IndexFunc(floors, func(floor []string) bool { return slices.Contains(floor, dir) })
}

// sources parses every Go file of the module, whatever its build tags.
func sources(t *testing.T) []source {
	t.Helper()
	var files []source
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name != root && notOurs(name, entry.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(name))
		if err != nil {
			return err
		}
		s := source{dir: filepath.ToSlash(dir), name: entry.Name()}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, imported)
		}
		files = append(files, s)
		return nil
	})
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return files
}

// notOurs reports folders that the go command ignores too, and other modules.
func notOurs(dir, base string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil || base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")
}

// directModules lists what go.mod requires without "// indirect".
func directModules(t *testing.T) []string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	var direct []string
	inRequire := false
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		switch one, isOne := strings.CutPrefix(line, "require "); {
		case line == "require (":
			inRequire = true
			continue
		case line == ")":
			inRequire = false
			continue
		case isOne:
			line = one
		case !inRequire:
			continue
		}
		if fields := strings.Fields(line); len(fields) >= 2 && !strings.HasSuffix(line, "// indirect") {
			direct = append(direct, fields[0])
		}
	}
	require.NotEmpty(t, direct)
	return direct
}
