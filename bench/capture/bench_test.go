package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/bench/rig"
	"github.com/dot-do/relay/relay"
)

func TestMain(m *testing.M) {
	if served, err := rig.ServeNATS(); served {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if builtIn != "" {
		_ = os.RemoveAll(builtIn)
	}
	os.Exit(code)
}

func TestAShortRunMeasuresEveryGoalAndDecidesNone(t *testing.T) {
	raw := filepath.Join(t.TempDir(), "raw.json")
	var out, log strings.Builder
	require.NoError(t, run(t.Context(), []string{"-short", "-relay", builtRelay(t), "-huge", "20000", "-json", raw}, &out, &log), "%s", &log)
	for _, goal := range []string{"drain", "cpu", "memory", "latency", "durable", "feedback"} {
		require.Contains(t, out.String(), "\n| "+goal+" | ")
	}
	require.NotRegexp(t, `\| (met|missed|within must) \|`, out.String())
	text, err := os.ReadFile(raw)
	require.NoError(t, err)
	var rows struct {
		Rows []struct {
			Name   string
			Rounds []float64
		}
	}
	require.NoError(t, json.Unmarshal(text, &rows))
	require.NotEmpty(t, rows.Rows)
	for _, row := range rows.Rows {
		require.NotEmpty(t, row.Rounds, row.Name)
	}
}

func TestADrainThatDoesNotEndAtTheLastChangeDoesNotCount(t *testing.T) {
	ctx := t.Context()
	s, err := openStage(ctx, sharedDir(t), builtRelay(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.close(ctx)) })
	w, err := s.transactions(ctx, 100, 10)
	require.NoError(t, err)
	d, err := s.drain(ctx, w, venue{})
	require.NoError(t, err)
	require.Equal(t, uint32(9), w.last.Ordinal)
	require.InDelta(t, eventSize, d.message, 100, "the documentation tells the size")
	var row float64
	require.NoError(t, s.db.QueryRow(ctx, "select avg(length(r::text))::float8 from bench_rows r").Scan(&row))
	require.InDelta(t, rowSize, row, 40, "the documentation tells the size")

	spoiled := *w
	spoiled.key = "1"
	_, err = s.drain(ctx, &spoiled, venue{})
	require.ErrorContains(t, err, "the last event is "+w.last.String())
	spoiled = *w
	spoiled.last = relay.Position{CommitLSN: w.from}
	_, err = s.drain(ctx, &spoiled, venue{})
	require.ErrorContains(t, err, "the last event is "+w.last.String())
	spoiled = *w
	spoiled.changes = 99
	_, err = s.drain(ctx, &spoiled, venue{})
	require.ErrorContains(t, err, "of 99 changes")
}

// What docs/benchmarks.md says of a row, and of a message in the stream.
const (
	rowSize   = 360
	eventSize = 1050
)

// buildOnce builds the relay for all tests, and looks at every source file of the
// module: the go command caches test results by the files that the tests looked at.
var buildOnce = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "relay-bench-")
	if err != nil {
		return "", err
	}
	builtIn = dir
	err = filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != "../.." && strings.HasPrefix(entry.Name(), "."):
			return filepath.SkipDir
		case filepath.Ext(path) == ".go" && !strings.HasSuffix(path, "_test.go"), filepath.Ext(path) == ".sql":
			_, err = os.Stat(path)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	return rig.Relay(context.Background(), "", dir)
})

// builtIn is removed when the tests have ended.
var builtIn string

func builtRelay(t *testing.T) string {
	if testing.Short() {
		t.Skip("starts Postgres and NATS")
	}
	path, err := buildOnce()
	require.NoError(t, err)
	return path
}

// sharedDir can be entered by the server's user, unlike t.TempDir.
func sharedDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "relay-bench-") //nolint:usetesting // see above
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o711))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func TestAMistakeOnTheCommandLineIsAnError(t *testing.T) {
	for _, args := range [][]string{{"-only", "("}, {"small"}, {"-what"}} {
		require.Error(t, run(t.Context(), args, io.Discard, io.Discard))
	}
}

func TestAHugeTransactionThatTheDiskCannotHoldIsRefused(t *testing.T) {
	require.NoError(t, roomFor(t.TempDir(), 1))
	require.ErrorContains(t, roomFor(t.TempDir(), 1<<50), "name another directory with -dir")
}
