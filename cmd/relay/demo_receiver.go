package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay/webhook"
)

// receiver is an HTTP endpoint that checks every signature. The one named
// "failures" answers 503 to each event's first attempt, so that a retry can be
// seen.
type receiver struct {
	url    string
	server *http.Server
	screen *screen
	done   chan struct{}

	mu   sync.Mutex
	keys map[string]secret.String
	seen map[string]bool // webhook-ids
}

func startReceiver(ctx context.Context, s *screen) (*receiver, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for deliveries: %w", err)
	}
	r := &receiver{
		url: "http://" + ln.Addr().String(), screen: s, done: make(chan struct{}),
		keys: map[string]secret.String{}, seen: map[string]bool{},
	}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		defer close(r.done)
		_ = r.server.Serve(ln) // ends with close
	}()
	return r, nil
}

func (r *receiver) close() {
	_ = r.server.Close()
	<-r.done
}

// endpoint makes a signing secret for a path.
func (r *receiver) endpoint(name string) (secret.String, error) {
	var key [32]byte
	if _, err := rand.Read(key[:]); err != nil {
		return secret.String{}, err
	}
	s := secret.New("whsec_" + base64.StdEncoding.EncodeToString(key[:]))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys[name] = s
	return s, nil
}

// ServeHTTP verifies the delivery as a careful receiver would, and shows it.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	at := time.Now()
	name := strings.TrimPrefix(req.URL.Path, "/")
	body, err := io.ReadAll(io.LimitReader(req.Body, 16<<20))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	key, known := r.keys[name]
	id := req.Header.Get("webhook-id")
	again := r.seen[id]
	r.seen[id] = true
	r.mu.Unlock()

	var event struct {
		Type      string    `json:"type"`
		Timestamp time.Time `json:"timestamp"`
		Source    struct {
			Key map[string]any `json:"key"`
		} `json:"source"`
	}
	a := arrival{at: at, endpoint: name, again: again}
	switch {
	case !known:
		a.status = http.StatusNotFound
	case webhook.Verify([]secret.String{key}, req.Header, body, at) != nil:
		a.status = http.StatusUnauthorized
	case json.Unmarshal(body, &event) != nil:
		a.status = http.StatusBadRequest
	case name == "failures" && !again:
		a.status = http.StatusServiceUnavailable
	default:
		a.status, a.verified = http.StatusOK, true
	}
	a.event, a.latency = event.Type, at.Sub(event.Timestamp)
	r.screen.delivery(a)
	w.WriteHeader(a.status)
}
