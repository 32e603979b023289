package e2e

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

// replayed is what the command says.
type replayed struct {
	Found, Moved int
	Looked       int  `json:"looked_at"`
	Put          int  `json:"put_back"`
	Had          int  `json:"had_already"`
	DryRun       bool `json:"dry_run"`
	FromLog      bool `json:"from_log"`
}

func (s *stack) replay(args ...string) (out replayed) {
	s.t.Helper()
	require.NoError(s.t, json.Unmarshal([]byte(s.command(append([]string{"replay", "--json"}, args...)...)), &out))
	return out
}

func (s *stack) skipped(e *endpoint) int {
	return pgtest.One[int](s.db, `select count(*) from zapier_webhook_logs where webhook_id = $1 and status = 'skipped' and error_message like 'inactive: %'`, e.id)
}

func TestEventsThatMetAnInactiveWebhookCanBeReplayed(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	paused := s.subscribe(hook{event: "thing.created", filter: `{"type": "Skill"}`})
	steady := s.subscribe(hook{event: "thing.created"})
	p := s.start()
	s.insertThings("before")
	paused.await(1)
	s.command("webhooks", "pause", paused.id)
	s.insertThings("a", "b", "c")
	s.db.Exec(`insert into things (ns, id, type, content) values ('n', 'other', 'Function', $1)`, s.canary)
	steady.await(5)
	s.settle(p)
	require.Equal(t, 3, s.skipped(paused), "those that its filter lets through")
	s.command("webhooks", "resume", paused.id)

	did := s.replay("--webhook="+paused.id, "--skipped")
	require.Equal(t, []any{3, 0, true}, []any{did.Found, did.Put, did.DryRun})
	did = s.replay("--webhook="+paused.id, "--skipped", "--yes")
	require.Equal(t, 3, did.Put)
	got := paused.await(4)
	s.settle(p)
	sent := map[string]string{}
	for _, d := range steady.requests() {
		sent[d.Event.ID] = string(d.Body)
	}
	for _, d := range got {
		require.Equal(t, sent[d.Event.ID], string(d.Body), "the same bytes")
	}
	require.Zero(t, s.replay("--webhook="+paused.id, "--skipped", "--yes").Found, "they are replayed once")
	require.Len(t, paused.requests(), 4)
	p.stop()
}

func TestANewWebhookGetsTheLastHoursFromTheStream(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	first := s.subscribe(hook{event: "thing.created"})
	p := s.start()
	s.insertThings("a", "b", "c")
	first.await(3)
	s.settle(p)
	late := s.subscribe(hook{event: "thing.created"})
	s.insertThings("d")
	late.await(1)
	s.settle(p)

	did := s.replay("--webhook="+late.id, "--stream", "--since=1h", "--yes")
	require.Equal(t, []int{4, 3, 1}, []int{did.Looked, did.Put, did.Had})
	late.await(4)
	s.settle(p)
	require.Zero(t, s.replay("--webhook="+late.id, "--stream", "--since=1h", "--yes").Found)
	require.Zero(t, s.replay("--webhook="+late.id, "--stream", "--since=1h", "--until=30m").Looked)
	require.Equal(t, 4, s.replay("--webhook="+late.id, "--stream", "--since=1h", "--again").Found)

	// One of them once more, by the row of the log.
	log := pgtest.One[string](s.db, `select id from zapier_webhook_logs where webhook_id = $1 limit 1`, late.id)
	require.True(t, s.replay("--log="+log).DryRun)
	require.Len(t, late.requests(), 4)
	require.False(t, s.replay("--log="+log, "--yes").FromLog, "the stream has it")
	late.await(5) // with the same bytes as before
	s.settle(p)
	p.stop()
}

func TestWhatWaitsForAnotherAttemptCanBeHurried(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.env["RELAY_RETRY_SCHEDULE"] = "1h"
	failing := s.subscribe(hook{event: "thing.created"})
	failing.answers(failFirst(1, http.StatusBadGateway))
	p := s.start()
	s.insertThings("a", "b")
	failing.await(2)
	require.Eventually(t, func() bool { return s.replay("--webhook="+failing.id, "--failed").Found == 2 }, 20*time.Second, 50*time.Millisecond)
	require.Len(t, failing.requests(), 2)
	require.Equal(t, 2, s.replay("--webhook="+failing.id, "--failed", "--yes").Moved)
	failing.await(4)
	s.settle(p)
	p.stop()
}

func TestASampleIsSignedAsADeliveryAndRecordedNowhere(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	hook := s.subscribe(hook{event: "agent.created"})
	s.command("webhooks", "test", hook.id)
	got := hook.await(1)[0] // the receiver has verified it
	require.Equal(t, "agent.created", got.Event.Type)
	require.Contains(t, string(got.Body), `"lsn":"0/0"`)
	require.Zero(t, pgtest.One[int](s.db, `select count(*) from zapier_webhook_logs`))
	require.Equal(t, []int64{0, 0, 0}, s.counters(hook))
}
