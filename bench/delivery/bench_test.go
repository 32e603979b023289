package main

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay/webhook"
)

func TestMain(m *testing.M) {
	if served, err := serve(); served {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestAShortRunMeasuresEveryGoalAndDecidesNone(t *testing.T) {
	if testing.Short() {
		t.Skip("starts Postgres and NATS")
	}
	lookAtSources(t)
	raw := filepath.Join(t.TempDir(), "raw.json")
	var out, log strings.Builder
	require.NoError(t, run(t.Context(), []string{"-short", "-nosync", "-json", raw}, &out, &log), "%s", &log)
	for _, goal := range []string{"drain", "latency", "mixed", "start", "cost"} {
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
	logged := 0
	for _, row := range rows.Rows {
		require.NotEmpty(t, row.Rounds, row.Name)
		if strings.HasSuffix(row.Name, ": rows of the log per success") {
			logged++
			require.InDelta(t, 1, row.Rounds[0], 0, "%s\n%s", row.Name, &out)
		}
	}
	require.Equal(t, 2, logged)
}

// lookAtSources looks at every source file of the module, of which the relay is built:
// the go command caches test results by the files that the tests looked at.
func lookAtSources(t *testing.T) {
	t.Helper()
	require.NoError(t, filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != "../.." && strings.HasPrefix(entry.Name(), "."):
			return filepath.SkipDir
		case filepath.Ext(path) == ".go" && !strings.HasSuffix(path, "_test.go"), filepath.Ext(path) == ".sql":
			_, err = os.Stat(path)
		}
		return err
	}))
}

func TestAMistakeOnTheCommandLineIsAnError(t *testing.T) {
	for _, args := range [][]string{{"-only", "("}, {"small"}, {"-what"}} {
		require.Error(t, run(t.Context(), args, io.Discard, io.Discard))
	}
}

func TestTheFloorSendsWhatAReceiverWouldAccept(t *testing.T) {
	l, err := seal("http://127.0.0.1/", "evt_1", []byte(`{"data":{}}`))
	require.NoError(t, err)
	require.NoError(t, webhook.Verify([]secret.String{secret.New(secretOf)}, l.header, l.body, time.Now()))
}

func TestTheReceiverTellsOnceWhatArrived(t *testing.T) {
	r, err := startReceiver(t.Context())
	require.NoError(t, err)
	t.Cleanup(r.Kill)
	c := newClient(1)
	t.Cleanup(c.CloseIdleConnections)
	post := func(path, id string) error {
		l, err := seal(r.url+path, id, []byte(`{}`))
		require.NoError(t, err)
		return c.post(t.Context(), l)
	}
	require.NoError(t, post("/ok/1", "a"))
	require.NoError(t, post("/ok/2", "b"))
	require.ErrorContains(t, post("/fail/1", "c"), "500")
	got, err := r.take(t.Context())
	require.NoError(t, err)
	require.Len(t, got.Arrivals, 2)
	require.Equal(t, 1, got.Failed)
	require.InDelta(t, time.Now().UnixNano(), got.Arrivals[1].At, float64(time.Minute))

	require.NoError(t, post("/ok/1", "d"))
	require.NoError(t, post("/ok/1", "d"))
	_, err = r.take(t.Context())
	require.ErrorContains(t, err, "d arrived twice")
	got, err = r.take(t.Context())
	require.NoError(t, err)
	require.Empty(t, got.Arrivals)
}

func TestARowThatDidNotArriveIsAnError(t *testing.T) {
	l := &load{first: 10, warm: 1, starts: []int64{0, 1e6, 2e6}}
	took, err := l.within(map[int64]int64{11: 3e6, 12: 3e6}, anyRow)
	require.NoError(t, err)
	require.Equal(t, []float64{2, 1}, took)
	_, err = l.within(map[int64]int64{11: 3e6}, anyRow)
	require.ErrorContains(t, err, "row 12 did not arrive")
}
