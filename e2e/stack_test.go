package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/natstest"
	"github.com/dot-do/relay/internal/pgtest"
)

const (
	readyWithin   = 5 * time.Second  // the contract: of a start or a kill
	promptly      = time.Second      // the contract: for a changed subscription to work
	stopsWithin   = 20 * time.Second // the drain timeout
	arrivesWithin = 20 * time.Second // long enough for anything that is going to arrive
	tick          = 10 * time.Millisecond
)

// stack is everything around the relay processes of one test.
type stack struct {
	t        *testing.T
	db       *pgtest.DB
	nats     *natstest.Process // nil: the relay runs its own
	receiver *receiver
	dir      string
	env      map[string]string

	// canary is part of every row that tests write. It and the secrets must appear
	// in no output of any process.
	canary    string
	secrets   []string
	outputs   []string // files
	processes int
	markers   int
	conn      *nats.Conn // to the server at connURL
	connURL   string
}

// options of a stack; the zero value is the usual one.
type options struct {
	db       *pgtest.DB // default: a database on the shared cluster
	embedded bool       // without a NATS server
	empty    bool       // without the migrations
}

// newStack starts what a relay needs, and makes its tables with the binary.
func newStack(t *testing.T, o options) *stack {
	t.Helper()
	require.NoError(t, noteSources())
	s := &stack{t: t, db: o.db, dir: t.TempDir(), canary: "canary" + rand.Text()}
	if s.db == nil {
		s.db = pgtest.New(t)
	}
	t.Cleanup(s.checkOutputs)
	s.receiver = newReceiver(t)
	s.env = map[string]string{
		"RELAY_DATABASE_URL": s.db.URL,
		"RELAY_SLOT":         "e2e_" + s.db.Name,
		"RELAY_PUBLICATION":  "e2e_" + s.db.Name,
		"RELAY_LISTEN":       "127.0.0.1:0",
		"RELAY_EGRESS_ALLOW": "127.0.0.0/8",
		"RELAY_EGRESS_HTTP":  "true",
		"RELAY_LOG_LEVEL":    "debug",
	}
	if o.embedded {
		s.env["RELAY_NATS_DIR"] = filepath.Join(s.dir, "nats")
		s.env["RELAY_NATS_LISTEN"] = "127.0.0.1:0"
	} else {
		s.nats = natstest.NewProcess(t)
		s.env["RELAY_NATS_URL"] = s.nats.URL
	}
	password := must(url.Parse(s.db.URL))(t)
	if secret, ok := password.User.Password(); ok {
		s.secrets = append(s.secrets, secret)
	}
	if !o.empty {
		s.command("migrate", "up", "--samples")
	}
	return s
}

// must unwraps a result, failing the test on an error.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		require.NoError(t, err)
		return v
	}
}

// environ is the whole environment of a relay process.
func (s *stack) environ() []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "GORACE=halt_on_error=0"}
	for name, value := range s.env {
		env = append(env, name+"="+value)
	}
	return env
}

// command runs a command of the binary that ends by itself, and returns what it
// printed.
func (s *stack) command(args ...string) string {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), os.Getenv(binaryEnv), args...)
	cmd.Dir, cmd.Env = s.dir, s.environ()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	require.NoError(s.t, err, "relay %s: %s%s", strings.Join(args, " "), stdout, stderr.Bytes())
	path := s.output(strings.Join(args, "-"))
	require.NoError(s.t, os.WriteFile(path, append(stdout, stderr.Bytes()...), 0o600))
	return string(stdout)
}

// output names a new file whose content is checked at the end.
func (s *stack) output(name string) string {
	path := filepath.Join(s.dir, fmt.Sprintf("%02d-%s.out", len(s.outputs), name))
	s.outputs = append(s.outputs, path)
	return path
}

// secret returns a new signing secret that must appear in no output.
func (s *stack) secret() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	secret := "whsec_" + base64.StdEncoding.EncodeToString(key)
	s.secrets = append(s.secrets, strings.TrimPrefix(secret, "whsec_"))
	return secret
}

// checkOutputs looks for what must never be printed.
func (s *stack) checkOutputs() {
	forbidden := append(slices.Clone(s.secrets), s.canary, s.receiver.address)
	for _, path := range s.outputs {
		content, err := os.ReadFile(path)
		require.NoError(s.t, err)
		for _, secret := range forbidden {
			for line := range bytes.Lines(content) {
				if bytes.Contains(line, []byte(secret)) {
					s.t.Errorf("%s holds %q, which must not be printed: %s", filepath.Base(path), secret, line)
					break
				}
			}
		}
		if s.t.Failed() && len(content) > 0 {
			s.t.Logf("end of %s:\n%s", filepath.Base(path), content[max(0, len(content)-6000):])
		}
	}
}

// js returns JetStream of the NATS server in use: the stack's own, or the one
// inside the process p.
func (s *stack) js(p *process) jetstream.JetStream {
	s.t.Helper()
	address := ""
	if s.nats != nil {
		address = s.nats.URL
	} else {
		address = "nats://" + p.ports().NATS
	}
	if s.conn == nil || s.connURL != address {
		conn, err := nats.Connect(address, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
		require.NoError(s.t, err)
		s.t.Cleanup(conn.Close)
		s.conn, s.connURL = conn, address
	}
	return must(jetstream.New(s.conn))(s.t)
}

// settle returns when everything that was committed before is in the stream and
// every delivery of it is done with: succeeded, given up, or not wanted. What has
// not arrived by then never will.
func (s *stack) settle(p *process) {
	s.t.Helper()
	s.settleStream(p)
	js := s.js(p)
	require.Eventually(s.t, func() bool {
		return delivered(s.t, js) && pgtest.One[int](s.db, `select count(*) from webhook_deliveries`) == 0
	}, 2*arrivesWithin, 5*tick, "deliveries do not come to an end")
}

// settleStream returns when everything that was committed before is in the stream.
func (s *stack) settleStream(p *process) {
	s.t.Helper()
	s.markers++
	id := fmt.Sprintf("marker-%d", s.markers)
	s.db.Exec(`insert into relationships (ns, id, type, from_ns, from_id, to_ns, to_id, visibility)
		values ('`+markerNS+`', $1, 'installs', 'a', 'b', 'c', 'd', 'private')`, id)
	js := s.js(p)
	var last *jetstream.RawStreamMsg
	require.Eventually(s.t, func() bool {
		ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
		defer cancel()
		stream, err := js.Stream(ctx, "EVENTS")
		if err != nil {
			return false
		}
		last, err = stream.GetLastMsgForSubject(ctx, "events.app.installed")
		return err == nil && last.Header.Get("ce-subject") == markerNS+"/"+id
	}, 2*arrivesWithin, 2*tick, "%s does not reach the stream", id)
}

// markerNS is the namespace of the rows that settle writes.
const markerNS = "marker"

// delivered reports whether every delivery consumer has acknowledged the whole stream.
func delivered(t *testing.T, js jetstream.JetStream) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	stream, err := js.Stream(ctx, "EVENTS")
	if err != nil {
		return false
	}
	consumers, open := 0, 0
	for c := range stream.ListConsumers(ctx).Info() { // to the end, or its goroutine stays
		if c.Config.Durable == "" {
			continue // a test's own reader
		}
		consumers++
		open += int(c.NumPending) + c.NumAckPending
	}
	return consumers > 0 && open == 0
}
