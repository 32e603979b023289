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
//	warnings.json               what Warnings says, one a line
//	match.json, miss.json,
//	unknown.json                documents, one a line, with that verdict
//	unavailable                 the columns that every document lacks, one a line
//	match.events, miss.events,
//	unknown.events              events, one a line, with that verdict
//
// or errors.json, what Compile says, one mistake a line. With -update canonical.json,
// warnings.json and errors.json are written anew.
func TestGoldenFiles(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			require.NoError(t, err)
			f, err := filters.Compile(section(archive, "filter.json"))
			var errs filters.Errors
			if err != nil {
				require.ErrorAs(t, err, &errs)
				golden(t, path, archive, "errors.json", lines(t, errs))
				return
			}
			golden(t, path, archive, "canonical.json", f.String()+"\n")
			golden(t, path, archive, "warnings.json", lines(t, f.Warnings()))
			unavailable := strings.Fields(string(section(archive, "unavailable")))
			for name, want := range map[string]filters.Verdict{"match.json": filters.Yes, "miss.json": filters.No, "unknown.json": filters.Unknown} {
				for doc := range bytes.Lines(section(archive, name)) {
					require.Equal(t, want, f.MatchDoc(filters.NewDoc(doc, unavailable)), "%s: %s", name, doc)
				}
				name = strings.TrimSuffix(name, "json") + "events"
				for line := range bytes.Lines(section(archive, name)) {
					e := event(t, line)
					require.Equal(t, want, f.MatchEvent(e), "%s: %s", name, line)
					requireConsistent(t, f.Explain(e))
				}
			}
		})
	}
}

// event reads an event: its op, data, before, and the unavailable columns of both.
func event(t *testing.T, line []byte) *filters.Event {
	t.Helper()
	var told struct {
		Op                string          `json:"op"`
		Data              json.RawMessage `json:"data"`
		Before            json.RawMessage `json:"before"`
		Partial           bool            `json:"partial"`
		Unavailable       []string        `json:"unavailable"`
		UnavailableBefore []string        `json:"unavailable_before"`
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(&told), "%s", line)
	op, known := filters.ParseOp(told.Op)
	require.Equal(t, told.Op != "", known, "%s", line)
	return &filters.Event{
		Op:      op,
		Data:    filters.NewDoc(told.Data, told.Unavailable),
		Before:  filters.NewDoc(told.Before, told.UnavailableBefore),
		Partial: told.Partial,
	}
}

// golden compares a section with what came out, or writes it. What is empty needs no
// section.
func golden(t *testing.T, path string, archive *txtar.Archive, name, got string) {
	t.Helper()
	if *update && string(section(archive, name)) != got {
		setSection(archive, name, got)
		require.NoError(t, os.WriteFile(path, txtar.Format(archive), 0o600))
	}
	require.Equal(t, string(section(archive, name)), got, name)
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

// lines writes each element of a list as a line of JSON.
func lines[T any](t *testing.T, list []T) string {
	t.Helper()
	var b strings.Builder
	for _, e := range list {
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		require.NoError(t, enc.Encode(e))
	}
	return b.String()
}
