package e2e

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

func TestAWebhookThatKeepsFailingIsSwitchedOffAndItsOwnerIsTold(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.env["RELAY_RETRY_SCHEDULE"], s.env["RELAY_DISABLE_AFTER"] = "100ms", "1s"
	retries := 40
	failing := s.subscribe(hook{event: "thing.created", retries: &retries})
	failing.answers(failFirst(1000, http.StatusBadGateway))
	alerts := s.subscribe(hook{event: "webhook.disabled"})
	stranger := s.subscribe(hook{event: "webhook.disabled", user: "u2"})
	p := s.start()
	s.db.Exec(`insert into things (ns, id, type, content) values ('n', '1', 'Skill', $1)`, s.canary)

	told := alerts.await(1)[0]
	require.Equal(t, "webhook.disabled", told.Event.Type)
	require.Contains(t, string(told.Body), failing.id)
	require.Contains(t, string(told.Body), `"reason": "failing"`)
	require.Contains(t, string(told.Body), `"response_status": 502`)
	require.NotContains(t, string(told.Body), failing.url)
	require.Equal(t, "inactive failing", pgtest.One[string](s.db, `
		select status || ' ' || (zapier_metadata #>> '{disabled,reason}') from zapier_webhooks where id = $1`, failing.id))
	s.settleStream(p)
	events := s.stream(p)
	n := 0
	for _, e := range events {
		if e.Event.Type == "webhook.disabled" {
			n++
		}
	}
	require.Equal(t, 1, n, "it is on the stream, once")

	// What waited goes out when it is switched on again.
	failing.answers(nil)
	s.command("webhooks", "resume", failing.id)
	s.settle(p)
	require.Equal(t, http.StatusOK, failing.requests()[len(failing.requests())-1].Status)
	require.Empty(t, stranger.requests())
	require.Len(t, alerts.requests(), 1)
	p.stop()
}
