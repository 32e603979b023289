// Package docs_test keeps the documents true where a machine can tell: settings,
// metrics, reasons to halt, links, and the SQL that readers will copy.
package docs_test

import (
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/config"
	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/migrations"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	configurationPage = "reference/configuration.md"
	tablesPage        = "reference/tables.md"
	databasePage      = "how-to/your-own-database.md"
	backfillPage      = "how-to/backfill.md"
	operatePage       = "how-to/operate.md"
)

// page reads one document.
func page(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(content)
}

// pages lists every document: those here, and those at the root that exist.
func pages(t *testing.T) []string {
	t.Helper()
	var names []string
	require.NoError(t, filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && filepath.Ext(name) == ".md" {
			names = append(names, name)
		}
		return err
	}))
	require.NotEmpty(t, names)
	for _, name := range []string{"../README.md", "../CONTRIBUTING.md", "../CHANGELOG.md"} {
		require.FileExists(t, name)
		names = append(names, name)
	}
	return names
}

// setting is a key of the file and its variable.
type setting struct{ key, variable string }

func settings(v reflect.Type, section string) []setting {
	var list []setting
	for field := range v.Fields() {
		if field.Tag.Get("yaml") == "-" { // no setting
			continue
		}
		key := strings.TrimPrefix(section+"."+field.Tag.Get("yaml"), ".")
		if variable := field.Tag.Get("env"); variable != "" {
			list = append(list, setting{key, variable})
		} else {
			list = append(list, settings(field.Type, key)...)
		}
	}
	return list
}

func TestEverySettingIsDocumentedAndNoOther(t *testing.T) {
	text := page(t, configurationPage)
	var known []string
	for _, s := range settings(reflect.TypeFor[config.Config](), "") {
		known = append(known, s.variable)
		require.Contains(t, text, "| `"+s.key+"` | `"+s.variable+"` |")
	}
	variable := regexp.MustCompile(`RELAY_[A-Z_]+[A-Z]`)
	for _, name := range pages(t) {
		for _, found := range variable.FindAllString(page(t, name), -1) {
			require.Contains(t, known, found, name)
		}
	}
}

func TestDocumentedDefaultsAreTheRealOnes(t *testing.T) {
	text, defaults := page(t, configurationPage), config.Default()
	for key, value := range map[string]string{
		"source.slot": defaults.Source.Slot, "source.publication": defaults.Source.Publication,
		"nats.dir": defaults.NATS.Dir, "nats.listen": defaults.NATS.Listen, "nats.stream": defaults.NATS.Stream,
		"webhook.http_timeout": defaults.Webhook.HTTPTimeout.String(), "listen": defaults.Listen,
		"drain_timeout": defaults.DrainTimeout.String(), "log.level": strings.ToLower(defaults.Log.Level.String()), "log.format": defaults.Log.Format,
	} {
		require.Regexp(t, "(?m)^\\| `"+regexp.QuoteMeta(key)+"` \\| `[A-Z_]+` \\| `"+regexp.QuoteMeta(value)+"` \\|", text)
	}
}

func TestEveryMetricIsDocumentedAndNoOther(t *testing.T) {
	metric := regexp.MustCompile(`"(relay_[a-z_]+)"`)
	var known []string
	for _, found := range metric.FindAllStringSubmatch(page(t, "../internal/ops/metrics.go"), -1) {
		known = append(known, found[1])
	}
	require.NotEmpty(t, known)
	text := page(t, configurationPage)
	var documented []string
	for _, found := range regexp.MustCompile("(?m)^\\| `(relay_[a-z_]+)` \\|").FindAllStringSubmatch(text, -1) {
		documented = append(documented, found[1])
	}
	require.ElementsMatch(t, known, documented)
}

func TestEveryReasonToHaltHasItsWayOut(t *testing.T) {
	reason := regexp.MustCompile(`(?:Halt\(|giveUp\(accept, .*, )"([a-z_]+)",`)
	text := page(t, operatePage)
	var known []string
	require.NoError(t, filepath.WalkDir("../relay", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return err
		}
		for _, found := range reason.FindAllStringSubmatch(page(t, name), -1) {
			known = append(known, found[1])
		}
		return nil
	}))
	slices.Sort(known)
	var documented []string
	_, section, _ := strings.Cut(text, "## When it halts")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, found := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(section, -1) {
		documented = append(documented, found[1])
	}
	require.ElementsMatch(t, slices.Compact(known), documented)
}

func TestEveryTableOfTheRelayIsDocumented(t *testing.T) {
	db := migrated(t)
	text := page(t, tablesPage)
	const madeByMigrations = `
		select relname::text from pg_class
		where relkind in ('r', 'p') and not relispartition and relnamespace = 'public'::regnamespace
		  and obj_description(oid, 'pg_class') is distinct from 'made by relay 001_dev_samples'`
	missing := slices.DeleteFunc(pgtest.All[string](db, madeByMigrations), func(table string) bool {
		return strings.Contains(text, "`"+table+"`")
	})
	require.Empty(t, missing)
}

