package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgstore"
)

func TestTheScriptRunsTheBackfillCommandsOfThePage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "how-to", "backfill.md"))
	require.NoError(t, err)
	script, err := os.ReadFile(filepath.Join("testdata", "script", "backfill.txtar"))
	require.NoError(t, err)
	commands := regexp.MustCompile(`(?m)^\$ relay (.*)$`).FindAllStringSubmatch(string(page), -1)
	require.NotEmpty(t, commands)
	for _, c := range commands {
		require.Regexp(t, `(?m)^exits [01] `+regexp.QuoteMeta(c[1])+`$`, string(script))
	}
}

func TestEveryFlagOfBackfillIsOnThePage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "how-to", "backfill.md"))
	require.NoError(t, err)
	var out bytes.Buffer
	require.Zero(t, run(t.Context(), []string{"backfill", "start", "--help"}, env{program: "relay", stdout: &out, stderr: &out}))
	flags := regexp.MustCompile(`(?m)^ {6}(--[a-z-]+)`).FindAllStringSubmatch(out.String(), -1)
	require.NotEmpty(t, flags)
	for _, flag := range flags {
		if flag[1] != "--config" {
			require.Contains(t, string(page), flag[1])
		}
	}
}

func TestABackfillIsToldInALine(t *testing.T) {
	began := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	row := func(state relay.BackfillState, rows, estimated int64) *pgstore.BackfillRow {
		r := &pgstore.BackfillRow{Backfill: relay.Backfill{ID: "b1", Table: "public.t", State: state, Estimated: estimated}, Started: &began}
		r.Rows, r.Events = rows, 2*rows
		return r
	}
	now := began.Add(10 * time.Second)
	for want, r := range map[string]*pgstore.BackfillRow{
		"b1 public.t queued": {Backfill: relay.Backfill{ID: "b1", Table: "public.t", State: relay.BackfillQueued}},
		"b1 public.t running · 0 of about 1,200,000 rows (0%)":                                                    row(relay.BackfillRunning, 0, 1_200_000),
		"b1 public.t running · 30,000 of about 1,200,000 rows (2%) · 60,000 events · 3,000 rows/s · 6m30s left":   row(relay.BackfillRunning, 30_000, 1_200_000),
		"b1 public.t running · 500 of about 500 rows (99%) · 1,000 events · 50 rows/s · more rows than estimated": row(relay.BackfillRunning, 500, 100),
	} {
		require.Equal(t, want, describeBackfillAt(r, now))
	}
	failed := row(relay.BackfillFailed, 5, 10)
	failed.Finished, failed.Where, failed.Note = &now, "a = '\x1b'", "no more"
	require.Equal(t, `b1 public.t failed · 5 rows · 10 events · where a = '\u001b' · no more`, describeBackfillAt(failed, now.Add(time.Hour)))
}

func TestTheBarMovesOnATerminalAndNowhereElse(t *testing.T) {
	began := time.Now().Add(-time.Second)
	row := &pgstore.BackfillRow{Backfill: relay.Backfill{ID: "b1", Table: "public.t", State: relay.BackfillRunning, Estimated: 100}, Started: &began}
	row.Rows = 50
	var out bytes.Buffer
	live := &backfillBar{w: &out, live: true}
	require.NoError(t, live.draw(row))
	require.True(t, strings.HasPrefix(out.String(), "\r\x1b[K[████████████············] b1 public.t running · 50 of about 100 rows (50%)"), "%q", out.String())
	row.State = relay.BackfillDone
	require.Equal(t, "["+strings.Repeat("█", barWidth)+"] ", barOf(row))
	live.end()
	require.True(t, strings.HasSuffix(out.String(), "\n"))

	out.Reset()
	require.NoError(t, (&backfillBar{w: &out}).draw(row))
	require.Regexp(t, `^b1 public\.t done · 50 rows.*\n$`, out.String())
}
