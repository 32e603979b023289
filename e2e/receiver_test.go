package e2e

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

// receiver is an HTTP server that checks everything that is delivered to it.
type receiver struct {
	t       *testing.T
	address string
	server  *httptest.Server

	mu        sync.Mutex
	endpoints map[string]*endpoint // by path
}

// endpoint is one target URL with the subscription that points to it.
type endpoint struct {
	t        *testing.T
	id       string // of the zapier_webhooks row
	url      string
	secret   string // "" while deliveries are expected unsigned
	receiver *receiver

	hubSecret string // of X-Hub-Signature-256, when it is another one

	mu      sync.Mutex
	answer  func(d delivery) answer // nil: 200
	calls   []delivery
	bodies  map[string][]byte // webhook-id → body
	perBody map[string]string // event id → webhook-id
}

// delivery is one request.
type delivery struct {
	At      time.Time
	ID      string // webhook-id
	Attempt int
	Header  http.Header
	Body    []byte
	Event   body
	Status  int // answered
}

// answer is what an endpoint says.
type answer struct {
	status int
	header http.Header
	wait   time.Duration
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{t: t, endpoints: map[string]*endpoint{}}
	r.server = httptest.NewServer(r)
	r.address = r.server.Listener.Addr().String()
	t.Cleanup(r.server.Close)
	return r
}

// endpoint returns a new target URL.
func (r *receiver) endpoint(secret string) *endpoint {
	path := "/hook/" + rand.Text()
	e := &endpoint{
		t: r.t, url: r.server.URL + path, secret: secret, receiver: r,
		bodies: map[string][]byte{}, perBody: map[string]string{},
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endpoints[path] = e
	return e
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	e := r.endpoints[req.URL.Path]
	r.mu.Unlock()
	content, err := io.ReadAll(req.Body)
	if err != nil {
		return // the sender was killed: nothing arrived
	}
	if e == nil {
		r.t.Errorf("request to %s, where nobody asked for one", req.URL.Path)
		return
	}
	d := delivery{At: time.Now(), ID: req.Header.Get("webhook-id"), Header: req.Header, Body: content}
	for _, fault := range e.check(req, &d) {
		r.t.Errorf("delivery %s: %s", d.ID, fault)
	}
	a := e.take(&d)
	maps.Copy(w.Header(), a.header)
	if a.wait > 0 {
		select {
		case <-time.After(a.wait):
		case <-req.Context().Done():
		}
	}
	w.WriteHeader(d.Status)
}

// check compares the request with the contract.
func (e *endpoint) check(req *http.Request, d *delivery) (faults []string) {
	fail := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if req.Method != http.MethodPost {
		fail("method %s", req.Method)
	}
	if got := req.Header.Get("content-type"); got != "application/json" {
		fail("content-type %q", got)
	}
	if got := req.Header.Get("user-agent"); !strings.HasPrefix(got, "Relay/") {
		fail("user-agent %q", got)
	}
	if !strings.HasPrefix(d.ID, "msg_") || strings.Contains(d.ID, ".") {
		fail("webhook-id %q", d.ID)
	}
	var err error
	if d.Attempt, err = strconv.Atoi(req.Header.Get("webhook-attempt")); err != nil || d.Attempt < 1 {
		fail("webhook-attempt %q", req.Header.Get("webhook-attempt"))
	}
	if d.Event, err = parseBody(d.Body); err != nil {
		fail("body: %v", err)
	}
	e.mu.Lock()
	secret, hubSecret := e.secret, or(e.hubSecret, e.secret)
	e.mu.Unlock()
	if err := verify(secret, hubSecret, req.Header, d.Body); err != nil {
		fail("%v", err)
	}
	return faults
}

// verify checks both signatures, or that there are none.
func verify(secret, hubSecret string, h http.Header, content []byte) error {
	hub := h.Get("X-Hub-Signature-256")
	if secret == "" {
		if h.Get("webhook-signature") != "" || hub != "" {
			return fmt.Errorf("signed without a secret")
		}
		return nil
	}
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return err
	}
	if err := verifier.Verify(content, h); err != nil {
		return err
	}
	mac := hmac.New(sha256.New, []byte(hubSecret))
	mac.Write(content)
	if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); hub != want {
		return fmt.Errorf("X-Hub-Signature-256 does not verify")
	}
	return nil
}

