package e2e

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

// trusts sets the secrets that the receiver checks every request with.
func (e *endpoint) trusts(secret, hub string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.secret, e.hubSecret = secret, hub
}

func verifies(t *testing.T, secret string, d delivery) bool {
	t.Helper()
	verifier, err := standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
	return verifier.Verify(d.Body, d.Header) == nil
}

// The receiver fails the test on every request that it cannot verify.
func TestARotatedSecretFailsNoVerificationAlsoOfRetriesThatWaited(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.masterKey()
	s.env["RELAY_RETRY_SCHEDULE"] = "1h"
	e := s.subscribe(hook{event: "thing.created"})
	e.answers(failFirst(1, http.StatusServiceUnavailable))
	p := s.start()
	insert := func(id string) {
		s.db.Exec(`insert into things (ns, id, type, content) values ('n', $1, 'Skill', $2)`, id, s.canary)
	}
	insert("1")
	e.await(1)
	require.Eventually(t, func() bool { return pgtest.One[int](s.db, `select count(*) from webhook_deliveries`) == 1 }, arrivesWithin, tick)

	e.answers(nil)

	const overlap = 20 * time.Second
	stdout, stderr, code := s.relay("webhooks", "rotate-secret", e.id, "--overlap="+overlap.String(), "--json", "--show-secret")
	require.Zero(t, code, stderr)
	var out struct {
		Secret        string    `json:"secret"`
		PreviousUntil time.Time `json:"previous_until"`
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &out))
	before := e.secret
	require.NotEqual(t, before, out.Secret)
	e.trusts(before, out.Secret) // a receiver that has not heard of the new one, but for the header that has room for one

	p.stop()
	p = s.start() // the overlap outlives the process
	s.db.Exec(`update webhook_deliveries set next_attempt_at = now()`)
	insert("2")
	for _, d := range e.await(3)[1:] {
		require.True(t, verifies(t, before, d), "the old secret is good")
		require.True(t, verifies(t, out.Secret, d), "and the new one")
	}
	require.Equal(t, "v1,*** v1,***", pgtest.One[string](s.db, `
		select request_headers ->> 'webhook-signature' from zapier_webhook_logs order by created_at desc limit 1`))
	require.Equal(t, 2, pgtest.One[int](s.db, `
		select count(*) from (select signing_secret from zapier_webhooks union all select signing_secret from webhook_previous_secrets) as s
		where signing_secret like 'enc:v1:k1:%'`), "both are sealed")

	require.Eventually(t, func() bool { return time.Now().After(out.PreviousUntil) }, 2*overlap, tick)
	e.trusts(out.Secret, out.Secret)
	insert("3")
	last := e.await(4)[3]
	require.True(t, verifies(t, out.Secret, last))
	require.False(t, verifies(t, before, last), "the overlap is over")
	s.settle(p)
	p.stop()
}
