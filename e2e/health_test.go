package e2e

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

// standing is the body of /v1/position.
type standing struct {
	Received, Published, Confirmed string
	StreamSeq                      uint64 `json:"stream_seq"`
	LagBytes                       uint64 `json:"lag_bytes"`
}

func (p *process) position() standing {
	p.t.Helper()
	status, content, err := p.get("/v1/position")
	require.NoError(p.t, err)
	require.Equal(p.t, http.StatusOK, status)
	var fields map[string]any
	require.NoError(p.t, json.Unmarshal(content, &fields))
	for _, name := range []string{"received", "published", "confirmed", "stream_seq", "lag_bytes"} {
		require.Contains(p.t, fields, name)
	}
	require.Len(p.t, fields, 5)
	var out standing
	require.NoError(p.t, json.Unmarshal(content, &out))
	return out
}

func containsLine(content []byte, line string) bool {
	return regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(line) + `$`).Match(content)
}

func TestHealthMetricsAndPositionTellHowItStands(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.env["RELAY_CONFIRM_LAG"] = "0s" // the slot moves at once
	e := s.subscribe(hook{event: "thing.created"})
	p := s.start()

	var portFile map[string]string
	require.NoError(t, json.Unmarshal(must(os.ReadFile(p.portFile))(t), &portFile))
	require.Len(t, portFile, 1, "no embedded NATS, no address of it")
	_, _, err := net.SplitHostPort(portFile["listen"])
	require.NoError(t, err)
	status, _, err := p.get("/livez")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, readiness{Status: http.StatusOK, State: "streaming"}, p.awaitState(readyWithin, "streaming"))

	s.db.Exec(`insert into things (ns, id, type, content) select 'n', i, 'Skill', $1 from generate_series(1, 100) i`, s.canary)
	s.settle(p)
	committed := must(parseLSN(pgtest.One[string](s.db, `select pg_current_wal_flush_lsn()::text`)))(t)
	require.Len(t, e.received(), 100)
	at := p.position()
	all := s.readStream(p)
	require.Equal(t, all[len(all)-1].Seq, at.StreamSeq)
	published, last := must(parseLSN(at.Published))(t), all[len(all)-1]
	position := must(parsePosition(last.Header.Get("Relay-Pos")))(t)
	require.GreaterOrEqual(t, published, position.commit)

	// The lag falls back: what is in the stream is confirmed, and so is a log that
	// holds nothing of ours.
	require.Eventually(t, func() bool {
		now := p.position()
		return now.LagBytes < 1<<20 && must(parseLSN(now.Confirmed))(t) >= position.commit
	}, arrivesWithin, 5*tick)
	require.Eventually(t, func() bool {
		return pgtest.One[bool](s.db, `select confirmed_flush_lsn >= $1::text::pg_lsn from pg_replication_slots where slot_name = $2`, committed.String(), s.env["RELAY_SLOT"])
	}, 2*arrivesWithin, 5*tick, "the slot moves on an idle source")

	_, metrics, err := p.get("/metrics")
	require.NoError(t, err)
	require.True(t, containsLine(metrics, `relay_delivery_outcomes_total{outcome="delivered"} 100`))
	require.True(t, containsLine(metrics, `relay_ready 1`))
	for _, name := range []string{"relay_changes_total", "relay_events_published_total", "relay_lag_bytes", "relay_attempt_seconds_count", "relay_subscriptions", "go_goroutines", "process_resident_memory_bytes"} {
		require.True(t, bytes.Contains(metrics, []byte("\n"+name)), name)
	}
	p.stop()
}

func TestAMissingDatabaseSettingIsAUsageErrorThatNamesIt(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{empty: true})
	delete(s.env, "RELAY_DATABASE_URL")
	p := s.launch()
	require.Equal(t, 2, p.exited(readyWithin))
	require.Contains(t, p.log(), "RELAY_DATABASE_URL")
}

func TestADatabaseWithoutTablesIsNamedTogetherWithTheRemedy(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{empty: true})
	p := s.launch()
	require.Equal(t, 1, p.exited(readyWithin))
	require.Contains(t, p.log(), "relay migrate up")
}