// take records the delivery and chooses the answer. The same id always carries
// the same bytes, and the same event always the same id.
func (e *endpoint) take(d *delivery) answer {
	e.mu.Lock()
	defer e.mu.Unlock()
	if before, ok := e.bodies[d.ID]; ok && !bytes.Equal(before, d.Body) {
		e.t.Errorf("delivery %s came with other bytes than before", d.ID)
	}
	if before, ok := e.perBody[d.Event.ID]; ok && before != d.ID {
		e.t.Errorf("event %s came as %s and as %s", d.Event.ID, before, d.ID)
	}
	e.bodies[d.ID], e.perBody[d.Event.ID] = d.Body, d.ID
	a := answer{status: http.StatusOK}
	if e.answer != nil {
		a = e.answer(*d)
	}
	d.Status = a.status
	e.calls = append(e.calls, *d)
	return a
}

// answers sets what the endpoint says from now on.
func (e *endpoint) answers(f func(d delivery) answer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = f
}

// expectSecret changes what deliveries are verified with.
func (e *endpoint) expectSecret(secret string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.secret = secret
}

// requests returns every request so far.
func (e *endpoint) requests() []delivery {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.calls)
}

// received returns the first request of every delivery, in the order of the event's
// position: requests to one endpoint overlap.
func (e *endpoint) received() []delivery {
	seen := map[string]bool{}
	var out []delivery
	for _, d := range e.requests() {
		if !seen[d.ID] {
			seen[d.ID] = true
			out = append(out, d)
		}
	}
	slices.SortStableFunc(out, func(a, b delivery) int {
		return a.Event.lsn.compare(b.Event.lsn)
	})
	return out
}

// names lists what was received, as body.name tells it.
func (e *endpoint) names() []string {
	out := []string{}
	for _, d := range e.received() {
		out = append(out, d.Event.name())
	}
	slices.Sort(out)
	return out
}

// await waits for n requests.
func (e *endpoint) await(n int) []delivery {
	e.t.Helper()
	var got []delivery
	require.Eventually(e.t, func() bool {
		got = e.requests()
		return len(got) >= n
	}, arrivesWithin, tick, "%d requests are expected", n)
	return got
}

// hook is a subscription to be made.
type hook struct {
	user     string // default "u1"
	tenant   string
	event    string
	filter   string // default {}
	retries  *int   // default 5
	unsigned bool
	status   string // default active
	perHour  int    // default ten million
}

// subscribe inserts the subscription, and its user where needed.
func (s *stack) subscribe(h hook) *endpoint {
	s.t.Helper()
	var secret *string
	e := s.receiver.endpoint("")
	if !h.unsigned {
		e.secret = s.secret()
		secret = &e.secret
	}
	h.user, h.filter, h.status = or(h.user, "u1"), or(h.filter, "{}"), or(h.status, "active")
	retries := 5
	if h.retries != nil {
		retries = *h.retries
	}
	if h.perHour == 0 {
		h.perHour = 10_000_000
	}
	s.user(h.user)
	e.id = pgtest.One[string](s.db, `
		insert into zapier_webhooks (user_id, tenant_id, target_url, event_type, filters, status, signing_secret, max_retries, max_triggers_per_hour)
		values ($1, nullif($2, ''), $3, $4, $5::text::jsonb, $6, $7, $8, $9) returning id`,
		h.user, h.tenant, e.url, h.event, h.filter, h.status, secret, retries, h.perHour)
	return e
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

// user inserts a user once.
func (s *stack) user(id string) {
	s.t.Helper()
	s.db.Exec(`insert into users (id, email) values ($1, $1 || '@example.com') on conflict do nothing`, id)
}
