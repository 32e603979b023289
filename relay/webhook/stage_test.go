package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/relaytest"
	"github.com/dot-do/relay/relay/webhook"
)

// stage is an engine's surroundings: a feed, subscriptions and a ledger in
// memory, and a real HTTP server with one path for each subscription.
type stage struct {
	feed   *relaytest.Feed
	subs   *relaytest.Subscriptions
	ledger *relaytest.Ledger
	url    string

	mu       sync.Mutex
	requests map[string][]request
	answers  map[string]http.HandlerFunc
	events   int
}

type request struct {
	at      time.Time
	id      string
	attempt string
	body    string
}

func newStage(t *testing.T, ackWait time.Duration) *stage {
	subs := relaytest.NewSubscriptions()
	s := &stage{
		feed: relaytest.NewFeed(ackWait), subs: subs, ledger: relaytest.NewLedger(subs),
		requests: map[string][]request{}, answers: map[string]http.HandlerFunc{},
	}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

func (s *stage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	id := strings.TrimPrefix(r.URL.Path, "/")
	s.mu.Lock()
	s.requests[id] = append(s.requests[id], request{time.Now(), r.Header.Get("Webhook-Id"), r.Header.Get("Webhook-Attempt"), string(body)})
	answer := s.answers[id]
	s.mu.Unlock()
	if answer != nil {
		answer(w, r)
	}
}

// answer sets how an endpoint answers.
func (s *stage) answer(id string, h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[id] = h
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// hang answers only when release is closed or the client gives up.
func hang(release <-chan struct{}) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}
}

func (s *stage) received(id string) []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]request(nil), s.requests[id]...)
}

func (s *stage) count(id string) int { return len(s.received(id)) }

func (s *stage) logged(id string) int { return len(s.ledger.Log(id)) }

// total is how many requests arrived in all, and how many of them repeat a
// webhook-id.
func (s *stage) total() (n, repeated int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[string]bool{}
	for _, list := range s.requests {
		for _, r := range list {
			n++
			if seen[r.id] {
				repeated++
			}
			seen[r.id] = true
		}
	}
	return n, repeated
}

func (s *stage) subscription(t testing.TB, id, filterText string) relay.Subscription {
	f, err := filters.Compile([]byte(filterText))
	require.NoError(t, err)
	return relay.Subscription{
		ID: id, EventType: "thing.updated", Filter: f, TargetURL: s.url + "/" + id, Active: true,
		MaxRetries: 5, Backoff: time.Second, Owner: relay.Owner{UserID: "u1"},
	}
}

func (s *stage) subscribe(t testing.TB, ids ...string) {
	for _, id := range ids {
		s.subs.Put(s.subscription(t, id, `{}`))
	}
}

// emit appends n events.
func (s *stage) emit(n int) {
	s.mu.Lock()
	first := s.events
	s.events += n
	s.mu.Unlock()
	batch := make([]relay.Event, n)
	for i := range batch {
		data := fmt.Sprintf(`{"n":%d}`, first+i)
		batch[i] = relay.Event{
			ID: fmt.Sprintf("evt_%d", first+i), Type: "thing.updated", Visibility: relay.VisibleToEveryone,
			Body: []byte(`{"data":` + data + `}`), Data: []byte(data),
		}
	}
	s.feed.Append(batch...)
}

func (s *stage) config() webhook.Config {
	return webhook.Config{
		Feed: s.feed, Ledger: s.ledger, Subscriptions: s.subs,
		Egress:      webhook.Policy{HTTP: true, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
		HTTPTimeout: 5 * time.Second, Logger: slog.New(slog.DiscardHandler),
	}
}

// start runs an engine until the returned func drains it, or the test ends.
func start(t testing.TB, cfg webhook.Config) (stop func()) {
	t.Helper()
	e, err := webhook.New(cfg)
	require.NoError(t, err)
	return run(t, e)
}

func run(t testing.TB, e *webhook.Engine) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				require.NoError(t, err)
			case <-time.After(30 * time.Second):
				require.Fail(t, "the engine does not stop")
			}
		})
	}
	t.Cleanup(stop)
	require.Eventually(t, func() bool { return e.Ready() == nil }, 5*time.Second, time.Millisecond)
	return stop
}

func eventually(t testing.TB, condition func() bool, what string) {
	t.Helper()
	require.Eventually(t, condition, 20*time.Second, 2*time.Millisecond, what)
}

// mortal is the way of one process to the feed and the ledger. Once it is dead
// nothing it does has any effect, as after a kill.
type mortal struct {
	webhook.Feed
	webhook.Ledger
	dead *atomic.Bool
}

var errDead = errors.New("connection lost")

type mortalFeed struct{ mortal }

func (m mortalFeed) Ack(ctx context.Context, msg relay.StreamMessage) error {
	if m.dead.Load() {
		return errDead
	}
	return m.Feed.Ack(ctx, msg)
}

func (m mortalFeed) Extend(msg relay.StreamMessage) error {
	if m.dead.Load() {
		return errDead
	}
	return m.Feed.Extend(msg)
}

func (m mortalFeed) Return(msg relay.StreamMessage) error {
	if m.dead.Load() {
		return errDead
	}
	return m.Feed.Return(msg)
}

func (m mortalFeed) Next(ctx context.Context, limit int) ([]relay.StreamMessage, error) {
	if m.dead.Load() {
		return nil, errDead
	}
	return m.Feed.Next(ctx, limit)
}

type mortalLedger struct{ mortal }

func (m mortalLedger) Settle(ctx context.Context, o []relay.Outcome) error {
	if m.dead.Load() {
		return errDead
	}
	return m.Ledger.Settle(ctx, o)
}

func (m mortalLedger) Claim(ctx context.Context, limit int, hold time.Duration, busy relay.Busy) ([]relay.Delivery, string, error) {
	if m.dead.Load() {
		return nil, "", errDead
	}
	return m.Ledger.Claim(ctx, limit, hold, busy)
}

func (m mortalLedger) Draw(ctx context.Context, r []relay.QuotaRequest) (relay.QuotaGrant, error) {
	if m.dead.Load() {
		return relay.QuotaGrant{}, errDead
	}
	return m.Ledger.Draw(ctx, r)
}

func (m mortalLedger) PutBack(ctx context.Context, hour time.Time, unused map[string]int) error {
	if m.dead.Load() {
		return errDead
	}
	return m.Ledger.PutBack(ctx, hour, unused)
}

func (m mortalLedger) Free(ctx context.Context, lease string, d []relay.Delivery) error {
	if m.dead.Load() {
		return errDead
	}
	return m.Ledger.Free(ctx, lease, d)
}
