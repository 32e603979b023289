package faults

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/faultproxy"
	"github.com/dot-do/relay/internal/natstest"
	"github.com/dot-do/relay/internal/pgtest"
)

const (
	readyWithin   = 10 * time.Second
	arrivesWithin = 30 * time.Second
	tick          = 10 * time.Millisecond

	markerNS = "marker" // of the rows that settle writes
)

// stack is everything around the relay processes of one test.
type stack struct {
	t       *testing.T
	db      *pgtest.DB
	nats    *natstest.Process
	pgNet   *faultproxy.Proxy // between relay and Postgres
	natsNet *faultproxy.Proxy // between relay and NATS
	dir     string
	env     map[string]string
	canary  string   // in every row that tests write; in no output
	secrets []string // in no output
	started int
	markers int
	js      jetstream.JetStream
}

// options of a stack; the zero value is the usual one.
type options struct {
	settings  map[string]string // a Postgres cluster of its own, with these
	db        *pgtest.DB        // another database than one on the shared cluster
	nats      []string          // more configuration of the NATS server
	relayUser string            // user:password of the relay at NATS
	pgNet     bool
	natsNet   bool
}

func newStack(t *testing.T, o options) *stack {
	t.Helper()
	require.NoError(t, noteSources())
	s := &stack{t: t, db: o.db, dir: t.TempDir(), canary: "canary" + rand.Text()}
	switch {
	case s.db != nil:
	case o.settings != nil:
		s.db = pgtest.NewCluster(t, pgtest.Options{Settings: o.settings}).New(t)
	default:
		s.db = pgtest.New(t)
	}
	s.nats = natstest.NewProcess(t, o.nats...)
	database, broker := must(url.Parse(s.db.URL))(t), must(url.Parse(s.nats.URL))(t)
	if secret, ok := database.User.Password(); ok {
		s.secrets = append(s.secrets, secret)
	}
	if o.relayUser != "" {
		user, password, _ := strings.Cut(o.relayUser, ":")
		broker.User = url.UserPassword(user, password)
		s.secrets = append(s.secrets, password)
	}
	s.env = map[string]string{
		"RELAY_DATABASE_URL": s.db.URL, "RELAY_NATS_URL": broker.String(),
		"RELAY_SLOT": "faults_" + s.db.Name, "RELAY_PUBLICATION": "faults_" + s.db.Name,
		"RELAY_LISTEN": "127.0.0.1:0", "RELAY_LOG_LEVEL": "debug", "RELAY_CONFIRM_LAG": "0s", "RELAY_NATS_BATCHES": "fast",
		"RELAY_EGRESS_ALLOW": "127.0.0.0/8", "RELAY_EGRESS_HTTP": "true",
	}
	s.command("migrate", "up", "--samples")
	if o.pgNet {
		s.pgNet = faultproxy.New(t, database.Host)
		database.Host = s.pgNet.Addr
		s.env["RELAY_DATABASE_URL"] = database.String()
	}
	if o.natsNet {
		s.natsNet = faultproxy.New(t, broker.Host)
		broker.Host = s.natsNet.Addr
		s.env["RELAY_NATS_URL"] = broker.String()
	}
	conn, err := nats.Connect(s.nats.URL, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	s.js = must(jetstream.New(conn))(t)
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

func (s *stack) environ(more ...string) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "GORACE=halt_on_error=0"}
	for name, value := range s.env {
		env = append(env, name+"="+value)
	}
	return append(env, more...)
}

// command runs a command of the binary that ends by itself.
func (s *stack) command(args ...string) string {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), os.Getenv(binaryEnv), args...)
	cmd.Dir, cmd.Env = s.dir, s.environ()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	require.NoError(s.t, err, "relay %s: %s%s", strings.Join(args, " "), stdout, stderr.Bytes())
	return string(stdout)
}

// checkOutput demands that a file holds nothing secret.
func (s *stack) checkOutput(path string) {
	content, err := os.ReadFile(path)
	require.NoError(s.t, err)
	for _, secret := range append([]string{s.canary}, s.secrets...) {
		require.NotContains(s.t, string(content), secret, "%s holds what must not be printed", filepath.Base(path))
	}
	require.NotContains(s.t, string(content), "DATA RACE")
	if s.t.Failed() {
		s.t.Logf("end of %s:\n%s", filepath.Base(path), content[max(0, len(content)-5000):])
	}
}

// ask bounds a call of NATS.
func (s *stack) ask() context.Context {
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	s.t.Cleanup(cancel)
	return ctx
}

// stream is the relay's stream; it fails the test when there is none.
func (s *stack) stream() jetstream.Stream {
	s.t.Helper()
	return must(s.js.Stream(s.ask(), "EVENTS"))(s.t)
}

// length is the last sequence of the stream; 0 while there is none.
func (s *stack) length() uint64 {
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
	defer cancel()
	stream, err := s.js.Stream(ctx, "EVENTS")
	if err != nil {
		return 0
	}
	return stream.CachedInfo().State.LastSeq
}

// makeStream makes the stream as a user may: without what keeps from deleting and
// purging, which some faults need.
func (s *stack) makeStream(change func(*jetstream.StreamConfig)) {
	s.t.Helper()
	cfg := jetstream.StreamConfig{
		Name: "EVENTS", Subjects: []string{"events.>", "relay.control.>"}, Discard: jetstream.DiscardNew, Duplicates: 2 * time.Minute,
	}
	if change != nil {
		change(&cfg)
	}
	_, err := s.js.CreateOrUpdateStream(s.ask(), cfg)
	require.NoError(s.t, err)
}

// settle returns when everything that was committed before is in the stream.
func (s *stack) settle() {
	s.t.Helper()
	s.settleWithin(arrivesWithin)
}

func (s *stack) settleWithin(within time.Duration) time.Duration {
	s.t.Helper()
	s.markers++
	id := fmt.Sprintf("marker-%d", s.markers)
	s.db.Exec(`insert into relationships (ns, id, type, from_ns, from_id, to_ns, to_id, visibility)
		values ('`+markerNS+`', $1, 'installs', 'a', 'b', 'c', 'd', 'private')`, id)
	from := time.Now()
	s.eventually(within, func() bool {
		ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
		defer cancel()
		stream, err := s.js.Stream(ctx, "EVENTS")
		if err != nil {
			return false
		}
		last, err := stream.GetLastMsgForSubject(ctx, "events.app.installed")
		return err == nil && last.Header.Get("ce-subject") == markerNS+"/"+id
	}, id+" does not reach the stream")
	return time.Since(from)
}

func (s *stack) eventually(within time.Duration, f func() bool, what string) {
	s.t.Helper()
	require.Eventually(s.t, f, within, tick, "%s", what)
}

// insert writes one thing for each id, in one transaction each.
func (s *stack) insert(ids ...string) {
	s.t.Helper()
	for _, id := range ids {
		s.db.Exec(`insert into things (ns, id, type, content) values ('n', $1, 'Skill', $2)`, id, s.canary)
	}
}

// numbered names n things.
func numbered(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = prefix + strconv.Itoa(i+1)
	}
	return out
}

// confirmed is where the slot stands.
func (s *stack) confirmed() string {
	return pgtest.One[string](s.db, `select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1`, s.env["RELAY_SLOT"])
}
