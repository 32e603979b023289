package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

// masterKey makes a key file and tells the relay of it.
func (s *stack) masterKey() {
	s.t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	text := base64.StdEncoding.EncodeToString(key)
	s.secrets = append(s.secrets, text)
	path := filepath.Join(s.dir, "master.key")
	require.NoError(s.t, os.WriteFile(path, []byte("k1:"+text+"\n"), 0o600))
	s.env["RELAY_MASTER_KEY_FILE"] = path
}

func TestAPlainSecretIsSealedAndDeliveriesGoOnVerifying(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.masterKey()
	before := s.subscribe(hook{event: "thing.created"})
	unsigned := s.subscribe(hook{event: "thing.created", unsigned: true})
	p := s.start()
	later := s.subscribe(hook{event: "thing.created"})
	insert := `insert into things (ns, id, type, content) values ('n', $1, 'Skill', '` + s.canary + `')`
	s.db.Exec(insert, "1")
	sealed := func(e *endpoint) bool {
		stored := pgtest.One[string](s.db, `select signing_secret from zapier_webhooks where id = $1`, e.id)
		require.NotContains(t, strings.TrimPrefix(stored, e.secret), strings.TrimPrefix(e.secret, "whsec_"))
		return strings.HasPrefix(stored, "enc:v1:k1:")
	}
	for _, e := range []*endpoint{before, later} {
		require.Eventually(t, func() bool { return sealed(e) }, 5*promptly, tick)
	}
	require.True(t, pgtest.One[bool](s.db, `select signing_secret is null from zapier_webhooks where id = $1`, unsigned.id))
	s.db.Exec(insert, "2")
	s.settle(p)
	p.stop()

	p = s.start()
	s.db.Exec(insert, "3")
	s.settle(p)
	for _, e := range []*endpoint{before, later, unsigned} {
		require.Equal(t, []string{"thing.created n/1", "thing.created n/2", "thing.created n/3"}, e.names())
	}

	// A new secret written as plain text takes the place of the envelope.
	secret := s.secret()
	before.expectSecret(secret)
	s.db.Exec(`update zapier_webhooks set signing_secret = $2 where id = $1`, before.id, secret)
	s.db.Exec(insert, "4")
	require.Eventually(t, func() bool { return sealed(before) }, 5*promptly, tick)
	s.db.Exec(insert, "5")
	s.settle(p)
	require.Len(t, before.requests(), 5)
	p.stop()
}

func TestASealedSecretWithoutItsKeyIsNeverReplacedByNoSignature(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.masterKey()
	e := s.subscribe(hook{event: "thing.created"})
	other := s.subscribe(hook{event: "thing.created"})
	s.db.Exec(`update zapier_webhooks set signing_secret = null where id = $1`, other.id)
	other.expectSecret("")
	p := s.start()
	require.Eventually(t, func() bool {
		return strings.HasPrefix(pgtest.One[string](s.db, `select signing_secret from zapier_webhooks where id = $1`, e.id), "enc:v1:")
	}, 5*promptly, tick)
	p.stop()

	delete(s.env, "RELAY_MASTER_KEY_FILE")
	p = s.start()
	s.db.Exec(`insert into things (ns, id, type, content) values ('n', '1', 'Skill', $1)`, s.canary)
	other.await(1)
	s.settleStream(p)
	require.Empty(t, e.requests())
	require.NotEmpty(t, p.logged(func(line logLine) bool { return line["subscription_id"] == e.id }), "the log names the webhook")
	p.stop()
}
