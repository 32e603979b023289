package filters_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
)

// TestGoldenFiles reads testdata/*.txtar. Each has a filter.json and either
//
//	canonical.json              the canonical text
//	match.json, miss.json,
//	unknown.json                documents, one a line, with that verdict
//	unavailable                 the columns that every document lacks, one a line
//
// or errors.json, what Compile says, one mistake a line. With -update canonical.json and
// errors.json are written anew.
func TestGoldenFiles(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			require.NoError(t, err)
			f, err := filters.Compile(section(archive, "filter.json"))
			name, got := "canonical.json", ""
			if err == nil {
				got = f.String() + "\n"
			} else {
				name, got = "errors.json", errorLines(t, err)
			}
			if *update {
				setSection(archive, name, got)
				require.NoError(t, os.WriteFile(path, txtar.Format(archive), 0o600))
			}
			require.Equal(t, string(section(archive, name)), got)
			if err != nil {
				return
			}
			unavailable := strings.Fields(string(section(archive, "unavailable")))
			for name, want := range map[string]filters.Verdict{"match.json": filters.Yes, "miss.json": filters.No, "unknown.json": filters.Unknown} {
				for doc := range bytes.Lines(section(archive, name)) {
					require.Equal(t, want, f.MatchDoc(filters.NewDoc(doc, unavailable)), "%s: %s", name, doc)
				}
			}
		})
	}
}

func section(archive *txtar.Archive, name string) []byte {
	for _, file := range archive.Files {
		if file.Name == name {
			return file.Data
		}
	}
	return nil
}

func setSection(archive *txtar.Archive, name, text string) {
	for i := range archive.Files {
		if archive.Files[i].Name == name {
			archive.Files[i].Data = []byte(text)
			return
		}
	}
	archive.Files = append(archive.Files, txtar.File{Name: name, Data: []byte(text)})
}

func errorLines(t *testing.T, err error) string {
	t.Helper()
	var errs filters.Errors
	require.ErrorAs(t, err, &errs)
	var b strings.Builder
	for _, e := range errs {
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		require.NoError(t, enc.Encode(e))
	}
	return b.String()
}