func TestTheDocumentedEventsAreTheRegisteredOnes(t *testing.T) {
	db := migrated(t)
	_, section, found := strings.Cut(page(t, "reference/events.md"), "## The twelve")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z]+\\.[a-z]+)` \\|").FindAllStringSubmatch(section, -1) {
		documented = append(documented, row[1])
	}
	require.ElementsMatch(t, pgtest.All[string](db, `select event_type from zapier_webhook_events where event_type <> 'webhook.disabled'`), documented)
	require.Contains(t, page(t, "reference/events.md"), "### webhook.disabled")
}

var (
	link   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	header = regexp.MustCompile(`(?m)^#+ (.*)$`)
	fenced = regexp.MustCompile("(?ms)^```.*?^```$")
)

func TestEveryRelativeLinkResolves(t *testing.T) {
	for _, name := range pages(t) {
		for _, found := range link.FindAllStringSubmatch(fenced.ReplaceAllString(page(t, name), ""), -1) {
			if strings.Contains(found[1], "://") || strings.HasPrefix(found[1], "mailto:") {
				continue
			}
			path, anchor, _ := strings.Cut(found[1], "#")
			target := name
			if path != "" {
				target = filepath.Join(filepath.Dir(name), path)
			}
			_, err := os.Stat(target)
			require.NoError(t, err, "%s links to %s", name, found[1])
			if anchor != "" {
				require.Contains(t, anchors(page(t, target)), anchor, "%s links to %s", name, found[1])
			}
		}
	}
}

// anchors returns the names that a hosting site gives to the headings of a page.
func anchors(text string) []string {
	var list []string
	for _, found := range header.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		name := regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(strings.ToLower(found[1]), "")
		list = append(list, strings.ReplaceAll(name, " ", "-"))
	}
	return list
}

func TestNoPageNamesLineNumbers(t *testing.T) {
	numbered := regexp.MustCompile(`(?i)\.(go|sql|sh|ya?ml):\d+|\blines? \d+\b`)
	for _, name := range pages(t) {
		require.NotRegexp(t, numbered, page(t, name), name)
	}
}

// blocks returns the fenced blocks of a page in one language, in their order.
func blocks(t *testing.T, name, language string) []string {
	t.Helper()
	var list []string
	for _, found := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(page(t, name), -1) {
		list = append(list, found[1])
	}
	return list
}

// statements returns the SQL of a page in its order.
func statements(t *testing.T, name string) []string {
	t.Helper()
	list := blocks(t, name, "sql")
	require.NotEmpty(t, list)
	return list
}

func TestTheJSONOfThePagesIsJSON(t *testing.T) {
	for _, name := range pages(t) {
		for _, doc := range blocks(t, name, "json") {
			require.True(t, json.Valid([]byte(doc)), "%s: %s", name, doc)
		}
	}
}

func TestTheGoProgramsOfThePagesCompile(t *testing.T) {
	compiled := 0
	for _, name := range pages(t) {
		for _, program := range blocks(t, name, "go") {
			if !strings.HasPrefix(program, "package main") {
				continue
			}
			file := filepath.Join(t.TempDir(), "main.go")
			require.NoError(t, os.WriteFile(file, []byte(program), 0o600))
			out, err := exec.CommandContext(t.Context(), "go", "build", "-o", os.DevNull, file).CombinedOutput()
			require.NoError(t, err, "%s: %s", name, out)
			compiled++
		}
	}
	require.NotZero(t, compiled)
}

func migrated(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t)
	require.NoError(t, migrations.Up(t.Context(), db.Pool, migrations.Options{Samples: true}))
	return db
}

// The pages belong to one transaction each, which is rolled back: roles are shared
// by all databases of a cluster.
// The README maps a table that the reader has already.
const readersTable = `create table orders (id int primary key, customer_id text, status text, currency text, total numeric)`

func TestTheSQLOfThePagesRuns(t *testing.T) {
	for _, name := range []string{tablesPage, databasePage, backfillPage, "../README.md"} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			db := migrated(t)
			tx, err := db.Pool.Begin(t.Context())
			require.NoError(t, err)
			defer func() { _ = tx.Rollback(context.Background()) }()
			if name == "../README.md" {
				_, err := tx.Exec(t.Context(), readersTable)
				require.NoError(t, err)
			}
			if name == backfillPage { // the reader has the role, too
				_, err := tx.Exec(t.Context(), readersTable+"; create role relay")
				require.NoError(t, err)
			}
			for _, sql := range statements(t, name) {
				_, err := tx.Exec(t.Context(), sql)
				require.NoError(t, err, sql)
			}
		})
	}
}
